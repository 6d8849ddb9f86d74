"""A coalition of production nodes around simulated clocks, links, disks, keys and randomness.

`Coalition` is the whole, `Place` one party. Everything that a node does to the world is an effect
(a commit, a request, an answer); each is noted in the trace, and shown to whoever watches.
"""

import asyncio
import base64
import hashlib
import json
import os
import random
from collections import Counter as Counts
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from relto import envelope as dsse
from relto.config import Config, Peer
from relto.counter import Counter
from relto.courier import Courier
from relto.decisions import Engine
from relto.envelope import Envelope
from relto.errors import CallerError, ReltoError, StoreBroken, StoreError
from relto.framing import framed
from relto.hop import Hop
from relto.instants import instant, moment
from relto.items import Item
from relto.links import LinkError, PeerCredentials, Request, Response
from relto.node import Node, NodeSecrets
from relto.peering import Peering
from relto.records import Approval, Hold, Manifest, Record, decode_record
from relto.stores.memory import State
from relto.stores.writer import Job, Writer
from relto.system import Surroundings
from relto.trust import Trust
from sim.crypto import Crypto, keys_of
from sim.disk import Disk, DiskFaults
from sim.loop import PROCESS, Died, Process, SimLoop
from world import OFFICERS, START, Refusal

__all__ = ["HUB", "LINKS", "PARTIES", "Coalition", "Exchange", "Place", "items_of"]

PARTIES = tuple(sorted(OFFICERS))
HUB = "USA"
LINKS = (("JPN", HUB), ("KOR", HUB), (HUB, "JPN"), (HUB, "KOR"))
PAYLOAD_BYTES_MAX = 256 * 1024
BALLAST_BYTES = 64 * 1024
START_AT = moment(START)

Json = dict[str, Any]
T = TypeVar("T")


@lru_cache(maxsize=16384)
def entry_of(data: bytes) -> Json:
    return dict(json.loads(data))


@lru_cache(maxsize=4096)
def item_of(body: bytes) -> Item:
    return Item.decode(body)


def items_of(state: State) -> dict[str, Item]:
    return {k: item_of(r.body) for (kind, k), r in state.documents.items() if kind == "item"}


class SimClock:
    """A node's clock: virtual time, and what it is wrong by."""

    exercise = True

    def __init__(self, coalition: "Coalition") -> None:
        self._coalition = coalition
        self.offset_s = 0.0
        self.wrong_by_s = 0.0
        self.booted_ms = 0

    def system_now(self) -> datetime:
        c = self._coalition
        return START_AT + timedelta(seconds=c.loop.now_s + c.weeks_s)

    def now(self) -> datetime:
        return self.system_now() + timedelta(seconds=self.offset_s + self.wrong_by_s)

    def instant(self) -> str:
        return instant(self.now().replace(microsecond=0))

    def set(self, at: datetime) -> None:
        self.offset_s = (at - self.system_now()).total_seconds()

    def monotonic_ms(self) -> int:
        return self.booted_ms + int(self._coalition.loop.now_s * 1000)


class SimWriter(Writer):
    """The production writer without its thread: the loop commits, a little after it was asked."""

    def __init__(self, place: "Place", process: Process) -> None:
        super().__init__(place.disk, on_broken=place.ends)
        self._place = place
        self._process = process

    def _started(self) -> None:
        """There is no thread: `_ask` sees to it that a commit comes."""

    def _ask(self, jobs: Sequence[Job], precedence: int, *, is_one: bool) -> "Future[Any]":
        is_first = not self._waiting
        future = super()._ask(jobs, precedence, is_one=is_one)
        if is_first and self._waiting:
            coalition = self._place.coalition
            coalition.later(
                "commit", self._place.party, coalition.commit_s(), self._flush,
                context=self._process.context,
            )  # fmt: skip
        return future

    def hold_back(self, is_held: bool) -> None:
        """What rests comes with the next commit: nothing else would ask for that one."""

    def _flush(self) -> None:
        if not self._waiting:
            return
        batch = [asked for asked in self._next() if asked.future.set_running_or_notify_cancel()]
        loop = self._place.coalition.loop
        if self._waiting:
            loop.call_soon(self._flush, context=self._process.context)
        if batch:
            place, before = self._place, self._place.disk.state
            if place.effect("commit"):
                disk = place.disk
                try:
                    self._commit(batch)
                finally:
                    events = place.coalition.committed(place, disk, before)
                place.after_effect(events)

    def close(self) -> None:
        self._waiting.clear()


