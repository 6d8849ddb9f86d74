"""What a node answers a peer that asks for what is the peer's own: a list, and what is in it.

The list names the asker's own records alone. What is given back is decided again, and in the
journal, before a byte of it leaves (DESIGN §6, rules 3, 4 and 6).
"""

import re
from collections.abc import Mapping
from typing import Any

from relto import canonical
from relto.courier import Courier, hub_is_blind
from relto.errors import PeerError
from relto.events import NotYet
from relto.hop import INLINE_BYTES_MAX, RANGE_BYTES_MAX, Hop, seal_hop, seal_key
from relto.instants import moment
from relto.items import Item
from relto.links import Request, Response
from relto.marks import PARTY_PATTERN
from relto.node import Node
from relto.ports import Reader, Transaction
from relto.records import NodeKey, decode_record
from relto.recovering import ON_HOLD, GivenBack, give_back, seal_again
from relto.seal import HpkePublicKey
from relto.shared import PAGE_ROWS, START, Position, page, position

__all__ = ["Returning"]

GIVEN_PER_S_MAX = 100  # releases and ranges to one peer
SEALED_KEY_BYTES_MAX = 8192
RELAY_TIMEOUT_S = 5.0
ROUTINE = 3  # who catches up does not delay what is urgent
_LIST = "/relto/v1/shared"
_AFTER = re.compile(r"epoch=([0-9a-f]{32})&after=(0|[1-9][0-9]{0,14})\Z")
_GIVE_BACK = re.compile(r"/relto/v1/give-back/([0-9a-f]{64})/([0-9a-f]{64})\Z")
_SEAL_AGAIN = re.compile(rf"/relto/v1/seal-again/([0-9a-f]{{64}})/({PARTY_PATTERN})\Z")
_OFFSET = re.compile(r"offset=(0|[1-9][0-9]{0,12})\Z")


