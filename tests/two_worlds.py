"""Two worlds that differ only in what a party may not read, and all that this party gets to see.

DESIGN §6, rule 6. Nodes, couriers and counters are those of production; so is HTTP, down to the
bytes. Randomness is drawn by what it is for, so that what happens elsewhere does not shift it. The
payload cipher is an ideal one: its bytes depend on key, place and length, and not on what they
hide, so that a hub that does not read must see the same bytes whatever is in a payload.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import Any, ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relto import envelope as dsse
from relto import streams
from relto.envelope import Envelope
from relto.hop import Hop, key_id_of, open_hop, seal_hop
from relto.items import Item
from relto.keys import decode_certificate
from relto.links import LinkError, Request, Response
from relto.links.http import ClientWire, Refused, ServerWire, refusal
from relto.payloads import Payload, bucket_size_bytes
from relto.records import NodeKey, Receipt, decode_record
from relto.records import Refusal as RefusalRecord
from relto.seal import HYBRID, HpkePublicKey, Suite
from relto.serving import PEER_LIMITS
from relto.system import Surroundings
from relto.trust import Certificates
from transcripts import Difference, Told, compared, digest
from world import (
    LINKS,
    OFFICERS,
    Place,
    Refusal,
    World,
    WorldLink,
    _end,
    authority,
    person,
)

__all__ = ["VIEWERS", "Pair", "difference", "pair_of", "transcripts"]

ACTS_S = 100.0  # from one act that both worlds have to the next: all that it causes is over by then
GENERATIONS = 4  # of keys, by seed
OUTSIDER = "XXX"

Json = dict[str, Any]

doing: ContextVar[str] = ContextVar("doing", default="")  # the act at work: what is drawn is for it


# Randomness, by what it is for


class Drawn:
    """A `Randomness`: bytes by party, act and purpose, and by how often these drew before."""

    def __init__(self, party: str) -> None:
        self.party = party
        self._times: Counter[tuple[str, str]] = Counter()

    def __call__(self, what: str, size_bytes: int) -> bytes:
        self._times[doing.get(), what] += 1
        purpose = f"{self.party}/{doing.get()}/{what}/{self._times[doing.get(), what]}"
        return hashlib.shake_256(purpose.encode()).digest(size_bytes)


class _Sealing:
    """HPKE that draws its ephemeral key from what it seals. Whoever knows a public key can open:
    what a test looks at is bytes and sizes."""

    ENC_BYTES = HYBRID.enc_bytes

    def encrypt(self, plaintext: bytes, public_key: Any, info: bytes) -> bytes:
        drawn = hashlib.shake_256(b"\0".join((public_key, info, plaintext)))
        enc = drawn.digest(self.ENC_BYTES)
        return enc + self._aead(public_key, enc).encrypt(bytes(12), plaintext, info)

    def decrypt(self, ciphertext: bytes, private_key: Any, info: bytes) -> bytes:
        enc, sealed = ciphertext[: self.ENC_BYTES], ciphertext[self.ENC_BYTES :]
        return self._aead(private_key, enc).decrypt(bytes(12), sealed, info)

    @staticmethod
    def _aead(public_raw: bytes, enc: bytes) -> AESGCM:
        return AESGCM(hashlib.sha256(public_raw + enc).digest())


def _keys_from(seed: bytes) -> tuple[bytes, bytes]:
    public = hashlib.shake_256(seed).digest(HYBRID.public_bytes)
    return public, public


REPEATABLE = Suite(
    name="repeatable",
    hpke_suite=_Sealing(),
    enc_bytes=HYBRID.enc_bytes,
    public_bytes=HYBRID.public_bytes,
    _load_private=_keys_from,
    _load_public=bytes,
)
"""Sizes are those of the real suite."""


class IdealCipher:
    """AES-GCM as one would like it: the ciphertext says how long the plaintext is, and no more."""

    TAG_BYTES = 16
    known: ClassVar[dict[tuple[bytes, bytes], tuple[bytes, bytes]]] = {}

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        sealed = hashlib.shake_256(self._key + nonce).digest(len(data) + self.TAG_BYTES)
        self.known[self._key, nonce] = (sealed, data)
        return sealed

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        sealed, plaintext = self.known.get((self._key, nonce), (b"", b""))
        if not hmac.compare_digest(sealed, data):
            raise InvalidTag
        return plaintext


@contextmanager
def ideal_cipher() -> Iterator[None]:
    """The library's AES-GCM is replaced where payloads are encrypted, and nowhere else."""
    real = vars(streams)["AESGCM"]
    vars(streams)["AESGCM"] = IdealCipher
    try:
        yield
    finally:
        vars(streams)["AESGCM"] = real
        IdealCipher.known.clear()


