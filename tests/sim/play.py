"""One schedule: people who share and review, a time in which anything may fail, and a time in which
a core of the coalition is healed and must come to rest. All of it is drawn from one seed.
"""

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

from relto import canonical
from relto.envelope import Envelope
from relto.items import Item, Outgoing
from relto.links import LinkError
from relto.records import PRECEDENCES, Receipt, Refusal, Release, decode_record
from relto.stores.memory import Fault
from sim.coalition import HUB, LINKS, PARTIES, Coalition, Place, Weather
from sim.crypto import CHEAP, Crypto, Events, engine_of, remembered
from sim.lies import ADDED, LIES, Liar
from sim.rules import CONTENT, Rules, check_end
from world import OFFICERS
from world import Refusal as Refused

__all__ = ["FAULTS", "Play", "play"]

STORM_S = 30.0
SHARING_S = 12.0
FAULTS_A_SCHEDULE = (0, 1, 1, 2, 2, 3)
REST_S_MAX = 4_500.0  # how long a healed core may take: peers' keys are asked for every hour
log = logging.getLogger("relto")
SPOKES = ("JPN", "KOR")

Json = dict[str, Any]


@dataclass(frozen=True)
class Sort:
    """A kind of item that people share. `big`: its content follows in ranges."""

    maker: str
    mark: str
    topic: str
    to: tuple[str, ...]
    readers: tuple[str, ...] = ()
    kind: str = "report"
    about: str = "PRK"


PASSING = {
    "tisa": (
        Sort("KOR", "KOR:III", "missile.launch", ("JPN",)),
        Sort("KOR", "KOR:II", "missile.launch", ("JPN", "USA")),
        Sort("KOR", "KOR:III", "missile.launch", ("USA", "JPN")),
        Sort("JPN", "JPN:HI", "nuclear.test", ("KOR",)),
        Sort("USA", "USA:C", "missile", ("KOR", "JPN")),
        Sort("KOR", "KOR:III", "cyber", ("USA",)),
    ),
    "carried": (
        Sort("KOR", "KOR:II", "reviewed", ("JPN",)),
        Sort("JPN", "JPN:HI", "reviewed", ("KOR",)),
        Sort("KOR", "KOR:III", "blind", ("JPN",)),
        Sort("JPN", "JPN:HI", "automatic", ("KOR",)),
        Sort("KOR", "KOR:III", "automatic", ("JPN",)),
        Sort("JPN", "JPN:HI", "passed", ("KOR",)),
        Sort("KOR", "KOR:III", "passed", ("JPN",)),
        Sort("USA", "USA:S", "paired", ("KOR", "JPN")),
    ),
}
DENIED = {
    "tisa": (
        Sort("KOR", "KOR:III", "cyber", ("JPN",)),  # outside-topic
        Sort("KOR", "KOR:I", "missile.launch", ("JPN",)),  # mark-not-covered, no-equivalent-mark
        Sort("KOR", "KOR:III", "missile.launch", ("JPN",), readers=("USA",)),  # not-releasable
        Sort("KOR", "KOR:III", "missile.launch", ("KOR",)),  # already-holds
        Sort("JPN", "JPN:HI", "nuclear.test", ("KOR",), kind="capability"),  # outside-kind
    ),
    "carried": (
        Sort("KOR", "KOR:II", "automatic", ("JPN",)),  # mark-not-covered
        Sort("JPN", "JPN:HI", "paired", ("KOR",)),  # outside-topic
        Sort("JPN", "JPN:HI", "passed", ("KOR",), readers=("USA",)),
    ),
}
TOP = {"tisa": "tisa-2014", "carried": "carried"}
PILLAR = {"tisa": "gsomia-jpn-usa-2007", "carried": "pair-jpn-usa"}


def _timelines(regime: str) -> tuple[Events, ...]:
    """What may happen to the agreements meanwhile."""
    top, pillar = TOP[regime], PILLAR[regime]
    return (
        ((top, 6, "suspended"), (top, 60, "resumed")),
        ((pillar, 4, "suspended"), (pillar, 45, "resumed")),
        ((top, 8, "terminated"),),
    )


