"""The few things that the core needs from outside, as Protocols with written obligations."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Protocol, TypeVar

from relto.errors import ReltoError

__all__ = [
    "BLOB_BYTES_MAX",
    "BODY_BYTES_MAX",
    "CHUNK_BYTES_MAX",
    "ENTRY_BYTES_MAX",
    "ERROR_CHARS_MAX",
    "JOBS_MAX",
    "JOURNAL_START",
    "NAME_CHARS_MAX",
    "ROWS_MAX",
    "SALT_BYTES",
    "Answer",
    "Clock",
    "Hpke",
    "JournalRow",
    "Link",
    "OutboxDepth",
    "OutboxRow",
    "Place",
    "Randomness",
    "Reader",
    "Row",
    "Signer",
    "Store",
    "Tally",
    "Transaction",
    "journal_link",
]

# Limits of a store. Past one it raises CallerError: the job that asked is refused, no other.
ROWS_MAX = 1_000  # of one page
JOBS_MAX = 1_000  # of one commit
NAME_CHARS_MAX = 512  # of a kind, key, state, rank, peer, subject
BODY_BYTES_MAX = 4 * 1024 * 1024  # of a row, an outbox row, a meta value
ENTRY_BYTES_MAX = 64 * 1024  # of a journal entry
ERROR_CHARS_MAX = 500  # of an outbox row's last error; what is longer is cut
CHUNK_BYTES_MAX = 4 * 1024 * 1024  # of one blob_append or blob_read
BLOB_BYTES_MAX = 4 * 1024 * 1024 * 1024

SALT_BYTES = 32  # exactly: with a variable length, salt || entry would not say where the salt ends
JOURNAL_START = bytes(32)  # the link before the first entry

T = TypeVar("T")


class Signer(Protocol):
    """One private signing key, wherever it is kept: file, token, passkey.

    Obligations:
    * `keyid` is `relto.envelope.keyid` of the public key, and never changes.
    * `sign` signs exactly the bytes given, hashing them itself where the algorithm hashes: Ed25519
      (RFC 8032), or ECDSA P-256 with SHA-256 in DER (RFC 3279 §2.2.3).
    * `sign` raises `CallerError` if the key cannot be used; it never returns a bad signature.
    """

    @property
    def keyid(self) -> str: ...

    def sign(self, data: bytes) -> bytes: ...


class Hpke(Protocol):
    """Single-shot HPKE in base mode (RFC 9180 §6.1) with a suite's own key objects.

    Obligations:
    * `encrypt` draws a new ephemeral key for every call; it never gives the same bytes twice.
    * `decrypt` raises `cryptography.exceptions.InvalidTag` or `ValueError` unless exactly these
      bytes were sealed to this key under this `info`.
    """

    def encrypt(self, plaintext: bytes, public_key: Any, info: bytes) -> bytes: ...

    def decrypt(self, ciphertext: bytes, private_key: Any, info: bytes) -> bytes: ...


class Clock(Protocol):
    """A node's time.

    Obligations:
    * `now` is aware UTC. `instant` is its whole second, rounded down.
    * `system_now` is the time of the machine, by which TLS goes, whatever an exercise has set.
    * `monotonic_ms` never goes back, and no one can set it: leases and time-outs go by it.
    * `set` raises `CallerError` unless `exercise`; `offset_s` is then how far it was set.
    """

    exercise: bool
    offset_s: float

    def now(self) -> datetime: ...

    def system_now(self) -> datetime: ...

    def instant(self) -> str: ...

    def monotonic_ms(self) -> int: ...

    def set(self, at: datetime) -> None: ...


class Randomness(Protocol):
    """Bytes that nobody can guess, for keys, nonces and salts.

    `what` says what they are for, so that a test may give each purpose its own; a real source
    ignores it.
    """

    def __call__(self, what: str, size_bytes: int) -> bytes: ...


class Answer(Protocol):
    """What a peer answered: an HTTP status, and a body."""

    @property
    def status(self) -> int: ...

    @property
    def body(self) -> bytes: ...


class Link(Protocol):
    """The way to one peer's node.

    Obligations:
    * A request goes to that peer and nobody else: who answers has shown the peer's certificate.
    * `LinkError` (relto.links) means that no whole answer came in `timeout_s` seconds; whether the
      peer acted on the request is unknown. It may have seen it twice.
    """

    async def request(
        self, method: str, path: str, body: bytes = b"", *, timeout_s: float, query: str = ""
    ) -> Answer: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One document of a kind. `cursor` is what a listing continues after."""

    key: str
    state: str
    rank: str
    body: bytes

    @property
    def cursor(self) -> str:
        return f"{len(self.rank)}:{self.rank}{self.key}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a document stands among those of its kind, without the document."""

    key: str
    rank: str

    @property
    def cursor(self) -> str:
        return f"{len(self.rank)}:{self.rank}{self.key}"


