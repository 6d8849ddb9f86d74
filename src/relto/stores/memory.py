"""A store that forgets: the same port without a disk, for tests and the simulator.

It can fail the ways a disk does. `Fault` is what one commit meets, `bytes_max` a disk that fills
up, and `crashed` what the next process finds.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeVar

from relto.errors import CallerError, ReltoError, StoreBroken, StoreError, StoreFull
from relto.ports import (
    JOURNAL_START,
    JournalRow,
    OutboxDepth,
    OutboxRow,
    Place,
    Reader,
    Row,
    Tally,
    Transaction,
    journal_link,
)
from relto.stores import limits

__all__ = ["Fault", "MemoryStore"]

T = TypeVar("T")


class Fault(Enum):
    """What a commit meets instead of success."""

    FULL = "rolled back"
    FAILED = "failed, and is not there after a restart"
    PERSISTED = "failed, but is there after a restart"


@dataclass(slots=True)
class State:
    """Everything that a commit changes. One that is committed is never changed again."""

    documents: dict[tuple[str, str], Row] = field(default_factory=dict)
    outbox: dict[int, OutboxRow] = field(default_factory=dict)
    outbox_last: int = 0
    journal: list[JournalRow] = field(default_factory=list)
    meta: dict[str, bytes] = field(default_factory=dict)

    def copy(self) -> "State":
        return State(
            dict(self.documents),
            dict(self.outbox),
            self.outbox_last,
            list(self.journal),
            dict(self.meta),
        )

    @property
    def size_bytes(self) -> int:
        return (
            sum(len(row.body) for row in self.documents.values())
            + sum(len(row.body) for row in self.outbox.values())
            + sum(len(row.entry) for row in self.journal)
            + sum(len(value) for value in self.meta.values())
        )


@dataclass(slots=True)
class Blob:
    """Bytes, and those of them that a crash leaves; None if not even the name is."""

    data: bytearray = field(default_factory=bytearray)
    synced: bytes | None = None


class MemoryReader:
    """The port's `Reader` over a state."""

    def __init__(self, state: State) -> None:
        self._state: State | None = state

    def close(self) -> None:
        self._state = None

    @property
    def state(self) -> State:
        if self._state is None:
            raise RuntimeError("a transaction or snapshot was used after its end")
        return self._state

    def get(self, kind: str, key: str) -> bytes | None:
        row = self.state.documents.get((limits.name("kind", kind), limits.name("key", key)))
        return row.body if row else None

    def listing(
        self, kind: str, *, state: str | None = None, after: str = "", limit: int
    ) -> list[Row]:
        place = limits.cursor(after)
        rows = [row for row in self._documents(kind, state) if (row.rank, row.key) > place]
        return sorted(rows, key=lambda row: (row.rank, row.key))[: limits.limit(limit)]

    def count(self, kind: str, state: str | None = None) -> int:
        return len(self._documents(kind, state))

    def places(self, kind: str, state: str, *, after: str = "", limit: int) -> list[Place]:
        rows = self.listing(kind, state=state, after=after, limit=limit)
        return [Place(row.key, row.rank) for row in rows]

    def tallies(self, kind: str, *, after: str | None = None, limit: int) -> list[Tally]:
        if after is not None:
            limits.text("state", after)
        keys: dict[str, list[str]] = {}
        for row in self._documents(kind, None):
            if after is None or row.state > after:
                keys.setdefault(row.state, []).append(row.key)
        found = [Tally(state, len(each), min(each)) for state, each in sorted(keys.items())]
        return found[: limits.limit(limit)]

    def outbox_due(self, peer: str, *, now_ms: int, limit: int) -> list[OutboxRow]:
        limits.moment("now_ms", now_ms)
        due = [row for row in self._outbox(peer) if row.ready_ms <= now_ms]
        return sorted(due, key=lambda row: (row.precedence, row.number))[: limits.limit(limit)]

    def outbox_rows(self, peer: str | None, after: int, limit: int) -> list[OutboxRow]:
        limits.moment("after", after)
        rows = [row for row in self._outbox(peer) if row.number > after]
        return sorted(rows, key=lambda row: row.number)[: limits.limit(limit)]

    def outbox_next_due(self, peer: str) -> int | None:
        return min((row.ready_ms for row in self._outbox(peer)), default=None)

    def outbox_count(self, peer: str | None) -> int:
        return len(self._outbox(peer))

    def outbox_depths(self) -> list[OutboxDepth]:
        found: dict[tuple[str, int], list[int]] = {}
        for row in self._outbox(None):
            found.setdefault((row.peer, row.precedence), []).append(row.number)
        return [
            OutboxDepth(peer, precedence, len(numbers), min(numbers))
            for (peer, precedence), numbers in sorted(found.items())
        ]

    def journal(self, after: int, limit: int) -> list[JournalRow]:
        limits.moment("after", after)
        return self.state.journal[after : after + limits.limit(limit)]

    def journal_head(self) -> tuple[int, bytes]:
        journal = self.state.journal
        return (journal[-1].number, journal[-1].link) if journal else (0, JOURNAL_START)

    def meta(self, key: str) -> bytes | None:
        return self.state.meta.get(limits.name("key", key))

    def _documents(self, kind: str, state: str | None) -> list[Row]:
        limits.name("kind", kind)
        if state is not None:
            limits.text("state", state)
        return [
            row
            for (of_kind, _), row in self.state.documents.items()
            if of_kind == kind and state in (None, row.state)
        ]

    def _outbox(self, peer: str | None) -> list[OutboxRow]:
        if peer is not None:
            limits.name("peer", peer)
        return [row for row in self.state.outbox.values() if peer in (None, row.peer)]