@dataclass
class Play:
    """A schedule as it is drawn, and as it goes."""

    seed: int
    crypto: Crypto = CHEAP
    events: Events = ()
    other_text: str = ""
    left_behind: str = ""
    storm: bool = True
    made: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random_ = random.Random(f"{self.seed}/play")
        self.regime = random_.choice(("tisa", "carried", "carried"))
        if random_.random() < 0.15:
            self.events = random_.choice(_timelines(self.regime))
        if random_.random() < 0.03:
            self.other_text = TOP[self.regime]
        odd = random_.choice(SPOKES) if self.other_text else ""
        engines = {
            party: engine_of(
                self.regime, party, self.events, self.other_text if party == odd else ""
            )
            for party in PARTIES
        }
        items = random_.choices((1, 2, 3, 4), (90, 8, 1, 1))[0]
        self.sorts = [self._sort() for _ in range(items)]
        self.planned = [
            random_.choices(list(FAULTS), [f.weight for f in FAULTS.values()])[0]
            for _ in range(random_.choice(FAULTS_A_SCHEDULE))
        ]
        if self.events and "cut" not in self.planned:
            self.planned.append("cut")  # so that something waits while the regime changes
        if random_.random() < 0.06:
            self.left_behind = random_.choice(SPOKES)
        self.coalition = Coalition(self.seed, engines, self.crypto)
        self.rules = Rules(self.coalition)
        self.rules.watch()

    def _sort(self) -> "Sort":
        denied = self.random.random() < 0.06
        return self.random.choice((DENIED if denied else PASSING)[self.regime])

    # the whole

    def run(self) -> None:
        coalition = self.coalition
        if self.events or self.other_text:
            words = " ".join(f"{a} {event} at {at} s" for a, at, event in self.events)
            coalition.note("regime", "-", f"{self.regime} {words} {self.other_text}")
        coalition.note("plan", "-", f"{len(self.sorts)} items, faults: {', '.join(self.planned)}")
        listener = _Errors(coalition)
        level = log.level
        log.setLevel(logging.ERROR)  # what is only a warning is not even put into words
        log.addHandler(listener)
        try:
            coalition.loop.run(self._run())
            coalition.raise_errors()
            check_end(self.rules)
        finally:
            log.removeHandler(listener)
            log.setLevel(level)
            self.count()
            coalition.close()

    async def _run(self) -> None:
        coalition = self.coalition
        for place in coalition.places.values():
            place.begin()
        tasks = [self._spawn(self.analyst(number)) for number in range(len(self.sorts))]
        for party in PARTIES:
            self._spawn(self.officers(party))
        self._spawn(self.supervisor())
        faults = [self._spawn(FAULTS[kind].strike(self)) for kind in self.planned]
        while coalition.loop.now_s < STORM_S:
            await asyncio.sleep(1)
            coalition.raise_errors()
            if all(task.done() for task in (*tasks, *faults)) and coalition.loop.now_s > 2:
                break
        await self.heal()
        await asyncio.wait(tasks)
        began_s = coalition.loop.now_s
        wait_s = 0.5
        while open_ := self.what_is_open():
            assert coalition.loop.now_s - began_s < REST_S_MAX, f"no rest: {open_[:3]}"
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 1.3, 10)
            coalition.raise_errors()
        coalition.note("rest", "-", f"{coalition.loop.now_s - began_s:.1f} s after the storm")

    def _spawn(self, what: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = self.coalition.loop.create_task(
            what, context=self.coalition.loop.nowhere.copy()
        )
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, LinkError):
            self.coalition.failed(error)

    async def heal(self) -> None:
        """From now on nothing fails, but for a spoke that may be left behind."""
        coalition = self.coalition
        self.storm = False
        coalition.note("heal", "-", f"without {self.left_behind}" if self.left_behind else "")
        for link in LINKS:
            coalition.weather[link] = Weather()
        for rules in (coalition.cut, coalition.alter, coalition.alter_answer):
            rules.clear()
        coalition.commit_s_max = 0.004
        for place in coalition.places.values():
            place.faults.commit = place.faults.blob = _no_fault
            place.disk.resize(None)
            place.clock.wrong_by_s = 0.0
            place.dies_at = place.pauses_at = 0
            place.pauses_when = ""
        if self.left_behind:
            coalition[self.left_behind].kill("left behind")
        for party in PARTIES:
            for key in _holds(coalition[party]):
                self._spawn(self.lift(party, key))

    def what_is_open(self) -> list[str]:
        """What is not yet at rest, and does not have to wait for who was left behind, for what is
        not in force, or for a clock that ran ahead."""
        found = []
        for party, place in self.coalition.places.items():
            if party == self.left_behind:
                continue
            if not place.is_up:
                found.append(f"{party} is down")
                continue
            state = place.disk.state
            for item_id, to in place.waiting_reviews():
                found.append(f"{party} reviews {item_id[:8]} to {to}")
            if not state.outbox and not any(k == "receiving" for k, _ in state.documents):
                continue
            items = place.items()
            for item in items.values():
                for outgoing in item.outgoing:
                    if outgoing.is_open and not self._may_wait(party, item, outgoing):
                        found.append(f"{item.id[:8]} at {party}: {outgoing.state}")
            for row in state.outbox.values():
                if b'"result"' in row.body and not self._result_may_wait(row.peer, row.body):
                    found.append(f"{party} owes {row.peer} a result: {row.error}")
        return found

    def _may_wait(self, party: str, item: Item, outgoing: Outgoing) -> bool:
        path = outgoing.proposal.path
        if self.left_behind in path:
            return True
        place = self.coalition[party]
        if outgoing.state == "blocked":
            return outgoing.codes != ("on-hold",) and outgoing.outbox is not None
        release = outgoing.release
        now = place.clock.instant()
        if (release is not None and _made_at(release) > now) or item.manifest.at > now:
            return True
        after = self.coalition[path[1]].items().get(item.id)
        if after is None or outgoing.state not in ("sent", "with-hub"):
            return False
        return any(
            o.is_open and o.answers is not None and self._may_wait(path[1], after, o)
            for o in after.outgoing
        ) or any(_made_at(r) > now for i in after.incoming for r in (i.result, *i.later) if r)

    def _result_may_wait(self, peer: str, body: bytes) -> bool:
        if peer == self.left_behind:
            return True
        value: Any = canonical.decode(body, size_bytes_max=2**22)
        made_at = _made_at(Envelope.from_json(value["result"]))
        return made_at > self.coalition[peer].clock.instant()

    def count(self) -> None:
        """What was seen of decisions and recoveries, for the *sometimes* of a campaign."""
        counts = self.coalition.counts
        for place in self.coalition.places.values():
            counts["restarted"] += place.lives - 1
            for entry in place.entries():
                counts[f"event {entry['event']}"] += 1
                for code in entry.get("codes", ()):
                    counts[f"{entry['event']}: {code}"] += 1

    # people

    async def analyst(self, number: int) -> None:
        random_ = self.random
        await asyncio.sleep(random_.uniform(0.05, SHARING_S))
        sort = self.sorts[number]
        body = CONTENT + bytes([number, self.seed % 251])
        if random_.random() < (0.9 if "blob fails" in self.planned else 0.08):
            body += random_.randbytes(66_000)  # in ranges
        label = {
            "mark": sort.mark,
            "releasable_to": list(sort.readers or [p for p in PARTIES if p != sort.maker]),
            "kind": sort.kind,
            "topics": [sort.topic],
            "about": [sort.about],
        }
        precedence = random_.choice(PRECEDENCES)
        for _ in range(3):
            try:
                item = await self.coalition.share(
                    sort.maker, label, sort.to, precedence=precedence, body=body
                )
                self.made.append(item)
                break
            except Refused:
                break
            except LinkError:
                await asyncio.sleep(random_.uniform(0.5, 5))
        if random_.random() < 0.1:
            await self.pass_on(label)

    async def pass_on(self, label: Json) -> None:
        """Somebody at a node offers on what it has, or builds an item of its own on it."""
        random_ = self.random
        await asyncio.sleep(random_.uniform(1, 10))
        party = random_.choice(PARTIES)
        held = [i for i in self.coalition[party].items().values() if i.key is not None]
        if not held:
            return
        item = random_.choice(held)
        to = random_.choice([p for p in PARTIES if p != party])
        with suppress(Refused, LinkError):
            if item.made_here or random_.random() < 0.5:
                body = json.dumps({"to": to, "precedence": "ROUTINE"}).encode()
                await self.coalition.asked(party, "POST", f"/items/{item.id}/offer", body)
            else:
                mark = {"JPN": "JPN:GOKUHI", "KOR": "KOR:II", "USA": "USA:S"}[party]
                own = {**label, "mark": mark, "releasable_to": [to], "kind": "assessment"}
                own["topics"] = list(item.manifest.label["topics"])
                await self.coalition.share(
                    party, own, [to], body=CONTENT + b"!", sources=(item.id,)
                )

    async def officers(self, party: str) -> None:
        """Two officers who look now and then; one may refuse, sign twice, or sign too early."""
        random_, coalition = self.random, self.coalition
        place = coalition[party]
        tries: dict[tuple[str, str], int] = {}
        stale: list[tuple[str, str, Json]] = []
        while True:
            await asyncio.sleep(random_.uniform(0.5, 4))
            if not place.is_up:
                continue
            for item, to in place.waiting_reviews():
                tries[item, to] = tries.get((item, to), 0) + 1
                with suppress(Refused, LinkError):
                    if random_.random() < 0.04 or tries[item, to] > 25:
                        await coalition.decline(party, item, to)
                        continue
                    officer = random_.choice(OFFICERS[party])
                    body = await coalition.approval(party, item, to, officer)
                    if random_.random() < 0.05:
                        stale.append((item, to, body))
                    if random_.random() < 0.12:
                        other = coalition.altered(party, officer, body, random_)
                        with suppress(Refused):
                            await coalition.approve(party, item, to, other)
                    if random_.random() < 0.1:
                        await asyncio.sleep(random_.uniform(0, 20))
                    await coalition.approve(party, item, to, body)
            if stale and random_.random() < 0.2:
                with suppress(Refused, LinkError):
                    await coalition.approve(party, *stale.pop())

    async def lift(self, party: str, to: str) -> None:
        while to in _holds(self.coalition[party]):
            with suppress(Refused, LinkError):
                await self.coalition.hold(party, to, on=False)
            await asyncio.sleep(3)

    async def supervisor(self) -> None:
        """What restarts a process that has ended, and a node's own timers."""
        loop = self.coalition.loop
        housekeeping_s = 20.0
        while True:
            await asyncio.sleep(self.random.uniform(0.2, 5) if self.storm else 0.5)
            for party, place in self.coalition.places.items():
                if not place.is_up and (self.storm or party != self.left_behind):
                    place.begin()
            if loop.now_s >= housekeeping_s:
                housekeeping_s = loop.now_s + 30
                for party, place in self.coalition.places.items():
                    if place.is_up:
                        await self.coalition.housekeeping(party)


