"""A store of the layout before this one becomes one of this, whole, or stays as it was."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import apsw
import pytest

from relto.errors import CallerError, StoreBroken
from relto.exchange import step
from relto.holdings import class_of
from relto.items import Incoming, Item
from relto.shared import START, SharedRecord, page
from relto.stores import SqliteStore
from steps import NOW, apply, approve, arrive, sender_states, view

# The statements by which the first layout was made: never to be changed with the code.
LAYOUT_1 = (
    """CREATE TABLE documents (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    state TEXT NOT NULL,
    rank TEXT NOT NULL,
    body BLOB NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT""",
    "CREATE INDEX documents_by_rank ON documents (kind, rank, key)",
    "CREATE INDEX documents_by_state ON documents (kind, state, rank, key)",
    """CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    peer TEXT NOT NULL,
    precedence INTEGER NOT NULL,
    ready_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    lease_until_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    error TEXT NOT NULL,
    subject TEXT NOT NULL,
    body BLOB NOT NULL,
    digest BLOB NOT NULL
) STRICT""",
    "CREATE INDEX outbox_by_precedence ON outbox (peer, precedence, number, ready_ms)",
    "CREATE INDEX outbox_by_ready ON outbox (peer, ready_ms)",
    """CREATE TABLE journal (
    number INTEGER PRIMARY KEY,
    entry BLOB NOT NULL,
    salt BLOB NOT NULL,
    link BLOB NOT NULL
) STRICT""",
    """CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    digest BLOB NOT NULL
) STRICT""",
)


def digest(*fields: str | bytes) -> bytes:
    """What a row of a store carries, worked out here once more."""
    data = b""
    for field in fields:
        each = field.encode() if isinstance(field, str) else field
        data += len(each).to_bytes(8, "big") + each
    return sha256(data).digest()


def delivered() -> Item:
    item = sender_states()["delivered"]
    assert item is not None
    return item


def passed_on() -> Item:
    """The same item at the hub, which has receipted it and passed it on."""
    item = step(view("USA", None), arrive(), NOW).item
    assert item is not None
    return apply("USA", item, approve(item, "USA", "smith"))


def layout_1(folder: Path, *items: Item, version: int = 1) -> None:
    """A store as the first layout had it; the second has the same tables."""
    folder.mkdir(mode=0o700)
    (folder / "relto.db").touch(0o600)
    connection = apsw.Connection(str(folder / "relto.db"))
    connection.pragma("journal_mode", "wal")
    connection.execute("BEGIN")
    for statement in LAYOUT_1:
        connection.execute(statement)
    for number, item in enumerate(items):
        row = ("item", item.id, "made", str(number), item.encode())
        values: tuple[Any, ...] = (*row, digest(*row))
        connection.execute("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?)", values)
    connection.execute("INSERT INTO meta VALUES ('seq', x'37', ?)", (digest("seq", b"7"),))
    connection.pragma("application_id", 0x52454C54)
    connection.pragma("user_version", version)
    connection.execute("COMMIT")
    connection.close()


def version(folder: Path) -> int:
    connection = apsw.Connection(str(folder / "relto.db"))
    found = int(connection.pragma("user_version"))
    connection.close()
    return found


def lists(folder: Path) -> dict[str, list[SharedRecord]]:
    store = SqliteStore(folder)
    with store.read() as reader:
        found = {peer: page(reader, peer, START)[0] for peer in ("JPN", "KOR", "USA")}
        assert reader.meta("seq") == b"7"
    store.close()
    return found


def expected(item: Item) -> dict[str, list[SharedRecord]]:
    """Written out for the two items above."""
    if item.made_here:  # Washington's receipt of the release; Tokyo is no peer
        [outgoing] = item.outgoing
        assert outgoing.release is not None
        receipt, release = outgoing.results[0].record_id, outgoing.release.record_id
        return {"JPN": [], "KOR": [], "USA": [SharedRecord(receipt, item.id, release)]}
    [incoming] = item.incoming
    return {"JPN": [], "KOR": [SharedRecord(incoming.id, item.id, incoming.id)], "USA": []}


@pytest.mark.parametrize("item", [delivered(), passed_on()], ids=["maker", "hub"])
def test_a_store_of_the_first_layout_knows_what_it_has_of_its_peers(
    tmp_path: Path, item: Item
) -> None:
    layout_1(tmp_path / "store", item)
    assert lists(tmp_path / "store") == expected(item)
    assert version(tmp_path / "store") == 3
    assert lists(tmp_path / "store") == expected(item)  # and once is enough


def test_a_store_without_items_is_only_renumbered(tmp_path: Path) -> None:
    layout_1(tmp_path / "store")
    assert lists(tmp_path / "store") == {"JPN": [], "KOR": [], "USA": []}
    assert version(tmp_path / "store") == 3


def classes(folder: Path) -> list[tuple[str, str]]:
    """The items held, and their classes."""
    store = SqliteStore(folder)
    with store.read() as reader:
        found = [(row.key, row.state) for row in reader.listing("held", limit=1_000)]
    store.close()
    return found


@pytest.mark.parametrize("before", [1, 2])
def test_a_store_of_an_earlier_layout_knows_the_class_of_every_item_held(
    tmp_path: Path, before: int
) -> None:
    """More items than a page has; one that was refused is not held."""
    [came] = passed_on().incoming
    way = Incoming(came.release, "refused", came.since)
    others = [replace(delivered(), id=f"{number:064}") for number in range(450)]
    refused = replace(passed_on(), id="f" * 64, incoming=(way,), outgoing=())
    layout_1(tmp_path / "store", *others, passed_on(), refused, version=before)
    held = sorted([*others, passed_on()], key=lambda item: item.id)
    assert classes(tmp_path / "store") == [(item.id, class_of(item)) for item in held]
    assert version(tmp_path / "store") == 3


@contextmanager
def watched(folder: Path, copies: Path, fail_at: int = -1) -> Iterator[list[str]]:
    """Before each statement of the writing connection the files are copied, as a crash leaves
    them; or at one of them the process is as good as dead."""
    seen: list[str] = []

    def trace(_cursor: object, sql: str, _values: object) -> bool:
        if seen or sql == "BEGIN IMMEDIATE":
            if len(seen) == fail_at:
                raise MemoryError("killed here")
            shutil.copytree(folder, copies / str(len(seen)))
            seen.append(sql)
        return True

    def hook(connection: apsw.Connection) -> None:
        if not connection.readonly("main"):
            connection.exec_trace = trace

    apsw.connection_hooks.append(hook)
    try:
        yield seen
    finally:
        apsw.connection_hooks.remove(hook)


def test_a_crash_at_any_statement_leaves_the_old_layout_or_the_new(tmp_path: Path) -> None:
    layout_1(tmp_path / "store", delivered())
    (tmp_path / "copies").mkdir()
    with watched(tmp_path / "store", tmp_path / "copies") as statements:
        SqliteStore(tmp_path / "store").close()
    committed = statements.index("COMMIT")
    assert committed >= 8
    for number in range(len(statements)):
        copy = tmp_path / "copies" / str(number)
        assert version(copy) == (1 if number <= committed else 3), statements[number]
        assert lists(copy) == expected(delivered())


def test_a_failure_at_any_statement_changes_nothing(tmp_path: Path) -> None:
    layout_1(tmp_path / "store", delivered())
    (tmp_path / "copies").mkdir()
    for number in range(1, 9):
        with (
            watched(tmp_path / "store", tmp_path / "copies", fail_at=number),
            pytest.raises((MemoryError, StoreBroken)),
        ):
            SqliteStore(tmp_path / "store")
        assert version(tmp_path / "store") == 1
        shutil.rmtree(tmp_path / "copies")
        (tmp_path / "copies").mkdir()
    assert lists(tmp_path / "store") == expected(delivered())


def test_a_newer_layout_is_refused_in_one_line(tmp_path: Path) -> None:
    layout_1(tmp_path / "store")
    SqliteStore(tmp_path / "store").close()
    connection = apsw.Connection(str(tmp_path / "store" / "relto.db"))
    connection.pragma("user_version", 4)
    connection.close()
    with pytest.raises(CallerError, match="schema 4 and this relto knows 3: install the newer"):
        SqliteStore(tmp_path / "store")


def test_a_damaged_store_is_not_migrated(tmp_path: Path) -> None:
    layout_1(tmp_path / "store", delivered())
    connection = apsw.Connection(str(tmp_path / "store" / "relto.db"))
    connection.execute("UPDATE documents SET body = x'00'")
    connection.close()
    with pytest.raises(StoreBroken, match="is damaged on the disk"):
        SqliteStore(tmp_path / "store")
    assert version(tmp_path / "store") == 1