@lru_cache(maxsize=65536)
def _verify_once(envelope: Envelope, public_key: Any, payload_type: str) -> bytes:
    return dsse.verify(envelope, public_key, payload_type=payload_type)


def _verify(envelope: Envelope, public_key: Any, *, payload_type: str) -> bytes:
    """The real check; what held once, in the other world, holds."""
    return _verify_once(envelope, public_key, payload_type)


# A world whose wires are listened to


class Listened(World):
    """A world in which a party's whole transcript is kept."""

    def __init__(self, viewer: str, setting: "Setting") -> None:
        super().__init__(
            setting.regime, lanes=True, links=setting.links, generation=setting.generation
        )
        self.viewer = viewer
        self.setting = setting
        self.transcript: list[Told] = []
        self.requests: list[tuple[str, Request]] = []  # of the viewer, for replays
        self.muted = False
        self.random_bytes = {party: Drawn(party) for party in OFFICERS}

    def around(self, place: Place) -> Surroundings:
        return Surroundings(place.clock, self.random_bytes[place.party], REPEATABLE, _end)

    def link(self, sender: str, receiver: str) -> WorldLink:
        return Wire(self, sender, receiver)

    def tell(
        self, party: str, what: str, peer: str, data: bytes, path: str = "", inside: bytes = b""
    ) -> None:
        if party == self.viewer:
            self.transcript.append(Told(what, peer, data, path, inside))


class Wire(WorldLink):
    """Every request and answer as the bytes that HTTP makes of them."""

    world: Listened

    def __init__(self, world: Listened, sender: str, receiver: str, tls: bytes = b"") -> None:
        super().__init__(world, sender, receiver)
        self._tls = tls or world.keys_of(sender).tls

    async def request(
        self, method: str, path: str, body: bytes = b"", *, timeout_s: float, query: str = ""
    ) -> Response:
        world, place = self.world, self.world.places[self.receiver]
        client = ClientWire(PEER_LIMITS)
        asked = client.ask(method, f"{path}?{query}" if query else path, body)
        if not place.is_up or (world.muted and self.sender == world.viewer):
            world.tell(self.sender, "is not reached:", self.receiver, b"", path)
            raise LinkError("connection refused")
        inside = b""
        if self.receiver == world.viewer and path.endswith("/hop"):
            inside = _inside(place, self.sender, body)
        world.tell(self.receiver, "is asked by", self.sender, asked, path, inside)
        if self.sender == world.viewer:
            request = Request(method, path, query, body, self._tls)
            world.requests.append((self.receiver, request))
        answer = await self._answer(place, asked)
        client.feed(answer)
        response = client.response()
        assert response is not None
        inside = b""
        if self.sender == world.viewer and "/give-back/" in path and response.status == 200:
            inside = b"" if query else _inside(world[self.sender], self.receiver, response.body)
        world.tell(self.sender, "is answered by", self.receiver, answer, path, inside)
        return response

    async def _answer(self, place: Place, asked: bytes) -> bytes:
        server = ServerWire(PEER_LIMITS)
        server.feed(asked)
        try:
            head, body = server.head(), server.body()
        except Refused as e:
            return ServerWire(PEER_LIMITS).answer(refusal(e.status), close=True)
        assert head is not None
        assert body is not None
        request = Request(head.method, head.path, head.query, body, self._tls)
        response = await place.work(place.peering.handle(request))
        return server.answer(response, close=False)


