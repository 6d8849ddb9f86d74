"""What a node answers its peers: hop messages, ranges of ciphertext, node keys.

Every refusal looks the same, whatever its reason: a peer learns of its own items by signed
receipts and refusals, and of nothing else (DESIGN §6, rules 6 and 7).
"""

import asyncio
import hashlib
import hmac
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import Any
from weakref import WeakValueDictionary

from relto import canonical, streams
from relto.agreeing import Agreeing
from relto.certificates import decode_certificate, identity_of, verify_leaf
from relto.clauses import Share
from relto.comparing import standings
from relto.consignments import Consignment, verify_consignment
from relto.courier import Courier
from relto.errors import CallerError, PeerError, ReltoError, StoreFull
from relto.events import Arrive, Complete, Effects, NotYet
from relto.events import Result as ResultEvent
from relto.hop import RANGE_BYTES_MAX, SEALED_BYTES_MAX, Hop, key_id_of, open_hop, open_key
from relto.links import LinkError, Request, Response
from relto.marks import PARTY_PATTERN
from relto.node import GROUP_MAX, Node
from relto.ports import Transaction
from relto.quotas import OverQuota, half_sent, size_bytes
from relto.records import PRECEDENCES, Receipt, Refusal, Release, decode_record
from relto.returning import Returning
from relto.sealing import BLOB_PART_BYTES
from relto.trust import Certificates

__all__ = ["Peering", "peer_of"]

log = logging.getLogger("relto.peering")

_CIPHERTEXT = re.compile(r"/relto/v1/ciphertext/([0-9a-f]{64})\Z")
_INSTRUMENT = re.compile(r"/relto/v1/instrument/([A-Za-z0-9][A-Za-z0-9._-]{0,63})\Z")
_HAVE = re.compile(r"have=([0-9a-f]{64})\Z")
_NODE_KEY = re.compile(rf"/relto/v1/node-key/({PARTY_PATTERN})\Z")
_OFFSET = re.compile(r"offset=(0|[1-9][0-9]{0,12})\Z")
LONG_BYTES = 128 * 1024  # a hop message above it waits until nothing urgent is at work


class StaleKey(PeerError):
    """Sealed to a key that we no longer have: the sender asks for the new one, and seals again."""


BACKLOG_ROWS_MAX = 128  # that are counted of what is owed to one peer
FULL_RETRY_S = 1  # until who finds our queue or disk full comes back


def _answer(code: int, **body: Any) -> Response:
    return Response(code, canonical.encode(body))


REFUSED = _answer(400, status="refused")
STALE = _answer(409, status="stale-key")
RETRY = _answer(503, status="retry")
FULL = _answer(503, after_s=FULL_RETRY_S, status="retry")
_WHOLE = {"refused": 400, "stale-key": 409, "retry": 503}
"""The status of a message of which every part gets the same answer."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one part of a hop message asks for, verified: a job of the store.

    `release` is what it brings, if it is no result; `expects` the same, if its ciphertext is to
    follow in ranges.
    """

    precedence: int
    job: Callable[[Transaction], list[Effects]]
    release: str = ""
    expects: str = ""


def peer_of(node: Node, der: bytes, now: datetime) -> str:
    """The party at the other end of a TLS session. TLS goes by system time. Raises PeerError."""
    identity = identity_of(decode_certificate(der))
    ca = node.trust.cas.get(identity.party)
    known = node.config.peers.get(identity.party)
    if ca is None or known is None or not known.is_connected:
        raise PeerError("no peer of this node")
    verify_leaf(der, ca=ca, party=identity.party, role="tls", at=now)
    if identity.exercise != node.trust.exercise:
        raise PeerError("an exercise never mixes with the real")
    return identity.party


