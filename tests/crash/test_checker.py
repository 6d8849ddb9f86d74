"""The checker of crashes, checked itself: damage of every kind that it is there to find."""

import ast
import base64
import json
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crash import checker
from crash.checker import Findings, check, link_after, row_digest
from crash.nodes import Victims, victims
from e2e.nodes import PARTIES

Json = dict[str, Any]


def test_the_checker_shares_no_code_with_the_nodes() -> None:
    tree = ast.parse(Path(checker.__file__).read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "."]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert "cryptography" in imported
    assert imported - {"cryptography"} <= sys.stdlib_module_names


@dataclass
class Left:
    """A copy of what three nodes left, for one test to damage."""

    folder: Path
    nodes: Victims
    acknowledged: dict[str, tuple[str, str]]
    attempts: Counter[str]
    small: str  # an acknowledged item in a row, from KOR to JPN
    large: str  # one in a file

    def store(self, party: str) -> Path:
        return self.folder / party

    def sql(self, party: str, statement: str, *values: Any) -> list[Any]:
        database = sqlite3.connect(self.store(party) / "relto.db")
        try:
            with database:
                return database.execute(statement, values).fetchall()
        finally:
            database.close()

    def item(self, party: str, name: str) -> Json:
        [(body,)] = self.sql(
            party, "SELECT body FROM documents WHERE kind = 'item' AND key = ?", name
        )
        found: Json = json.loads(body)
        return found

    def put_item(self, party: str, item: Json) -> None:
        [(state, rank)] = self.sql(
            party, "SELECT state, rank FROM documents WHERE kind = 'item' AND key = ?", item["id"]
        )
        self.put(party, "item", item["id"], state, rank, json.dumps(item).encode())

    def put(self, party: str, kind: str, key: str, state: str, rank: str, body: bytes) -> None:
        self.sql(
            party,
            "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?, ?)",
            *(kind, key, state, rank, body, row_digest(kind, key, state, rank, body)),
        )

    def entries(self, party: str) -> list[Json]:
        rows = self.sql(party, "SELECT entry FROM journal ORDER BY number")
        return [json.loads(entry) for (entry,) in rows]

    def write_journal(self, party: str, entries: list[Json]) -> None:
        """A new chain, right in itself."""
        self.sql(party, "DELETE FROM journal")
        link = bytes(32)
        for number, entry in enumerate(entries, 1):
            data = json.dumps(entry).encode()
            link = link_after(link, bytes(32), data)
            self.sql(
                party, "INSERT INTO journal VALUES (?, ?, ?, ?)", number, data, bytes(32), link
            )

    def drop_entries(self, party: str, event: str, item: str) -> None:
        self.write_journal(party, [e for e in self.entries(party)
                                   if (e["event"], e.get("item")) != (event, item)])  # fmt: skip

    def verdict(self) -> Findings:
        stores = {party: self.store(party) for party in PARTIES}
        cas = {party: self.nodes.keys(party) / "ca.crt" for party in PARTIES}
        return check(stores, cas, self.acknowledged, self.attempts)


@pytest.fixture(scope="module")
def history() -> Iterator[Victims]:
    """Three nodes, stopped after items went both ways."""
    with victims() as nodes:
        nodes.submit("KOR", size=5)
        nodes.submit("KOR", size=100_000, topic="automatic")
        nodes.submit("JPN")
        nodes.settle()
        assert nodes.verdict().seen["delivered"] == 3
        yield nodes


@pytest.fixture
def left(history: Victims, tmp_path: Path) -> Left:
    for party in PARTIES:
        shutil.copytree(history.store(party), tmp_path / party)
    acknowledged = dict(history.acknowledged)
    small, large, _ = acknowledged
    return Left(tmp_path, history, acknowledged, history.attempts.copy(), small, large)


def test_nothing_is_found_where_nothing_is_wrong(left: Left) -> None:
    found = left.verdict()
    assert found.is_clean, found
    assert (found.seen["delivered"], found.seen["held"]) == (3, 6)


def forget_at_the_end(left: Left) -> None:
    left.sql("JPN", "DELETE FROM documents WHERE key = ?", left.small)


def forget_at_the_maker(left: Left) -> None:
    left.sql("KOR", "DELETE FROM documents WHERE key = ?", left.small)


def acknowledge_more(left: Left) -> None:
    left.acknowledged["00" * 32] = ("KOR", "JPN")
    left.attempts["KOR"] += 1


def owe_nothing(left: Left) -> None:
    item = left.item("KOR", left.small)
    item["outgoing"][0].update(state="sent", results=[])
    left.put_item("KOR", item)


def cut_the_content(left: Left) -> None:
    stored = left.item("JPN", left.large)["stored"]
    file = left.store("JPN") / "blobs" / stored
    file.write_bytes(file.read_bytes()[:-1])


def forget_the_end_of_a_journal(left: Left) -> None:
    """What a power cut does to a store that is not synced: the last commits are gone."""
    entries = left.entries("JPN")
    held = next(n for n, e in enumerate(entries)
                if (e["event"], e.get("item")) == ("held", left.small))  # fmt: skip
    left.write_journal("JPN", entries[:held])