# The link


@dataclass(slots=True)
class Exchange:
    """One request on its way, and its answer."""

    sender: str
    receiver: str
    request: Request
    at_s: float
    parts: tuple[Hop, ...] | None = None  # of a hop message, once somebody has opened it


class SimLink:
    """`relto.links.Client`, over the simulated network."""

    def __init__(self, place: "Place", process: Process, receiver: str) -> None:
        self.place = place
        self.process = process
        self.receiver = receiver

    async def request(
        self, method: str, path: str, body: bytes = b"", *, timeout_s: float, query: str = ""
    ) -> Response:
        place = self.place
        coalition = place.coalition
        loop = coalition.loop
        request = Request(method, path, query, body, keys_of(place.party).tls)
        answer: asyncio.Future[Response] = loop.create_future()
        if not place.effect("send"):
            await answer  # never: it is dead
        exchange = Exchange(place.party, self.receiver, request, loop.now_s)
        coalition.leaves(exchange)
        coalition.transmit(exchange, answer)
        place.after_effect()
        timer = loop.call_later(timeout_s, fail, answer, "no answer in time")
        self.process.asking += 1
        try:
            return await answer
        finally:
            self.process.asking -= 1
            timer.cancel()

    async def close(self) -> None:
        pass


def fail(answer: "asyncio.Future[Response]", words: str) -> None:
    if not answer.done():
        answer.set_exception(LinkError(words))


# One party


