"""The courier: carries what the outbox owes to each peer, FLASH first, until it is receipted.

Bytes leave only under a live lease: a transaction decides once more, journals, and grants five
seconds. A 2xx is only an optimisation: a release stays in the outbox until the destination's
own receipt removes it (DESIGN §6, rules 1 and 3).
"""

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from relto import canonical
from relto.backlog import Backlog
from relto.calls import Calls, Said
from relto.clauses import Share
from relto.config import Peer
from relto.envelope import Envelope
from relto.errors import PeerError, ReltoError, StoreBroken, why
from relto.events import Dispatch, Send, Taken
from relto.hands import Hands, Owed
from relto.hop import (
    INLINE_BYTES_MAX,
    PARTS_MAX,
    PLAINTEXT_BYTES_MAX,
    RANGE_BYTES_MAX,
    Hop,
    seal_key,
)
from relto.items import Item, Outgoing
from relto.links import LinkError
from relto.node import Node
from relto.ports import Link, OutboxRow, Reader, Transaction
from relto.records import PRECEDENCES
from relto.seal import HpkePublicKey

__all__ = ["LANES", "Courier", "hub_is_blind"]

log = logging.getLogger("relto.courier")

LEASE_MS = 5_000
ROW_BYTES_MAX = 1024 * 1024
ROWS_MAX = 16  # that one lane has in hand at once
LOOKS = (1, 2 * ROWS_MAX, 1_000)  # rows that a lane reads, until there are enough for it
ALONE_FROM = 2  # failed attempts after which a row goes alone
MESSAGE_BYTES = PLAINTEXT_BYTES_MAX - 4096  # parts that share a message; a larger one goes alone
LANES = (0, 1, 3, 3)  # the least precedence (3 is ROUTINE) that each lane of a peer still carries
"""One lane for FLASH alone, and one for that and IMMEDIATE, which never wait behind others; two for
all, so that the next message is made while the peer is at work on the one before."""

URGENT = PRECEDENCES.index("IMMEDIATE")
RETRY_MS_FIRST = 200
RETRY_MS_MAX = 30_000
LINK_RETRY_MS_MAX = 5_000  # between two calls at a peer that is not reached
RESEND_MS = 30_000  # accepted, but no result yet: ask again, each time after twice as long
RESEND_MS_MAX = 300_000  # at most; and once the hub has it: should it lose it
BLOCKED_MS = 30_000  # the decision may hold again, when an agreement does
NOTED_MS = 2_000  # from a release's being accepted to that being noted, unless it is settled
NOTE_MS = 100  # the same of a result, many at a time
IDLE_S = 30.0
_NOTHING = len(PRECEDENCES)  # behind every precedence
OTHERS_S = 0.25