class MemoryTransaction(MemoryReader):
    """The port's `Transaction`: it changes a state that nobody else sees."""

    def reset(self, state: State) -> None:
        """Go on from an earlier state: what a savepoint does."""
        self._state = state

    def put(self, kind: str, key: str, body: bytes, *, state: str = "", rank: str = "") -> None:
        limits.name("kind", kind)
        row = Row(
            key=limits.name("key", key),
            state=limits.text("state", state),
            rank=limits.text("rank", rank),
            body=limits.body(body),
        )
        self.state.documents[kind, key] = row

    def delete(self, kind: str, key: str) -> bool:
        place = (limits.name("kind", kind), limits.name("key", key))
        return self.state.documents.pop(place, None) is not None

    def outbox_add(self, peer: str, precedence: int, due_ms: int, subject: str, body: bytes) -> int:
        row = OutboxRow(
            number=self.state.outbox_last + 1,
            peer=limits.name("peer", peer),
            precedence=limits.precedence(precedence),
            due_ms=limits.moment("due_ms", due_ms),
            lease_until_ms=0,
            attempts=0,
            error="",
            subject=limits.text("subject", subject),
            body=limits.body(body),
        )
        self.state.outbox[row.number] = row
        self.state.outbox_last = row.number
        return row.number

    def outbox_reschedule(self, number: int, *, due_ms: int, attempts: int, error: str) -> bool:
        limits.moment("due_ms", due_ms)
        limits.moment("attempts", attempts)
        row = self.state.outbox.get(limits.moment("number", number))
        if row is None:
            return False
        self.state.outbox[number] = replace(
            row,
            due_ms=due_ms,
            lease_until_ms=0,
            attempts=attempts,
            error=limits.error_text(error),
        )
        return True

    def outbox_lease(self, number: int, until_ms: int) -> bool:
        limits.moment("until_ms", until_ms)
        row = self.state.outbox.get(limits.moment("number", number))
        if row is None:
            return False
        self.state.outbox[number] = replace(row, lease_until_ms=until_ms)
        return True

    def outbox_remove(self, number: int) -> bool:
        return self.state.outbox.pop(limits.moment("number", number), None) is not None

    def journal_append(self, entry: bytes, salt: bytes) -> int:
        limits.entry(entry)
        limits.salt(salt)
        last, previous = self.journal_head()
        link = journal_link(previous, salt=salt, entry=entry)
        self.state.journal.append(JournalRow(last + 1, entry, salt, link))
        return last + 1

    def set_meta(self, key: str, value: bytes) -> None:
        limits.name("key", key)
        self.state.meta[key] = limits.body(value)


