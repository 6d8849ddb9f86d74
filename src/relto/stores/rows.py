"""The store's tables and the SQL that reads and writes them.

The SQL is plain, so that another database can run most of it. Every row carries a SHA-256 of all
its fields, because SQLite has no checksums outside its write-ahead log: a bit that flips on the
disk would otherwise be served as if somebody had stored it (fault F-07).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import apsw

from relto.errors import StoreError
from relto.ports import (
    JOURNAL_START,
    JournalRow,
    OutboxDepth,
    OutboxRow,
    Place,
    Row,
    Tally,
    journal_link,
)
from relto.stores import limits
from relto.stores.fuse import Fuse

__all__ = [
    "SCHEMA",
    "SqlReader",
    "SqlTransaction",
    "damaged_documents",
    "damaged_meta",
    "damaged_outbox",
]

# One statement each: at start they are compared, byte by byte, with what the file says it holds.
SCHEMA = (
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
    # ready_ms is in it so that rows that wait are passed over without being read.
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

OUTBOX = (
    "SELECT number, peer, precedence, due_ms, lease_until_ms, attempts, error, subject, body,"
    " ready_ms, digest FROM outbox"
)
LAST_NUMBER = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'outbox'"


class SqlReader:
    """The port's `Reader` over a connection inside a transaction, which its owner ends."""

    def __init__(self, connection: apsw.Connection, fuse: Fuse) -> None:
        self._connection: apsw.Connection | None = connection
        self._fuse = fuse
        self.failed: StoreError | None = None  # the store's own error, even if a job caught it

    def close(self) -> None:
        self._connection = None

    def get(self, kind: str, key: str) -> bytes | None:
        found = self._rows(
            "SELECT key, state, rank, body, digest FROM documents WHERE kind = ? AND key = ?",
            (limits.name("kind", kind), limits.name("key", key)),
        )
        return self._document(kind, found[0]).body if found else None

    def listing(
        self, kind: str, *, state: str | None = None, after: str = "", limit: int
    ) -> list[Row]:
        rank, key = limits.cursor(after)
        where, values = _kind_and_state(kind, state)
        found = self._rows(
            f"SELECT key, state, rank, body, digest FROM documents WHERE {where}"  # noqa: S608
            " AND (rank, key) > (?, ?) ORDER BY rank, key LIMIT ?",
            (*values, rank, key, limits.limit(limit)),
        )
        return [self._document(kind, row) for row in found]

    def count(self, kind: str, state: str | None = None) -> int:
        where, values = _kind_and_state(kind, state)
        return self._integer(f"SELECT count(*) FROM documents WHERE {where}", values)  # noqa: S608

    def places(self, kind: str, state: str, *, after: str = "", limit: int) -> list[Place]:
        rank, key = limits.cursor(after)
        where, values = _kind_and_state(kind, state)
        found = self._rows(  # all of it is in the index documents_by_state
            f"SELECT key, rank FROM documents WHERE {where}"  # noqa: S608
            " AND (rank, key) > (?, ?) ORDER BY rank, key LIMIT ?",
            (*values, rank, key, limits.limit(limit)),
        )
        return [Place(*row) for row in found]

    def tallies(self, kind: str, *, after: str | None = None, limit: int) -> list[Tally]:
        where, values = _kind_and_state(kind, None)
        if after is not None:
            where, values = f"{where} AND state > ?", (*values, limits.text("state", after))
        found = self._rows(
            f"SELECT state, count(*), min(key) FROM documents WHERE {where}"  # noqa: S608
            " GROUP BY state ORDER BY state LIMIT ?",
            (*values, limits.limit(limit)),
        )
        return [Tally(*row) for row in found]

    def outbox_due(self, peer: str, *, now_ms: int, limit: int) -> list[OutboxRow]:
        return self._outbox(
            f"{OUTBOX} WHERE peer = ? AND ready_ms <= ? ORDER BY precedence, number LIMIT ?",
            (limits.name("peer", peer), limits.moment("now_ms", now_ms), limits.limit(limit)),
        )

    def outbox_rows(self, peer: str | None, after: int, limit: int) -> list[OutboxRow]:
        page = (limits.moment("after", after), limits.limit(limit))
        if peer is None:
            return self._outbox(f"{OUTBOX} WHERE number > ? ORDER BY number LIMIT ?", page)
        return self._outbox(
            f"{OUTBOX} WHERE peer = ? AND number > ? ORDER BY number LIMIT ?",
            (limits.name("peer", peer), *page),
        )

    def outbox_next_due(self, peer: str) -> int | None:
        found = self._rows(
            "SELECT min(ready_ms) FROM outbox WHERE peer = ?", (limits.name("peer", peer),)
        )
        least: int | None = found[0][0]
        return least

    def outbox_count(self, peer: str | None) -> int:
        if peer is None:
            return self._integer("SELECT count(*) FROM outbox", ())
        return self._integer(
            "SELECT count(*) FROM outbox WHERE peer = ?", (limits.name("peer", peer),)
        )

    def outbox_depths(self) -> list[OutboxDepth]:
        found = self._rows(
            "SELECT peer, precedence, count(*), min(number) FROM outbox"
            " GROUP BY peer, precedence ORDER BY peer, precedence",
            (),
        )
        return [OutboxDepth(*row) for row in found]

    def journal(self, after: int, limit: int) -> list[JournalRow]:
        limits.moment("after", after)
        # One row before the page comes too, for the link that the page's first continues.
        found = self._rows(
            "SELECT number, entry, salt, link FROM journal WHERE number >= ? ORDER BY number"
            " LIMIT ?",
            (after, limits.limit(limit) + 1),
        )
        rows = [JournalRow(*row) for row in found]
        previous = JOURNAL_START
        if after and rows:
            if rows[0].number != after:
                raise self._damaged(f"journal entry {after}")
            previous = rows.pop(0).link
        rows = rows[:limit]
        for number, row in enumerate(rows, after + 1):
            link = journal_link(previous, salt=row.salt, entry=row.entry)
            if (row.number, row.link) != (number, link):
                raise self._damaged(f"journal entry {number}")
            previous = link
        return rows

    def journal_head(self) -> tuple[int, bytes]:
        last = self._integer("SELECT coalesce(max(number), 0) FROM journal", ())
        if not last:
            return 0, JOURNAL_START
        [row] = self.journal(last - 1, 1)
        return last, row.link

    def meta(self, key: str) -> bytes | None:
        found = self._rows(
            "SELECT value, digest FROM meta WHERE key = ?", (limits.name("key", key),)
        )
        if not found:
            return None
        value: bytes = found[0][0]
        if found[0][1] != _digest(key, value):
            raise self._damaged(f"meta '{key}'")
        return value

    def _rows(self, sql: str, values: tuple[str | int | bytes, ...]) -> list[tuple[Any, ...]]:
        connection = self._live()
        try:
            return connection.execute(sql, values).fetchall()
        except (apsw.Error, OSError) as error:
            self.failed = self._fuse.sorted(error)
            raise self.failed from error

    def _live(self) -> apsw.Connection:
        if self._connection is None:
            raise RuntimeError("a transaction or snapshot was used after its end")
        self._fuse.require_whole()  # who began the transaction looked at the process as well
        return self._connection

    def _integer(self, sql: str, values: tuple[str | int | bytes, ...]) -> int:
        number: int = self._rows(sql, values)[0][0]
        return number

    def _document(self, kind: str, found: tuple[Any, ...]) -> Row:
        row = Row(*found[:4])
        if found[4] != _digest(kind, row.key, row.state, row.rank, row.body):
            raise self._damaged(f"{kind} '{row.key}'")
        return row

    def _outbox(self, sql: str, values: tuple[str | int | bytes, ...]) -> list[OutboxRow]:
        rows = []
        for found in self._rows(sql, values):
            row = OutboxRow(*found[:9])
            if found[9:] != (row.ready_ms, _outbox_digest(row)):
                raise self._damaged(f"outbox row {row.number}")
            rows.append(row)
        return rows

    def _damaged(self, what: str) -> StoreError:
        self.failed = self._fuse.blow(f"{what} is damaged on the disk")
        return self.failed


