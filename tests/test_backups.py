"""Backups: whole or not there, read in full before they count, never over a store."""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from relto import canonical
from relto.backups import make_backup, read_backup, restore
from relto.errors import CallerError, StoreBroken
from relto.exchange import step
from relto.ports import Reader, Transaction
from relto.stores import SqliteStore
from steps import CIPHERTEXT, NOW, arrive, view

AT = "2026-01-05T00:00:00Z"
LATER = "2026-01-06T00:00:00Z"
HPKE_SEED = b"an HPKE seed, wrapped under the storage key"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """A store as a node keeps it, open: an item in rows, one in a blob, keys, a journal."""
    made = SqliteStore(tmp_path / "store")
    small = step(view("USA", None), arrive(), NOW).item
    assert small is not None
    large = replace(small, id="0" * 64, stored="ab" * 32)
    made.blob_append("ab" * 32, 0, CIPHERTEXT)
    made.blob_sync("ab" * 32)
    made.blob_append("cd" * 32, 0, b"half of what a peer still sends")

    def fill(tx: Transaction) -> None:
        tx.put("item", small.id, small.encode(), state="received", rank="1")
        tx.put("ciphertext", small.id, CIPHERTEXT)
        tx.put("item", "0" * 64, large.encode(), state="received", rank="2")
        tx.put("blob", "ab" * 32, b"0" * 64)
        tx.put("receiving", "cd" * 32, b"1" * 64)
        tx.put("hpke-key", "ef" * 32, HPKE_SEED, rank=LATER)
        tx.outbox_add("USA", 0, 0, "", b"owed")
        for n in range(300):
            tx.journal_append(canonical.encode({"event": "show", "n": n}), bytes(32))

    assert made.commit([fill]) == [None]
    yield made
    made.close()


def answers(store: SqliteStore, *questions: Callable[[Reader], object]) -> list[object]:
    with store.read() as reader:
        return [question(reader) for question in questions]


def test_a_backup_restored_is_the_store_of_that_instant(store: SqliteStore, tmp_path: Path) -> None:
    made = make_backup(tmp_path / "store", tmp_path / "copy", party="KOR", at=AT)
    assert read_backup(tmp_path / "copy") == made
    assert (made.party, made.at, made.entries, made.blobs) == ("KOR", AT, 300, 1)
    assert sorted(os.listdir(tmp_path / "copy")) == ["backup.json", "blobs", "relto.db"]
    assert os.listdir(tmp_path / "copy" / "blobs") == ["ab" * 32]
    store.commit([lambda tx: tx.put("item", "after", b"", rank="3")])
    restore(tmp_path / "copy", tmp_path / "new", party="KOR", at=LATER)
    back = SqliteStore(tmp_path / "new")
    questions: list[Callable[[Reader], object]] = [
        lambda r: r.listing("item", limit=10)[:2],
        lambda r: r.listing("ciphertext", limit=10),
        lambda r: r.outbox_rows(None, 0, 10),
        lambda r: r.journal(0, 300),
    ]
    assert answers(back, *questions) == answers(store, *questions)
    assert back.blob_read("ab" * 32, 0, 10**6) == store.blob_read("ab" * 32, 0, 10**6)
    with back.read() as reader:
        assert reader.count("item") == 2
        assert reader.meta("behind") == b"restored"
        assert reader.journal_head()[0] == 301
        assert json.loads(reader.journal(300, 1)[0].entry) == {
            "at": LATER, "event": "restore", "entries": 300, "made": AT,
        }  # fmt: skip
    back.close()


def test_a_backup_has_no_key_that_shall_not_outlive_its_week(
    store: SqliteStore, tmp_path: Path
) -> None:
    make_backup(tmp_path / "store", tmp_path / "copy", party="KOR", at=AT)
    for file in (tmp_path / "copy").rglob("*"):
        assert file.is_dir() or HPKE_SEED not in file.read_bytes()
    assert answers(store, lambda r: r.get("hpke-key", "ef" * 32)) == [HPKE_SEED]


def test_a_backup_is_for_its_owner_alone(store: SqliteStore, tmp_path: Path) -> None:
    make_backup(tmp_path / "store", tmp_path / "copy", party="KOR", at=AT)
    for file in (tmp_path / "copy", *(tmp_path / "copy").rglob("*")):
        assert file.stat().st_mode & 0o077 == 0, file