def hold_again(left: Left) -> None:
    entries = left.entries("JPN")
    held = next(e for e in entries if e["event"] == "held")
    left.write_journal("JPN", [*entries, held])


def hold_by_another_release(left: Left) -> None:
    entries = left.entries("JPN")
    held = next(e for e in entries if (e["event"], e.get("item")) == ("held", left.small))
    left.write_journal("JPN", [*entries, {**held, "release": "00" * 32}])


def deliver_again(left: Left) -> None:
    entries = left.entries("KOR")
    left.write_journal("KOR", [*entries, next(e for e in entries if e["event"] == "delivered")])


def make_more(left: Left) -> None:
    left.attempts["KOR"] -= 1


def break_the_chain(left: Left) -> None:
    left.sql("USA", "UPDATE journal SET salt = zeroblob(32) WHERE number = 3")


def leave_out_an_entry(left: Left) -> None:
    left.sql("USA", "DELETE FROM journal WHERE number = 3")


def damage_a_row(left: Left) -> None:
    left.sql("USA", "UPDATE documents SET state = 'x' WHERE key = ?", left.small)


def damage_a_page(left: Left) -> None:
    file = left.store("USA") / "relto.db"
    data = bytearray(file.read_bytes())
    for page in range(1, len(data) // 4096):
        data[page * 4096 : page * 4096 + 8] = bytes(8)
    file.write_bytes(data)


def alter_a_receipt(left: Left) -> None:
    item = left.item("KOR", left.small)
    signature = item["outgoing"][0]["results"][-1]["signatures"][0]
    altered = bytearray(base64.b64decode(signature["sig"]))
    altered[0] ^= 1
    signature["sig"] = base64.b64encode(altered).decode()
    left.put_item("KOR", item)


def let_the_hub_sign(left: Left) -> None:
    """A receipt that says JPN and is signed by the hub's node."""
    item = left.item("KOR", left.small)
    hub, end = item["outgoing"][0]["results"]
    end["signatures"][0] = hub["signatures"][0]
    left.put_item("KOR", item)


def send_without_a_word(left: Left) -> None:
    left.drop_entries("KOR", "release", left.small)


def send_without_a_lease(left: Left) -> None:
    left.drop_entries("USA", "dispatch", left.small)


def fall_behind(left: Left) -> None:
    entry = {"at": "2026-01-01T00:00:00Z", "event": "behind", "why": "lost", "peer": "USA"}
    left.write_journal("KOR", [*left.entries("KOR"), {**entry, "release": "00" * 32}])


def receipt_before_the_commit(left: Left) -> None:
    left.drop_entries("JPN", "held", left.small)


DAMAGE: list[tuple[Callable[[Left], None], str]] = [
    (forget_at_the_end, "lost"),
    (forget_at_the_maker, "lost"),
    (acknowledge_more, "lost"),
    (owe_nothing, "lost"),
    (cut_the_content, "lost"),
    (cut_the_content, "unexpected"),
    (forget_the_end_of_a_journal, "lost"),
    (forget_the_end_of_a_journal, "unexpected"),
    (hold_again, "repeated"),
    (hold_by_another_release, "repeated"),
    (deliver_again, "repeated"),
    (make_more, "unexpected"),
    (break_the_chain, "unexpected"),
    (leave_out_an_entry, "unexpected"),
    (damage_a_row, "unexpected"),
    (damage_a_page, "unexpected"),
    (alter_a_receipt, "unexpected"),
    (alter_a_receipt, "lost"),
    (let_the_hub_sign, "unexpected"),
    (send_without_a_word, "unexpected"),
    (send_without_a_lease, "unexpected"),
    (receipt_before_the_commit, "unexpected"),
    (fall_behind, "unexpected"),
]


@pytest.mark.parametrize(
    ("damage", "kind"), DAMAGE, ids=[f"{damage.__name__}-{kind}" for damage, kind in DAMAGE]
)
def test_planted_damage_is_found(damage: Callable[[Left], None], kind: str, left: Left) -> None:
    damage(left)
    assert getattr(left.verdict(), kind)


def test_what_is_still_owed_is_not_lost(left: Left) -> None:
    owe_nothing(left)
    row = (999, "USA", 3, 0, 0, 0, "", left.small, b"{}")
    left.sql(
        "KOR",
        "INSERT INTO outbox (number, peer, precedence, ready_ms, due_ms, lease_until_ms, attempts,"
        " error, subject, body, digest) VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?)",
        *(*row, row_digest(*row)),
    )  # fmt: skip
    found = left.verdict()
    assert (found.lost, found.seen["owed"]) == ([], 1)


def test_what_nobody_signed_as_a_refusal_is_none(left: Left) -> None:
    """The receipt of JPN counts for nothing where it is no refusal, signed and journaled."""
    item = left.item("KOR", left.small)
    receipt = item["outgoing"][0]["results"][-1]
    receipt["payloadType"] = receipt["payloadType"].replace("receipt", "refusal")
    left.put_item("KOR", item)
    found = left.verdict()
    assert found.seen["refused"] == 0
    assert found.lost
    assert found.unexpected