class SqlTransaction(SqlReader):
    """The port's `Transaction` over the connection that writes."""

    _journal_end: tuple[int, bytes] | None = None  # once this transaction has appended

    def rolled_back(self) -> None:
        """A savepoint was undone: what the transaction knew may no longer be so."""
        self._journal_end = None

    def put(self, kind: str, key: str, body: bytes, *, state: str = "", rank: str = "") -> None:
        limits.name("kind", kind)
        limits.name("key", key)
        limits.text("state", state)
        limits.text("rank", rank)
        limits.body(body)
        self._change(
            "INSERT INTO documents (kind, key, state, rank, body, digest)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (kind, key) DO UPDATE SET"
            " state = excluded.state, rank = excluded.rank, body = excluded.body,"
            " digest = excluded.digest",
            (kind, key, state, rank, body, _digest(kind, key, state, rank, body)),
        )

    def delete(self, kind: str, key: str) -> bool:
        return self._change(
            "DELETE FROM documents WHERE kind = ? AND key = ?",
            (limits.name("kind", kind), limits.name("key", key)),
        )

    def outbox_add(self, peer: str, precedence: int, due_ms: int, subject: str, body: bytes) -> int:
        row = OutboxRow(
            # The number is part of the digest, so it must be known first. AUTOINCREMENT keeps the
            # count in sqlite_sequence even when the row with the highest number is gone.
            self._integer(
                "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?", ("outbox",)
            )
            + 1,
            limits.name("peer", peer),
            limits.precedence(precedence),
            limits.moment("due_ms", due_ms),
            lease_until_ms=0,
            attempts=0,
            error="",
            subject=limits.text("subject", subject),
            body=limits.body(body),
        )
        self._change(
            "INSERT INTO outbox (number, peer, precedence, ready_ms, due_ms, lease_until_ms,"
            " attempts, error, subject, body, digest) VALUES (?, ?, ?, ?, ?, 0, 0, '', ?, ?, ?)",
            (
                row.number,
                row.peer,
                row.precedence,
                row.ready_ms,
                row.due_ms,
                row.subject,
                row.body,
                _outbox_digest(row),
            ),
        )
        return row.number

    def outbox_reschedule(self, number: int, *, due_ms: int, attempts: int, error: str) -> bool:
        return self._outbox_change(
            number,
            due_ms=limits.moment("due_ms", due_ms),
            lease_until_ms=0,
            attempts=limits.moment("attempts", attempts),
            error=limits.error_text(error),
        )

    def outbox_lease(self, number: int, until_ms: int) -> bool:
        return self._outbox_change(number, lease_until_ms=limits.moment("until_ms", until_ms))

    def outbox_remove(self, number: int) -> bool:
        return self._change(
            "DELETE FROM outbox WHERE number = ?", (limits.moment("number", number),)
        )

    def journal_append(self, entry: bytes, salt: bytes) -> int:
        limits.entry(entry)
        limits.salt(salt)
        last, previous = self._journal_end or self.journal_head()
        link = journal_link(previous, salt=salt, entry=entry)
        self._change(
            "INSERT INTO journal (number, entry, salt, link) VALUES (?, ?, ?, ?)",
            (last + 1, entry, salt, link),
        )
        self._journal_end = (last + 1, link)
        return last + 1

    def set_meta(self, key: str, value: bytes) -> None:
        limits.name("key", key)
        limits.body(value)
        self._change(
            "INSERT INTO meta (key, value, digest) VALUES (?, ?, ?) ON CONFLICT (key)"
            " DO UPDATE SET value = excluded.value, digest = excluded.digest",
            (key, value, _digest(key, value)),
        )

    def _outbox_change(self, number: int, **changes: int | str) -> bool:
        limits.moment("number", number)
        found = self._outbox(f"{OUTBOX} WHERE number = ?", (number,))
        if not found:
            return False
        row = replace(found[0], **changes)  # type: ignore[arg-type]
        return self._change(
            "UPDATE outbox SET ready_ms = ?, due_ms = ?, lease_until_ms = ?, attempts = ?,"
            " error = ?, digest = ? WHERE number = ?",
            (
                row.ready_ms,
                row.due_ms,
                row.lease_until_ms,
                row.attempts,
                row.error,
                _outbox_digest(row),
                row.number,
            ),
        )

    def _change(self, sql: str, values: tuple[str | int | bytes, ...]) -> bool:
        """Run a statement that writes; whether it changed a row."""
        self._rows(sql, values)
        return self._live().changes() > 0


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a table that were looked at, the rowid of the last, and a line for each damaged."""

    rows: int
    last: int
    damage: tuple[str, ...]


def damaged_documents(connection: apsw.Connection, after: int, limit: int) -> Page:
    """A page of `documents` by rowid above `after`, each row held against its digest."""
    return _page(
        connection,
        "SELECT rowid, digest, kind, key, state, rank, body FROM documents",
        (after, limit),
        lambda row: None if row[1] == _digest(*row[2:]) else f"{row[2]} '{row[3][:80]}'",
    )


def damaged_outbox(connection: apsw.Connection, after: int, limit: int) -> Page:
    """The same of `outbox`."""

    def check(found: tuple[Any, ...]) -> str | None:
        row = OutboxRow(*found[3:])
        good = found[1:3] == (_outbox_digest(row), row.ready_ms)
        return None if good else f"outbox row {row.number}"

    sql = (
        "SELECT rowid, digest, ready_ms, number, peer, precedence, due_ms, lease_until_ms,"
        " attempts, error, subject, body FROM outbox"
    )
    return _page(connection, sql, (after, limit), check)


def damaged_meta(connection: apsw.Connection, after: int, limit: int) -> Page:
    """The same of `meta`."""
    return _page(
        connection,
        "SELECT rowid, digest, key, value FROM meta",
        (after, limit),
        lambda row: None if row[1] == _digest(*row[2:]) else f"meta '{row[2]}'",
    )


def _page(
    connection: apsw.Connection,
    sql: str,
    page: tuple[int, int],
    check: Callable[[tuple[Any, ...]], str | None],
) -> Page:
    rows, last, damage = 0, page[0], []
    for row in connection.execute(f"{sql} WHERE rowid > ? ORDER BY rowid LIMIT ?", page):
        rows, last = rows + 1, row[0]
        if fault := check(row):
            damage.append(f"{fault} is damaged")
    return Page(rows, last, tuple(damage))


def _kind_and_state(kind: str, state: str | None) -> tuple[str, tuple[str, ...]]:
    limits.name("kind", kind)
    if state is None:
        return "kind = ?", (kind,)
    return "kind = ? AND state = ?", (kind, limits.text("state", state))


def _outbox_digest(row: OutboxRow) -> bytes:
    return _digest(
        row.number,
        row.peer,
        row.precedence,
        row.due_ms,
        row.lease_until_ms,
        row.attempts,
        row.error,
        row.subject,
        row.body,
    )


def _digest(*fields: str | int | bytes) -> bytes:
    """SHA-256 over fields, each with its length before it, so that none can run into the next."""
    parts: list[bytes] = []
    for field in fields:
        data = field if type(field) is bytes else str(field).encode()
        parts += (len(data).to_bytes(8, "big"), data)
    return sha256(b"".join(parts)).digest()