class _Errors(logging.Handler):
    """What a lane logs as an error is a fault of its own, which a run must not have."""

    def __init__(self, coalition: Coalition) -> None:
        super().__init__(logging.ERROR)
        self.coalition = coalition

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "relto.courier":  # others tell people of a disk that is full
            self.coalition.failed(AssertionError(f"logged: {record.getMessage()}"))


def _no_fault() -> Fault | None:
    return None


def _holds(place: Place) -> list[str]:
    rows = place.disk.state.documents.items()
    return [key for (kind, key), row in rows if kind == "hold" and row.state == "on"]


def _made_at(envelope: Any) -> str:
    kinds: dict[str, Any] = {Receipt.type(): Receipt, Refusal.type(): Refusal}
    kind = kinds.get(envelope.payload_type)
    if kind is not None:
        return str(decode_record(envelope, kind).at)
    return decode_record(envelope, Release).at


# Faults


@dataclass(frozen=True)
class Kind:
    """A fault that a schedule may draw: how often, and what it does."""

    weight: int
    strike: Callable[[Play], Awaitable[None]]


def _party(play: Play) -> Place:
    """Mostly one that has something to do."""
    sort = play.random.choice(play.sorts)
    return play.coalition[play.random.choice((sort.maker, HUB, sort.to[0], *PARTIES))]


