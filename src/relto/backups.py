"""Copies of a store, made while its node runs, and put back where there is none.

    DIR/backup.json    whose it is, of when, what is in it; written last
    DIR/relto.db       the rows, without the node's HPKE keys
    DIR/blobs/         large contents that rows refer to

Every copy is opened and read in full before it counts: rows, the journal's chain, the digests of
all contents.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relto import canonical
from relto.errors import CallerError, PeerError, StoreBroken
from relto.items import Item
from relto.ports import SALT_BYTES, Reader, Transaction
from relto.stores import SqliteStore
from relto.stores.checking import inspect_store
from relto.stores.sqlite import copy_database
from relto.system import system_random

__all__ = ["Backup", "make_backup", "read_backup", "restore"]

FORMAT = "relto-backup/1"
DESCRIPTION = "backup.json"
DESCRIPTION_BYTES_MAX = 64 * 1024
PART_BYTES = 1024 * 1024
PAGE_ROWS = 200
COPIED = ("relto.db", "blobs")


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup says of itself. `entries` and `link` are its journal's head."""

    party: str
    at: str
    entries: int
    link: str
    rows: int
    blobs: int
    database_sha256: str

    def encode(self) -> bytes:
        return canonical.encode(
            {
                "format": FORMAT,
                "party": self.party,
                "at": self.at,
                "journal": {"entries": self.entries, "link": self.link},
                "rows": self.rows,
                "blobs": self.blobs,
                "database": self.database_sha256,
            }
        )


def read_backup(folder: Path) -> Backup:
    """What the backup in a folder says of itself. Raises CallerError if it is none."""
    file = folder / DESCRIPTION
    try:
        value: Any = canonical.decode(file.read_bytes(), size_bytes_max=DESCRIPTION_BYTES_MAX)
        if value["format"] != FORMAT:
            raise CallerError(f"'{folder}' is a backup of another relto: use the one that made it")
        journal = value["journal"]
        return Backup(
            str(value["party"]),
            str(value["at"]),
            int(journal["entries"]),
            str(journal["link"]),
            int(value["rows"]),
            int(value["blobs"]),
            str(value["database"]),
        )
    except OSError as error:
        raise CallerError(
            f"'{folder}' is no backup, or one that was not finished: {error.strerror}"
        ) from error
    except (PeerError, KeyError, TypeError, ValueError) as error:
        raise CallerError(f"'{file}' is not what relto backup wrote") from error


def make_backup(store: Path, to: Path, *, party: str, at: str) -> Backup:
    """Copy a store, running or not, into the new folder `to`, and read the copy in full.

    The node's HPKE keys are left out: they live a week, and a copy must not make that longer.

    Raises:
        CallerError: `to` is there already, the store is not, or the disk is full.
        StoreBroken: what was copied is damaged; there is no `to` then.
    """
    with _new_folder(to) as draft:
        copy_database(store, draft)
        copy = SqliteStore(draft)
        try:
            _run(copy, _leave_out_keys)
            copy.scrub()
            count = _copy_blobs(copy, store / "blobs", draft / "blobs")
            entries, link, rows = _check(copy, draft)
        finally:
            copy.close()
        for leftover in set(os.listdir(draft)) - set(COPIED):  # its lock
            (draft / leftover).unlink()
        digest = _sha256(draft / "relto.db")
        backup = Backup(party, at, entries, link, rows, count, digest)
        _write(draft / DESCRIPTION, backup.encode())
    return backup


