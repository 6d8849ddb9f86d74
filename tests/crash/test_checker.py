"""The checker finds each kind of damage, so that its silence means something."""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from crash.checker import Findings, check
from crash.nodes import victims
from e2e.nodes import PARTIES

Damage = Callable[[Mapping[str, sqlite3.Connection]], object]


class Books:
    """Stores of a finished exchange, to be copied and damaged."""

    def __init__(self, folder: Path) -> None:
        with victims(folder) as nodes:
            for maker in ("KOR", "JPN", "KOR"):
                nodes.submit(maker)
            nodes.settle()
            assert nodes.verdict().is_clean
            self.folder = folder
            self.acknowledged = dict(nodes.acknowledged)
            self.certificates = {
                party: x509.load_pem_x509_certificate(
                    (nodes.keys(party) / "node.crt").read_bytes()
                ).public_bytes(Encoding.DER)
                for party in PARTIES
            }
            for party in PARTIES:
                shutil.copytree(nodes.store(party), folder / "kept" / party)

    def damaged(self, name: str, damage: Damage) -> Findings:
        copy = self.folder / name
        shutil.copytree(self.folder / "kept", copy)
        opened = {party: sqlite3.connect(copy / party / "relto.db") for party in PARTIES}
        damage(opened)
        for database in opened.values():
            with closing(database):
                database.commit()
        return check({p: copy / p for p in PARTIES}, self.certificates, self.acknowledged)


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Books:
    return Books(tmp_path_factory.mktemp("books"))


def forget_item(party: str) -> Damage:
    """The newest item that was made in Seoul is not in the store."""

    def damage(stores: Mapping[str, sqlite3.Connection]) -> None:
        [(key,)] = stores["KOR"].execute(
            "SELECT key FROM documents WHERE kind = 'item' AND state = 'made' LIMIT 1"
        )
        stores[party].execute("DELETE FROM documents WHERE kind = 'item' AND key = ?", (key,))

    return damage


def cut_journal(party: str, event: str) -> Damage:
    """The journal ends before the last entry of that event: as if its commit had been lost."""

    def damage(stores: Mapping[str, sqlite3.Connection]) -> None:
        rows = list(stores[party].execute("SELECT number, entry FROM journal ORDER BY number"))
        last = max(number for number, entry in rows if json.loads(entry)["event"] == event)
        stores[party].execute("DELETE FROM journal WHERE number >= ?", (last,))

    return damage


def repeat_entry(party: str, event: str) -> Damage:
    """An entry stands twice, in a chain that is good."""

    def damage(stores: Mapping[str, sqlite3.Connection]) -> None:
        rows = list(stores[party].execute("SELECT entry, salt, link FROM journal ORDER BY number"))
        entry, salt, _ = next(row for row in rows if json.loads(row[0])["event"] == event)
        link = hashlib.sha256(rows[-1][2] + hashlib.sha256(salt + entry).digest()).digest()
        stores[party].execute("INSERT INTO journal VALUES (?, ?, ?, ?)",
                              (len(rows) + 1, entry, salt, link))  # fmt: skip

    return damage


def change_entry(stores: Mapping[str, sqlite3.Connection]) -> None:
    stores["USA"].execute("UPDATE journal SET entry = CAST(entry || ' ' AS BLOB) WHERE number = 2")


def change_results(change: Callable[[list[dict[str, object]]], object]) -> Damage:
    def damage(stores: Mapping[str, sqlite3.Connection]) -> None:
        rows = list(stores["KOR"].execute(
            "SELECT key, body FROM documents WHERE kind = 'item' AND state = 'made'"
        ))  # fmt: skip
        for key, body in rows:
            item = json.loads(body)
            change(item["outgoing"][0]["results"])
            stores["KOR"].execute(
                "UPDATE documents SET body = ? WHERE kind = 'item' AND key = ?",
                (json.dumps(item).encode(), key),
            )

    return damage


def forge(results: list[dict[str, object]]) -> None:
    for result in results:
        result["signatures"] = [{"keyid": "0" * 64, "sig": "AAAA"}]


DAMAGE: dict[str, tuple[Damage, str]] = {
    "the maker lost what it had said it had": (forget_item("KOR"), "lost"),
    "the destination lost what it had signed for": (forget_item("JPN"), "lost"),
    "the destination's commit was lost after its receipt": (cut_journal("JPN", "held"), "lost"),
    "no result, and nothing is owed": (change_results(list.clear), "lost"),
    "a result that nobody signed": (change_results(forge), "unexpected"),
    "an item was applied twice": (repeat_entry("JPN", "held"), "repeated"),
    "an item was made twice": (repeat_entry("KOR", "draft"), "repeated"),
    "a release came from nowhere": (cut_journal("USA", "dispatch"), "unexpected"),
    "an entry was changed": (change_entry, "unexpected"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_the_checker_finds(books: Books, name: str) -> None:
    damage, kind = DAMAGE[name]
    shutil.rmtree(books.folder / "damaged", ignore_errors=True)
    findings = books.damaged("damaged", damage)
    assert getattr(findings, kind), findings


def test_the_checker_is_silent_where_nothing_is_damaged(books: Books) -> None:
    findings = books.damaged("whole", lambda stores: None)
    assert findings.is_clean, findings
    assert findings.seen["delivered"] == 3


def test_the_checker_imports_nothing_of_the_product() -> None:
    source = (Path(__file__).parent / "checker.py").read_text()
    assert "import relto" not in source
    assert "from relto" not in source
