"""What one peer may have of this node: room, half-sent transfers, requests at work, FLASH.

All is counted for each peer alone, so that nobody's use shows in what another is answered (DESIGN
§6, rule 6). Past a limit a peer is told when to come back, and loses nothing by it. What is FLASH
beyond its budget is taken all the same, and worked on as IMMEDIATE.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from relto import canonical
from relto.buckets import Buckets
from relto.config import Quota
from relto.errors import PeerError
from relto.hop import Hop
from relto.ports import ROWS_MAX, Reader, Row, Transaction

__all__ = ["Kept", "OverQuota", "Quotas", "half_sent", "kept_of", "size_bytes"]

REQUESTS_PER_S = 200  # of one peer; those beyond are answered later, not refused
REQUESTS_AT_ONCE = 100  # that may come at once before they are
REST_ROWS = 16  # of its peer that are due to others make a message's rest longer by its own time
REST_MS_MAX = 1_000
CREDIT_MS = 200  # of rest that a peer is spared which sent nothing for so long
LATELY_MS = 2_000  # a peer rests for others that sent something in so long
PACE_BYTES = 256 * 1024  # of a body count as a request
FLASH_SHARE = 8  # FLASH within its budget has an eighth more of each limit of room
TOLD_MS = 600_000  # a limit that a peer goes on reaching is journaled once in this time
RETRY_S = {"requests": 1, "transfers": 5, "transfer-bytes": 5, "items": 300, "bytes": 300}
"""After how many seconds a peer is asked to come back, by the limit that it has reached."""

_KEPT = "kept"
_BODY_BYTES_MAX = 1024


class OverQuota(PeerError):
    """A limit of one peer is reached: it comes back after `retry_s`. Nothing was done."""

    def __init__(self, limit: str) -> None:
        super().__init__(f"its limit of {limit} is reached (docs/configuration.md, quota)")
        self.limit = limit
        self.retry_s = RETRY_S[limit]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a peer: releases, and bytes of their records and ciphertexts."""

    items: int = 0
    size_bytes: int = 0