@dataclass(frozen=True, slots=True)
class Tally:
    """How many documents of a kind are in one state, and the least key among them."""

    state: str
    count: int
    first: str


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """Bytes that a peer is owed. Times are milliseconds of whatever clock the caller uses."""

    number: int
    peer: str
    precedence: int
    due_ms: int
    lease_until_ms: int
    attempts: int
    error: str
    subject: str
    body: bytes

    @property
    def ready_ms(self) -> int:
        """The first instant at which it may be taken: it is due, and no lease on it lives."""
        return max(self.due_ms, self.lease_until_ms)


@dataclass(frozen=True, slots=True)
class OutboxDepth:
    """What a peer is owed at one precedence: `first` is the number of the oldest row."""

    peer: str
    precedence: int
    count: int
    first: int


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One entry of the journal, the salt that hides it in the chain, and the chain up to it."""

    number: int
    entry: bytes
    salt: bytes
    link: bytes


def journal_link(previous: bytes, *, salt: bytes, entry: bytes) -> bytes:
    """The chain's link after an entry: SHA-256(previous || SHA-256(salt || entry)).

    >>> journal_link(JOURNAL_START, salt=bytes(32), entry=b"hello").hex()[:16]
    'bbbe751c11cff1f6'
    """
    return sha256(previous + sha256(salt + entry).digest()).digest()


class Reader(Protocol):
    """What is committed, as it was at one instant.

    Obligations:
    * All answers of one reader are of the same instant; commits since then do not show.
    * Every row is verified before it is handed out; one that is damaged is `StoreBroken`. What
      `count`, `places` and `tallies` say comes without the rows.
    * What is absent is None, an empty page or 0, never an error.
    * A `limit` is from 1 to `ROWS_MAX`; a page shorter than its limit is the last.
    * Strings are compared by code point.
    """

    def get(self, kind: str, key: str) -> bytes | None:
        """The body of a row."""
        ...

    def listing(
        self, kind: str, *, state: str | None = None, after: str = "", limit: int
    ) -> list[Row]:
        """A page of a kind, in one state or any, in the order of rank, then key.

        `after` is the `cursor` of the last row seen. It stays good when that row has changed or
        gone: the page goes on behind the place where it stood.
        """
        ...

    def count(self, kind: str, state: str | None = None) -> int:
        """How many rows of a kind there are, in one state or any."""
        ...

    def places(self, kind: str, state: str, *, after: str = "", limit: int) -> list[Place]:
        """The same page of a kind in one state, without the rows: much faster over many."""
        ...

    def tallies(self, kind: str, *, after: str | None = None, limit: int) -> list[Tally]:
        """A page of the states of a kind that lie behind `after`, in their order."""
        ...

    def outbox_due(self, peer: str, *, now_ms: int, limit: int) -> list[OutboxRow]:
        """Rows for a peer with `ready_ms` <= `now_ms`, by precedence (0 is FLASH), then number."""
        ...

    def outbox_rows(self, peer: str | None, after: int, limit: int) -> list[OutboxRow]:
        """A page of the rows for a peer, or for all, due or not, by number above `after`."""
        ...

    def outbox_next_due(self, peer: str) -> int | None:
        """The least `ready_ms` of the rows for a peer; None if there are none."""
        ...

    def outbox_count(self, peer: str | None) -> int:
        """How many rows wait for a peer, or for all."""
        ...

    def outbox_depths(self) -> list[OutboxDepth]:
        """How many rows of each peer and precedence there are, and the oldest; none is 0."""
        ...

    def journal(self, after: int, limit: int) -> list[JournalRow]:
        """A page of the journal by number above `after`; numbers are 1, 2, 3 without a gap."""
        ...

    def journal_head(self) -> tuple[int, bytes]:
        """Number and link of the last entry; `(0, JOURNAL_START)` before the first."""
        ...

    def meta(self, key: str) -> bytes | None:
        """A value of the node's own."""
        ...