def _inside(place: Place, sender: str, sealed: bytes) -> bytes:
    key = place.node.hpke_key(key_id_of(sealed))
    parts = () if key is None else open_hop(sealed, sender=sender, recipient=place.party, key=key)
    return json.dumps([_readable(json.loads(part.encode())) for part in parts]).encode()


def _readable(part: Json) -> Json:
    """A part with the payloads of its envelopes as text, and certificates by their names."""
    records = [[base64.b64decode(r["payload"]).decode(), r] for r in part["records"]]
    names = [
        decode_certificate(base64.b64decode(c)).subject.rfc4514_string()
        for c in part["certificates"]
    ]
    return {**part, "records": records, "certificates": names}


# What happens


@dataclass(frozen=True, kw_only=True)
class Act:
    """Something that people do, or that happens to a node, at a time in seconds."""

    at_s: float
    name: str

    async def play(self, world: Listened, made: dict[str, str]) -> None:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Share(Act):
    """Somebody shares an item; officers then do as `words` says: approve, decline, or leave it.

    `words` is (reviewing party, recipient) -> what its officers do; who is not there approves.
    """

    maker: str
    mark: str
    to: tuple[str, ...]
    topics: tuple[str, ...]
    readers: tuple[str, ...] | None = None
    precedence: str = "ROUTINE"
    title: str = "A report"
    body: bytes = b"what was seen"
    words: dict[tuple[str, str], str] = field(default_factory=dict)
    first: int = 0  # which officer is asked first

    async def play(self, world: Listened, made: dict[str, str]) -> None:
        with suppress(Refusal):
            item = await world.share(
                self.maker, self.mark, *self.to, topics=self.topics, readers=self.readers,
                precedence=self.precedence, body=self.body, title=self.title,
            )  # fmt: skip
            made[self.name] = item
            shared_s = world.loop.time()
            turns = {to: n for n, to in enumerate(sorted(OFFICERS, reverse=self.first > 0))}
            for to in sorted(self.to, key=turns.__getitem__):
                # Each recipient in its own milliseconds: when others were approved is no matter.
                await asyncio.sleep(shared_s + turns[to] / 100 - world.loop.time())
                await self._review(world, self.maker, item, to)
            await asyncio.sleep(shared_s + 10 - world.loop.time())
            for to in self.to:
                for hub in set(OFFICERS) - {self.maker, to}:
                    await self._review(world, hub, item, to)

    async def _review(self, world: Listened, party: str, item: str, to: str) -> None:
        place = world[party]
        if not place.is_up or not place.has(item) or self.words.get((party, to)) == "leave":
            return
        waits = [o for o in place.item(item).outgoing if o.proposal.to == to]
        if not waits or waits[-1].state != "review":
            return
        if self.words.get((party, to)) == "decline":
            return await world.decline(party, item, to)
        count = waits[-1].proposal.officers
        turn = self.first + list(OFFICERS).index(to)  # not the same for all recipients
        officers = [OFFICERS[party][(turn + n) % 2] for n in range(count)]
        await world.approve(party, item, to, *officers)


@dataclass(frozen=True, kw_only=True)
class Offer(Act):
    """Somebody wants an item that a node holds to go on to another party."""

    party: str
    item: str  # the name of the act that made it
    to: str

    async def play(self, world: Listened, made: dict[str, str]) -> None:
        with suppress(Refusal, KeyError):
            target = f"/items/{made[self.item]}/offer"
            await world.asked(self.party, "POST", target, {"to": self.to})


@dataclass(frozen=True, kw_only=True)
class Held(Act):
    """An officer stops all releases to a party for a while."""

    party: str
    to: str
    for_s: float

    async def play(self, world: Listened, made: dict[str, str]) -> None:
        await world.hold(self.party, self.to, on=True)
        await asyncio.sleep(self.for_s)
        await world.hold(self.party, self.to, on=False)


