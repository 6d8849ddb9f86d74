"""Looks through a whole store for damage, also while a node has it open.

It reads over a connection of its own that cannot write, a page at a time, so that the node's log
can be emptied in between. Unlike the store itself it goes on after the first damaged row: whoever
has to decide about a disk wants to know how much is damaged.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from relto.errors import StoreError
from relto.ports import JOURNAL_START, journal_link
from relto.stores.fuse import Fuse
from relto.stores.rows import damaged_documents, damaged_meta, damaged_outbox
from relto.stores.sqlite import APPLICATION_ID, QUICK_CHECK_BYTES_MAX, connect
from relto.stores.visits import own_database

__all__ = ["DAMAGE_MAX", "Inspection", "inspect_store"]

DAMAGE_MAX = 100  # lines; past that a disk is to be replaced, not studied
PAGE = 500


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is in a store. `damage` has a line for each thing that is not as it was written.

    `quick_checked` says whether the database was small enough for SQLite's own check.
    `last_entry_at` and `hpke_key_ends` are instants of the node's clock, which in an exercise is
    `clock_offset_s` ahead of the system's.
    """

    damage: tuple[str, ...]
    rows: int
    entries: int
    quick_checked: bool
    last_entry_at: str | None
    hpke_key_ends: str | None
    clock_offset_s: float


def inspect_store(path: Path) -> Inspection:
    """Look through the store in a folder.

    Raises:
        CallerError: there is none, or it belongs to another user.
        StoreError: it cannot be read at all.
    """
    file = own_database(path)
    with Fuse(f"the store '{path}'").guard():
        connection = connect(file, apsw.SQLITE_OPEN_READONLY)
        with closing(connection):
            return _Look(connection, path / "blobs", file.stat().st_size).run()


class _Look:
    def __init__(self, connection: apsw.Connection, blobs: Path, size_bytes: int) -> None:
        self._connection = connection
        self._blobs = blobs
        self._quick_checked = size_bytes <= QUICK_CHECK_BYTES_MAX
        self._damage: list[str] = []
        self._rows = 0
        self._entries = 0
        self._last_entry = b""

    def run(self) -> Inspection:
        for part in (self._database, self._tables, self._journal, self._contents):
            try:
                for line in part():
                    self._damage.append(line)
                    if len(self._damage) >= DAMAGE_MAX:
                        break
            except (apsw.Error, StoreError) as error:  # the other parts may still be readable
                self._damage.append(f"cannot be read on: {type(error).__name__}")
            if len(self._damage) >= DAMAGE_MAX:
                self._damage = [*self._damage[:DAMAGE_MAX], "and more"]
                break
        return Inspection(
            tuple(self._damage),
            self._rows,
            self._entries,
            self._quick_checked,
            _at(self._last_entry),
            self._value("SELECT max(rank) FROM documents WHERE kind = 'hpke-key'"),
            float(self._value("SELECT value FROM meta WHERE key = 'clock-offset-s'") or 0),
        )

    def _ask(self, sql: str, *values: str | int) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values).fetchall()

    def _value(self, sql: str) -> Any:
        try:
            found = self._ask(sql)
        except apsw.Error:
            return None
        return found[0][0] if found else None

    def _database(self) -> Iterator[str]:
        if self._connection.pragma("application_id") != APPLICATION_ID:
            yield "the database is not one of relto's"
        if self._quick_checked:
            for (line,) in self._ask(f"PRAGMA quick_check({DAMAGE_MAX})"):
                if line != "ok":
                    yield f"database: {line}"

    def _tables(self) -> Iterator[str]:
        for check in (damaged_documents, damaged_outbox, damaged_meta):
            after = 0
            while True:
                page = check(self._connection, after, PAGE)
                yield from page.damage
                self._rows += page.rows
                if page.rows < PAGE:
                    break
                after = page.last

    def _journal(self) -> Iterator[str]:
        number, previous = 0, JOURNAL_START
        while True:
            page = self._ask(
                "SELECT number, entry, salt, link FROM journal WHERE number > ? ORDER BY number"
                " LIMIT ?",
                number,
                PAGE,
            )
            for found, entry, salt, link in page:
                if found != number + 1:
                    yield f"journal: entries {number + 1} to {found - 1} are missing"
                elif link != journal_link(previous, salt=salt, entry=entry):
                    yield f"journal: entry {found} does not continue the chain"
                number, previous = found, link
                self._entries += 1
                self._last_entry = entry
            if len(page) < PAGE:
                return

    def _contents(self) -> Iterator[str]:
        """Every ciphertext that a row names is there. Its digest is checked when it is read."""
        named = "SELECT key FROM documents WHERE kind = 'blob'"
        for (name,) in self._ask(named):
            if (self._blobs / name).is_file():
                continue
            if self._ask(f"{named} AND key = ?", name):  # a running node may just have dropped it
                yield f"content {name[:16]}… has a row and no file"


def _at(entry: bytes) -> str | None:
    try:
        at = json.loads(entry)["at"]
    except (ValueError, LookupError, TypeError):
        return None
    return at if isinstance(at, str) else None