class Peering:
    """Handles the requests of peers at one node."""

    def __init__(
        self, node: Node, couriers: Mapping[str, Courier], agreeing: Agreeing | None = None
    ) -> None:
        """`agreeing` is there where the node decides by what was signed."""
        self.node = node
        self.couriers = couriers
        self.agreeing = agreeing
        self.returning = Returning(node, couriers)
        self._alone: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def handle(self, request: Request) -> Response:
        """One request; every fault of the peer gets the same answer."""
        peer = "somebody"
        try:
            assert isinstance(request.peer, bytes)  # noqa: S101  # a TLS link has no other
            peer = peer_of(self.node, request.peer, self.node.clock.system_now())
            if wait_s := self.node.quotas.wait_s(peer, len(request.body)):
                await asyncio.sleep(wait_s)
            with self.node.quotas.at_work(peer):
                return await self._route(peer, request)
        except StaleKey:
            return STALE
        except OverQuota as e:
            await self._tell(peer, e.limit)
            return _answer(503, after_s=e.retry_s, status="retry")
        except StoreFull:
            return FULL
        except (NotYet, LinkError):
            return RETRY
        except (PeerError, CallerError) as e:
            log.warning("message-refused", extra={"peer": peer, "why": str(e)})
            return REFUSED

    async def _tell(self, peer: str, limit: str) -> None:
        """Officers see in the journal that a peer reached a limit; not each time that it does."""
        if not self.node.quotas.is_news(peer, limit):
            return
        log.warning("limit-reached", extra={"peer": peer, "limit": limit})
        entry = {"event": "limit-reached", "peer": peer, "limit": limit}
        with suppress(StoreFull):
            await self.node.submit(
                lambda tx: self.node.journal(tx, entry, self.node.clock.instant())
            )

    async def expire_transfers(self) -> None:
        """Give up what is half-sent and for which no range came in a long time.

        Nothing is lost: its sender has it, and begins anew when it offers it again.
        """
        for peer in self.node.config.peers:
            with self.node.store.read() as reader:
                rows = half_sent(reader, peer)
            for row in rows:
                if self.node.quotas.is_idle(row.key):
                    async with self._one_at_a_time(row.key):
                        await self._expire(peer, row.key, row.body.decode())

    async def _expire(self, peer: str, release: str, item: str) -> None:
        def job(tx: Transaction) -> bool:
            if not tx.delete("receiving", release):
                return False  # it was whole just now
            entry = {"event": "transfer-expired", "item": item, "release": release, "peer": peer}
            self.node.journal(tx, entry, self.node.clock.instant())
            return True

        if await self.node.submit(job):
            self.node.quotas.ended(release)
            await self.node.contents.drop(release)
            log.warning("transfer-expired", extra={"peer": peer, "item": item, "release": release})

    async def _route(self, peer: str, request: Request) -> Response:
        if request.method == "POST" and request.path == "/relto/v1/hop":
            return await self._hop(peer, request.body)
        ciphertext = _CIPHERTEXT.match(request.path)
        offset = _OFFSET.match(request.query)
        if request.method == "POST" and ciphertext and offset:
            return await self._range(peer, ciphertext[1], int(offset[1]), request.body)
        node_key = _NODE_KEY.match(request.path)
        if request.method == "GET" and node_key:
            return self._node_key(node_key[1])
        if request.method == "GET" and request.path == "/relto/v1/agreements":
            regime, at = self.node.engine.regime, self.node.clock.instant()
            return Response(200, standings(regime, self.node.party, peer, at).encode())
        instrument = _INSTRUMENT.match(request.path)
        have = _HAVE.match(request.query)
        if request.method == "GET" and instrument and have and self.agreeing is not None:
            return Response(200, self.agreeing.give(peer, instrument[1], have[1]))
        answer = await self.returning.answer(peer, request)
        if answer is None:
            raise PeerError("no such request")
        return answer

    def _node_key(self, party: str) -> Response:
        """Our own key of the week, or a peer's as that announced it to us last.

        It is not asked for now: whether the peer is there, and who asks for it, is nobody's.
        """
        if party == self.node.party:
            certificates = Certificates.of([self.node.secrets.certificate])
            return Response(200, Hop((self.node.node_key(),), certificates).encode())
        announced = self.node.peer_key(party)
        if announced is None:
            raise PeerError("no key of that party here")
        return Response(200, announced)

    async def _hop(self, peer: str, sealed: bytes) -> Response:
        if len(sealed) > SEALED_BYTES_MAX:
            raise PeerError(f"a hop message of {len(sealed)} bytes")
        if len(sealed) > LONG_BYTES:  # many parts, or a large one: what is urgent is neither
            await self.node.turns.wait(len(PRECEDENCES))
        key = self.node.hpke_key(key_id_of(sealed))
        if key is None:
            raise StaleKey("sealed to a key that we no longer have")
        if peer in self.node.unasked:
            raise NotYet(f"{peer} has not told yet what it has of ours")
        parts = open_hop(sealed, sender=peer, recipient=self.node.party, key=key)
        precedences = [await self._precedence(peer, part) for part in parts]
        least = max(precedences)
        backlog = partial(self._backlog, peer, least)
        async with self.node.quotas.lane(peer, least, backlog) as pause:
            with self.node.turns.at_work(least):
                answers = await self._taken(peer, parts, precedences, pause)
        first = answers[0]
        if first["status"] in _WHOLE and all(answer == first for answer in answers):
            return _answer(_WHOLE[first["status"]], **first)
        return _answer(200, parts=answers)

    def _note_passing(self, peer: str, effects: Effects, release: str) -> None:
        """What goes on to others is the peer's, as long as it waits here."""
        for outgoing in () if effects.item is None else effects.item.outgoing:
            if outgoing.answers == release and outgoing.outbox is not None:
                self.node.quotas.passes(peer, outgoing.outbox)

    def _backlog(self, peer: str, precedence: int) -> int:
        """What a peer brought, is as urgent or more, and is due to others who are reached: of the
        first `BACKLOG_ROWS_MAX` that each of them is owed."""
        now_ms = self.node.clock.monotonic_ms()
        with self.node.store.read() as reader:
            return sum(
                row.precedence <= precedence and self.node.quotas.is_of(peer, row.number)
                for party, courier in self.couriers.items()
                if party != peer and not courier.calls.error
                for row in reader.outbox_due(party, now_ms=now_ms, limit=BACKLOG_ROWS_MAX)
            )

    async def _verified(
        self, peer: str, part: Hop, precedence: int
    ) -> "_Asked | PeerError | StoreFull":
        """What a part asks for, once all its signatures hold; or why it is not taken."""
        await self.node.turns.wait(precedence)
        try:
            kinds = {record.payload_type for record in part.records}
            if kinds <= {Receipt.type(), Refusal.type()}:
                return self._results(peer, part, precedence)
            return self._arrival(peer, part, precedence)
        except (PeerError, StoreFull) as e:
            return e

    async def _precedence(self, peer: str, part: Hop) -> int:
        """How urgent a part is: as its sender says, but no more FLASH than its maker's budget.

        Results are short, and wait for FLASH only. What cannot be read is not urgent.
        """
        releases = [r for r in part.records if r.payload_type == Release.type()]
        if not releases:
            return 1
        try:
            release = decode_record(releases[-1], Release)
            maker = decode_record(releases[0], Release).sender
        except PeerError:
            return len(PRECEDENCES) - 1
        precedence = PRECEDENCES.index(release.precedence)
        if precedence:
            return precedence
        with self.node.store.read() as reader:
            item = self.node.read_item(reader, release.item)
        known = None if item is None else item.incoming_by(releases[-1].record_id)
        if known is not None and known.state != "receiving":
            return 1  # a repeat costs nothing, and gets the answer that it had
        if self.node.quotas.is_flash(
            peer, maker if maker in self.node.engine.regime.parties else peer
        ):
            return 0
        await self._tell(peer, "flash")
        return 1

    async def _taken(
        self,
        peer: str,
        parts: Sequence[Hop],
        precedences: Sequence[int],
        pause: Callable[[], Awaitable[None]],
    ) -> list[dict[str, Any]]:
        """The answers to all parts, once what they ask for is durable.

        A few parts are looked at and committed, the most urgent first, then a few more after a
        pause, so that others get in between, and what goes on does so little by little.
        """
        answers: list[dict[str, Any]] = [{}] * len(parts)
        order = sorted(range(len(parts)), key=precedences.__getitem__)
        for precedence, same in groupby(order, key=precedences.__getitem__):
            rest = list(same)
            while rest:
                some, rest = rest[:GROUP_MAX], rest[GROUP_MAX:]
                for index, answer in await self._some_taken(peer, parts, some, precedence):
                    answers[index] = answer
                if rest:
                    await pause()
        return answers

    async def _some_taken(
        self, peer: str, parts: Sequence[Hop], some: Sequence[int], precedence: int
    ) -> list[tuple[int, dict[str, Any]]]:
        """The answers to some parts of one precedence, which share a commit."""
        verified = [await self._verified(peer, parts[index], precedence) for index in some]
        asked = [each for each in verified if isinstance(each, _Asked)]
        results: Sequence[Any] = ()
        if asked:
            try:
                results = await self.node.submit_all([each.job for each in asked], precedence)
            except StoreFull as e:
                results = [e] * len(asked)
        done = dict(zip(map(id, asked), results, strict=True))
        return [
            (index, await self._told(peer, each, done.get(id(each), each)))
            for index, each in zip(some, verified, strict=True)
        ]

    async def _told(self, peer: str, asked: object, result: Any) -> dict[str, Any]:
        """The answer to one part, whose job gave `result`."""
        if isinstance(result, StaleKey):
            return {"status": "stale-key"}
        if isinstance(result, OverQuota):
            await self._tell(peer, result.limit)
            return {"status": "retry", "after_s": result.retry_s}
        if isinstance(result, StoreFull):
            return {"status": "retry", "after_s": FULL_RETRY_S}
        if isinstance(result, NotYet):
            return {"status": "retry"}
        if isinstance(result, ReltoError):
            log.warning("message-refused", extra={"peer": peer, "why": str(result)})
            return {"status": "refused"}
        for effects in result:
            self.node.follow(effects)
            if isinstance(asked, _Asked) and asked.release:
                self._note_passing(peer, effects, asked.release)
        release = asked.expects if isinstance(asked, _Asked) else ""
        item = result[-1].item
        if not release or item is None or not _is_receiving(result[-1], release):
            return {"status": "accepted"}
        assert isinstance(asked, _Asked)  # noqa: S101  # it has a release
        self.node.quotas.moved(release, asked.precedence)
        async with self._one_at_a_time(release):
            have = await asyncio.to_thread(lambda: self.node.store.blob_size(release))
            if have >= item.manifest.ciphertext_bytes:  # a crash came after the last range
                have = await self._finish(item.id, release)
        return {"status": "accepted", "have": have}

    def _results(self, peer: str, hop: Hop, precedence: int) -> "_Asked":
        events: list[tuple[str, ResultEvent]] = []
        for envelope in hop.records:
            kind: type[Receipt] | type[Refusal]
            kind = Receipt if envelope.payload_type == Receipt.type() else Refusal
            record: Receipt | Refusal = decode_record(envelope, kind)
            signers = self.node.trust.verify_node(
                envelope, kind, party=record.party, certificates=hop.certificates
            )
            vouched = hop.certificates.for_signers(signers)
            events.append((record.item, ResultEvent(peer, envelope, record, vouched)))
        return _Asked(precedence, lambda tx: [self.node.apply(tx, item, e) for item, e in events])

    def _arrival(self, peer: str, hop: Hop, precedence: int) -> "_Asked":
        consignment = verify_consignment(hop, self.node.trust)
        self.node.require_room(PRECEDENCES[precedence])
        with self.node.store.read() as reader:
            known = self.node.read_item(reader, consignment.item)
            if consignment.release.to != self.node.party and known is None:
                self.node.require_place(reader, PRECEDENCES[precedence])
        key = self._payload_key(consignment)
        wrapped = None if key is None else self.node.wrap(key, f"payload/{consignment.item}")
        manifest = consignment.manifest
        ciphertext = consignment.ciphertext
        if ciphertext is not None and (
            len(ciphertext) != manifest.ciphertext_bytes
            or hashlib.sha256(ciphertext).hexdigest() != manifest.ciphertext_sha256
        ):
            raise PeerError("the ciphertext is not the one that the manifest states")
        release = consignment.release_envelope.record_id
        event = Arrive(peer, consignment, wrapped, "" if ciphertext is None else "row")
        quotas, kept_bytes = self.node.quotas, size_bytes(hop)
        follows_bytes = manifest.ciphertext_bytes if ciphertext is None else 0

        def job(tx: Transaction) -> list[Effects]:
            before = self.node.read_item(tx, consignment.item)
            if before is None or before.incoming_by(release) is None:
                quotas.require_room(tx, peer, kept_bytes + follows_bytes, precedence)
                quotas.keep(tx, peer, 1, kept_bytes)
            effects = self.node.apply(tx, consignment.item, event, precedence_min=precedence)
            if effects.item is not None and effects.item.stored == "row" and ciphertext:
                tx.put("ciphertext", consignment.item, ciphertext)
            is_receiving = ciphertext is None and _is_receiving(effects, release)
            if is_receiving and tx.get("receiving", release) is None:
                quotas.require_transfer(tx, peer, follows_bytes, precedence)
                quotas.begin(tx, release, peer, consignment.item, follows_bytes)
            return [effects]

        return _Asked(precedence, job, release, release if ciphertext is None else "")

    def _payload_key(self, consignment: Consignment) -> bytes | None:
        """The payload key, checked against the manifest's commitment; None if we do not read."""
        node, release = self.node, consignment.release
        clause = node.engine.regime.clause(next(iter(release.basis.values())))
        is_hub = release.to != node.party
        reads = True
        if is_hub and clause is not None and isinstance(clause.body, Share):
            reads = clause.body.via_reads
        if not reads:
            if consignment.key is not None or consignment.sealed_key is None:
                raise PeerError(
                    "a hub that does not read gets the key sealed past it, and no other"
                )
            return None
        key = consignment.key
        if key is None and consignment.sealed_key is not None and consignment.prior:
            private = node.hpke_key(key_id_of(consignment.sealed_key))
            if private is None:
                raise StaleKey("the payload key is sealed to a key that we no longer have")
            key = open_key(
                consignment.sealed_key,
                sender=consignment.prior[-1].sender,
                recipient=node.party,
                item=consignment.item,
                key=private,
            )
        if key is None or len(key) != streams.KEY_BYTES:
            raise PeerError("a reader gets the payload key, and this release has none")
        commitment = bytes.fromhex(consignment.manifest.commitment)
        if not hmac.compare_digest(streams.commitment(key), commitment):
            raise PeerError("the payload key is not the one that the manifest commits to")
        return key

    def _one_at_a_time(self, release: str) -> asyncio.Lock:
        """INVARIANT: nobody writes to a ciphertext between its check and its being kept."""
        return self._alone.setdefault(release, asyncio.Lock())

    async def _range(self, peer: str, release: str, offset: int, data: bytes) -> Response:
        """A range of a ciphertext that a release, accepted before, told us to expect."""
        async with self._one_at_a_time(release):
            return await self._take_range(peer, release, offset, data)

    async def _take_range(self, peer: str, release: str, offset: int, data: bytes) -> Response:
        with self.node.store.read() as reader:
            item_id = reader.get("receiving", release)
        if item_id is None or not 0 < len(data) <= RANGE_BYTES_MAX:
            raise PeerError("no release waits for this range")
        item = self.node.item(item_id.decode())
        incoming = item.incoming_by(release)
        if incoming is None or incoming.record.sender != peer or incoming.state != "receiving":
            raise PeerError("no release waits for this range")
        size = item.manifest.ciphertext_bytes
        if offset + len(data) > size:
            raise PeerError("a range beyond the ciphertext's end")
        store = self.node.store
        have = await asyncio.to_thread(lambda: store.blob_size(release))
        if offset <= have:
            await asyncio.to_thread(lambda: store.blob_append(release, offset, data))
            have = max(have, offset + len(data))
        self.node.quotas.moved(release)
        if have < size:
            return _answer(200, status="accepted", have=have)
        if await self._finish(item.id, release) != size:
            raise PeerError("the ciphertext is not the one that the manifest states")
        return _answer(200, status="accepted", have=size)

    async def _finish(self, item_id: str, release: str) -> int:
        """Take in a ciphertext whose last range is here; the bytes that we have of it then.

        That is none of them if they are not what the manifest states: the sender begins anew.
        """
        item = self.node.item(item_id)
        incoming, manifest = item.incoming_by(release), item.manifest
        assert incoming is not None  # noqa: S101  # it waited for the ciphertext
        peer = incoming.record.sender
        size = manifest.ciphertext_bytes
        digest = await asyncio.to_thread(lambda: self._settle(release, size))
        if digest != manifest.ciphertext_sha256:
            await asyncio.to_thread(lambda: self.node.store.blob_remove(release))
            return 0

        quotas = self.node.quotas
        precedence = quotas.moved(release)

        def job(tx: Transaction) -> Effects:
            effects = self.node.apply(tx, item_id, Complete(release), precedence_min=precedence)
            was_half_sent = tx.delete("receiving", release)
            if effects.item is not None and effects.item.stored == release:
                tx.put("blob", release, item_id.encode())
                if was_half_sent:
                    quotas.keep(tx, peer, 0, size)
            return effects

        effects: Effects = await self.node.submit(job)
        quotas.ended(release)
        self.node.follow(effects)
        self._note_passing(peer, effects, release)
        if effects.item is not None and effects.item.stored != release:
            await self.node.contents.drop(release)
        return size

    def _settle(self, release: str, size: int) -> str:
        """Make the blob durable, and hash what is there."""
        self.node.store.blob_sync(release)
        digest = hashlib.sha256()
        for offset in range(0, size, BLOB_PART_BYTES):
            digest.update(self.node.store.blob_read(release, offset, BLOB_PART_BYTES))
        return digest.hexdigest()


def _is_receiving(effects: Effects, release: str) -> bool:
    incoming = None if effects.item is None else effects.item.incoming_by(release)
    return incoming is not None and incoming.state == "receiving"