@dataclass(slots=True)
class _Lane:
    """Whose message of a peer is worked on, and until when it rests after the last one."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    rested_ms: int = 0
    began_ms: int = 0
    came_ms: int = -LATELY_MS  # when something of it was last here


@dataclass(slots=True)
class _Transfer:
    """A half-sent ciphertext: when a range came last, and how urgent it counts here."""

    moved_ms: int
    precedence: int


class Quotas:
    """Counts what each peer has. `monotonic_ms` is the node's clock that nobody can set."""

    def __init__(self, quota: Quota, monotonic_ms: Callable[[], int]) -> None:
        self.quota = quota
        self._now_ms = monotonic_ms
        self._at_work: Counter[str] = Counter()
        self._lanes: dict[tuple[str, bool], _Lane] = {}
        self._passing: dict[int, str] = {}  # by the outbox's row: of which peer; of this process
        self._pace = Buckets(REQUESTS_PER_S, REQUESTS_AT_ONCE)
        self._flash = Buckets(quota.flash_per_minute / 60, quota.flash_per_minute)
        self._transfers: dict[str, _Transfer] = {}
        self._told_ms: dict[tuple[str, str], int] = {}
        self.reached: Counter[tuple[str, str]] = Counter()  # by peer and limit, since the start

    # requests

    def wait_s(self, peer: str, body_bytes: int = 0) -> float:
        """How long a request of the peer waits before anything is done for it.

        It counts, and once more for each `PACE_BYTES` of its body.
        """
        return self._pace.wait_s(peer, self._now_ms(), 1 + body_bytes // PACE_BYTES)

    @contextmanager
    def at_work(self, peer: str) -> Iterator[None]:
        """While a request of the peer is worked on. Raises OverQuota."""
        if self._at_work[peer] >= self.quota.requests_max:
            raise OverQuota("requests")
        self._at_work[peer] += 1
        try:
            yield
        finally:
            self._at_work[peer] -= 1

    @asynccontextmanager
    async def lane(
        self, peer: str, precedence: int, backlog: Callable[[], int]
    ) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """One message of a peer at a time, but for FLASH; and a rest after it, in which others have
        the node. What it gives is awaited within a long message, for the same rest.

        The rest is as long as the work took, if others sent something lately, and more if much of
        that peer waits to go on to others; less, by up to `CREDIT_MS`, if it sent nothing before:
        who sends little does not rest at all. What is urgent has a lane of its own.
        `backlog` counts what waits. A sender of ours sends one message a lane at a time, and makes
        the next one while we rest.
        """
        if precedence == 0:
            yield _no_rest
            return
        lane = self._lanes.setdefault((peer, precedence == 1), _Lane())
        lane.came_ms = self._now_ms()
        async with lane.lock:

            async def rested() -> None:
                wait_ms = lane.rested_ms - self._now_ms()
                if wait_ms > 0:
                    await asyncio.sleep(wait_ms / 1000)
                lane.began_ms = self._now_ms()

            def rest() -> None:
                lane.came_ms = now_ms = self._now_ms()
                share = self._others_came_lately(peer, now_ms) + backlog() / REST_ROWS
                used_ms = int((now_ms - lane.began_ms) * (1 + share))
                since_ms = max(lane.rested_ms, lane.began_ms - CREDIT_MS)
                lane.rested_ms = min(since_ms + used_ms, now_ms + REST_MS_MAX)

            async def pause() -> None:
                rest()
                await rested()

            await rested()
            try:
                yield pause
            except Exception:  # not where the process ends: it has no store to ask any more
                rest()
                raise
            rest()

    def _others_came_lately(self, peer: str, now_ms: int) -> bool:
        return any(
            now_ms - lane.came_ms < LATELY_MS
            for (party, _), lane in self._lanes.items()
            if party != peer
        )

    # what goes on

    def passes(self, peer: str, number: int) -> None:
        """A row of the outbox passes on what the peer brought."""
        self._passing[number] = peer

    def is_of(self, peer: str, number: int) -> bool:
        return self._passing.get(number) == peer

    def settled(self, number: int) -> None:
        """The row is gone."""
        self._passing.pop(number, None)

    # FLASH

    def is_flash(self, peer: str, maker: str) -> bool:
        """Whether one more that `maker` calls FLASH, and `peer` brings, goes before all else.

        By maker, so that a hub is not made to pay for a party that it passes on.
        """
        return self._flash.take(f"{peer}:{maker}", self._now_ms())

    # room

    def require_room(self, reader: Reader, peer: str, size_bytes: int, precedence: int) -> None:
        """Room for one more release with so many bytes. Raises OverQuota."""
        kept = kept_of(reader, peer)
        if kept.items >= _share(self.quota.items_max, precedence):
            raise OverQuota("items")
        if kept.size_bytes + size_bytes > _share(self.quota.bytes_max, precedence):
            raise OverQuota("bytes")

    def keep(self, tx: Transaction, peer: str, items: int, size_bytes: int) -> None:
        """Count what is kept of a peer from this transaction on."""
        kept = kept_of(tx, peer)
        body = {"bytes": kept.size_bytes + size_bytes, "items": kept.items + items}
        tx.put(_KEPT, peer, canonical.encode(body))

    # half-sent transfers

    def require_transfer(self, reader: Reader, peer: str, size_bytes: int, precedence: int) -> None:
        """Room for one more ciphertext in ranges. The only one of a peer always has it.

        Raises OverQuota.
        """
        rows = half_sent(reader, peer)
        if len(rows) >= _share(self.quota.transfers_max, precedence):
            raise OverQuota("transfers")
        begun = sum(int(row.rank or 0) for row in rows)
        most = _share(self.quota.transfer_bytes_max, precedence)
        if rows and begun + size_bytes > most:
            raise OverQuota("transfer-bytes")

    def begin(self, tx: Transaction, release: str, peer: str, item: str, size_bytes: int) -> None:
        """A ciphertext of `size_bytes` follows in ranges."""
        tx.put("receiving", release, item.encode(), state=peer, rank=f"{size_bytes:016d}")

    def moved(self, release: str, precedence: int = 0) -> int:
        """A range of it came now, or it begins as so urgent; how urgent it counts here."""
        transfer = self._transfers.setdefault(release, _Transfer(0, precedence))
        transfer.moved_ms = self._now_ms()
        return transfer.precedence

    def ended(self, release: str) -> None:
        self._transfers.pop(release, None)

    def is_idle(self, release: str) -> bool:
        """Whether no range of it came for as long as one may wait; after a start it waits anew."""
        now_ms = self._now_ms()
        transfer = self._transfers.setdefault(release, _Transfer(now_ms, 0))
        return now_ms - transfer.moved_ms >= self.quota.transfer_idle_s * 1000

    # telling

    def is_news(self, peer: str, limit: str) -> bool:
        """Count that a peer reached a limit; whether people were not told of it lately."""
        self.reached[peer, limit] += 1
        now_ms = self._now_ms()
        told_ms = self._told_ms.get((peer, limit))
        if told_ms is not None and now_ms - told_ms < TOLD_MS:
            return False
        self._told_ms[peer, limit] = now_ms
        return True

    def reached_lately(self, peer: str) -> list[str]:
        """The limits that people were told of in the last `TOLD_MS`."""
        now_ms = self._now_ms()
        return sorted(
            limit
            for (party, limit), told_ms in self._told_ms.items()
            if party == peer and now_ms - told_ms < TOLD_MS
        )


async def _no_rest() -> None:
    """FLASH goes on at once."""


def _share(limit: int, precedence: int) -> int:
    return limit if precedence else limit + max(1, limit // FLASH_SHARE)


def kept_of(reader: Reader, peer: str) -> Kept:
    """What is kept of a peer."""
    body = reader.get(_KEPT, peer)
    if body is None:
        return Kept()
    found: Any = canonical.decode(body, size_bytes_max=_BODY_BYTES_MAX)
    return Kept(found["items"], found["bytes"])


def half_sent(reader: Reader, peer: str) -> list[Row]:
    """The ciphertexts of a peer of which ranges are missing; the key is the release."""
    return reader.listing("receiving", state=peer, limit=ROWS_MAX)


def size_bytes(hop: Hop) -> int:
    """Bytes that are kept of a part of a hop message."""
    records = sum(len(record.payload) for record in hop.records)
    certificates = sum(len(der) for der in hop.certificates.by_keyid.values())
    ciphertexts = sum(len(ciphertext) for ciphertext in hop.ciphertexts.values())
    return records + certificates + ciphertexts