@dataclass(frozen=True, kw_only=True)
class Down(Act):
    """A node is not there for a while, or is only started anew."""

    party: str
    for_s: float

    async def play(self, world: Listened, made: dict[str, str]) -> None:
        world[self.party].crash()
        await asyncio.sleep(self.for_s)
        doing.set("")  # the new process is nobody's act
        await world[self.party].restarted()


@dataclass(frozen=True, kw_only=True)
class Mute(Act):
    """The viewer takes in what comes and says nothing, so that others go on sending it."""

    for_s: float

    async def play(self, world: Listened, made: dict[str, str]) -> None:
        world.muted = True
        await asyncio.sleep(self.for_s)
        world.muted = False


@dataclass(frozen=True, kw_only=True)
class Look(Act):
    """People read, export, and ask for what is refused: entries of a journal."""

    party: str

    async def play(self, world: Listened, made: dict[str, str]) -> None:
        for target in ("/status", "/items", "/reviews", "/journal"):
            await world.ask(self.party, "GET", target)
        for item in made.values():
            await world.ask(self.party, "GET", f"/items/{item}/payload")
        await world.ask(self.party, "POST", "/journal/export")


# What the viewer tries


@dataclass(frozen=True, kw_only=True)
class Probe(Act):
    """The viewer asks its peers for what an honest node would not; `ids` are what it can guess."""

    ids: tuple[str, ...] = ()
    whole: bool = False

    async def play(self, world: Listened, made: dict[str, str]) -> None:
        viewer = world.viewer
        for peer in peers_of(world, viewer):
            tls = stranger().certificate if viewer == OUTSIDER else b""
            wire = Wire(world, viewer, peer, tls)
            for request in [*self._simple(), *self._forged(world, peer)]:
                await _try(wire, request)
            own = [request for receiver, request in world.requests if receiver == peer]
            hops = [r for r in own if r.path.endswith("/hop")]
            ranges = [r for r in own if "/ciphertext/" in r.path]
            for request in (*hops[-8:], *ranges[-4:]) if self.whole else hops[-2:]:
                await _try(wire, request)

    def _simple(self) -> list[Request]:
        def get(path: str) -> Request:
            return Request("GET", path, "", b"", b"")

        parties = [*OFFICERS, OUTSIDER, "AUS"]
        asked = [get(f"/relto/v1/node-key/{party}") for party in parties]
        asked.append(get("/relto/v1/agreements"))
        asked.append(Request("GET", "/relto/v1/shared", f"epoch={'0' * 32}&after=0", b"", b""))
        if self.whole:
            more = ("status", "metrics", "journal", "items", "reviews", "sightings", "holds")
            asked += [get(f"/{name}") for name in more]
            asked += [get(f"/relto/v1/{name}") for name in more]
            asked += [Request("DELETE", "/relto/v1/hop", "", b"", b"")]
        return asked

    def _forged(self, world: Listened, peer: str) -> list[Request]:
        asked: list[Request] = []
        for name in (*self.ids, "0" * 64):
            path = f"/relto/v1/ciphertext/{name}"
            asked.append(Request("POST", path, "offset=0", b"x" * 17, b""))
            if self.whole:
                asked.append(Request("POST", path, "offset=100000", b"x", b""))
                asked.append(Request("GET", f"/items/{name}", "", b"", b""))
                asked.append(Request("GET", f"/relto/v1/items/{name}", "", b"", b""))
        if self.whole:
            asked += list(self._results(world, peer))
            asked += list(self._give_back(world))
        asked.append(Request("POST", "/relto/v1/hop", "", b"y" * 2000, b""))
        return asked

    def _results(self, world: Listened, peer: str) -> Iterator[Request]:
        """Receipts and refusals by the viewer for whatever it can name."""
        viewer = world.viewer
        node = stranger() if viewer == OUTSIDER else world.keys_of(viewer).node
        at = world[peer].clock.instant()
        chains = [self.ids[i : i + 2] for i in range(0, len(self.ids) - 1, 2)]
        for item, release in [*chains, ("0" * 64, "1" * 64)]:
            for record in (
                Receipt(item, viewer, (release,), at),
                RefusalRecord(item, viewer, (release,), ("not-releasable",), at),
                RefusalRecord(item, "USA", (release,), ("not-releasable",), "2031-01-01T00:00:00Z"),
            ):
                hop = Hop((node.sign(record),), Certificates.of([node.certificate]))
                key = HpkePublicKey(_public_key(world, peer), REPEATABLE)
                sealed = seal_hop([hop.encode()], sender=viewer, recipient=peer, key=key)
                yield Request("POST", "/relto/v1/hop", "", sealed, b"")

    def _give_back(self, world: Listened) -> Iterator[Request]:
        """What the viewer might have forgotten, and what it never had."""
        if world.viewer == OUTSIDER:
            key = b"{}"
        else:
            node = world.keys_of(world.viewer).node
            certificates = Certificates.of([node.certificate])
            key = Hop((world[world.viewer].node.node_key(),), certificates).encode()
        own = list(world[world.viewer].items()) if world.viewer != OUTSIDER else []
        known = [(item.id, release) for item in own for release in _releases(item)]
        guessed = [self.ids[i : i + 2] for i in range(0, len(self.ids) - 1, 2)]
        for item, release in [*sorted(known)[:6], *guessed, ("0" * 64, "1" * 64)]:
            path = f"/relto/v1/give-back/{item}/{release}"
            yield Request("POST", path, "", key, b"")
            yield Request("POST", path, "offset=0", key, b"")
            for party in (*OFFICERS, OUTSIDER):
                yield Request("POST", f"/relto/v1/seal-again/{item}/{party}", "", key, b"")