class Transaction(Reader, Protocol):
    """A reader that may also write, and sees what it wrote. It ends with its job.

    A call that gets a bad argument raises `CallerError` and changes nothing.
    """

    def put(self, kind: str, key: str, body: bytes, *, state: str = "", rank: str = "") -> None:
        """Write a row, in place of the one with that kind and key."""
        ...

    def delete(self, kind: str, key: str) -> bool:
        """Delete a row; whether there was one."""
        ...

    def outbox_add(self, peer: str, precedence: int, due_ms: int, subject: str, body: bytes) -> int:
        """Put bytes into the outbox, without lease or attempts; the number they got.

        `precedence` is from 0 (FLASH) to 3 (ROUTINE). Numbers rise and a committed one is never
        given again, even when its row is gone. They are local: no peer may see one (rule 6).
        """
        ...

    def outbox_reschedule(self, number: int, *, due_ms: int, attempts: int, error: str) -> bool:
        """Set when a row is due next, and end its lease; whether there is such a row."""
        ...

    def outbox_lease(self, number: int, until_ms: int) -> bool:
        """Let nobody take a row before `until_ms`; whether there is such a row.

        False means that nothing may be sent: a receipt has removed the row meanwhile.
        """
        ...

    def outbox_remove(self, number: int) -> bool:
        """Forget a row; whether there was one. Rule 1: only on the destination's receipt."""
        ...

    def journal_append(self, entry: bytes, salt: bytes) -> int:
        """Append to the journal; the entry's number. `salt` is `SALT_BYTES` random bytes."""
        ...

    def set_meta(self, key: str, value: bytes) -> None:
        """Write a value of the node's own."""
        ...


class Store(Protocol):
    """Where a node keeps everything it must not lose.

    Obligations, for every method:
    * `StoreFull`: what was asked was not done; shed, and try again later.
    * `CallerError`: the argument is bad or past a limit; nothing was done.
    * `StoreBroken`: whether it was done is unknown, and every later call raises it again, because
      a store that goes on after a failed fsync loses data. End the process.
    * One thread commits. `read` and blobs may be used from any thread.
    """

    def commit(self, jobs: Sequence[Callable[[Transaction], T]]) -> list[T | ReltoError]:
        """Run jobs in order in one durable commit; for each, its result or its refusal.

        * When it returns, everything is on the disk; before that, no reader sees any of it.
        * A job sees what the jobs before it did.
        * A job that raises a `ReltoError` is undone alone, and the exception is its result.
        * Any other exception, and a `StoreError`, undoes all jobs and is raised. A `StoreError`
          of the store itself does so even if the job caught it.
        * A job only uses its transaction: it does not commit, and keeps no reference to it.
        """
        ...

    def read(self) -> AbstractContextManager[Reader]:
        """A snapshot of what is committed. Hold it briefly: a store cannot tidy up behind it."""
        ...

    def scrub(self) -> None:
        """Leave nothing deleted in the store's own files: after a purge, and now and then.

        Copies elsewhere (backups, spare blocks of the disk) are not reached. `StoreFull` while a
        snapshot is open.
        """
        ...

    def blob_append(self, name: str, offset: int, data: bytes) -> None:
        """Write a part of a blob at `offset`, which lies at most at its end.

        A part that is sent again takes the place of the bytes there, and what follows stays.
        That makes a resumed transfer simple, and is why the caller never appends to a blob that
        a row calls complete. After `StoreFull`, send the part again. Not durable by itself.
        """
        ...

    def blob_size(self, name: str) -> int:
        """Bytes of a blob; 0 if there is none. After a crash the part not synced is unknown."""
        ...

    def blob_sync(self, name: str) -> None:
        """Make a blob and its name durable: before the row that refers to it is committed."""
        ...

    def blob_read(self, name: str, offset: int, length: int) -> bytes:
        """Bytes of a blob from `offset`, fewer than `length` only at its end.

        Nothing here verifies them: that is for the blob's own digest and authentication tags.
        """
        ...

    def blob_remove(self, name: str) -> bool:
        """Remove a blob durably: after the row that refers to it; whether there was one."""
        ...

    def blob_names(self) -> list[str]:
        """The names of all blobs, sorted: to remove those that no row refers to."""
        ...

    @property
    def ballast_held(self) -> bool:
        """Whether the reserve of disk space is in place. A node without it takes no new items."""
        ...

    def release_ballast(self) -> None:
        """Free the reserve: on `StoreFull`, so that receipts, recalls and FLASH still commit."""
        ...

    def restore_ballast(self) -> None:
        """Take the reserve again: on a timer after a release. `StoreFull` if it does not fit."""
        ...

    def close(self) -> None:
        """Let go of the store: every later call is `StoreBroken`, but to close again does nothing.

        No snapshot may be open, and no commit may run.
        """
        ...