def test_a_backup_made_under_load_is_of_one_instant(store: SqliteStore, tmp_path: Path) -> None:
    """Two rows that every commit changes together are together in every copy."""
    stop = threading.Event()

    def load() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            text = str(n).encode()

            def both(tx: Transaction, text: bytes = text) -> None:
                tx.put("pair", "a", text)
                tx.put("filler", text.decode(), bytes(20_000))
                tx.put("pair", "b", text)

            store.commit([both])

    writer = threading.Thread(target=load)
    writer.start()
    try:
        for n in range(3):
            make_backup(tmp_path / "store", tmp_path / f"copy{n}", party="KOR", at=AT)
    finally:
        stop.set()
        writer.join()
    for n in range(3):
        restore(tmp_path / f"copy{n}", tmp_path / f"new{n}", party="KOR", at=LATER)
        back = SqliteStore(tmp_path / f"new{n}")
        a, b = answers(back, lambda r: r.get("pair", "a"), lambda r: r.get("pair", "b"))
        back.close()
        assert a == b


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit of the database": lambda d: flip(d / "relto.db", 3 * 4096 + 100),
    "a bit of a content": lambda d: flip(d / "blobs" / ("ab" * 32), 7),
    "a content that is gone": lambda d: (d / "blobs" / ("ab" * 32)).unlink(),
    "a content that is shorter": lambda d: os.truncate(d / "blobs" / ("ab" * 32), 5),
    "no database": lambda d: (d / "relto.db").unlink(),
    "no description": lambda d: (d / "backup.json").unlink(),
    "another description": lambda d: (d / "backup.json").write_bytes(b"{}"),
    "a newer format": lambda d: (d / "backup.json").write_bytes(b'{"format":"relto-backup/2"}'),
}


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_backup_is_not_restored(store: SqliteStore, tmp_path: Path, name: str) -> None:
    make_backup(tmp_path / "store", tmp_path / "copy", party="KOR", at=AT)
    DAMAGE[name](tmp_path / "copy")
    with pytest.raises((CallerError, StoreBroken)):
        restore(tmp_path / "copy", tmp_path / "new", party="KOR", at=LATER)
    assert sorted(os.listdir(tmp_path)) == ["copy", "store"]  # nothing half done is left


def test_damage_in_the_store_is_found_when_it_is_copied(store: SqliteStore, tmp_path: Path) -> None:
    flip(tmp_path / "store" / "blobs" / ("ab" * 32), 7)
    with pytest.raises(StoreBroken, match="damaged or missing"):
        make_backup(tmp_path / "store", tmp_path / "copy", party="KOR", at=AT)
    assert sorted(os.listdir(tmp_path)) == ["store"]


def test_a_row_that_somebody_changed_is_found(store: SqliteStore, tmp_path: Path) -> None:
    store.close()
    connection = apsw.Connection(str(tmp_path / "store" / "relto.db"))
    connection.execute("UPDATE outbox SET peer = 'JPN'")
    connection.close()
    with pytest.raises(StoreBroken, match="outbox row 1 is damaged"):
        make_backup(tmp_path / "store", tmp_path / "copy", party="KOR", at=AT)


def test_nothing_is_restored_over_a_store_or_for_another_party(
    store: SqliteStore, tmp_path: Path
) -> None:
    make_backup(tmp_path / "store", tmp_path / "copy", party="KOR", at=AT)
    with pytest.raises(CallerError, match="stop its node and move it away"):
        restore(tmp_path / "copy", tmp_path / "store", party="KOR", at=LATER)
    with pytest.raises(CallerError, match="is a backup of KOR; this is a node of JPN"):
        restore(tmp_path / "copy", tmp_path / "new", party="JPN", at=LATER)
    with pytest.raises(CallerError, match="exists already"):
        make_backup(tmp_path / "store", tmp_path / "copy", party="KOR", at=AT)
    with pytest.raises(CallerError, match="there is no store in"):
        make_backup(tmp_path / "none", tmp_path / "other", party="KOR", at=AT)
    assert sorted(os.listdir(tmp_path)) == ["copy", "store"]


def test_a_full_disk_leaves_no_backup(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(CallerError, match="No space left"):
        make_backup(tmp_path / "store", tmp_path / "copy", party="KOR", at=AT)
    assert sorted(os.listdir(tmp_path)) == ["store"]