def _route(play: Play) -> tuple[str, str]:
    """A link, and a direction on it, that an item or its receipt takes."""
    sort = play.random.choice(play.sorts)
    spokes = [p for p in (sort.maker, *sort.to) if p != HUB]
    return play.random.choice([link for p in spokes for link in ((p, HUB), (HUB, p), (HUB, p))])


def _links(play: Play) -> list[tuple[str, str]]:
    """One direction of a link, both, all of the hub's."""
    spoke = play.random.choice(SPOKES)
    to, back = (spoke, HUB), (HUB, spoke)
    return play.random.choice([[to], [back], [to, back], list(LINKS)])


async def _begins(play: Play) -> None:
    await asyncio.sleep(play.random.uniform(0, SHARING_S + 6))


async def _lasts(play: Play) -> None:
    await asyncio.sleep(play.random.choice((1, 5, 12)) * play.random.uniform(0.5, 1.5))


async def _storm_on(play: Play, change: Callable[[Weather], None]) -> None:
    await asyncio.sleep(play.random.uniform(0, 3))
    links = _links(play)
    for link in links:
        change(play.coalition.weather[link])
    await asyncio.sleep(play.random.uniform(4, 20))
    for link in links:
        play.coalition.weather[link] = Weather()


async def lossy(play: Play) -> None:
    def change(weather: Weather) -> None:
        weather.lost = play.random.choice((0.2, 0.6))

    await _storm_on(play, change)


