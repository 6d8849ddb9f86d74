"""The courier: carries what the outbox owes to each peer, FLASH first, until it is receipted.

Bytes leave only under a live lease: a transaction decides once more, journals, and grants five
seconds. A 2xx is only an optimisation: a release stays in the outbox until the destination's
own receipt removes it (DESIGN §6, rules 1 and 3).
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

from relto import canonical
from relto.clauses import Share
from relto.config import Peer
from relto.envelope import Envelope
from relto.errors import PeerError, ReltoError, StoreBroken
from relto.events import Dispatch, Taken
from relto.hop import INLINE_BYTES_MAX, Hop, seal_hop, seal_key
from relto.instants import moment
from relto.items import Item, Outgoing
from relto.links import LinkError
from relto.node import Node
from relto.ports import Answer, Link, OutboxRow, Transaction
from relto.records import NodeKey, decode_record
from relto.seal import HpkePublicKey

__all__ = ["Courier", "hub_is_blind"]

log = logging.getLogger("relto.courier")

LEASE_MS = 5_000
ROW_BYTES_MAX = 1024 * 1024
RANGE_BYTES = 1024 * 1024
LANES = (1, 3)  # the least precedence (3 is ROUTINE) that each lane of a peer still carries
"""Two lanes a peer: one for FLASH and IMMEDIATE alone, which never waits behind the other."""

RETRY_MS_FIRST = 200
RETRY_MS_MAX = 30_000
LINK_RETRY_MS_MAX = 5_000  # between two calls at a peer that is not reached
RESEND_MS = 30_000  # accepted, but no result yet: ask again
WITH_HUB_MS = 300_000  # the hub has it: it is offered anew now and then, should the hub lose it
BLOCKED_MS = 30_000  # the decision may hold again, when an agreement does
IDLE_S = 30.0
OTHERS_S = 0.25
NODE_KEY_BYTES_MAX = 64 * 1024


class Courier:
    """Carries one peer's messages over the link to that peer's node."""

    def __init__(self, node: Node, peer: Peer, link: Link) -> None:
        self.node = node
        self.peer = peer.party
        self.link = link
        self.link_error = ""  # why the peer could not be reached last, for people to see
        self._calls_failed = 0  # since it could not be reached
        self._awake = [asyncio.Event() for _ in LANES]
        self._tasks: list[asyncio.Task[None]] = []
        self._carrying: set[int] = set()  # rows that a lane has in hand, with a lease or before it
        self._peer_keys: dict[str, HpkePublicKey] = {}

    async def start(self) -> None:
        self.node.wakers[self.peer] = self.wake
        await self.node.submit(self._forget_leases)
        self._tasks = [asyncio.create_task(self._lane(index)) for index in range(len(LANES))]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.link.close()

    def forget_keys(self) -> None:
        """Ask for the peers' keys anew: after the clock was set."""
        self._peer_keys.clear()

    def wake(self) -> None:
        for awake in self._awake:
            awake.set()

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
                if self.link_error and not await self._is_back():
                    wait_ms = RETRY_MS_FIRST * 2 ** min(self._calls_failed, 10)
                    await self._sleep(index, min(wait_ms, LINK_RETRY_MS_MAX) / 1000)
                    continue
                row, wait_s = self._best(LANES[index])
                if row is None:
                    await self._sleep(index, wait_s)
                else:
                    self._carrying.add(row.number)
                    try:
                        await self._carry(row)
                    finally:
                        self._carrying.discard(row.number)
            except StoreBroken as e:
                self.node.on_broken(e)
            except Exception as e:  # whatever one row does, the lane goes on to the others
                level = logging.WARNING if isinstance(e, ReltoError) else logging.ERROR
                log.log(level, "carrying to %s: %s: %s", self.peer, type(e).__name__, e)
                await self._sleep(index, RETRY_MS_FIRST / 1000)

    async def _is_back(self) -> bool:
        """Call a peer that was not reached. Once it answers all that waited is due, so that the
        most urgent goes first, and not what happened to be tried last."""
        try:
            await self._key_of(self.peer, fresh=True)
        except (LinkError, PeerError) as e:
            self.link_error = str(e)
            self._calls_failed += 1
            return False
        self.link_error = ""
        if self._calls_failed:  # else it was one message that got no answer: that one waits
            self._calls_failed = 0
            await self.node.submit(self._make_due)
        return True

    def _make_due(self, tx: Transaction) -> None:
        now_ms = self.node.clock.monotonic_ms()
        after = 0
        while rows := tx.outbox_rows(self.peer, after, 500):
            after = rows[-1].number
            for row in rows:
                if row.error and row.lease_until_ms <= now_ms:
                    tx.outbox_reschedule(
                        row.number, due_ms=0, attempts=row.attempts, error=row.error
                    )

    async def _sleep(self, index: int, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._awake[index].wait()
        except TimeoutError:
            pass

    def _best(self, precedence_max: int) -> tuple[OutboxRow | None, float]:
        """The row to carry now, or how long to wait for one."""
        now_ms = self.node.clock.monotonic_ms()
        with self.node.store.read() as reader:
            rows = reader.outbox_due(self.peer, now_ms=now_ms, limit=len(LANES))
            free = [row for row in rows if row.number not in self._carrying]
            if free and free[0].precedence <= precedence_max:
                return free[0], 0.0
            next_ms = reader.outbox_next_due(self.peer)
        if next_ms is None:
            return None, IDLE_S
        if rows:
            return None, OTHERS_S  # what is due is the other lane's; urgent rows wake us
        return None, min(IDLE_S, max(0.05, (next_ms - now_ms) / 1000))

    # one row

    async def _carry(self, row: OutboxRow) -> None:
        try:
            body: Any = canonical.decode(row.body, size_bytes_max=ROW_BYTES_MAX)
            await self._key_of(self.peer)  # before the lease: it may have to be asked for
            if "release" in body:
                await self._carry_release(row, body["item"], body["release"])
            else:
                await self._carry_result(row, body["item"], Envelope.from_json(body["result"]))
        except StoreBroken:
            raise
        except LinkError as e:
            await self._later(row, str(e))
        except Exception as e:
            words = str(e) if isinstance(e, ReltoError) else type(e).__name__
            await self._later(row, f"could not be sent: {words}")
            raise

    async def _carry_result(self, row: OutboxRow, item_id: str, result: Envelope) -> None:
        lease = await self.node.submit(lambda tx: self._lease(tx, row))
        if lease is None:
            return
        item = self.node.item(item_id)
        hop = Hop((result,), item.certificates.for_envelopes([result]))
        response = await self._post(hop, lease)
        if response.status == 200:
            await self.node.submit(lambda tx: self.node.settle(tx, row.number, self.peer, result))
        elif response.status == 400:  # it knows nothing of it, or has a final result already

            def reject(tx: Transaction) -> None:
                self.node.settle(tx, row.number, self.peer, result)
                entry = {"event": "result-rejected", "item": item_id, "peer": self.peer}
                self.node.journal(tx, entry, self.node.clock.instant())

            await self.node.submit(reject)
        else:
            await self._later(row, _words(response))

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

    async def _carry_release(self, row: OutboxRow, item_id: str, release: str) -> None:
        past_hub = await self._key_past_hub(self.node.item(item_id), release)

        def job(tx: Transaction) -> tuple[Item, int] | None:
            lease = self._lease(tx, row)
            if lease is None:
                return None
            item = self.node.apply(tx, item_id, Dispatch(release)).item
            assert item is not None  # noqa: S101  # Dispatch refuses where there is none
            outgoing = _outgoing(item, release)
            if outgoing.state == "blocked":
                due_ms = self.node.clock.monotonic_ms() + BLOCKED_MS
                error = ", ".join(outgoing.codes)
                tx.outbox_reschedule(row.number, due_ms=due_ms, attempts=row.attempts, error=error)
                return None
            return item, lease

        granted = await self.node.submit(job)
        if granted is None:
            return
        item, lease = granted
        outgoing = _outgoing(item, release)
        size = item.manifest.ciphertext_bytes
        have = outgoing.received_bytes
        if not have:
            response = await self._post(self._consignment(item, outgoing, past_hub), lease)
            have = self._have(response, size)
        if 0 <= have < size:
            response = await self._send_range(item, have, release, lease)
            have = self._have(response, size)
        await self._taken(row, item_id, release, max(have, 0))
        if have < 0:
            await self._later(row, _words(response))

    def _have(self, response: Answer, size: int) -> int:
        """How many bytes of the ciphertext the peer has, by its answer; -1 if it refused."""
        if response.status != 200:
            return -1
        have = _answer(response).get("have", size)
        if not isinstance(have, int) or not 0 <= have <= size:
            raise PeerError(f"{self.peer} says that it has {have!r} of {size} bytes")
        return have

    async def _send_range(self, item: Item, offset: int, release: str, lease: int) -> Answer:
        """One range of a large ciphertext, under this lease; then whatever is most urgent."""
        size = min(RANGE_BYTES, item.manifest.ciphertext_bytes - offset)
        data = await asyncio.to_thread(lambda: self.node.store.blob_read(item.stored, offset, size))
        target = f"/relto/v1/ciphertext/{release}"
        return await self._ask("POST", target, data, query=f"offset={offset}", lease=lease)

    async def _taken(self, row: OutboxRow, item_id: str, release: str, have: int) -> None:
        """The next node has `have` bytes; when that is all, its receipt is what we wait for."""

        def job(tx: Transaction) -> None:
            item = self.node.apply(tx, item_id, Taken(release, have)).item
            assert item is not None  # noqa: S101  # it was sent
            outgoing = _outgoing(item, release)
            wait_ms = WITH_HUB_MS if outgoing.state == "with-hub" else RESEND_MS
            if outgoing.received_bytes or not have:
                wait_ms = 0  # the next range
            due_ms = self.node.clock.monotonic_ms() + wait_ms
            tx.outbox_reschedule(row.number, due_ms=due_ms, attempts=0, error="")

        await self.node.submit(job)

    async def _later(self, row: OutboxRow, error: str) -> None:
        """Nothing is lost: the row waits longer each time, and people see why."""
        wait_ms = min(RETRY_MS_MAX, RETRY_MS_FIRST * 2 ** min(row.attempts, 10))
        wait_ms += (row.number * 37) % (wait_ms // 4 + 1)  # not all at the same instant
        due_ms = self.node.clock.monotonic_ms() + wait_ms
        await self.node.submit(
            lambda tx: tx.outbox_reschedule(
                row.number, due_ms=due_ms, attempts=row.attempts + 1, error=error[:200]
            )
        )

    # the wire

    async def _post(self, hop: Hop, lease: int) -> Answer:
        """Seal and post a hop message under a lease. Raises LinkError."""
        for fresh in (False, True):
            key = await self._key_of(self.peer, fresh=fresh)
            sealed = seal_hop(hop, sender=self.node.party, recipient=self.peer, key=key)
            response = await self._ask("POST", "/relto/v1/hop", sealed, lease=lease)
            if _answer(response).get("status") != "stale-key":
                break
        return response

    async def _ask(
        self, method: str, target: str, body: bytes = b"", *, query: str = "", lease: int = 0
    ) -> Answer:
        """One request to the peer. With a lease, bytes leave only while it lives."""
        wait_ms = LEASE_MS
        if lease:
            wait_ms = lease - self.node.clock.monotonic_ms()
            if wait_ms <= 0:
                raise LinkError("the lease ran out before the bytes could leave")
        try:
            return await self.link.request(
                method, target, body, timeout_s=wait_ms / 1000, query=query
            )
        except LinkError as e:
            self.link_error = str(e)
            raise

    async def _key_of(self, party: str, *, fresh: bool = False) -> HpkePublicKey:
        """The HPKE key of the week of a party, announced by its node, asked for at our peer's."""
        now = self.node.clock.now()
        known = self._peer_keys.get(party)
        if known is not None and not fresh:
            return known
        response = await self._ask("GET", f"/relto/v1/node-key/{party}")
        if response.status != 200 or len(response.body) > NODE_KEY_BYTES_MAX:
            raise PeerError(f"{self.peer} gives no key of {party}")
        hop = Hop.decode(response.body)
        record = decode_record(hop.records[0], NodeKey)
        self.node.trust.verify_node(
            hop.records[0], NodeKey, party=party, certificates=hop.certificates
        )
        if record.party != party or moment(record.expires) <= now:
            raise PeerError(f"the key of {party} at {self.peer} has expired")
        key = HpkePublicKey(bytes.fromhex(record.key), self.node.suite)
        self._peer_keys[party] = key
        return key

    async def _key_past_hub(self, item: Item, release: str) -> HpkePublicKey | None:
        """The last party's key, where the payload key is sealed past a hub that does not read.

        Asked for anew for each attempt: the one that the hub passed on may have ended there.
        """
        outgoing = _outgoing(item, release)
        if item.key is None or not hub_is_blind(self.node, outgoing):
            return None
        return await self._key_of(outgoing.proposal.to, fresh=True)

    def _consignment(self, item: Item, outgoing: Outgoing, past_hub: HpkePublicKey | None) -> Hop:
        """Everything that the next node needs for one release; built anew for each attempt."""
        node = self.node
        assert outgoing.release is not None  # noqa: S101  # it is in the outbox
        prior_ids = {p.record_id for p in outgoing.prior}
        approvals = [a for i in item.incoming if i.id in prior_ids for a in i.approvals]
        records = (
            item.manifest_envelope,
            *outgoing.prior,
            outgoing.release,
            *{a.record_id: a for a in (*approvals, *outgoing.approvals)}.values(),
        )
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
            ciphertexts[item.id] = node.ciphertext(item)
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
    return next(
        o for o in item.outgoing if o.release is not None and o.release.record_id == release
    )


def _words(response: Answer) -> str:
    later = "; it takes it later" if response.status == 503 else "; it refused the message"
    return f"answered {response.status}{later}"


def _answer(response: Answer) -> Mapping[str, Any]:
    try:
        value = json.loads(response.body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