@cache
def stranger() -> Any:
    """Somebody of a party that no agreement names."""
    return person(*authority(OUTSIDER, "a stranger's ca"), "node", words="a stranger")


def _public_key(world: Listened, party: str) -> bytes:
    return bytes.fromhex(decode_record(world[party].node.node_key(), NodeKey).key)


def peers_of(world: Listened, party: str) -> list[str]:
    """Whose nodes a party can reach; an outsider can try them all."""
    if party == OUTSIDER:
        return sorted(OFFICERS)
    return sorted(p for p in OFFICERS if p != party and world.is_linked(p, party))


async def _try(wire: Wire, request: Request) -> None:
    with suppress(LinkError):
        await wire.request(
            request.method, request.path, request.body, timeout_s=5, query=request.query
        )


# Pairs of histories


@dataclass(frozen=True)
class Setting:
    """A regime, who is linked with whom, and when it is."""

    regime: str
    links: tuple[tuple[str, str], ...] = LINKS
    clock: str = ""
    generation: int = 0  # of keys: their order is another for each


CARRIED = Setting("carried")
TISA = Setting("tisa")
DIRECT = Setting("tisa", (*LINKS, ("JPN", "KOR")), "2017-01-05T00:00:00Z")

VIEWERS: dict[str, tuple[Setting, ...]] = {
    "KOR": (CARRIED, TISA),
    "JPN": (CARRIED, TISA),
    "USA": (CARRIED, CARRIED, DIRECT),  # a hub that does not read, or that is passed by
    OUTSIDER: (CARRIED, TISA),
}

LOW = {"JPN": "JPN:HI", "KOR": "KOR:III", "USA": "USA:C"}
HIGH = {"JPN": "JPN:GOKUHI", "KOR": "KOR:II", "USA": "USA:S"}
BLIND = ("blind", "automatic")
SPOKES = ("JPN", "KOR")


@dataclass(frozen=True)
class Pair:
    """Two histories that the viewer must not be able to tell apart."""

    seed: int
    viewer: str
    setting: Setting
    left: tuple[Act, ...]
    right: tuple[Act, ...]
    ends_s: float