async def unheard(play: Play) -> None:
    def change(weather: Weather) -> None:
        weather.answer_lost = play.random.choice((0.2, 0.6))

    await _storm_on(play, change)


async def doubling(play: Play) -> None:
    def change(weather: Weather) -> None:
        weather.doubled = 0.4

    await _storm_on(play, change)


async def slow(play: Play) -> None:
    def change(weather: Weather) -> None:
        weather.delay_s_max = play.random.choice((0.5, 3, 8))

    await _storm_on(play, change)


async def cut(play: Play) -> None:
    """A partition: of one direction, of a spoke, of the hub; once, or flapping."""
    await _begins(play)
    links = _links(play)
    times = play.random.choice((1, 1, 5))
    if times > 1:
        play.coalition.struck("flapping")
    if len(links) == len(LINKS):
        play.coalition.struck("hub cut off")
    for _ in range(times):
        play.coalition.cut.update(dict.fromkeys(links))
        await asyncio.sleep(play.random.uniform(1, 12) / times)
        for link in links:
            play.coalition.cut.pop(link, None)
        await asyncio.sleep(play.random.uniform(0, 2))


async def killed(play: Play) -> None:
    await _begins(play)
    place = _party(play)
    if place.is_up:
        play.coalition.struck("killed at any time", place.party)
        place.kill("at any time")


async def dies_at_effect(play: Play) -> None:
    """Before or after one of its next effects, whichever that is."""
    await _begins(play)
    place = _party(play)
    place.dies_before = play.random.random() < 0.5
    place.dies_at = place.effects + play.random.randint(1, 12)


async def commit_fails(play: Play) -> None:
    """One of the next commits: full, failed and gone, or failed and there after all."""
    await _begins(play)
    place = _party(play)
    left = play.random.randint(1, 8)
    fault = play.random.choice(list(Fault))

    def plan() -> Fault | None:
        nonlocal left
        left -= 1
        return fault if left == 0 else None

    place.faults.commit = plan


async def blob_fails(play: Play) -> None:
    await asyncio.sleep(play.random.uniform(0, 3))
    place = _party(play)
    fault = play.random.choice((Fault.FULL, Fault.FAILED))
    left = play.random.randint(1, 2)

    def plan() -> Fault | None:
        nonlocal left
        left -= 1
        return fault if left == 0 else None

    place.faults.blob = plan


async def disk_full(play: Play) -> None:
    await _begins(play)
    place = _party(play)
    play.coalition.struck("disk fills up", place.party)
    place.disk.resize(place.disk.used_bytes + 64 * 1024 + play.random.randint(0, 12_000))
    await _lasts(play)
    place.disk.resize(None)


