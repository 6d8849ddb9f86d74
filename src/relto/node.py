"""A node: the one place where the core meets I/O, time and keys.

Every change of an item is one event in, one transaction, what it causes in the outbox. What
peers and people ask for comes in through `relto.peering` and `relto.counter`; messages leave
through `relto.courier`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from relto import canonical, seal, streams
from relto import envelope as dsse
from relto.alarms import Alarm, is_any_due, raise_alarms, watch
from relto.backlog import LATELY_MS
from relto.config import Config
from relto.contents import Contents, part_of
from relto.decisions import Engine
from relto.envelope import Envelope
from relto.errors import CallerError, PeerError, StoreBroken, StoreFull
from relto.events import Arrive, Draft, Effects, Event, Recover, Refused, Result, Send, View
from relto.exchange import step
from relto.holdings import note_class
from relto.instants import instant, moment
from relto.items import Item
from relto.links import Stream
from relto.logs import FIELDS
from relto.payloads import HEADER_BYTES_MAX, Payload, bucket_size_bytes
from relto.ports import SALT_BYTES, OutboxRow, Reader, Signer, Store, Transaction
from relto.quotas import Quotas
from relto.records import (
    PRECEDENCES,
    JournalHead,
    Manifest,
    NodeKey,
    digest_of,
)
from relto.recovering import recover
from relto.seal import HpkePrivateKey
from relto.sealing import Sealing
from relto.shared import note_event
from relto.stores.writer import Commits
from relto.system import Surroundings
from relto.trust import Trust
from relto.turns import Turns

__all__ = ["Node", "NodeSecrets"]

log = logging.getLogger("relto.node")

HPKE_LIFE = timedelta(days=7)
HPKE_RENEW_BEFORE = timedelta(days=1)
RECORD_BYTES_MAX = 256 * 1024
FRAME_BYTES = 12  # the two lengths before a payload's header and its padding
BLOB_NAME_BYTES = 16
LISTING_MAX = 500
GROUP_MAX = 8  # jobs of one message that share a commit
ITEMS_KEPT = 1_024  # decoded items in memory
HPKE_KEYS_KEPT = 16


@dataclass(frozen=True)
class NodeSecrets:
    """What a node holds in memory: its signing key, its certificate and its storage key."""

    signer: Signer
    certificate: bytes
    storage_key: bytes

    def __repr__(self) -> str:
        return f"NodeSecrets({self.signer.keyid})"


class Carrier(Protocol):
    """Carries what one peer is owed."""

    def wake(self) -> None:
        """Its outbox has something."""
        ...

    def at_once(
        self, tx: Transaction, row: OutboxRow, item: Item, send: Send
    ) -> Callable[[], None]:
        """A new row, in the transaction that writes it; what to do once that is durable."""
        ...

    @property
    def is_behind(self) -> bool:
        """Whether more waits for the peer than it takes in a while."""
        ...

    def settled(self, number: int) -> None:
        """A row has been removed."""
        ...


class Node:
    """One party's node around one store."""

    def __init__(
        self,
        config: Config,
        store: Store,
        writer: Commits,
        engine: Engine,
        trust: Trust,
        keys: NodeSecrets,
        around: Surroundings,
    ) -> None:
        self.config = config
        self.party = config.party
        self.store = store
        self.engine = engine
        self.trust = trust
        self.secrets = keys
        self.clock = around.clock
        self.random_bytes = around.random_bytes
        self.suite = around.suite
        self.on_broken = around.on_broken
        self.writer = writer
        self.on_entry: Callable[[Mapping[str, Any]], None] | None = None  # of the journal
        self.turns = Turns(self.clock.monotonic_ms, writer.hold_back)
        self.contents = Contents(store, self.payload_key)
        self.quotas = Quotas(config.quota, self.clock.monotonic_ms)
        self._items: dict[str, tuple[bytes, Item]] = {}  # as last decoded or encoded
        self._hpke_keys: dict[str, HpkePrivateKey] = {}
        self.carriers: dict[str, Carrier] = {}  # by peer
        # What `relto.recovery` finds: why our store is older than what peers saw ("": it is not;
        # "new": it is empty, perhaps because it was lost; "lost", "older", "restored"),
        # from which peers nothing is taken before they were asked, and who knows a twin of ours.
        self.behind = ""
        self.unasked: set[str] = set()
        self.twin = ""
        if self.clock.exercise:
            with store.read() as reader:
                self.clock.offset_s = float(reader.meta("clock-offset-s") or 0)
        digest = engine.regime.digest
        log.info("deciding", extra={"party": self.party, "regime": digest})

    def close(self) -> None:
        self.writer.close()
        self.store.close()

    # writing: one event, one transaction

    async def submit(self, job: Callable[[Transaction], Any], precedence: int = 1) -> Any:
        """The job's result, once it is durable. Raises what it refused with."""
        return await asyncio.wrap_future(self.writer.submit(job, precedence))

    async def submit_all(
        self, jobs: Sequence[Callable[[Transaction], Any]], precedence: int
    ) -> list[Any]:
        """For each job its result, or the ReltoError that it refused with, once all is durable.

        Not more than `GROUP_MAX` share a commit, so that what is urgent gets in between.
        """
        groups = [jobs[i : i + GROUP_MAX] for i in range(0, len(jobs), GROUP_MAX)]
        futures = [self.writer.submit_all(group, precedence) for group in groups]
        done = await asyncio.gather(*(asyncio.wrap_future(future) for future in futures))
        return [result for results in done for result in results]

    async def happen(self, item: str, event: Event) -> Effects:
        """One event to one item. A refusal by the decision is journaled before it is told."""
        return await self._happen(item, event, lambda tx: self.apply(tx, item, event))

    async def _happen(
        self,
        item: str,
        event: Event,
        job: Callable[[Transaction], Effects],
        precedence: int = 1,
    ) -> Effects:
        """The same by a job that applies the event, and may write what belongs to it."""
        try:
            effects: Effects = await self.submit(job, precedence)
        except Refused as e:
            refused = e
            await self.submit(lambda tx: self._journal_refused(tx, item, event, refused))
            raise
        self.follow(effects)
        return effects

    def follow(self, effects: Effects) -> None:
        """Let go on what waits for effects that are durable now."""
        for then in effects.then:
            then()
        for number in effects.forget:
            self.quotas.settled(number)
            for carrier in self.carriers.values():
                carrier.settled(number)
        if len(effects.then) < len(effects.send):
            self.wake(send.peer for send in effects.send)

    def wake(self, peers: Iterable[str]) -> None:
        for peer in set(peers):
            if peer in self.carriers:
                self.carriers[peer].wake()

    def apply(
        self, tx: Transaction, item_id: str, event: Event, *, precedence_min: int = 0
    ) -> Effects:
        """Load the aggregate, step, write: to be run inside a job.

        What it sends is in the outbox as no more urgent than `precedence_min`.
        """
        now = self.clock.instant()
        view = self.view(tx, item_id)
        effects = (
            recover(view, event, now) if isinstance(event, Recover) else step(view, event, now)
        )
        effects = self._write(tx, view.item, effects, now, precedence_min)
        if isinstance(event, Arrive | Result | Recover) and effects.item is not None:
            note_event(tx, event, effects.item)
        return effects

    def view(self, tx: Reader, item_id: str) -> View:
        """An item and the facts that a step needs."""
        return View(
            self.party,
            self.engine,
            self.secrets.signer,
            self.next_seq(tx),
            self.read_item(tx, item_id),
            self.held_to(tx),
            self.engine.regime.agreement_digests,
            self.secrets.certificate,
            self.ciphertext_bytes_max,
        )

    @property
    def ciphertext_bytes_max(self) -> int:
        """The largest ciphertext of a payload within the limit: with its header, padded, tags."""
        plaintext = self.config.payload_bytes_max + HEADER_BYTES_MAX + FRAME_BYTES
        return streams.ciphertext_size_bytes(bucket_size_bytes(plaintext))

    def _write(
        self, tx: Transaction, before: Item | None, effects: Effects, now: str, precedence_min: int
    ) -> Effects:
        item = effects.item
        for entry in effects.journal:
            self.journal(tx, entry, now)
        owed: list[tuple[OutboxRow, Send]] = []
        for send in effects.send:
            row = self._enqueue(tx, send, "" if item is None else item.id, precedence_min)
            if row is None:
                continue
            owed.append((row, send))
            if item is not None and send.release is not None:
                item = _with_outbox(item, send.release, row.number)
        for number in effects.forget:
            tx.outbox_remove(number)
        if item is not None and item != before:
            body = item.encode()
            tx.put("item", item.id, body, state=item.state, rank=item.at)
            self._keep_item(body, item)
            note_class(tx, before, item)
            _write_reviews(tx, before, item)
            watch(tx, before, item, now)
        if any(send.release is not None for send in effects.send):
            self._use_seq(tx)
        return replace(effects, item=item, then=self._at_once(tx, item, owed))

    def _at_once(
        self, tx: Transaction, item: Item | None, owed: Sequence[tuple[OutboxRow, Send]]
    ) -> tuple[Callable[[], None], ...]:
        """Have new rows taken in hand by this very transaction, where their carriers can."""
        then: list[Callable[[], None]] = []
        for row, send in owed:
            carrier = self.carriers.get(send.peer)
            if carrier is not None and item is not None:
                then.append(carrier.at_once(tx, row, item, send))
        return tuple(then)

    def read_item(self, reader: Reader, item_id: str) -> Item | None:
        """An item as it is at the reader's instant, if there is one."""
        body = reader.get("item", item_id)
        if body is None:
            return None
        kept = self._items.get(item_id)
        if kept is not None and kept[0] == body:
            return kept[1]
        item = Item.decode(body)
        self._keep_item(body, item)
        return item

    def _keep_item(self, body: bytes, item: Item) -> None:
        """Remember what a body says. It counts only for exactly that body, whoever asks when."""
        if len(body) <= RECORD_BYTES_MAX:
            self._items[item.id] = (body, item)
        while len(self._items) > ITEMS_KEPT:
            with suppress(KeyError, StopIteration, RuntimeError):  # another thread was faster
                self._items.pop(next(iter(self._items)))

    def journal(self, tx: Transaction, entry: dict[str, Any], now: str) -> None:
        """One entry of what this node decided or did: ids and codes, never content."""
        salt = self.random_bytes("journal", SALT_BYTES)
        tx.journal_append(canonical.encode({"at": now, **entry}), salt)
        if self.on_entry is not None:
            self.on_entry(entry)
        if log.isEnabledFor(logging.DEBUG):
            given = {key: value for key, value in entry.items() if key in FIELDS}
            log.debug("journal", extra={**given, "entry": entry["event"]})

    async def export_journal(self, by: str) -> Envelope:
        """The journal's head, signed, after the export itself is in it (rule 4).

        Whoever holds it can show later that the node wrote another journal instead.
        """

        def job(tx: Transaction) -> Envelope:
            at = self.clock.instant()
            self.journal(tx, {"event": "export", "by": by}, at)
            entries, link = tx.journal_head()
            record = JournalHead(self.party, entries, link.hex(), at)
            return dsse.sign(JournalHead.type(), record.encode(), [self.secrets.signer])

        head: Envelope = await self.submit(job)
        return head

    def _journal_refused(self, tx: Transaction, item: str, event: Event, refused: Refused) -> None:
        for denied in refused.refusals:
            entry = {
                "event": "decide",
                "item": item,
                "to": denied.to,
                "decision": "deny",
                "codes": list(denied.codes),
                "regime": self.engine.regime.digest,
                "asked": type(event).__name__.lower(),
            }
            self.journal(tx, entry, self.clock.instant())

    def _enqueue(
        self, tx: Transaction, send: Send, item: str, precedence_min: int
    ) -> OutboxRow | None:
        """The new row. None: it is on its way already: who repeats a release fills no disk."""
        if send.result is not None:
            if tx.get("owed", _owed(send.peer, send.result)) is not None:
                return None
            tx.put("owed", _owed(send.peer, send.result), b"")
        body: dict[str, Any] = {"item": item}
        if send.release is not None:
            body["release"] = send.release
        if send.result is not None:
            body["result"] = send.result.to_json()
        precedence = max(precedence_min, PRECEDENCES.index(send.precedence))
        if send.result is not None:
            # Behind a long queue of releases it would come after its sender has asked again, and
            # who asks again makes the queues longer.
            precedence = min(precedence, 1)
        data = canonical.encode(body)
        number = tx.outbox_add(send.peer, precedence, 0, item, data)
        return OutboxRow(number, send.peer, precedence, 0, 0, 0, "", item, data)

    def settle(self, tx: Transaction, number: int, peer: str, result: Envelope) -> None:
        """A result has reached its peer, or the peer will not have it: it is owed no longer."""
        tx.outbox_remove(number)
        tx.delete("owed", _owed(peer, result))

    def next_seq(self, tx: Reader) -> int:
        """max(last + 1, milliseconds): gaps say nothing (DESIGN §6, settled details)."""
        last = int(tx.meta("seq") or b"0")
        return max(last + 1, int(self.clock.now().timestamp() * 1000))

    def _use_seq(self, tx: Transaction) -> int:
        seq = self.next_seq(tx)
        tx.set_meta("seq", str(seq).encode())
        return seq

    def raise_seq(self, tx: Transaction, seq: int) -> None:
        """Never give a number again that a peer has seen, whatever our clock says."""
        tx.set_meta("seq", str(max(seq, int(tx.meta("seq") or b"0"))).encode())

    def require_asked(self, peer: str) -> None:
        """Raises CallerError while `peer` may have already what an officer is asked about here."""
        if peer in self.unasked and self.behind not in ("", "new"):
            raise CallerError(
                f"the store is behind ({self.behind}), and {peer} has not told yet what it has of "
                "ours: this may be decided already; try again when relto node status says so"
            )

    def require_room(self, precedence: str) -> None:
        """Raises StoreFull while the disk is full: then only FLASH and receipts are taken."""
        if precedence != PRECEDENCES[0] and not self.store.ballast_held:
            raise StoreFull("the disk is nearly full; only FLASH is taken until there is room")

    def require_place(self, reader: Reader, precedence: str) -> None:
        """Raises StoreFull while too much waits to go on: then only what is urgent is taken."""
        most = self.config.outbox_messages_max
        if PRECEDENCES.index(precedence) > 1 and reader.outbox_count(None) >= most:
            raise StoreFull(
                f"{most} messages wait to be sent; come back later (limits.outbox_messages_max)"
            )

    def require_pace(self, to: Sequence[str], precedence: str) -> None:
        """Raises StoreFull while more waits on the way to them than goes in a while; what is urgent
        is taken."""
        if PRECEDENCES.index(precedence) <= 1:
            return
        for party in to:
            own = self.carriers.get(party)
            on_the_way = self.carriers.values() if own is None else (own,)
            if any(carrier.is_behind for carrier in on_the_way):
                raise StoreFull(
                    f"more waits to be sent to {party} than went in the last {LATELY_MS // 1000}"
                    " seconds; come back later"
                )

    async def raise_alarms(self) -> None:
        """Say aloud what was not handled within its precedence's time."""
        now = self.clock.instant()
        with self.store.read() as reader:
            if not is_any_due(reader, now):
                return

        def job(tx: Transaction) -> list[Alarm]:
            raised = raise_alarms(tx, now)
            for alarm in raised:
                self.journal(tx, {"event": "alarm", **alarm.to_json()}, now)
            return raised

        for alarm in await self.submit(job):
            log.error("late", extra=alarm.to_json())

    async def find_room(self) -> None:
        """Take the reserve of disk space again, if there is room for it."""
        if not self.store.ballast_held:
            with suppress(StoreFull):
                await asyncio.to_thread(self.store.restore_ballast)
                log.info("disk-has-room")

    # keys

    async def renew_key(self) -> None:
        """A new HPKE key when the present one has less than a day; expired ones are deleted.

        One that our clock dated ahead of itself counts for none, since nobody may take what
        announces it, and lives no longer than one made now.
        """

        def job(tx: Transaction) -> None:
            now = self.clock.now()
            expires = instant(now.replace(microsecond=0) + HPKE_LIFE)
            newest = ""
            for row in tx.listing("hpke-key", limit=LISTING_MAX):
                if moment(row.rank) <= now:
                    tx.delete("hpke-key", row.key)
                    self._hpke_keys.pop(row.key, None)
                elif row.rank > expires:
                    tx.put("hpke-key", row.key, row.body, rank=expires)
                else:
                    newest = max(newest, row.rank)
            if newest and moment(newest) > now + HPKE_RENEW_BEFORE:
                return
            seed = self.random_bytes("hpke-key", seal.SEED_BYTES)
            public = HpkePrivateKey(seed, self.suite).public_key
            at = self.clock.instant()
            record = NodeKey(self.party, public.raw.hex(), self._use_seq(tx), at, expires)
            envelope = dsse.sign(NodeKey.type(), record.encode(), [self.secrets.signer])
            wrapped = self.wrap(seed, f"hpke-key/{public.key_id}")
            tx.put("hpke-key", public.key_id, wrapped, rank=expires)
            tx.set_meta("node-key", envelope.encode())
            self.journal(tx, {"event": "key-change", "key": public.key_id}, at)

        await self.submit(job)

    def hpke_key(self, key_id: str) -> HpkePrivateKey | None:
        """Our private key of that id, if it still lives."""
        with self.store.read() as reader:
            wrapped = reader.get("hpke-key", key_id)
        if wrapped is None:
            return None
        if key_id in self._hpke_keys:
            return self._hpke_keys[key_id]
        key = HpkePrivateKey(self.unwrap(wrapped, f"hpke-key/{key_id}"), self.suite)
        if len(self._hpke_keys) < HPKE_KEYS_KEPT:
            self._hpke_keys[key_id] = key
        return key

    def node_key(self) -> Envelope:
        """Our signed announcement of the present HPKE key."""
        with self.store.read() as reader:
            data = reader.meta("node-key")
        if data is None:
            raise StoreBroken("the node has no HPKE key")
        return Envelope.decode(data, size_bytes_max=RECORD_BYTES_MAX)

    async def keep_peer_key(self, party: str, announced: bytes, expires: str) -> None:
        """Keep a peer's announcement of its key, for those who reach it through us."""
        with self.store.read() as reader:
            known = reader.get("peer-key", party)
        if known != announced:
            await self.submit(lambda tx: tx.put("peer-key", party, announced, rank=expires))

    async def note_key(self, party: str, seq: int, *, relayed: bool) -> None:
        """Remember which announcement of a party's key was the newest.

        Raises PeerError for an earlier one that somebody between us passes on: what a party itself
        says of its key holds.
        """
        with self.store.read() as reader:
            newest = int(reader.meta(f"node-key-seq:{party}") or b"0")
        if relayed and seq < newest:
            raise PeerError(f"a key of {party} that is older than the one before it")
        if seq != newest:
            value = str(seq).encode()
            await self.submit(lambda tx: tx.set_meta(f"node-key-seq:{party}", value))

    def peer_key(self, party: str) -> bytes | None:
        """The announcement of a peer's key that we had last, while that key lives."""
        with self.store.read() as reader:
            rows = reader.listing("peer-key", limit=LISTING_MAX)
        now = self.clock.now()
        return next((r.body for r in rows if r.key == party and moment(r.rank) > now), None)

    def wrap(self, plaintext: bytes, what: str) -> bytes:
        """Sealed under the storage key; `what` binds it to its place."""
        nonce = self.random_bytes(what, seal.WRAP_NONCE_BYTES)
        return seal.wrap(self.secrets.storage_key, nonce, plaintext, what.encode())

    def unwrap(self, wrapped: bytes, what: str) -> bytes:
        try:
            return seal.unwrap(self.secrets.storage_key, wrapped, what.encode())
        except PeerError as e:
            raise StoreBroken(f"a key in the store does not open: {what}") from e

    def payload_key(self, item: Item) -> bytes | None:
        """The payload key of an item that this node may read."""
        return None if item.key is None else self.unwrap(item.key, f"payload/{item.id}")

    async def set_clock(self, at: datetime, by: str) -> None:
        """Give an exercise another clock, which outlives the process. Raises CallerError."""
        self.clock.set(at)
        offset_s = f"{self.clock.offset_s:.6f}".encode()

        def job(tx: Transaction) -> None:
            tx.set_meta("clock-offset-s", offset_s)
            self.journal(tx, {"event": "clock", "by": by}, self.clock.instant())

        await self.submit(job)
        await self.renew_key()

    # what people have

    async def draft(
        self,
        label: dict[str, Any],
        payload: Payload,
        body: Stream,
        to: tuple[str, ...],
        precedence: str,
        basis: dict[str, list[dict[str, Any]]],
        by: str,
    ) -> Effects:
        """Seal a payload under a fresh key, store it, and propose it to `to`.

        Its header is `payload`'s, and its body is `body`, read in flat memory. Whatever ends this
        before the item is made leaves nothing behind. Raises Refused.
        """
        if body.size_bytes > self.config.payload_bytes_max:
            raise CallerError(
                f"the payload has {body.size_bytes} bytes; this node takes at most "
                f"{self.config.payload_bytes_max} (limits.payload_bytes_max)"
            )
        self.require_room(precedence)
        self.require_pace(to, precedence)
        with self.store.read() as reader:
            self.require_place(reader, precedence)
        key = self.random_bytes("payload-key", streams.KEY_BYTES)
        name = self.random_bytes("blob", BLOB_NAME_BYTES).hex()
        sealing = Sealing(self.store, name, key, payload.encode_header(), body.size_bytes)
        in_place = sealing.is_short  # a thread would cost more than the work
        try:
            async for piece in body.pieces:
                await _done(sealing.add, piece, in_place=in_place)
            await _done(sealing.finish, in_place=in_place)
            return await self._draft(label, sealing, key, to, precedence, basis, by)
        except (Exception, asyncio.CancelledError):
            await self.contents.drop(name)
            raise

    async def _draft(
        self,
        label: dict[str, Any],
        sealing: Sealing,
        key: bytes,
        to: tuple[str, ...],
        precedence: str,
        basis: dict[str, list[dict[str, Any]]],
        by: str,
    ) -> Effects:
        manifest = Manifest(
            label,
            sealing.digest,
            sealing.size_bytes,
            streams.commitment(key).hex(),
            self.clock.instant(),
        )
        item = digest_of(manifest)
        stored = sealing.stored
        wrapped = self.wrap(key, f"payload/{item}")
        event = Draft(item, manifest.encode(), to, precedence, wrapped, stored, basis, by)

        def job(tx: Transaction) -> Effects:
            if stored == "row":
                tx.put("ciphertext", item, sealing.inline)
            else:
                tx.put("blob", stored, item.encode())
            return self.apply(tx, item, event)

        return await self._happen(item, event, job, PRECEDENCES.index(precedence))

    def item(self, item_id: str) -> Item:
        """Raises CallerError if there is none."""
        with self.store.read() as reader:
            item = self.read_item(reader, item_id)
        if item is None:
            raise CallerError("no such item here; see relto inbox and relto review list")
        return item

    async def read_payload(self, item: Item, by: str) -> tuple[Payload, Stream]:
        """The payload's header and its body, after the reading is in the journal (rule 4)."""
        entry = {"event": "read", "item": item.id, "by": by}
        await self.submit(lambda tx: self.journal(tx, entry, self.clock.instant()))
        payload, size, body = await asyncio.to_thread(self.contents.open, item)

        async def pieces() -> AsyncIterator[bytes]:
            while part := await asyncio.to_thread(part_of, body):
                yield part

        return payload, Stream(size, pieces())

    def held_to(self, reader: Reader) -> frozenset[str]:
        """Parties to whom an officer stopped all releases."""
        if not reader.count("hold", "on"):
            return frozenset()  # nearly always, and asked at every change of an item
        rows = reader.listing("hold", state="on", limit=LISTING_MAX)
        return frozenset(row.key for row in rows)


async def _done(work: Callable[..., None], *args: Any, in_place: bool) -> None:
    """Have it done: in place, or by a thread while others go on."""
    if in_place:
        work(*args)
    else:
        await asyncio.to_thread(work, *args)


def _owed(peer: str, result: Envelope) -> str:
    return f"{peer}:{result.record_id}"


def _with_outbox(item: Item, release: str, number: int) -> Item:
    outgoing = tuple(
        replace(o, outbox=number) if o.release_id == release else o for o in item.outgoing
    )
    return replace(item, outgoing=outgoing)


def _write_reviews(tx: Transaction, before: Item | None, item: Item) -> None:
    """The review list: one row for every recipient that waits for officers, FLASH first."""
    were = {} if before is None else {o.proposal.to for o in before.outgoing if o.state == "review"}
    waiting = {o.proposal.to: o for o in item.outgoing if o.state == "review"}
    for to in set(were) - waiting.keys():
        tx.delete("review", f"{item.id}:{to}")
    for to, outgoing in waiting.items():
        rank = f"{PRECEDENCES.index(outgoing.precedence)}{outgoing.since}"
        tx.put("review", f"{item.id}:{to}", b"", state="waiting", rank=rank)