def restore(folder: Path, store: Path, *, party: str, at: str) -> Backup:
    """Put a backup where there is no store: copied, read in full, and then in one step in place.

    The store says that it was restored, so that its node asks its peers what it has missed.

    Raises:
        CallerError: there is a store, the backup is another party's or none, the disk is full.
        StoreBroken: the backup is damaged. Nothing is in place then.
    """
    backup = read_backup(folder)
    if backup.party != party:
        raise CallerError(f"'{folder}' is a backup of {backup.party}; this is a node of {party}")
    if os.path.lexists(store):
        raise CallerError(
            f"there is a store at '{store}': stop its node and move it away, never restore over it"
        )
    if _sha256(folder / "relto.db") != backup.database_sha256:
        raise StoreBroken(f"'{folder / 'relto.db'}' is not what was backed up: use another backup")
    with _new_folder(store) as draft:
        _copy(folder / "relto.db", draft / "relto.db")
        (draft / "blobs").mkdir(mode=0o700)
        copy = SqliteStore(draft)
        try:
            if _copy_blobs(copy, folder / "blobs", draft / "blobs") != backup.blobs:
                raise StoreBroken(f"'{folder}' has not the contents that it had: use another")
            if _check(copy, draft)[:2] != (backup.entries, backup.link):
                raise StoreBroken(f"'{folder}' has another journal than it had: use another backup")
            entry = canonical.encode(
                {"at": at, "event": "restore", "entries": backup.entries, "made": backup.at}
            )
            _run(copy, lambda tx: _note_restored(tx, entry))
        finally:
            copy.close()
    return backup


def _leave_out_keys(tx: Transaction) -> None:
    while rows := tx.listing("hpke-key", limit=PAGE_ROWS):
        for row in rows:
            tx.delete("hpke-key", row.key)


def _note_restored(tx: Transaction, entry: bytes) -> None:
    tx.set_meta("behind", b"restored")
    tx.journal_append(entry, system_random("journal", SALT_BYTES))


def _run(store: SqliteStore, job: Any) -> None:
    [result] = store.commit([job])
    if isinstance(result, Exception):
        raise result


def _check(store: SqliteStore, folder: Path) -> tuple[int, str, int]:
    """Number and link of the journal's head, and how many rows; all of it read and verified."""
    inspected = inspect_store(folder)
    if inspected.damage:
        raise StoreBroken(f"the copy is not what was stored: {inspected.damage[0]}")
    with store.read() as reader:
        for item in _items(reader):
            manifest = item.manifest
            if item.stored == "row":
                found = hashlib.sha256(reader.get("ciphertext", item.id) or b"").hexdigest()
            elif item.stored:
                found = _sha256_of_blob(store, item.stored)
            else:
                continue
            if found != manifest.ciphertext_sha256:
                raise StoreBroken(f"the ciphertext of {item.id} is damaged or missing")
        entries, link = reader.journal_head()
    return entries, link.hex(), inspected.rows


def _items(reader: Reader) -> Iterator[Item]:
    after = ""
    while rows := reader.listing("item", after=after, limit=PAGE_ROWS):
        after = rows[-1].cursor
        for row in rows:
            yield Item.decode(row.body)


def _copy_blobs(copy: SqliteStore, blobs: Path, to: Path) -> int:
    """Copy the blobs that rows of a copied database refer to; how many there are."""
    count, after = 0, ""
    with copy.read() as reader:
        while rows := reader.listing("blob", after=after, limit=PAGE_ROWS):
            after = rows[-1].cursor
            for row in rows:
                _copy(blobs / row.key, to / row.key)
            count += len(rows)
    return count


def _sha256_of_blob(store: SqliteStore, name: str) -> str:
    digest, offset = hashlib.sha256(), 0
    while part := store.blob_read(name, offset, PART_BYTES):
        digest.update(part)
        offset += len(part)
    return digest.hexdigest()


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as data:
            return hashlib.file_digest(data, "sha256").hexdigest()
    except OSError as error:
        raise CallerError(f"cannot read '{file}': {error.strerror}") from error


def _copy(file: Path, to: Path) -> None:
    """Copy a file durably, for its owner alone. Raises CallerError."""
    try:
        with file.open("rb") as data, open(to, "xb", opener=_private) as copy:
            shutil.copyfileobj(data, copy, PART_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
    except OSError as error:
        raise CallerError(f"cannot copy '{file}' to '{to}': {error.strerror}") from error


def _write(file: Path, data: bytes) -> None:
    with open(file, "xb", opener=_private) as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which is at `path`, durably, once it is whole; nothing is there before."""
    if os.path.lexists(path):
        raise CallerError(f"'{path}' exists already: name a new folder")
    try:
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise CallerError(f"cannot write beside '{path}': {error.strerror}") from error
    try:
        yield draft
        for folder in (draft / "blobs", draft):
            _sync(folder)
        draft.rename(path)
        _sync(path.parent)
    except OSError as error:
        raise CallerError(f"cannot write '{path}': {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # gone already after the rename


def _sync(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