class _Author:
    """Writes pairs of histories from a seed."""

    def __init__(self, seed: int, viewer: str) -> None:
        self.random = random.Random(f"{seed}/{viewer}")
        self.viewer = viewer
        setting = self.random.choice(VIEWERS[viewer])
        self.by_hub = setting is not DIRECT
        self.is_carried = setting is CARRIED
        self.setting = replace(setting, generation=seed % GENERATIONS)
        self.names = 0
        self.is_mute = False
        self.open: set[tuple[str, str]] = set()  # what the hub may not have passed on

    def name(self, what: str) -> str:
        self.names += 1
        return f"{what}-{self.names}"

    def pair(self, seed: int) -> Pair:
        left: list[Act] = []
        right: list[Act] = []
        slots = self.random.randint(2, 4)
        for slot in range(1, slots + 1):
            at_s = slot * ACTS_S
            both: list[Act] = []
            self.is_mute = self.viewer != OUTSIDER and self.random.random() < 0.3
            if self.is_mute:
                both.append(Mute(at_s=at_s, name=self.name("mute"), for_s=84))
            elif self.random.random() < 0.5:
                both.append(Probe(at_s=at_s + 65, name=self.name("probe")))
            if self.viewer != OUTSIDER:
                for acts, act in zip((left, right), self.seen(at_s + 0.5), strict=True):
                    acts.append(act)
            left += [*both, *self.unseen(at_s)]
            right += [*both, *self.unseen(at_s)]
        ends_s = (slots + 1) * ACTS_S + 20
        return Pair(seed, self.viewer, self.setting, tuple(left), tuple(right), ends_s)

    # what the viewer may see, but for what is in it

    def seen(self, at_s: float) -> tuple[Act, Act]:
        random_ = self.random
        ways = self._ways(seen=True)
        if self.is_mute:  # what others send to it, directly, is what they send again
            ways = [w for w in ways if w[1] == self.viewer]
        shared = [w for w in ways if w[1] == self.viewer and self._others(*w)]
        maker, to, topic, mark = random_.choice(
            shared if shared and random_.random() < 0.3 else ways
        )
        share = Share(
            at_s=at_s, name=self.name("seen"), maker=maker, mark=mark, to=(to,), topics=(topic,),
            precedence=random_.choice(("FLASH", "PRIORITY", "ROUTINE")),
            first=random_.randint(0, 1), title="t" * random_.randint(1, 80),
            body=random_.randbytes(self._size()),
            words=self._words(maker, to, 0.15),
        )  # fmt: skip
        self.open |= {(maker, to)} if self.viewer == "USA" else set()
        if self.viewer == "USA" and topic in BLIND:
            return share, self._other_content(share)
        others = self._others(maker, to, topic, mark)
        if others and to == self.viewer and random_.random() < 0.6:
            both = [to, random_.choice(others)]
            random_.shuffle(both)
            words = {**share.words, **self._words(maker, both[both[0] == to], 0.5)}
            also = replace(share, to=tuple(both), words=words)
            return (also, share) if random_.random() < 0.5 else (share, also)
        return share, share

    def _ways(self, *, seen: bool) -> list[tuple[str, str, str, str]]:
        """(maker, to, topic, mark): what goes, and whether the viewer sees that it does."""
        ways = []
        for maker in OFFICERS:
            for to in OFFICERS:
                if maker == to:
                    continue
                for topic, mark in self._topics(maker, to):
                    path = {maker, to} | ({"USA"} if self._by_hub(maker, to, topic) else set())
                    if (self.viewer in path) == seen:
                        ways.append((maker, to, topic, mark))
        return ways

    def _by_hub(self, maker: str, to: str, topic: str) -> bool:
        return "USA" not in (maker, to) and self.by_hub

    def _topics(self, maker: str, to: str) -> list[tuple[str, str]]:
        is_hub = "USA" in (maker, to)
        low, high = LOW[maker], HIGH[maker]
        if self.is_carried:
            if is_hub:
                return [("paired", low), ("paired", high)]
            return [("reviewed", low), ("reviewed", high), *((t, low) for t in (*BLIND, "passed"))]
        if is_hub or not self.by_hub:
            return [("cyber", low), ("missile.launch", low), ("missile.launch", high)]
        return [("missile.launch", low), ("missile.launch", high), ("nuclear.test", low)]

    def _others(self, maker: str, to: str, topic: str, mark: str) -> list[str]:
        """Who else could get the same item."""
        others = [q for q in OFFICERS if q not in (maker, to)]
        return [q for q in others if (topic, mark) in self._topics(maker, q)]

    def _words(self, maker: str, to: str, share: float) -> dict[tuple[str, str], str]:
        """What officers say, where they do not approve."""
        parties = [maker] if "USA" in (maker, to) else [maker, "USA"]
        return {
            (party, to): self.random.choice(("decline", "leave"))
            for party in parties
            if self.random.random() < share
        }

    def _size(self) -> int:
        if self.random.random() < 0.05:
            return self.random.randint(66_000, 120_000)
        return self.random.randint(0, 3_000)

    def _other_content(self, share: Share) -> Share:
        """Another title and another content, of the same padded size."""
        size = _padded(share)
        while True:
            title = self.random.choice("uvw") * self.random.randint(1, 80)
            near = max(0, len(share.body) + self.random.randint(-60, 60))
            other = replace(share, title=title, body=self.random.randbytes(near))
            if _padded(other) == size:
                return other

    # what it may not see

    def unseen(self, slot_s: float) -> list[Act]:
        random_ = self.random
        acts: list[Act] = []
        for _ in range(random_.choice((0, 1, 1, 2, 3))):
            acts += self._hidden(slot_s)
        if random_.random() < 0.3:
            acts += self._disturbance(slot_s + 52)
        return acts

    def _hidden(self, slot_s: float) -> list[Act]:
        random_ = self.random
        # Beside what the viewer sees, a few milliseconds away, or in its quiet time.
        near_s = 0.5 + random_.choice((-1, 1)) * random_.randint(2, 90) / 1000
        at_s = slot_s + random_.choice((near_s, random_.uniform(20, 50), random_.uniform(84, 95)))
        others = [p for p in OFFICERS if p != self.viewer]
        kind = random_.random()
        if kind < 0.15:
            return [Look(at_s=at_s, name=self.name("look"), party=random_.choice(others))]
        ways = self._ways(seen=False)
        stays = False
        if self.viewer != OUTSIDER and (not ways or kind < 0.5):
            # It would come to the viewer, but somebody before it does not let it.
            ways = [w for w in self._ways(seen=True) if w[0] != self.viewer]
            ways = [w for w in ways if w[2] not in ("automatic", "passed")]
            stays = True
        maker, to, topic, mark = random_.choice(ways)
        words = self._words(maker, to, 0.4)
        if stays:
            first = maker if self.viewer == "USA" or "USA" in (maker, to) else None
            first = first or random_.choice((maker, "USA" if topic not in BLIND else maker))
            words = {(first, to): random_.choice(("decline", "leave"))}
        share = Share(
            at_s=at_s, name=self.name("hidden"), maker=maker, mark=mark, to=(to,), topics=(topic,),
            precedence=random_.choice(("FLASH", "IMMEDIATE", "PRIORITY", "ROUTINE")),
            title="h" * random_.randint(1, 200), body=random_.randbytes(self._size()), words=words,
            first=random_.randint(0, 1),
        )  # fmt: skip
        if kind > 0.9:  # nothing permits it: it is refused here, and that is journaled
            share = replace(share, readers=())
        offered = Offer(
            at_s=at_s + 12, name=self.name("offer"), party=to if to != self.viewer else maker,
            item=share.name, to=random_.choice(list(OFFICERS)),
        )  # fmt: skip
        hides = offered.party != self.viewer and self.viewer == OUTSIDER
        return [share, offered] if hides and random_.random() < 0.3 else [share]

    def _disturbance(self, at_s: float) -> list[Act]:
        """Holds and outages between others, while nothing of the viewer's is under way."""
        random_ = self.random
        others = [p for p in OFFICERS if p != self.viewer]
        for_s = random_.choice((0.0, random_.uniform(1, 30)))
        far = [p for p in SPOKES if p != self.viewer]
        if self.viewer in SPOKES and random_.random() < 0.5:
            return [Down(at_s=at_s, name=self.name("down"), party=random_.choice(far), for_s=for_s)]
        party = random_.choice(others)
        # What a hold on the viewer itself delays it sees later; while it is mute, also more often.
        free = [p for p in OFFICERS if p != party and not (self.is_mute and p == self.viewer)]
        to = random_.choice(free)
        if (party, to) in self.open:
            return []  # how often it is offered to the hub while it is on hold is timing
        return [Held(at_s=at_s, name=self.name("held"), party=party, to=to, for_s=for_s)]