class Place:
    """A party's node with all that is around it, through all its processes."""

    def __init__(self, coalition: "Coalition", party: str, engine: Engine) -> None:
        self.coalition = coalition
        self.party = party
        self.engine = engine
        self.random = random.Random(f"{coalition.seed}/{party}")
        self.faults = DiskFaults(struck=lambda kind: coalition.struck(kind, party))
        self.disk = Disk(self.faults, bytes_max=None, ballast_bytes=BALLAST_BYTES)
        self.clock = SimClock(coalition)
        self.process: Process | None = None
        self.lives = 0
        self.effects = 0
        self.dies_at = 0  # the number of the effect that a death strikes
        self.dies_before = False
        self.pauses_at = 0
        self.pauses_when = ""  # an event: after the next commit that has it in the journal
        self.pause_s = 0.0
        keys = keys_of(party)
        crypto = coalition.crypto
        self.trust = Trust.under(
            engine.regime,
            [keys_of(p).ca for p in PARTIES],
            exercise=True,
            verifies=crypto.verifies,
        )
        self.secrets = NodeSecrets(
            crypto.signer(keys.node), keys.node.certificate, keys.storage_key
        )
        self.config = _config(party)
        self.node: Node
        self.couriers: dict[str, Courier] = {}
        self.counter: Counter
        self.peering: Peering

    @property
    def is_up(self) -> bool:
        return self.process is not None

    @property
    def is_serving(self) -> bool:
        return self.process is not None and self.process.is_serving

    async def start(self) -> None:
        """What a new process does, as `relto.serving` has it."""
        process = PROCESS.get()
        assert process is not None
        around = Surroundings(self.clock, self._random_bytes, self.coalition.suite, self.ends)
        writer = SimWriter(self, process)
        node = Node(self.config, self.disk, writer, self.engine, self.trust, self.secrets, around)
        await node.renew_key()
        await node.contents.sweep()
        couriers = {
            peer.party: Courier(node, peer, SimLink(self, process, peer.party))
            for peer in self.config.peers.values()
            if peer.is_connected
        }
        self.node, self.couriers = node, couriers
        self.peering = Peering(node, couriers)
        self.counter = Counter(node, couriers)
        for courier in couriers.values():
            await courier.start()
        process.is_serving = True

    def begin(self) -> "asyncio.Task[None]":
        """Start a process, if there is none. The task may end with an error, or never."""
        self.lives += 1
        self.clock.booted_ms = self.random.randrange(10**7)  # another boot: it starts anew
        self.process = Process(self.party)
        self.coalition.note("start", self.party, f"life {self.lives}")
        task = self.coalition.loop.in_process(self.process, self.start())
        task.add_done_callback(self._started, context=self.coalition.loop.nowhere)
        return task

    def _started(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and self.process is not None and not isinstance(error, Died):
            if not isinstance(error, StoreError):
                self.coalition.failed(error)
            self.kill(f"did not start: {error}")

    def _random_bytes(self, what: str, size_bytes: int) -> bytes:
        return self.coalition.random_bytes(self, what, size_bytes)

    def ends(self, error: BaseException) -> None:
        """What ends the process in production."""
        if not isinstance(error, StoreBroken):
            self.coalition.failed(error)
        self.kill("store broken")
        raise Died

    def kill(self, why: str) -> None:
        """The process is gone at once, and what it had not synced may be."""
        process = self.process
        if process is None:
            return
        self.coalition.note("kill", self.party, why)
        process.is_alive = False
        self.process = None
        self.disk = self.disk.after_crash(self.random)
        self.dies_at = self.pauses_at = 0
        self.pauses_when = ""
        for future in process.waiting:
            fail(future, "connection reset")

    def pause(self, for_s: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        process = self.process
        if process is None or process.is_paused:
            return
        process.is_paused = True
        loop = self.coalition.loop
        self.coalition.note("pause", self.party, f"for {for_s:.3f} s")
        loop.call_later(for_s, self._resume, process, context=loop.nowhere)

    def _resume(self, process: Process) -> None:
        if process.is_alive:
            self.coalition.note("resume", self.party, "")
            self.coalition.loop.resume(process)

    def effect(self, kind: str) -> bool:
        """An effect is about to happen; whether it does, or the process dies first."""
        self.effects += 1
        if self.effects == self.dies_at and self.dies_before:
            self.coalition.struck(f"killed before {kind}", self.party)
            self.kill(f"before {kind} {self.effects}")
            return False
        return True

    def after_effect(self, events: frozenset[str] = frozenset()) -> None:
        if self.process is None:
            return
        if self.pauses_when in events and "release" not in events:  # it leaves for its own sake
            self.pauses_when = ""
            self.coalition.struck("paused under a lease", self.party)
            self.pause(self.pause_s)
        if self.effects == self.dies_at and not self.dies_before:
            self.coalition.struck("killed after an effect", self.party)
            self.kill(f"after effect {self.effects}")
        elif self.effects == self.pauses_at:
            self.coalition.struck("paused", self.party)
            self.pause(self.pause_s)

    def ask(self, coro_of: Callable[[], Coroutine[Any, Any, T]]) -> "asyncio.Future[T]":
        """Something that the process does for somebody else. LinkError when it dies or is down."""
        loop = self.coalition.loop
        answer: asyncio.Future[T] = loop.create_future()
        process = self.process
        if process is None or not process.is_serving:
            answer.set_exception(LinkError("connection refused"))
            return answer
        process.waiting[answer] = None
        task = loop.in_process(process, coro_of())

        def done(task: "asyncio.Task[T]") -> None:
            process.waiting.pop(answer, None)
            if answer.done():
                return
            error = task.exception()
            if isinstance(error, Died):
                answer.set_exception(LinkError("connection reset"))
                return
            if error is None:
                answer.set_result(task.result())
                return
            if isinstance(error, StoreBroken):
                self.kill("store broken")
            else:
                self.coalition.failed(error)
            answer.set_exception(LinkError("connection reset"))

        task.add_done_callback(done, context=loop.nowhere)
        return answer

    # what tests look at

    def items(self) -> dict[str, Item]:
        return items_of(self.disk.state)

    def entries(self, after: int = 0) -> list[Json]:
        return [entry_of(row.entry) for row in self.disk.state.journal[after:]]

    def waiting_reviews(self) -> list[tuple[str, str]]:
        rows = self.disk.state.documents.items()
        keys = [k for (kind, k), r in rows if kind == "review" and r.state == "waiting"]
        return [(i, to) for i, _, to in (k.partition(":") for k in sorted(keys))]


@lru_cache(maxsize=8)
def _config(party: str) -> Config:
    nowhere = Path("nowhere")
    peers = {
        p: Peer(p, "in-memory" if HUB in (p, party) else "", 1, Path("ca"))
        for p in PARTIES
        if p != party
    }
    return Config(
        party, nowhere, nowhere, nowhere, "", 0, "exercise", PAYLOAD_BYTES_MAX, {}, peers, None
    )


# The whole


@dataclass
class Weather:
    """What the network does to what goes from one party to another; all of it 0 is calm."""

    lost: float = 0.0
    answer_lost: float = 0.0
    doubled: float = 0.0
    delay_s_max: float = 0.02


@dataclass
class Watch:
    """Who looks at every effect: also at answers once they are given to who asked, and at what
    the decision denies a node's own people (with the length of its journal before they asked)."""

    on_commit: list[Callable[[Place, State], None]] = field(default_factory=list)
    on_leave: list[Callable[[Exchange], None]] = field(default_factory=list)
    on_answer: list[Callable[[Exchange, Response], None]] = field(default_factory=list)
    on_given: list[Callable[[Exchange, Response], None]] = field(default_factory=list)
    on_denied: list[Callable[[Place, int, Json], None]] = field(default_factory=list)


class Coalition:
    """The parties, the network between them, time, and the trace of all that happens."""

    def __init__(self, seed: int, engines: dict[str, Engine], crypto: Crypto) -> None:
        self.seed = seed
        self.crypto = crypto
        self.suite = crypto.suite()
        self.random = random.Random(f"{seed}/network")
        self.loop = SimLoop()
        self.weeks_s = 0.0  # by which all calendars have gone on
        self.commit_s_max = 0.004
        self.weather: dict[tuple[str, str], Weather] = {link: Weather() for link in LINKS}
        self.cut: dict[tuple[str, str], None] = {}
        self.alter: dict[tuple[str, str], Callable[[Exchange], list[bytes] | None]] = {}
        self.alter_answer: dict[tuple[str, str], Callable[[Exchange, Response], Response]] = {}
        self.watch = Watch()
        self.counts: Counts[str] = Counts()
        self.trace: list[str] = []
        self.errors: list[BaseException] = []
        self._delivered_at: dict[tuple[str, str], float] = {}
        self.places = {party: Place(self, party, engines[party]) for party in PARTIES}

    def __getitem__(self, party: str) -> Place:
        return self.places[party]

    # the trace

    def note(self, what: str, who: str, words: str) -> None:
        self.trace.append(f"{self.loop.now_s:10.3f} {who} {what} {words}")

    def struck(self, kind: str, who: str = "") -> None:
        """A fault has struck."""
        self.counts[kind] += 1
        self.note("fault", who or "-", kind)

    def failed(self, error: BaseException) -> None:
        self.errors.append(error)

    def raise_errors(self) -> None:
        if self.errors:
            raise self.errors[0]

    @property
    def trace_hash(self) -> str:
        digest = hashlib.sha256()
        for line in self.trace:
            digest.update(line.encode() + b"\n")
        for place in self.places.values():
            links = place.disk.state.journal
            digest.update(links[-1].link if links else b"-")
        return digest.hexdigest()

    # effects

    def later(
        self,
        kind: str,
        party: str,
        wait_s: float,
        callback: Callable[..., None],
        *args: Any,
        context: Context,
    ) -> None:
        """A commit, the arrival of a request or that of an answer at a party is to come."""
        self.loop.call_later(wait_s, callback, *args, context=context)

    def random_bytes(self, place: Place, what: str, size_bytes: int) -> bytes:
        """What a node asks of chance."""
        return place.random.randbytes(size_bytes)

    def commit_s(self) -> float:
        return self.random.random() * self.commit_s_max

    def committed(self, place: Place, disk: Disk, before: State) -> frozenset[str]:
        """A commit is done, or has failed: then it is there for the next process, or it is not.

        What it has in the journal, by name.
        """
        if place.disk is not disk:  # the process has died of it
            disk = place.disk
        new = disk.state.journal[len(before.journal) :]
        entries = [entry_of(row.entry) for row in new]
        self.note("commit", place.party, ", ".join(map(_words, entries)))
        for watcher in self.watch.on_commit:
            self._checked(watcher, place, before)
        return frozenset(entry["event"] for entry in entries)

    def _checked(self, check: Callable[..., None], *args: Any) -> None:
        try:
            check(*args)
        except Exception as e:  # found anywhere, it ends the run at its next look
            self.errors.append(e)

    def leaves(self, exchange: Exchange) -> None:
        """Bytes leave a node."""
        request = exchange.request
        digest = hashlib.sha256(request.body).hexdigest()[:12] if request.body else "-"
        self.note(
            "send", exchange.sender,
            f"to {exchange.receiver} {request.path[:40]} {len(request.body)} bytes {digest}",
        )  # fmt: skip
        for watcher in self.watch.on_leave:
            self._checked(watcher, exchange)

    def transmit(self, exchange: Exchange, answer: "asyncio.Future[Response]") -> None:
        """Carry a request through the weather, and its answer back."""
        pair = (exchange.sender, exchange.receiver)
        weather, random_ = self.weather[pair], self.random
        bodies = [exchange.request.body]
        alter = self.alter.get(pair)
        if alter is not None:
            bodies = alter(exchange) or bodies
        if weather.lost and random_.random() < weather.lost:
            self.struck("request lost", exchange.sender)
            return
        delay_s = random_.random() * weather.delay_s_max
        if delay_s > 5:
            self.struck("delayed beyond the lease", exchange.sender)
        for number, body in enumerate(bodies):
            to = answer if number == len(bodies) - 1 else None
            self._deliver_later(exchange, body, to, delay_s)
        if weather.doubled and random_.random() < weather.doubled:
            self.struck("doubled", exchange.sender)
            late_s = random_.random() * random_.choice((0.1, 10, 60))
            self._deliver_later(exchange, bodies[-1], None, delay_s + late_s)

    def whisper(self, sender: str, receiver: str, body: bytes) -> None:
        """A hop message that no node sent, from whoever has its sender's keys."""
        request = Request("POST", "/relto/v1/hop", "", body, keys_of(sender).tls)
        exchange = Exchange(sender, receiver, request, self.loop.now_s)
        self._deliver_later(exchange, body, None, 0.01)

    def _deliver_later(
        self, exchange: Exchange, body: bytes, answer: "asyncio.Future[Response] | None",
        delay_s: float,
    ) -> None:  # fmt: skip
        self.later(
            "arrival", exchange.receiver, delay_s, self._deliver, exchange, body, answer,
            context=self.loop.nowhere,
        )  # fmt: skip

    def _deliver(
        self, exchange: Exchange, body: bytes, answer: "asyncio.Future[Response] | None"
    ) -> None:
        pair = (exchange.sender, exchange.receiver)
        place = self.places[exchange.receiver]
        if pair in self.cut:
            self.struck("cut", exchange.sender)
            if answer is not None and self.random.random() < 0.5:  # else: no word at all
                self._cut_off(exchange, answer, "connection refused")
            return
        if exchange.at_s < self._delivered_at.get(pair, 0.0):
            self.struck("reordered", exchange.sender)
        self._delivered_at[pair] = max(exchange.at_s, self._delivered_at.get(pair, 0.0))
        if not place.is_up or not place.effect("receive"):
            if answer is not None:
                self._cut_off(exchange, answer, "connection refused")
            return
        request, told = exchange.request, exchange
        if body is not request.body:
            request = Request(request.method, request.path, request.query, body, request.peer)
            told = replace(exchange, request=request, parts=None)
        handled = place.ask(lambda: place.peering.handle(request))
        place.after_effect()

        def done(handled: "asyncio.Future[Response]") -> None:
            error = handled.exception()
            if error is not None:
                if answer is not None:
                    self._cut_off(exchange, answer, str(error))
                return
            self._answer(exchange, told, handled.result(), answer)

        handled.add_done_callback(done, context=self.loop.nowhere)

    def _cut_off(self, exchange: Exchange, answer: "asyncio.Future[Response]", words: str) -> None:
        """Whoever asked hears that its connection is gone."""
        self.later("answer", exchange.sender, 0.0, fail, answer, words, context=self.loop.nowhere)

    def _answer(
        self, exchange: Exchange, told: Exchange, response: Response,
        answer: "asyncio.Future[Response] | None",
    ) -> None:  # fmt: skip
        """`told` is what was asked, which a liar may have changed."""
        place = self.places[exchange.receiver]
        if not place.is_up or not place.effect("answer"):
            if answer is not None:
                self._cut_off(exchange, answer, "connection reset")
            return
        self.note("answer", exchange.receiver, f"to {exchange.sender} {response.status}")
        self.counts[f"answered {response.status}"] += 1
        for watcher in self.watch.on_answer:
            self._checked(watcher, told, response)
        place.after_effect()
        back = (exchange.receiver, exchange.sender)
        alter = self.alter_answer.get(back)
        if alter is not None:
            response = alter(exchange, response)
        weather, random_ = self.weather[back], self.random
        if answer is None:
            return
        if back in self.cut or (weather.answer_lost and random_.random() < weather.answer_lost):
            self.struck("answer lost", exchange.receiver)
            return
        delay_s = random_.random() * weather.delay_s_max
        self.later(
            "answer", exchange.sender, delay_s, self._given, exchange, response, answer,
            context=self.loop.nowhere,
        )  # fmt: skip

    def _given(
        self, exchange: Exchange, response: Response, answer: "asyncio.Future[Response]"
    ) -> None:
        """The answer is with who asked, if that has not given up."""
        if answer.done():
            return
        for watcher in self.watch.on_given:
            self._checked(watcher, exchange, response)
        answer.set_result(response)

    # people

    async def asked(self, party: str, method: str, target: str, body: bytes = b"") -> Any:
        """What the counter of a node answers. Raises Refusal or LinkError."""
        path, _, query = target.partition("?")
        place = self.places[party]
        request = Request(method, path, query, body, PeerCredentials(os.getuid()))
        before = len(place.disk.state.journal)
        response = await place.ask(lambda: place.counter.handle(request))
        answer = json.loads(response.body)
        if "refusals" in answer:
            for watcher in self.watch.on_denied:
                self._checked(watcher, place, before, answer)
        if response.status != 200:
            raise Refusal(response.status, answer)
        return answer

    async def share(self, party: str, label: Json, to: Sequence[str], **more: Any) -> str:
        """What `relto share` does; the item's id. `more`: precedence, body, sources."""
        head = {
            "label": label,
            "header": {"title": "A report", "media_type": "text/plain"},
            "to": list(to),
            "precedence": more.get("precedence", "ROUTINE"),
            "from": list(more.get("sources", ())),
        }
        answer = await self.asked(party, "POST", "/drafts", framed(head, more.get("body", b"seen")))
        return str(answer["id"])

    async def approval(self, party: str, item: str, to: str, officer: str) -> Json:
        """What `relto review approve` sends: drafted by the node, signed by the officer."""
        review = await self.asked(party, "GET", f"/reviews/{item}/{to}?officer={officer}")
        person = keys_of(party).officers[officer]
        body: Json = {
            "approval": self._signed(person, Approval, review["approval"]),
            "certificate": base64.b64encode(person.certificate).decode(),
        }
        if "manifest" in review:
            body["manifest"] = self._signed(person, Manifest, review["manifest"])
        return body

    def _signed(self, person: Any, kind: type[Record], text: str) -> Json:
        signer = self.crypto.signer(person)
        return dsse.sign(kind.type(), base64.b64decode(text), [signer]).to_json()

    def altered(self, party: str, officer: str, body: Json, random_: random.Random) -> Json:
        """An approval that its officer signed for another way than the one that waits."""
        approval = decode_record(Envelope.from_json(body["approval"]), Approval)
        other = random_.choice(
            (
                replace(approval, path=(*approval.path[:-1], "AUS")),
                replace(approval, legs=tuple(replace(leg, mark="USA:TS") for leg in approval.legs)),
                replace(approval, at="2015-01-04T23:59:59Z"),
                replace(approval, basis=dict.fromkeys(approval.basis, "carried/9")),
                replace(approval, party=random_.choice([p for p in PARTIES if p != party])),
            )
        )
        signed = self.crypto.sign(keys_of(party).officers[officer], other)
        return {**body, "approval": signed.to_json()}

    async def approve(self, party: str, item: str, to: str, body: Json) -> None:
        data = json.dumps(body).encode()
        await self.asked(party, "POST", f"/reviews/{item}/{to}/approve", data)

    async def decline(self, party: str, item: str, to: str) -> None:
        await self.asked(party, "POST", f"/reviews/{item}/{to}/refuse")

    async def hold(self, party: str, to: str, *, on: bool) -> None:
        ask = json.dumps({"to": to, "on": on}).encode()
        draft = await self.asked(party, "POST", "/holds/draft", ask)
        person = keys_of(party).officers[OFFICERS[party][0]]
        body = {
            "hold": self._signed(person, Hold, draft["hold"]),
            "certificate": base64.b64encode(person.certificate).decode(),
        }
        await self.asked(party, "POST", "/holds", json.dumps(body).encode())

    async def housekeeping(self, party: str) -> None:
        """What a node does on its timers: keys, and the reserve of disk space."""
        place = self.places[party]
        with suppress(LinkError):
            await place.ask(lambda: _quietly(place.node.renew_key))
            await place.ask(lambda: _quietly(place.node.find_room))

    def close(self) -> None:
        self.loop.close()


async def _quietly(action: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with suppress(CallerError):
        try:
            await action()
        except StoreBroken:
            raise
        except ReltoError:
            pass


def _words(entry: Json) -> str:
    more = [
        f"{key}={str(entry[key])[:12]}"
        for key in ("item", "to", "release", "party", "sender")
        if key in entry
    ]
    codes = [",".join(entry["codes"])] if entry.get("codes") else []
    return " ".join([str(entry["event"]), *more, *codes])