async def paused(play: Play) -> None:
    """The process stands still after one of its next effects, maybe for longer than a lease."""
    await _begins(play)
    place = _party(play)
    place.pauses_at = place.effects + play.random.randint(1, 12)
    place.pause_s = play.random.choice((0.5, 5.5, 15.0))


async def paused_under_a_lease(play: Play) -> None:
    """What could not be sent for a while is about to be: then the process stands still."""
    place = play.coalition[play.random.choice((play.random.choice(play.sorts).maker, HUB))]
    links = [link for link in LINKS if link[0] == place.party]
    play.coalition.cut.update(dict.fromkeys(links))
    place.pauses_when = "dispatch"
    place.pause_s = play.random.choice((3.0, 5.5, 15.0))
    await asyncio.sleep(play.random.uniform(8, 16))
    for link in links:
        play.coalition.cut.pop(link, None)


async def clock_wrong(play: Play) -> None:
    """Skew, a jump, or years; ahead or behind."""
    await _begins(play)
    place = _party(play)
    by_s = play.random.choice((2, 20, 600, 86_400 * 3, 86_400 * 500)) * play.random.choice((1, -1))
    place.clock.wrong_by_s = by_s
    play.coalition.struck(
        f"clock {'years' if abs(by_s) > 10**7 else 'off'} {'ahead' if by_s > 0 else 'behind'}",
        place.party,
    )
    await _lasts(play)
    place.clock.wrong_by_s = 0.0


async def a_week_passes(play: Play) -> None:
    """Everybody's calendar goes on: the keys of the week end."""
    await _begins(play)
    play.coalition.struck("a week passes")
    play.coalition.weeks_s += 86_400 * play.random.choice((6.5, 8))
    for party in play.random.sample(PARTIES, 3):
        await asyncio.sleep(play.random.uniform(0, 2))
        if play.coalition[party].is_up:
            await play.coalition.housekeeping(party)


async def hold(play: Play) -> None:
    """A director stops all releases to a party for a while."""
    await _begins(play)
    party = play.random.choice((play.random.choice(play.sorts).maker, HUB))
    to = play.random.choice([p for p in PARTIES if p != party])
    if party != HUB and play.random.random() < 0.6:
        to = HUB
    with suppress(Refused, LinkError):
        await play.coalition.hold(party, to, on=True)
        play.coalition.struck("hold", party)
        await _lasts(play)
        await play.lift(party, to)


async def lie(play: Play) -> None:
    """A hub or a spoke that lies on one of its links, in one way or in several."""
    await asyncio.sleep(play.random.uniform(0, 3))
    liar, victim = _route(play)
    known = (*LIES, *ADDED)
    lies = play.random.sample(known, play.random.choice((6, len(known), len(known))))
    words = Liar(play.coalition, liar, victim, lies, play.random)
    play.coalition.alter[liar, victim] = words.alter
    play.coalition.alter_answer[liar, victim] = words.alter_answer
    play.coalition.note("lies", liar, f"to {victim}: {', '.join(lies[:8])}")
    await asyncio.sleep(play.random.uniform(12, 27))
    play.coalition.alter.pop((liar, victim), None)
    play.coalition.alter_answer.pop((liar, victim), None)


FAULTS: dict[str, Kind] = {
    "lossy": Kind(8, lossy),
    "unheard": Kind(8, unheard),
    "doubling": Kind(8, doubling),
    "slow": Kind(8, slow),
    "cut": Kind(10, cut),
    "killed": Kind(6, killed),
    "dies at an effect": Kind(14, dies_at_effect),
    "commit fails": Kind(14, commit_fails),
    "blob fails": Kind(5, blob_fails),
    "disk full": Kind(6, disk_full),
    "paused": Kind(6, paused),
    "paused under a lease": Kind(6, paused_under_a_lease),
    "clock wrong": Kind(8, clock_wrong),
    "a week passes": Kind(4, a_week_passes),
    "hold": Kind(10, hold),
    "lie": Kind(38, lie),
}


def play(seed: int, crypto: Crypto = CHEAP) -> Play:
    """One schedule, played to its end. Raises what its rules found."""
    played = Play(seed, crypto)
    with remembered() if crypto is CHEAP else nullcontext():
        played.run()
    return played