def _padded(share: Share) -> int:
    header = {"title": share.title, "media_type": "text/plain"}
    return bucket_size_bytes(len(Payload(header, share.body).encode()) + 8)


def pair_of(seed: int, viewer: str) -> Pair:
    """A pair of histories from a seed."""
    return _Author(seed, viewer).pair(seed)


# Playing them


def difference(pair: Pair) -> Difference | None:
    """The first line by which the viewer can tell the two worlds apart; None if it cannot."""
    return compared(*transcripts(pair))


def transcripts(pair: Pair) -> list[list[Told]]:
    """All that the viewer gets to see in the two worlds."""
    with ideal_cipher():
        worlds = [Listened(pair.viewer, pair.setting) for _ in range(2)]
        try:
            for world, acts in zip(worlds, (pair.left, pair.right), strict=True):
                world.__enter__()
                world.run(_play(world, acts, pair.ends_s))
            ids = _ids(pair, worlds)
            for world in worlds:
                asyncio.set_event_loop(world.loop)
                world.run(_end_of(world, ids))
        finally:
            for world in worlds:
                asyncio.set_event_loop(world.loop)
                world.__exit__()
    return [world.transcript for world in worlds]


async def _play(world: Listened, acts: tuple[Act, ...], ends_s: float) -> None:
    if world.setting.clock:
        await world.set_clocks(world.setting.clock)
    made: dict[str, str] = {}

    async def play(act: Act) -> None:
        doing.set(act.name)
        await asyncio.sleep(act.at_s - world.loop.time())
        with suppress(LinkError):
            await act.play(world, made)

    tasks = [world.spawn(play(act)) for act in acts]
    await asyncio.sleep(ends_s - world.loop.time())
    assert all(task.done() for task in tasks)