class MemoryStore:
    """The port's `Store` in memory.

    Args:
        faults: asked once before each commit, whose fate its answer is; None is success.
        bytes_max: room for all bodies and blobs, and for the ballast while it is held.
        ballast_bytes: room that `release_ballast` gives back.
    """

    def __init__(
        self,
        *,
        faults: Callable[[], Fault | None] = lambda: None,
        bytes_max: int | None = None,
        ballast_bytes: int = 0,
    ) -> None:
        self._faults = faults
        self._bytes_max = bytes_max
        self._ballast_bytes = ballast_bytes
        self._ballast_held = True
        self._state = State()
        self._blobs: dict[str, Blob] = {}
        self._commits = threading.Lock()
        self._broken = ""

    def crashed(self) -> "MemoryStore":
        """The store as the next process finds it; this one is broken from now on.

        It has what was committed, of the blobs what was synced, and no faults planned.
        """
        after = MemoryStore(bytes_max=self._bytes_max, ballast_bytes=self._ballast_bytes)
        after._ballast_held = self._ballast_held
        after._state = self._state
        after._blobs = {
            name: Blob(bytearray(blob.synced), blob.synced)
            for name, blob in self._blobs.items()
            if blob.synced is not None
        }
        self._broken = self._broken or "this process has crashed: use the store that came of it"
        return after

    def commit(self, jobs: Sequence[Callable[[Transaction], T]]) -> list[T | ReltoError]:
        limits.jobs(len(jobs))
        if not self._commits.acquire(blocking=False):
            raise RuntimeError("a commit is running: one thread commits, and no job does")
        transaction = MemoryTransaction(self._state.copy())
        try:
            self._check()
            fault = self._faults()
            results = [self._run(transaction, job) for job in jobs]
            self._make_room(transaction.state.size_bytes + self._blob_bytes())
            if fault is Fault.FULL:
                raise StoreFull("the disk is full: free some space")
            if fault is not Fault.FAILED:
                self._state = transaction.state
            if fault is not None:
                self._broken = "the disk failed: restart the node"
                raise StoreBroken(self._broken)
            return results
        finally:
            transaction.close()
            self._commits.release()

    @contextmanager
    def read(self) -> Iterator[Reader]:
        self._check()
        reader = MemoryReader(self._state)
        try:
            yield reader
        finally:
            reader.close()

    def scrub(self) -> None:
        self._check()

    def blob_append(self, name: str, offset: int, data: bytes) -> None:
        size = self.blob_size(name)
        limits.blob_part(offset, data, size=size)
        self._make_room(
            self._state.size_bytes + self._blob_bytes() + max(0, offset + len(data) - size)
        )
        blob = self._blobs.setdefault(name, Blob())
        blob.data[offset : offset + len(data)] = data

    def blob_size(self, name: str) -> int:
        self._check()
        blob = self._blobs.get(limits.blob_name(name))
        return len(blob.data) if blob else 0

    def blob_sync(self, name: str) -> None:
        blob = self._blob(name)
        blob.synced = bytes(blob.data)

    def blob_read(self, name: str, offset: int, length: int) -> bytes:
        limits.blob_range(offset, length)
        return bytes(self._blob(name).data[offset : offset + length])

    def blob_remove(self, name: str) -> bool:
        self._check()
        return self._blobs.pop(limits.blob_name(name), None) is not None

    def blob_names(self) -> list[str]:
        self._check()
        return sorted(self._blobs)

    @property
    def ballast_held(self) -> bool:
        return self._ballast_held

    def release_ballast(self) -> None:
        self._check()
        self._ballast_held = False

    def restore_ballast(self) -> None:
        self._check()
        if not self._ballast_held:
            self._make_room(self._state.size_bytes + self._blob_bytes() + self._ballast_bytes)
            self._ballast_held = True

    def close(self) -> None:
        self._broken = self._broken or "the store is closed"

    def _check(self) -> None:
        if self._broken:
            raise StoreBroken(self._broken)

    def _run(
        self, transaction: MemoryTransaction, job: Callable[[Transaction], T]
    ) -> T | ReltoError:
        before = transaction.state.copy()
        try:
            return job(transaction)
        except StoreError:
            raise
        except ReltoError as refusal:
            transaction.reset(before)
            return refusal

    def _blob(self, name: str) -> Blob:
        self._check()
        blob = self._blobs.get(limits.blob_name(name))
        if blob is None:
            raise CallerError(f"there is no blob '{name}'")
        return blob

    def _blob_bytes(self) -> int:
        return sum(len(blob.data) for blob in self._blobs.values())

    def _make_room(self, needed_bytes: int) -> None:
        """Nothing, or StoreFull if that many bytes do not fit beside the ballast."""
        if self._bytes_max is None:
            return
        reserved = self._ballast_bytes if self._ballast_held else 0
        if needed_bytes + reserved > self._bytes_max:
            raise StoreFull("the disk is full: free some space")
