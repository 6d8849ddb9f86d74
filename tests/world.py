"""A coalition in one thread and one process, from a seed.

The nodes, couriers and counters are those of production, with real keys and signatures. Only clock,
link, disk and the order of things are swapped: time is virtual and jumps, a link is a call of the
other node's `Peering.handle`, a store is in memory, and a commit takes as long as the seed says.
"""

import asyncio
import base64
import hashlib
import json
import os
import random
import selectors
import tomllib
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from relto.apps.demo.coalition import with_cas
from relto.config import Config, Peer, Quota
from relto.counter import Counter
from relto.courier import Courier
from relto.decisions import Engine
from relto.envelope import Envelope, sign
from relto.errors import PeerError, StoreBroken, StoreFull
from relto.framing import framed
from relto.hop import Hop, key_id_of, open_hop, seal_hop
from relto.instants import moment
from relto.items import Item, Outgoing
from relto.keys import FileSigner, fingerprint, issue, make_ca
from relto.keys.files import PrivateKey
from relto.links import LinkError, PeerCredentials, Request, Response
from relto.node import Node, NodeSecrets
from relto.peering import Peering, peer_of
from relto.ports import OutboxRow, Store, Transaction
from relto.records import Approval, Hold, Manifest, NodeKey, Record, decode_record
from relto.regime import Regime, closure, load_regime
from relto.seal import HpkePrivateKey, HpkePublicKey
from relto.stores import MemoryStore
from relto.stores.folder import read_folder
from relto.stores.memory import Fault, State
from relto.stores.writer import Job, Writer
from relto.system import Surroundings, SystemClock
from relto.trust import Trust

ROOT = Path(__file__).parent.parent
REGIMES = {"tisa": ROOT / "regimes" / "tisa", "carried": ROOT / "tests" / "data" / "carried"}
OFFICERS = {"JPN": ("abe", "sato"), "KOR": ("kim", "lee"), "USA": ("jones", "smith")}
LINKS = (("KOR", "USA"), ("JPN", "USA"))
START = "2015-01-05T00:00:00Z"
VALIDITY = (datetime(2014, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC))
PAYLOAD_BYTES_MAX = 256 * 1024

Json = dict[str, Any]
T = TypeVar("T")
R = TypeVar("R", bound=Record)


# Keys: made once, for all worlds


class RepeatableSigner(FileSigner):
    """The same bytes get the same signature, with ECDSA too (RFC 6979)."""

    def sign(self, data: bytes) -> bytes:
        return _signature(self._key, data)