def _ids(pair: Pair, worlds: list[Listened]) -> tuple[str, ...]:
    """Items and their releases that are in one world or both: what the viewer may guess."""
    found: dict[tuple[str, str], None] = {}
    for world in worlds:
        for place in world.places.values():
            for item in place.items():
                found |= dict.fromkeys((item.id, release) for release in _releases(item))
    chosen = random.Random(pair.seed).sample(sorted(found), min(5, len(found)))
    return tuple(name for names in chosen for name in names)


def _releases(item: Item) -> list[str]:
    ours = [o.release.record_id for o in item.outgoing if o.release is not None]
    return [*ours, *(i.id for i in item.incoming)] or [item.id]


async def _end_of(world: Listened, ids: tuple[str, ...]) -> None:
    """The viewer tries everything, and looks at all that its own node has."""
    await Probe(at_s=0, name="", ids=ids, whole=True).play(world, {})
    if world.viewer == OUTSIDER:
        return
    place = world[world.viewer]
    for target in ("/status", "/items", "/reviews", "/journal"):
        response = await world.ask(world.viewer, "GET", target)
        world.tell(world.viewer, "reads", target, response.body)
    state = place.store.state
    for kept in (state.documents, state.outbox, state.meta):
        for key, row in sorted(kept.items(), key=repr):
            world.tell(world.viewer, "keeps", repr(key), repr(row).encode())
    for row in state.journal:
        world.tell(world.viewer, "has journaled", str(row.number), repr(row).encode())


def main() -> int:
    """`python -m two_worlds SEED PARTY`: one pair again, with a digest of each transcript."""
    pair = pair_of(int(sys.argv[1]), sys.argv[2])
    left, right = transcripts(pair)
    print(f"left {len(left)} lines {digest(left)}\nright {len(right)} lines {digest(right)}")
    found = compared(left, right)
    print(found or "no difference")
    return int(found is not None)


if __name__ == "__main__":
    raise SystemExit(main())