class Returning:
    """Answers the peers of one node that ask for their own."""

    def __init__(self, node: Node, couriers: Mapping[str, Courier]) -> None:
        self.node = node
        self.couriers = couriers
        self._given: dict[str, tuple[int, int]] = {}  # to a peer: in which second, how many
        self._told: dict[str, Position] = {}  # to a peer: where its last page ended

    async def answer(self, peer: str, request: Request) -> Response | None:
        """The answer, if it is a request of this kind. Raises PeerError."""
        asked = _AFTER.match(request.query)
        if request.method == "GET" and request.path == _LIST and asked:
            return await self._list(peer, asked[1], int(asked[2]))
        again = _SEAL_AGAIN.match(request.path)
        if request.method == "POST" and again and not request.query:
            self._require_patience(peer)
            if again[2] == self.node.party:
                return await self._seal_again(peer, again[1], request.body)
            return await self._relay(peer, again[1], again[2], request.body)
        back = _GIVE_BACK.match(request.path)
        if request.method != "POST" or not back:
            return None
        offset = _OFFSET.match(request.query)
        if request.query and not offset:
            return None
        self._require_patience(peer)
        await self.node.turns.wait(ROUTINE)
        key = self._key_of(peer, request.body)
        item, given = await self._grant(back[1], back[2], peer)
        if offset:
            return self._range(item, given, int(offset[1]))
        hop = self._hop(peer, item, given).encode()
        sealed = seal_hop([hop], sender=self.node.party, recipient=peer, key=key)
        return Response(200, sealed, "application/octet-stream")

    def _require_patience(self, peer: str) -> None:
        """Each giving back is a line in our journal: nobody fills our disk with them. NotYet."""
        second = self.node.clock.monotonic_ms() // 1000
        since, count = self._given.get(peer, (second, 0))
        if since == second and count >= GIVEN_PER_S_MAX:
            raise NotYet(f"{peer} asks for more than {GIVEN_PER_S_MAX} releases a second")
        self._given[peer] = (second, count + 1 if since == second else 1)

    async def _seal_again(self, hub: str, item_id: str, body: bytes) -> Response:
        """Past a hub that does not read: the payload key, for who has lost it. Raises PeerError."""
        node = self.node
        asker = decode_record(Hop.decode(body).records[0], NodeKey).party
        key = self._key_of(asker, body)

        def job(tx: Transaction) -> tuple[Item | None, tuple[str, ...]]:
            now = node.clock.instant()
            view = node.view(tx, item_id)
            release, codes = seal_again(view, asker, hub, now)
            entry = {"event": "give-back", "item": item_id, "release": release, "to": asker}
            more: dict[str, Any] = {"codes": list(codes)} if codes else {"via": hub}
            node.journal(tx, {**entry, "whole": not codes, **more}, now)
            return view.item, codes

        item, codes = await node.submit(job, ROUTINE)
        _require_given(asker, codes)
        payload_key = node.payload_key(item)
        if payload_key is None:
            raise PeerError("there is no key of it here")
        sealed = seal_key(payload_key, sender=node.party, recipient=asker, item=item_id, key=key)
        return Response(200, sealed, "application/octet-stream")

    async def _relay(self, peer: str, item_id: str, party: str, body: bytes) -> Response:
        """The hub's part: between the two ends of a path that the item took, and no others."""
        with self.node.store.read() as reader:
            item = self.node.read_item(reader, item_id)
        here = self.node.party
        paths = {i.record.path for i in item.incoming} if item is not None else set()
        if not paths & {(peer, here, party), (party, here, peer)} or party not in self.couriers:
            raise PeerError("no such item between these two")
        target = f"/relto/v1/seal-again/{item_id}/{party}"
        answer = await self.couriers[party].calls.link.request(
            "POST", target, body, timeout_s=RELAY_TIMEOUT_S
        )
        if answer.status == 503:
            raise NotYet(f"{party} seals it again later")
        if answer.status != 200 or len(answer.body) > SEALED_KEY_BYTES_MAX:
            raise PeerError(f"{party} does not seal it again")
        return Response(200, answer.body, "application/octet-stream")

    async def _list(self, peer: str, epoch: str, after: int) -> Response:
        with self.node.store.read() as reader:
            kept = _kept(reader, peer)
            told = self._told.get(peer, kept)
            found = (position(reader, peer, after, known) for known in (told, kept, START))
            begin = next((p for p in found if p is not None and p.link == epoch), START)
            records, last, more = page(reader, peer, begin)
        self._told[peer] = last
        if last.number >= kept.number + PAGE_ROWS:  # else a start would have far to count
            value = f"{last.number}:{last.link}".encode()
            await self.node.submit(lambda tx: tx.set_meta(f"shared-told:{peer}", value), ROUTINE)
        answer: dict[str, Any] = {
            "epoch": last.link,
            "after": last.number,
            "more": more,
            "records": [
                {"record": r.record, "item": r.item, "release": r.release} for r in records
            ],
        }
        return Response(200, canonical.encode(answer))

    def _key_of(self, peer: str, body: bytes) -> HpkePublicKey:
        """The asker's HPKE key of the week, which it announces with its question."""
        hop = Hop.decode(body)
        record = decode_record(hop.records[0], NodeKey)
        self.node.trust.verify_node(
            hop.records[0], NodeKey, party=peer, certificates=hop.certificates
        )
        if record.party != peer or moment(record.expires) <= self.node.clock.now():
            raise PeerError("the key to seal to is another party's, or has expired")
        return HpkePublicKey(bytes.fromhex(record.key), self.node.suite)

    async def _grant(self, item_id: str, release: str, peer: str) -> tuple[Item, GivenBack]:
        """Decide, and journal it; then it may leave. Raises PeerError where it may not."""
        node = self.node

        def job(tx: Transaction) -> tuple[Item | None, GivenBack]:
            now = node.clock.instant()
            view = node.view(tx, item_id)
            given = give_back(view, release, peer, now)
            entry: dict[str, Any] = {
                "event": "give-back",
                "item": item_id,
                "release": release,
                "to": peer,
                "whole": given.whole and not given.codes,
            }
            if given.codes:
                entry["codes"] = list(given.codes)
            node.journal(tx, entry, now)
            return view.item, given

        item, given = await node.submit(job, ROUTINE)
        _require_given(peer, given.codes)
        return item, given

    def _hop(self, peer: str, item: Item, given: GivenBack) -> Hop:
        keys: dict[str, bytes] = {}
        sealed_keys: dict[str, bytes] = {}
        ciphertexts: dict[str, bytes] = {}
        if given.whole:
            blind = given.outgoing is not None and hub_is_blind(self.node, given.outgoing)
            key = None if blind else self.node.payload_key(item)
            if key is not None:
                keys[item.id] = key
            elif peer in item.sealed_keys:
                sealed_keys[item.id] = item.sealed_keys[peer]
            if item.manifest.ciphertext_bytes <= INLINE_BYTES_MAX:
                ciphertexts[item.id] = b"".join(self.node.contents.ciphertext(item))
        return Hop(given.records, given.certificates, keys, sealed_keys, ciphertexts)

    def _range(self, item: Item, given: GivenBack, offset: int) -> Response:
        size = item.manifest.ciphertext_bytes
        if not given.whole or size <= INLINE_BYTES_MAX or offset >= size:
            raise PeerError("no range of what may be given back")
        data = self.node.store.blob_read(item.stored, offset, min(RANGE_BYTES_MAX, size - offset))
        return Response(200, data, "application/octet-stream")


def _kept(reader: Reader, peer: str) -> Position:
    """Where a peer's reading had come to, at most a page ago."""
    number, _, link = (reader.meta(f"shared-told:{peer}") or b"").decode().partition(":")
    return Position(int(number), link) if number else START


def _require_given(asker: str, codes: tuple[str, ...]) -> None:
    """Raises NotYet for a hold, which is nobody else's: it ends. PeerError for a decision."""
    if codes == ON_HOLD:
        raise NotYet(f"is given back to {asker} when the hold is lifted")
    if codes:
        raise PeerError(f"may not be given back to {asker}: {', '.join(codes)}")