@lru_cache(maxsize=4096)
def _signature(key: PrivateKey, data: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    return key.sign(data, ec.ECDSA(SHA256(), deterministic_signing=True))


@dataclass(frozen=True)
class Person:
    """Whoever signs: a key and the certificate that vouches for it."""

    signer: FileSigner
    certificate: bytes
    name: str = ""

    def sign(self, record: Record) -> Envelope:
        return sign(record.type(), record.encode(), [self.signer])


@dataclass(frozen=True)
class Keys:
    """A party's keys."""

    ca: x509.Certificate
    ca_key: ec.EllipticCurvePrivateKey
    node: Person
    tls: bytes
    officers: Mapping[str, Person]
    storage_key: bytes

    @property
    def ca_der(self) -> bytes:
        return der(self.ca)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


P256 = ec.SECP256R1()
MADE_AT = datetime(2014, 12, 1, tzinfo=UTC)


def secret(words: str) -> bytes:
    """32 bytes that are the same in every process: a key that anybody can make anew."""
    return hashlib.sha256(f"a key for tests: {words}".encode()).digest()


def p256(words: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(secret(words)[:31], "big") + 1, P256)


@contextmanager
def repeatable_certificates() -> Iterator[None]:
    """Certificates are signed without randomness (RFC 6979), so that their bytes repeat."""
    original = x509.CertificateBuilder.sign

    def sign(self: Any, key: Any, algorithm: Any) -> Any:
        return original(self, key, algorithm, ecdsa_deterministic=True)

    x509.CertificateBuilder.sign = sign  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        x509.CertificateBuilder.sign = original  # type: ignore[method-assign]


def authority(party: str, words: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A party's CA, of exercises, with its key."""
    key = p256(words)
    with repeatable_certificates():
        ca = make_ca(party, key=key, now=MADE_AT, exercise=True, validity=VALIDITY, serial=1)
    return ca, key


def person(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    role: str,
    name: str | None = None,
    *,
    words: str,
) -> Person:
    """Somebody whom a CA vouches for; other `words` are other keys."""
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey = p256(words)
    if role == "node":
        key = ed25519.Ed25519PrivateKey.from_private_bytes(secret(words))
    with repeatable_certificates():
        leaf = issue(
            ca=ca, ca_key=ca_key, public_key=key.public_key(), role=role, name=name, now=MADE_AT,
            validity=VALIDITY, serial=int.from_bytes(secret(f"{words}/serial")[:8], "big") + 2,
        )  # fmt: skip
    return Person(RepeatableSigner(key), der(leaf), name or "")


@cache
def keys_of(party: str, *, generation: int = 0) -> Keys:
    """The keys of a party; another `generation` is other keys that say they are the same party's.

    They are made once a process, since making them is most of what a small test would do, and are
    the same in every process.
    """

    def made(role: str, name: str | None = None) -> Person:
        return person(ca, ca_key, role, name, words=f"{party}/{generation}/{role}/{name}")

    ca, ca_key = authority(party, f"{party}/{generation}/ca")
    return Keys(
        ca,
        ca_key,
        made("node"),
        made("tls").certificate,
        {name: made("officer", name) for name in OFFICERS[party]},
        bytes([generation + 1]) * 32,
    )


@cache
def regime_of(name: str, generation: int = 0) -> Regime:
    """A regime with the fingerprints of the parties' CAs filled in."""
    files, problems = read_folder(REGIMES[name])
    assert not problems.errors
    for file, data in files.items():
        if file.startswith("agreements/"):
            text = data.decode()
            parties = tomllib.loads(text)["parties"]
            cas = {
                party: fingerprint(keys_of(party, generation=generation).ca) for party in parties
            }
            files[file] = with_cas(text, cas).encode()
    return load_regime(files)


@cache
def engine_of(regime: str, party: str, generation: int = 0) -> Engine:
    return Engine(closure(regime_of(regime, generation), party))


# Time


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next thing to do, and whose threads are none.

    What would wait for ever raises, so that a test never hangs.
    """

    def __init__(self) -> None:
        self.virtual_s = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.virtual_s

    def run_in_executor(  # type: ignore[override]  # at once, in this thread
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as e:
            future.set_exception(e)
        return future


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen again")
        self._loop.virtual_s += max(timeout, 0)
        return super().select(0)


class VirtualClock(SystemClock):
    """The clock of a node in a world: virtual time, and what the node's clock is wrong by."""

    def __init__(self, loop: VirtualLoop, *, wrong_by_s: float = 0.0) -> None:
        super().__init__(exercise=True)
        self._loop = loop
        self.wrong_by_s = wrong_by_s

    def system_now(self) -> datetime:
        return moment(START) + timedelta(seconds=self._loop.time())

    def now(self) -> datetime:
        return self.system_now() + timedelta(seconds=self.offset_s + self.wrong_by_s)

    def monotonic_ms(self) -> int:
        return int(self._loop.time() * 1000)


class SteppedWriter(Writer):
    """The writer without its thread: the loop commits what was asked for, a little later."""

    def __init__(self, place: "Place", store: Store) -> None:
        super().__init__(store, on_broken=place.broke)
        self._place = place
        self.is_resting = False  # whether all but FLASH is held back

    def _started(self) -> None:
        """There is no thread: `_ask` sees to it that a commit comes."""

    def _ask(self, jobs: Sequence[Job], precedence: int, *, is_one: bool) -> "Future[Any]":
        is_first = not self._waiting
        future = super()._ask(jobs, precedence, is_one=is_one)
        if is_first and self._waiting:
            self._place.world.loop.call_later(self._place.world.commit_s(), self._flush)
        return future

    def hold_back(self, is_held: bool) -> None:
        """It is noted only: nothing but the next asker would see to the commit of what rests."""
        self.is_resting = is_held

    def _flush(self) -> None:
        if not self._waiting:
            return
        before = self._place.store.state
        batch = [asked for asked in self._next() if asked.future.set_running_or_notify_cancel()]
        if self._waiting:
            self._place.world.loop.call_soon(self._flush)
        if batch and self._place.is_up and self._place.writer is self:
            self._commit(batch)
            self._place.world.committed(self._place, before)

    def close(self) -> None:
        self._waiting.clear()


class WorldStore(MemoryStore):
    """A store that lets the checkers see what is committed, all of it."""

    @property
    def state(self) -> State:
        return self._state

    def crashed(self) -> "WorldStore":
        after = super().crashed()
        after.__class__ = WorldStore
        assert isinstance(after, WorldStore)
        return after

    def fail_with(self, faults: Callable[[], Fault | None]) -> None:
        self._faults = faults


# The link


@dataclass
class Weather:
    """What links do to messages; all of it 0 is a calm sea."""

    request_lost: float = 0.0
    answer_lost: float = 0.0
    duplicated: float = 0.0
    delay_s_max: float = 0.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What somebody who listens at a link sees, and what was inside."""

    sender: str
    receiver: str
    path: str
    body: bytes
    hop: Hop | None


class WorldLink:
    """`relto.links.Client`, but the other node is called, in this thread, through the weather."""

    def __init__(self, world: "World", sender: str, receiver: str) -> None:
        self.world = world
        self.sender = sender
        self.receiver = receiver

    async def request(
        self, method: str, path: str, body: bytes = b"", *, timeout_s: float, query: str = ""
    ) -> Response:
        world, random_ = self.world, self.world.random
        request = world.sent(
            self, Request(method, path, query, body, world.keys_of(self.sender).tls)
        )
        weather = world.weather
        if world.loses(request.path):
            raise LinkError("connection lost")
        if random_.random() < weather.request_lost:
            await asyncio.sleep(timeout_s)
            raise LinkError("no answer in time")
        if random_.random() < weather.duplicated:
            world.spawn(self._late_copy(request, random_.uniform(0, 60)))
        work = world.spawn(self._ask(request))
        done, _ = await asyncio.wait({work}, timeout=timeout_s)
        if not done or work.cancelled():
            raise LinkError("no answer in time")
        response = work.result()
        if random_.random() < weather.answer_lost:
            raise LinkError("closed before its answer was whole")
        return response

    async def _late_copy(self, request: Request, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        with suppress(LinkError):
            await self._ask(request)

    async def _ask(self, request: Request) -> Response:
        await asyncio.sleep(self.world.delay_s())
        place = self.world.places[self.receiver]
        if not place.is_up or self.world.is_cut(self.sender, self.receiver):
            raise LinkError("connection refused")
        response = await place.work(place.peering.handle(request))
        await asyncio.sleep(self.world.delay_s())
        if self.world.is_cut(self.sender, self.receiver):
            raise LinkError("closed before its answer was whole")
        return self.world.answered(self, request, response)

    async def close(self) -> None:
        pass


# One party


@lru_cache(maxsize=8192)
def _entry(data: bytes) -> Json:
    return dict(json.loads(data))


class Place:
    """A party's node with all that is around it, and what the next process finds of it."""

    def __init__(
        self, world: "World", party: str, *, payload_bytes_max: int, quota: Quota | None = None
    ) -> None:
        self.world = world
        self.party = party
        self.store = WorldStore(faults=self._fault)
        self.clock = VirtualClock(world.loop)
        self.is_up = False
        self.deaths = 0
        self._tasks: dict[asyncio.Task[Any], None] = {}
        others = [p for p in OFFICERS if p != party]
        peers = {
            p: Peer(p, "in-memory" if world.is_linked(party, p) else "", 1, Path("ca"))
            for p in others
        }
        nowhere = Path("nowhere")
        self.config = Config(
            party, nowhere, nowhere, nowhere, "", 0, "exercise", payload_bytes_max, {}, peers, None,
            quota=quota or Quota(),
        )  # fmt: skip
        self.node: Node
        self.writer: SteppedWriter
        self.couriers: dict[str, Courier] = {}
        self.counter: Counter
        self.peering: Peering

    async def start(self, *, lanes: bool) -> None:
        """A new process on the store that is there."""
        keys = self.world.keys_of(self.party)
        cas = [self.world.keys_of(party).ca_der for party in OFFICERS]
        engine = engine_of(self.world.regime, self.party, self.world.generation)
        trust = Trust.under(engine.regime, cas, exercise=True)
        secrets_ = NodeSecrets(keys.node.signer, keys.node.certificate, keys.storage_key)
        self.writer = SteppedWriter(self, self.store)
        around = self.world.around(self)
        self.node = Node(self.config, self.store, self.writer, engine, trust, secrets_, around)
        self.is_up = True
        self.couriers = {
            p: Courier(self.node, peer, self.world.link(self.party, p))
            for p, peer in self.config.peers.items()
            if peer.is_connected
        }
        self.peering = Peering(self.node, self.couriers)
        self.counter = Counter(self.node, self.couriers)
        await self.node.renew_key()
        await self.node.contents.sweep()
        for courier in self.couriers.values():
            if lanes:
                await courier.start()

    async def restarted(self) -> None:
        """A new process, if there is none; it may die while it starts."""
        if not self.is_up:
            try:
                await self.work(self.start(lanes=self.world.lanes))
            except LinkError:
                pass  # it died
            except StoreFull:
                self.crash()  # it ended: there is no room for its key

    async def work(self, what: Coroutine[Any, Any, T]) -> T:
        """Something that this process does: it ends when the process does. Raises LinkError."""
        task = self.world.loop.create_task(what)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        await asyncio.wait({task})
        if task.cancelled() or isinstance(task.exception(), StoreBroken):
            raise LinkError("connection reset")
        return task.result()

    def broke(self, error: BaseException) -> None:
        """What ends the process in production."""
        self.crash()

    def crash(self) -> None:
        """The process is gone. The store is what the next one finds."""
        if not self.is_up:
            return
        self.is_up = False
        self.deaths += 1
        self.store = self.store.crashed()
        self.store.fail_with(self._fault)
        for courier in self.couriers.values():
            for task in courier._tasks:
                task.cancel()
        for task in self._tasks:
            task.cancel()

    def _fault(self) -> Fault | None:
        """What the next commit of this place meets, as the world plans it."""
        return self.world.plan_fault(self.party)

    # what tests look at

    def item(self, item_id: str) -> Item:
        return self.node.item(item_id)

    def items(self) -> Iterator[Item]:
        for (kind, _), row in self.store.state.documents.items():
            if kind == "item":
                yield Item.decode(row.body)

    def has(self, item_id: str) -> bool:
        return ("item", item_id) in self.store.state.documents

    def outgoing(self, item_id: str, to: str) -> Outgoing:
        """The latest way of an item from here to a party."""
        return [o for o in self.item(item_id).outgoing if o.proposal.to == to][-1]

    def outbox(self, peer: str | None = None) -> list[OutboxRow]:
        return [r for r in self.store.state.outbox.values() if peer in (None, r.peer)]

    def journal(self, event: str | None = None) -> list[Json]:
        entries = [_entry(row.entry) for row in self.store.state.journal]
        return [e for e in entries if event in (None, e["event"])]


# The whole


Alter = Callable[[Hop], Hop | None]


class World:
    """The parties, the links between them, and time. `lanes=False`: nothing goes by itself."""

    def __init__(
        self,
        regime: str = "tisa",
        *,
        seed: int = 0,
        lanes: bool = False,
        links: tuple[tuple[str, str], ...] = LINKS,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
        generation: int = 0,
        quota: Quota | None = None,
    ) -> None:
        self.regime = regime
        self.generation = generation
        self.lanes = lanes
        self.links = {frozenset(link) for link in links}
        self.random = random.Random(seed)
        self.loop = VirtualLoop()
        self.weather = Weather()
        self.slow_commit_s = 0.0
        self.cut: set[frozenset[str]] = set()
        self.alter: dict[tuple[str, str], Alter] = {}
        self.loses: Callable[[str], bool] = lambda path: False
        self.plan_fault: Callable[[str], Fault | None] = lambda party: None
        self.sights: list[Sight] = []
        self.watchers: list[Callable[[Place, State], None]] = []
        self.listeners: list[Callable[[Sight], None]] = []
        self.refusals: set[bytes] = set()
        self.faults: list[BaseException] = []
        self._spawned: set[asyncio.Task[Any]] = set()
        self.places = {
            party: Place(self, party, payload_bytes_max=payload_bytes_max, quota=quota)
            for party in OFFICERS
        }

    def __enter__(self) -> "World":
        asyncio.set_event_loop(self.loop)
        self.run(self.start_all())
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            for place in self.places.values():
                place.crash()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0)

        self.loop.run_until_complete(end())
        self.loop.close()
        asyncio.set_event_loop(None)

    def __getitem__(self, party: str) -> Place:
        return self.places[party]

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        result = self.loop.run_until_complete(what)
        self.raise_faults()
        return result

    async def start_all(self) -> None:
        for place in self.places.values():
            await place.start(lanes=self.lanes)
        if not self.lanes:
            await self.tell_keys()

    async def tell_keys(self) -> None:
        """What the lanes do by themselves: every node asks its peers for their keys."""
        for place in self.places.values():
            for courier in place.couriers.values():
                courier.calls.forget_keys()
                await courier.calls.renew_key()
        self.sights.clear()

    def spawn(self, what: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = self.loop.create_task(what)
        self._spawned.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._spawned.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, LinkError):
            self.faults.append(error)

    def keys_of(self, party: str) -> Keys:
        return keys_of(party, generation=self.generation)

    # what a world of another kind replaces

    def around(self, place: Place) -> Surroundings:
        return Surroundings(place.clock, on_broken=_end)

    def link(self, sender: str, receiver: str) -> WorldLink:
        return WorldLink(self, sender, receiver)

    def is_linked(self, one: str, other: str) -> bool:
        return frozenset((one, other)) in self.links

    def is_cut(self, one: str, other: str) -> bool:
        return frozenset((one, other)) in self.cut

    def commit_s(self) -> float:
        return self.random.uniform(0, self.slow_commit_s)

    def delay_s(self) -> float:
        return self.random.uniform(0, self.weather.delay_s_max)

    # what is seen

    def checked(self, check: Callable[..., None], *args: Any) -> None:
        """Run a checker; what it finds ends the run, wherever it was called from."""
        try:
            check(*args)
        except BaseException as e:
            self.faults.append(e)

    def raise_faults(self) -> None:
        if self.faults:
            raise self.faults[0]

    def committed(self, place: Place, before: State) -> None:
        for watcher in self.watchers:
            watcher(place, before)

    def sent(self, client: WorldLink, request: Request) -> Request:
        """A request on the wire: listened to, and altered if somebody there lies."""
        pair = (client.sender, client.receiver)
        hops: tuple[Hop, ...] = ()
        if request.path.endswith("/hop"):
            hops = self.opened(*pair, request.body)
        for hop in hops or (None,):
            sight = Sight(*pair, request.path, request.body, hop)
            self.sights.append(sight)
            for listener in self.listeners:
                listener(sight)
        alter = self.alter.get(pair)
        if alter is None or not hops:
            return request
        changed = [alter(hop) or hop for hop in hops]
        return replace(request, body=self.sealed(*pair, *changed))

    def answered(self, client: WorldLink, request: Request, response: Response) -> Response:
        if response.status == 400:
            self.refusals.add(response.body)
        self.sights.append(Sight(client.receiver, client.sender, "answer", response.body, None))
        return response

    def opened(self, sender: str, receiver: str, sealed: bytes) -> tuple[Hop, ...]:
        """What is inside a hop message; nothing if the key it was sealed to is gone."""
        place, key_id = self.places[receiver], key_id_of(sealed)
        row = place.store.state.documents.get(("hpke-key", key_id))
        if row is None:
            return ()
        key = HpkePrivateKey(place.node.unwrap(row.body, f"hpke-key/{key_id}"))
        return open_hop(sealed, sender=sender, recipient=receiver, key=key)

    def sealed(self, sender: str, receiver: str, *hops: Hop) -> bytes:
        parts = [hop.encode() for hop in hops]
        return seal_hop(parts, sender=sender, recipient=receiver, key=self.public_key(receiver))

    def public_key(self, party: str) -> HpkePublicKey:
        record = decode_record(self.places[party].node.node_key(), NodeKey)
        return HpkePublicKey(bytes.fromhex(record.key))

    # what happens

    async def post(self, sender: str, receiver: str, hop: Hop) -> int:
        """A hop message from the outside, as if `sender` had sent it; the status of the answer."""
        body = self.sealed(sender, receiver, hop)
        return await self.post_bytes(sender, receiver, body)

    async def post_bytes(
        self, sender: str, receiver: str, body: bytes, *, path: str = "/relto/v1/hop",
        query: str = "",
    ) -> int:  # fmt: skip
        request = Request("POST", path, query, body, self.keys_of(sender).tls)
        response = await self.places[receiver].peering.handle(request)
        if response.status == 400:
            self.refusals.add(response.body)
        return response.status

    async def carry(self, sender: str, receiver: str, *, rows: int = 1_000) -> int:
        """Let what one node owes another go, one row after the other; how many were tried.

        A row that is tried and stays is not tried again.
        """
        courier = self.places[sender].couriers[receiver]
        tried: set[int] = set()
        while len(tried) < rows:
            due = [r for r in self.places[sender].outbox(receiver) if r.number not in tried]
            if not due:
                break
            row = min(due, key=lambda r: (r.precedence, r.number))
            tried.add(row.number)
            await courier.node.submit(partial(_make_due, row.number))
            with suppress(PeerError):
                await courier.carry([replace(row, due_ms=0, lease_until_ms=0)])
        return len(tried)

    async def settle(self) -> None:
        """Carry everything, everywhere, until nothing but what waits for others is left."""
        for _ in range(4):
            for one in OFFICERS:
                for other in OFFICERS:
                    if self.is_linked(one, other):
                        await self.carry(one, other)

    # people

    async def ask(self, party: str, method: str, target: str, body: bytes = b"") -> Response:
        path, _, query = target.partition("?")
        who = PeerCredentials(os.getuid())
        place = self.places[party]
        if not place.is_up:
            raise LinkError("connection refused")
        return await place.work(place.counter.handle(Request(method, path, query, body, who)))

    async def asked(self, party: str, method: str, target: str, body: Json | None = None) -> Any:
        """A request that is answered. Raises Refusal with the answer of one that is not."""
        data = b"" if body is None else json.dumps(body).encode()
        response = await self.ask(party, method, target, data)
        answer = json.loads(response.body)
        if response.status != 200:
            raise Refusal(response.status, answer)
        return answer

    async def share(
        self,
        party: str,
        mark: str,
        *to: str,
        topics: tuple[str, ...] = ("missile.launch",),
        readers: tuple[str, ...] | None = None,
        precedence: str = "ROUTINE",
        body: bytes = b"what was seen",
        title: str = "A report",
        kind: str = "report",
        about: tuple[str, ...] = ("PRK",),
        sources: tuple[str, ...] = (),
    ) -> str:
        """What `relto share` does; the item's id. Raises Refusal."""
        others = [p for p in OFFICERS if p != party]
        head = {
            "label": {
                "mark": mark,
                "releasable_to": list(others if readers is None else readers),
                "kind": kind,
                "topics": list(topics),
                "about": list(about),
            },
            "header": {"title": title, "media_type": "text/plain"},
            "to": list(to),
            "precedence": precedence,
            "from": list(sources),
        }
        response = await self.ask(party, "POST", "/drafts", framed(head, body))
        answer = json.loads(response.body)
        if response.status != 200:
            raise Refusal(response.status, answer)
        return str(answer["id"])

    async def approval(self, party: str, item: str, to: str, officer: str) -> Json:
        """What `relto review approve` sends: drafted by the node, signed by the officer."""
        target = f"/reviews/{item}/{to}?officer={officer}"
        review = await self.asked(party, "GET", target)
        signer = self.keys_of(party).officers[officer]

        def signed(kind: type[Record], text: str) -> Json:
            return sign(kind.type(), base64.b64decode(text), [signer.signer]).to_json()

        body: Json = {
            "approval": signed(Approval, review["approval"]),
            "certificate": base64.b64encode(signer.certificate).decode(),
        }
        if "manifest" in review:
            body["manifest"] = signed(Manifest, review["manifest"])
        return body

    async def approve(self, party: str, item: str, to: str, *officers: str) -> None:
        """Officers release an item; as many as it needs, if none is named. Raises Refusal."""
        if not officers:
            review = await self.asked(party, "GET", f"/reviews/{item}/{to}")
            officers = OFFICERS[party][: review["officers"]]
        for officer in officers:
            body = await self.approval(party, item, to, officer)
            await self.asked(party, "POST", f"/reviews/{item}/{to}/approve", body)

    async def decline(self, party: str, item: str, to: str) -> None:
        await self.asked(party, "POST", f"/reviews/{item}/{to}/refuse")

    async def hold(self, party: str, to: str, *, on: bool) -> None:
        draft = await self.asked(party, "POST", "/holds/draft", {"to": to, "on": on})
        signer = self.keys_of(party).officers[OFFICERS[party][0]]
        envelope = sign(Hold.type(), base64.b64decode(draft["hold"]), [signer.signer])
        certificate = base64.b64encode(signer.certificate).decode()
        body = {"hold": envelope.to_json(), "certificate": certificate}
        await self.asked(party, "POST", "/holds", body)

    async def set_clocks(self, at: str) -> None:
        for place in self.places.values():
            await self.asked(place.party, "POST", "/clock", {"at": at})
        if not self.lanes:
            await self.tell_keys()

    async def restart(self, party: str) -> None:
        self.places[party].crash()
        await self.places[party].start(lanes=self.lanes)

    def is_peer(self, party: str, certificate: bytes) -> str:
        """Whom a node takes the holder of a TLS certificate for. Raises PeerError."""
        return peer_of(self.places[party].node, certificate, datetime.now(UTC))


@dataclass
class Refusal(Exception):  # what one of our own people is told
    """A request that the counter refused."""

    status: int
    answer: Json = field(default_factory=dict)

    @property
    def codes(self) -> dict[str, list[str]]:
        return {r["to"]: [e["code"] for e in r["reasons"]] for r in self.answer["refusals"]}


def _make_due(number: int, tx: Transaction) -> None:
    tx.outbox_reschedule(number, due_ms=0, attempts=0, error="")


def _end(error: BaseException) -> None:
    """A courier that finds its store broken ends the process: here, only its own lane."""
    raise asyncio.CancelledError


def in_world(
    regime: str = "tisa", **options: Any
) -> Callable[[Callable[[World], Awaitable[None]]], Callable[[], None]]:
    """Runs an async test in a world of its own, where nothing goes by itself."""

    def decorate(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
        def run() -> None:
            with World(regime, **options) as world:
                world.run(_awaited(partial(test, world)))

        run.__name__ = test.__name__
        run.__doc__ = test.__doc__
        return run

    return decorate


async def _awaited(test: Callable[[], Awaitable[None]]) -> None:
    await test()