class Courier:
    """Carries one peer's messages over the link to that peer's node."""

    def __init__(self, node: Node, peer: Peer, link: Link) -> None:
        self.node = node
        self.peer = peer.party
        self.calls = Calls(node, peer.party, link)
        self.certificate = b""  # that it showed last (DER), checked or not
        self._calls_failed = 0  # since it could not be reached
        self._awake = [asyncio.Event() for _ in LANES]
        self._asleep = [False for _ in LANES]
        self._tasks: list[asyncio.Task[None]] = []
        self.hands = Hands()
        self.backlog = Backlog(node.clock.monotonic_ms)
        self._offered: dict[int, tuple[str, int]] = {}  # accepted rows: in which state, how often
        self._look_ms = [0 for _ in LANES]  # when each lane looks at the outbox next
        self._found = [_NOTHING for _ in LANES]  # the precedence of what it found there last
        self._later_ms = [0] * len(PRECEDENCES)  # until when the peer wants none so urgent, or less

    async def start(self) -> None:
        self.node.carriers[self.peer] = self
        await self.node.submit(self._forget_leases)
        self._tasks = [asyncio.create_task(self._lane(index)) for index in range(len(LANES))]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.calls.link.close()

    def wake(self) -> None:
        """Something is new in the outbox, or will be due: every lane looks at it now."""
        self._look_ms = [0 for _ in LANES]
        for awake in self._awake:
            awake.set()

    def settled(self, number: int) -> None:
        self.hands.settled(number)
        self._offered.pop(number, None)
        self.backlog.drop(number)

    @property
    def is_behind(self) -> bool:
        """Whether the peer is reached, and more waits for it than it takes in a while."""
        return not self.calls.error and self.backlog.is_long

    def at_once(
        self, tx: Transaction, row: OutboxRow, item: Item, send: Send
    ) -> Callable[[], None]:
        """Take a new row in hand in the transaction that writes it, so that it needs no other.

        What to do once that is durable: hand it to a lane, or let it wait in the outbox for one to
        find it, since what is as urgent waits already, the peer is not reached, or a key has to be
        asked for first.
        """
        if not self._takes_at_once(row.precedence):
            return partial(self._wait_for_lane, row)
        if send.result is not None:
            return partial(self._hand, Owed(row, item, result=send.result))
        assert send.release is not None  # noqa: S101  # it is the one or the other
        if item.key is not None and hub_is_blind(self.node, _outgoing(item, send.release)):
            return partial(self._wait_for_lane, row)
        owed = self._dispatch(Owed(row, item, send.release), tx)
        return self.wake if owed is None else partial(self._hand, owed)

    def _takes_at_once(self, precedence: int) -> bool:
        if not self._tasks or self.calls.error or not self.calls.knows_key:
            return False
        if precedence >= min(self._found) or not self.hands.has_room(precedence):
            return False
        # Else the peer wants none of it now.
        return self._later_ms[precedence] <= self.node.clock.monotonic_ms()

    def _wait_for_lane(self, row: OutboxRow) -> None:
        if row.precedence > URGENT:
            self.backlog.add(row.number)
        self.wake()

    def _hand(self, owed: Owed) -> None:
        """For the first lane that sleeps, or whichever is done first."""
        self.hands.give(owed)
        for index, precedence_max in enumerate(LANES):
            if owed.row.precedence <= precedence_max:
                self._awake[index].set()
                if self._asleep[index]:
                    self._asleep[index] = False
                    break

    def _forget_leases(self, tx: Transaction) -> None:
        """After a restart every row is due: times were of another process's clock."""
        after = 0
        while rows := tx.outbox_rows(self.peer, after, 500):
            after = rows[-1].number
            for row in rows:
                tx.outbox_reschedule(row.number, due_ms=0, attempts=row.attempts, error=row.error)

    async def _lane(self, index: int) -> None:
        while True:
            self._awake[index].clear()
            try:
                if self.calls.error and not await self._is_back():
                    wait_ms = RETRY_MS_FIRST * 2 ** min(self._calls_failed, 10)
                    await self._sleep(index, min(wait_ms, LINK_RETRY_MS_MAX) / 1000)
                    continue
                wait_s = IDLE_S
                if index == len(LANES) - 1:  # not the lane of FLASH
                    wait_s = min(await self.calls.renew_key() / 1000, await self._note_accepted())
                owed, rows = self._next(index)
                numbers = {row.number for row in rows} or {each.row.number for each in owed}
                if not numbers:
                    look_s = (self._look_ms[index] - self.node.clock.monotonic_ms()) / 1000
                    await self._sleep(index, min(wait_s, look_s))
                    continue
                self.hands.take_up(numbers)
                precedence = rows[0].precedence if rows else owed[0].row.precedence
                try:
                    with self.node.turns.at_work(precedence):
                        await self.node.turns.wait(precedence)
                        if rows:
                            await self._carry(rows)
                        else:
                            await self._carry_handed(owed)
                finally:
                    self.hands.put_down(numbers)
            except StoreBroken as e:
                self.node.on_broken(e)
            except Exception as e:  # whatever one row does, the lane goes on to the others
                level = logging.WARNING if isinstance(e, ReltoError) else logging.ERROR
                log.log(level, "carrying-failed", extra={"peer": self.peer, "why": why(e)})
                await self._sleep(index, RETRY_MS_FIRST / 1000)

    async def _is_back(self) -> bool:
        """Call a peer that was not reached. Once it answers all that waited is due, so that the
        most urgent goes first, and not what happened to be tried last."""
        try:
            await self.calls.key_of(self.peer, fresh=True)
        except (LinkError, PeerError) as e:
            self.calls.error = str(e)
            self._calls_failed += 1
            return False
        self.calls.error = ""
        log.info("link-up", extra={"peer": self.peer})
        if self._calls_failed:  # else it was one message that got no answer: that one waits
            self._calls_failed = 0
            self._offered.clear()
            await self.node.submit(self._make_due)
        return True

    def _make_due(self, tx: Transaction) -> None:
        now_ms = self.node.clock.monotonic_ms()
        after = 0
        while rows := tx.outbox_rows(self.peer, after, 500):
            after = rows[-1].number
            for row in rows:
                if row.error and row.lease_until_ms <= now_ms:  # its attempts were the link's
                    tx.outbox_reschedule(row.number, due_ms=0, attempts=0, error=row.error)

    async def _sleep(self, index: int, wait_s: float) -> None:
        self._asleep[index] = True
        try:
            async with asyncio.timeout(wait_s):
                await self._awake[index].wait()
        except TimeoutError:
            pass
        finally:
            self._asleep[index] = False

    def _next(self, index: int) -> tuple[list[Owed], list[OutboxRow]]:
        """What a lane carries now: of what was handed over and what is due in the outbox that which
        goes first; both empty if there is nothing."""
        now_ms = self.node.clock.monotonic_ms()
        rows: list[OutboxRow] = []
        if now_ms >= self._look_ms[index]:
            rows, wait_s = self._best(LANES[index])
            self._found[index] = rows[0].precedence if rows else _NOTHING
            self._look_ms[index] = 0 if rows else now_ms + int(wait_s * 1000)
        first = self.hands.first()
        if first is None or first[0] > LANES[index]:
            return [], rows
        if rows and (rows[0].precedence, rows[0].number) < first:
            return [], rows
        in_hand = len(self.hands)
        owed = self.hands.take(ROWS_MAX, now_ms)
        if len(self.hands) < in_hand:
            self.wake()  # what went back is due soon
        return owed, []

    def _best(self, precedence_max: int) -> tuple[list[OutboxRow], float]:
        """The rows to carry now, all of one precedence, or how long to wait for some."""
        now_ms = self.node.clock.monotonic_ms()
        with self.node.store.read() as reader:
            rows, free = self._due(reader, precedence_max, now_ms)
            if free and free[0].precedence <= precedence_max:
                later_ms = self._later_ms[free[0].precedence]
                if later_ms <= now_ms:
                    return _together(free), 0.0
                return [], min(OTHERS_S, (later_ms - now_ms) / 1000)
            next_ms = reader.outbox_next_due(self.peer)
        if next_ms is None:
            return [], IDLE_S
        if rows:
            return [], OTHERS_S  # what is due is the other lane's; urgent rows wake us
        return [], min(IDLE_S, max(0.05, (next_ms - now_ms) / 1000))

    def _due(
        self, reader: Reader, precedence_max: int, now_ms: int
    ) -> tuple[list[OutboxRow], list[OutboxRow]]:
        """The first rows that are due, and those of them that nobody has in hand. No more is read
        than says whether there is something for a lane, and then what fills a message."""
        for limit in LOOKS:
            rows = reader.outbox_due(self.peer, now_ms=now_ms, limit=limit)
            free = [row for row in rows if row.number not in self.hands]
            is_all = len(rows) < limit or rows[-1].precedence > precedence_max
            if is_all or len(free) >= ROWS_MAX:
                break
        return rows, free

    # rows

    async def carry(self, rows: Sequence[OutboxRow]) -> None:
        """Send what the rows owe, in as few hop messages as it fits in, and note what was said.

        Whatever happens to one row, the others go on. Rows that could not be sent wait longer.
        """
        await self._carry(rows)
        await self._note_accepted(at_once=True)

    async def _carry(self, rows: Sequence[OutboxRow]) -> None:
        precedence = rows[0].precedence
        async with self._putting_off(rows) as left:
            await self.calls.key_of(self.peer)  # before the lease: it may have to be asked for
            past_hub: dict[str, HpkePublicKey] = {}  # asked for anew for each attempt
            found = [await self._owed(row, past_hub) for row in rows]
            owed = [each for each in found if each is not None]
            started = [each for each in owed if each.received_bytes]
            if started and started[0] is owed[0]:
                owed = started[:1]  # the next range of a large ciphertext goes alone
            else:
                owed = [each for each in owed if not each.received_bytes]
            granted = await self._granted(owed, precedence)
            left.clear()
            left.update((each.row.number, each.row) for each in granted)
            await self._deliver(granted, precedence, left)

    async def _carry_handed(self, owed: Sequence[Owed]) -> None:
        """The same of what may leave already."""
        async with self._putting_off([each.row for each in owed]) as left:
            await self._deliver(owed, owed[0].row.precedence, left)

    @asynccontextmanager
    async def _putting_off(self, rows: Sequence[OutboxRow]) -> AsyncIterator[dict[int, OutboxRow]]:
        """Those rows that are still in it when something fails wait longer."""
        left = {row.number: row for row in rows}
        try:
            yield left
        except StoreBroken:
            raise
        except LinkError as e:
            await self._later(left.values(), str(e))
        except Exception as e:
            await self._later(left.values(), f"could not be sent: {why(e)}")
            raise

    async def _deliver(
        self, granted: Sequence[Owed], precedence: int, left: dict[int, OutboxRow]
    ) -> None:
        """Make the messages and send them; what is done is no longer left."""
        for message in _messages(await self._made(granted, precedence, left)):
            await self._send(message, precedence)
            for each in message:
                left.pop(each.row.number, None)

    async def _owed(self, row: OutboxRow, past_hub: dict[str, HpkePublicKey]) -> Owed | None:
        """What a row stands for; None if that cannot be read or sent now, and the row waits."""
        try:
            body: Any = canonical.decode(row.body, size_bytes_max=ROW_BYTES_MAX)
            item = self.node.item(body["item"])
            if "result" in body:
                return Owed(row, item, result=Envelope.from_json(body["result"]))
            outgoing = _outgoing(item, body["release"])
            key = await self._key_past_hub(item, outgoing, past_hub)
            return Owed(
                row, item, body["release"], past_hub=key, received_bytes=outgoing.received_bytes
            )
        except (StoreBroken, LinkError):
            raise
        except Exception as e:
            await self._stranded(row, e)
            return None

    async def _stranded(self, row: OutboxRow, error: Exception) -> None:
        """One row cannot be sent, whatever the reason: it waits, and the others go on."""
        log.warning("carrying-failed", extra={"peer": self.peer, "why": why(error)})
        self.backlog.drop(row.number)
        await self._later([row], f"could not be sent: {why(error)}")

    async def _granted(self, owed: Sequence[Owed], precedence: int) -> list[Owed]:
        """Those that may leave: results, and releases decided once more, journaled and leased."""
        releases = [each for each in owed if each.release]
        jobs = [partial(self._dispatch, each) for each in releases]
        done = await self.node.submit_all(jobs, precedence) if jobs else []
        answers = {each.row.number: got for each, got in zip(releases, done, strict=True)}
        granted: list[Owed] = []
        for each in owed:
            got = answers.get(each.row.number, each)
            if isinstance(got, ReltoError):
                await self._stranded(each.row, got)
            elif got is not None:
                granted.append(got)
            else:
                self.backlog.drop(each.row.number)
        return granted

    async def _made(
        self, granted: Sequence[Owed], precedence: int, left: dict[int, OutboxRow]
    ) -> list[Owed]:
        """With the part of a hop message that each is; one that cannot be made waits alone."""
        ready: list[Owed] = []
        for each in granted:
            await self.node.turns.wait(precedence)
            try:
                ready.append(replace(each, part=self._part(each).encode()))
            except StoreBroken:
                raise
            except Exception as e:
                left.pop(each.row.number, None)
                await self._stranded(each.row, e)
        return ready

    def _dispatch(self, owed: Owed, tx: Transaction) -> Owed | None:
        """Decide once more, and take the row for five seconds. None: nothing may leave now."""
        lease = self._lease(tx, owed.row)
        if lease is None:
            return None
        item = self.node.apply(tx, owed.item.id, Dispatch(owed.release)).item
        assert item is not None  # noqa: S101  # Dispatch refuses where there is none
        outgoing = _outgoing(item, owed.release)
        if outgoing.state == "blocked":
            due_ms = self.node.clock.monotonic_ms() + BLOCKED_MS
            tx.outbox_reschedule(
                owed.row.number, due_ms=due_ms, attempts=owed.row.attempts,
                error=", ".join(outgoing.codes),
            )  # fmt: skip
            return None
        return replace(
            owed, item=item, lease_until_ms=lease, received_bytes=outgoing.received_bytes
        )

    def _lease(self, tx: Transaction, row: OutboxRow) -> int | None:
        """Take the row for five seconds: until when, in monotonic milliseconds.

        None if another lane has it, it was put off, or a receipt removed it.
        """
        now_ms = self.node.clock.monotonic_ms()
        found = tx.outbox_rows(self.peer, row.number - 1, 1)
        if not found or found[0].number != row.number or found[0].ready_ms > now_ms:
            return None
        until_ms = now_ms + LEASE_MS
        return until_ms if tx.outbox_lease(row.number, until_ms) else None

    def _part(self, owed: Owed) -> Hop:
        if owed.result is not None:
            return Hop((owed.result,), owed.item.certificates.for_envelopes([owed.result]))
        return self._consignment(owed.item, _outgoing(owed.item, owed.release), owed.past_hub)

    async def _send(self, owed: Sequence[Owed], precedence: int) -> None:
        """One message under its leases, and what its answer means for each row."""
        lease = min((each.lease_until_ms for each in owed if each.release), default=0)
        answers: list[Said] = []
        if owed[0].received_bytes:
            answers.append(Said("accepted", owed[0].received_bytes))
        else:
            answers += await self.calls.post([each.part for each in owed], lease)
        noted: list[tuple[Owed, Said]] = []
        for each, said in zip(owed, answers, strict=True):
            if each.release and said.word == "accepted" and 0 <= said.have < each.size_bytes:
                said = await self._send_range(each, said.have)
            if said.is_whole and said.after_s:
                self._wait(precedence, said.after_s)
            if each.release and precedence > URGENT and said.word != "retry":
                self.backlog.went(each.row.number)
            if said.word == "accepted" and (each.result or said.have in (-1, each.size_bytes)):
                wait_ms = NOTE_MS if each.result else NOTED_MS
                self.hands.accept(each, self.node.clock.monotonic_ms() + wait_ms)
                self._awake[-1].set()
            else:
                noted.append((each, said))
        await self._note(noted, precedence)

    async def _note_accepted(self, *, at_once: bool = False) -> float:
        """Note what was accepted a while ago, and is not settled: what follows soonest is a result,
        which makes it needless. The seconds until there is something to note."""
        now_ms = self.node.clock.monotonic_ms()
        if owed := self.hands.take_accepted(now_ms, all_of_them=at_once):
            try:
                whole = Said("accepted")
                await self._note([(each, whole) for each in owed], len(PRECEDENCES) - 1)
            finally:
                self.hands.put_down(each.row.number for each in owed)
        return max(0, self.hands.note_ms - now_ms) / 1000

    async def _note(self, answers: Sequence[tuple[Owed, Said]], precedence: int) -> None:
        """What the peer said, in the store."""
        jobs = [partial(self._answered, each, said) for each, said in answers]
        for result in await self.node.submit_all(jobs, precedence) if jobs else ():
            if isinstance(result, ReltoError):
                log.warning("carrying-failed", extra={"peer": self.peer, "why": str(result)})
        self.wake()

    def _wait(self, precedence: int, after_s: int) -> None:
        """The peer asks us to come back later with what is so urgent; then with all that is less.

        What is more urgent is sent all the same: there may be place for that.
        """
        until_ms = self.node.clock.monotonic_ms() + after_s * 1000
        for index in range(precedence, len(PRECEDENCES)):
            self._later_ms[index] = max(self._later_ms[index], until_ms)

    async def _send_range(self, owed: Owed, offset: int) -> Said:
        """One range of a large ciphertext, under its lease; then whatever is most urgent.

        Raises StoreBroken where the ciphertext was damaged here.
        """
        size = min(RANGE_BYTES_MAX, owed.size_bytes - offset)
        stored = owed.item.stored
        data = await asyncio.to_thread(lambda: self.node.store.blob_read(stored, offset, size))
        said = await self.calls.send_range(owed.release, offset, data, owed.lease_until_ms)
        if said.word == "refused" and offset + size == owed.size_bytes:
            # Either the peer has something against it, or what we sent was not what we signed.
            await asyncio.to_thread(self.node.contents.require_whole, owed.item)
        return said

    def _answered(self, owed: Owed, said: Said, tx: Transaction) -> None:
        """What the peer said of one part: only an optimisation, but for results."""
        row = owed.row
        if owed.result is not None:
            if said.word not in ("accepted", "refused"):
                self._put_off(tx, row, said.words, said.after_s)
                return
            self.node.settle(tx, row.number, self.peer, owed.result)
            if said.word == "refused":  # it knows nothing of it, or has a final result already
                entry = {"event": "result-rejected", "item": owed.item.id, "peer": self.peer}
                self.node.journal(tx, entry, self.node.clock.instant())
            return
        is_accepted = said.word == "accepted"
        have = (owed.size_bytes if said.have < 0 else said.have) if is_accepted else 0
        if have > owed.size_bytes:
            raise PeerError(f"{self.peer} says that it has {have} of {owed.size_bytes} bytes")
        item = self.node.apply(tx, owed.item.id, Taken(owed.release, have)).item
        assert item is not None  # noqa: S101  # it was sent
        if not is_accepted:
            self._put_off(tx, row, said.words, said.after_s)
            return
        outgoing = _outgoing(item, owed.release)
        # What is not whole goes on with its next range.
        wait_ms = 0 if have < owed.size_bytes else self._resend_ms(row.number, outgoing.state)
        due_ms = self.node.clock.monotonic_ms() + wait_ms
        tx.outbox_reschedule(row.number, due_ms=due_ms, attempts=0, error="")

    def _resend_ms(self, number: int, state: str) -> int:
        """How long what was accepted waits for its result before it is offered again: longer each
        time that nothing has changed, and a restart or a link that comes back begins anew."""
        before, times = self._offered.get(number, (state, 0))
        times = times if before == state else 0
        self._offered[number] = (state, times + 1)
        if state == "with-hub":
            return RESEND_MS_MAX
        return min(RESEND_MS_MAX, RESEND_MS << min(times, 10))

    async def _later(self, rows: Iterable[OutboxRow], error: str) -> None:
        late = list(rows)
        jobs = [partial(self._put_off, row=row, error=error) for row in late]
        if jobs:
            await self.node.submit_all(jobs, late[0].precedence)
        self.wake()

    def _put_off(self, tx: Transaction, row: OutboxRow, error: str, after_s: int = 0) -> None:
        """Nothing is lost: the row waits longer each time, and people see why."""
        wait_ms = min(RETRY_MS_MAX, RETRY_MS_FIRST * 2 ** min(row.attempts, 10))
        wait_ms = max(wait_ms, after_s * 1000)
        # Not all at the same instant; by the row's own bytes, since its number counts what
        # others get.
        wait_ms += zlib.crc32(row.body) % (wait_ms // 4 + 1)
        due_ms = self.node.clock.monotonic_ms() + wait_ms
        # That the peer has no place now says nothing about the row: it goes with others then.
        attempts = row.attempts if after_s else row.attempts + 1
        tx.outbox_reschedule(row.number, due_ms=due_ms, attempts=attempts, error=error[:200])

    async def _key_past_hub(
        self, item: Item, outgoing: Outgoing, known: dict[str, HpkePublicKey]
    ) -> HpkePublicKey | None:
        """The last party's key, where the payload key is sealed past a hub that does not read.

        Asked for anew for each attempt: the one that the hub passed on may have ended there.
        """
        if item.key is None or not hub_is_blind(self.node, outgoing):
            return None
        to = outgoing.proposal.to
        if to not in known:
            known[to] = await self.calls.key_of(to, fresh=True)
        return known[to]

    def _consignment(self, item: Item, outgoing: Outgoing, past_hub: HpkePublicKey | None) -> Hop:
        """Everything that the next node needs for one release; built anew for each attempt."""
        node = self.node
        records = item.records_for(outgoing)
        path = outgoing.proposal.path
        keys: dict[str, bytes] = {}
        sealed_keys: dict[str, bytes] = {}
        payload_key = node.payload_key(item)
        if payload_key is None:  # we do not read it either: pass on what is sealed past us
            sealed_keys[item.id] = item.sealed_keys[outgoing.proposal.to]
        elif past_hub is not None:
            sealed_keys[item.id] = seal_key(
                payload_key, sender=node.party, recipient=path[-1], item=item.id, key=past_hub
            )
        else:
            keys[item.id] = payload_key
        ciphertexts: dict[str, bytes] = {}
        if item.manifest.ciphertext_bytes <= INLINE_BYTES_MAX:
            ciphertexts[item.id] = b"".join(node.contents.ciphertext(item))
        return Hop(
            records, item.certificates.for_envelopes(records), keys, sealed_keys, ciphertexts
        )


def hub_is_blind(node: Node, outgoing: Outgoing) -> bool:
    """Whether the hub on the way does not read; all sources have one answer (DESIGN §4 (6))."""
    proposal = outgoing.proposal
    if len(proposal.path) < 3:
        return False
    clause = node.engine.regime.clause(next(iter(proposal.basis.values())))
    return clause is not None and isinstance(clause.body, Share) and not clause.body.via_reads


def _outgoing(item: Item, release: str) -> Outgoing:
    outgoing = item.outgoing_by(release)
    assert outgoing is not None  # noqa: S101  # its release is in the outbox
    return outgoing


def _together(due: Sequence[OutboxRow]) -> list[OutboxRow]:
    """The first rows that may share a message: of one precedence, and none that failed often,
    since it may be what the message fails for."""
    first = due[0]
    if first.attempts >= ALONE_FROM:
        return [first]
    same = (r for r in due if r.precedence == first.precedence and r.attempts < ALONE_FROM)
    return list(islice(same, ROWS_MAX))


def _messages(ready: Sequence[Owed]) -> Iterator[list[Owed]]:
    """The parts, in their order, by the messages that they go in: each within its limits."""
    message: list[Owed] = []
    size_bytes = 0
    for each in ready:
        size_bytes += len(each.part) + 1
        if message and (size_bytes > MESSAGE_BYTES or len(message) >= PARTS_MAX):
            yield message
            message, size_bytes = [], len(each.part) + 1
        message.append(each)
    if message:
        yield message
