"""Every order of what happens to two items on three nodes, with one fault at every place: choices
instead of a seed.

Each schedule is played from the start by a list of choices (the code is production's, and nothing
of it is copied half-way); the choices not taken are put on a stack. What is chosen:

* which of the things that wait happens next: a person's draft, the arrival of a hop message, the
  arrival of its answer or of the word that the connection is gone, the start of a process that
  died; and, in a `Scene` with `commits`, each commit of a node's writer;
* once a schedule, a fault in the thing that happens: the node's process dies before any of the
  effects (commit, send, receipt, answer) that it would have had, or after the last of them; a
  message or an answer is lost; a message comes twice, the second time whenever that is chosen.

What is not chosen, and so is not exhaustive: time passes only when nothing else waits, so nothing
that is not lost is late for its time-out; starting a process, and asking for a key of the week,
happen at once; without `commits` a commit follows its asking at once. Disks do not fail, nobody
lies, no clock is wrong: those are for schedules from seeds.

Two schedules that have come to the same state go on alike, so that the second one ends there. The
state is all that a node's code can see: its store, but for salts, links and row numbers (the order
of the rows counts); and, of a process with nothing in hand, its couriers' errors, keys, rows in
hand and timers. A process that has something in hand is what it was when it last had nothing, and
all that it was given since: a node's code is a function of that, since its randomness goes by what
is asked for, and not by when. What waits counts by what is in it. A different order of entries in a
journal is not a different state: no code decides by it. Peers' quotas are not in it: that nobody
comes to one is checked.
"""

import hashlib
import logging
from asyncio import Timeout, events
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from relto.courier import Courier
from relto.items import Item
from relto.links import LinkError
from sim.coalition import PARTIES, Coalition, Exchange, Place, item_of
from sim.crypto import CHEAP, engine_of, remembered, repeatable_suite
from sim.loop import Process
from sim.rules import CONTENT, Rules, check_end, opened
from world import Refusal

__all__ = ["SCENES", "Broken", "Explored", "Scene", "Shared", "explore"]

START_S = 1.0  # by which all nodes know each other's keys
REST_S_MAX = 1_000.0
MARKS = {"JPN": "JPN:HI", "KOR": "KOR:III", "USA": "USA:C"}

log = logging.getLogger("relto")

Choice = tuple[str, str]  # what happens, and with which fault


@dataclass(frozen=True)
class Shared:
    """An item that somebody shares: whose, with whom, about what."""

    maker: str
    to: str
    topic: str


@dataclass(frozen=True)
class Scene:
    """What is explored, and what of it is chosen."""

    items: tuple[Shared, ...]
    answers: bool = True  # whether an answer is chosen, or follows its message at once
    commits: bool = False  # whether a commit is chosen, or follows its asking at once
    faults: bool = True


ONE = (Shared("KOR", "JPN", "passed"),)
CROSSING = (Shared("KOR", "JPN", "passed"), Shared("JPN", "KOR", "passed"))
ONE_WAY = (Shared("KOR", "JPN", "passed"), Shared("KOR", "JPN", "passed"))
PAST_A_BLIND_HUB = (Shared("KOR", "JPN", "automatic"), Shared("JPN", "KOR", "automatic"))

SCENES = {
    "one item, every commit": Scene(ONE, commits=True),
    "one item": Scene(ONE),
    "two items that cross": Scene(CROSSING, answers=False),
    "two items one way": Scene(ONE_WAY, answers=False),
    "two items past a blind hub": Scene(PAST_A_BLIND_HUB, answers=False),
    "two items that cross, every answer, no fault": Scene(CROSSING, faults=False),
}


class Broken(AssertionError):
    """A schedule broke a rule; its choices."""

    def __init__(self, choices: list[Choice], error: BaseException) -> None:
        story = "\n".join(f"  {what}{f' [{fault}]' if fault else ''}" for what, fault in choices)
        super().__init__(f"{type(error).__name__}: {error}, after\n{story}")
        self.choices = choices


@dataclass
class Explored:
    """What was explored."""

    schedules: int = 0
    choices: int = 0  # states in which something was chosen
    known: int = 0  # schedules that came to a state that another had gone on from
    longest: int = 0  # choices of one schedule
    ends: Counter[str] = field(default_factory=Counter)  # states in which all was at rest
    faults: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Waiting:
    """Something that can happen next."""

    kind: str
    party: str
    process: Process | None  # in which it happens; None: in whatever there is then
    callback: Callable[..., Any]
    args: tuple[Any, ...]
    context: Context


class Chosen(Coalition):
    """A coalition in which what is to come waits until it is chosen."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.has_begun = False
        self.drops_answer = False  # the next
        self.waiting: dict[str, Waiting] = {}
        self._asked: Counter[tuple[str, str]] = Counter()
        crypto = replace(CHEAP, suite=repeatable_suite)
        super().__init__(0, {p: engine_of("carried", p) for p in PARTIES}, crypto)

    def random_bytes(self, place: Place, what: str, size_bytes: int) -> bytes:
        """By what is asked for, so that the order of other things does not matter."""
        self._asked[place.party, what] += 1
        words = f"{place.party}/{what}/{self._asked[place.party, what]}"
        return hashlib.shake_256(words.encode()).digest(size_bytes)

    def later(
        self,
        kind: str,
        party: str,
        wait_s: float,
        callback: Callable[..., None],
        *args: Any,
        context: Context,
    ) -> None:
        place = self.places[party]
        exchange = args[0] if args and isinstance(args[0], Exchange) else None
        at_once = not self.has_begun
        if kind == "commit":
            at_once = at_once or not self.scene.commits or not place.is_serving
        elif exchange is not None and not exchange.request.path.endswith("/hop"):
            at_once = True
        elif kind == "answer" and not self.scene.answers and self.has_begun:
            if self.drops_answer:
                self.drops_answer = False
                return
            at_once = True
        if at_once:
            self.loop.call_soon(callback, *args, context=context)
            return
        process = None if kind == "arrival" else place.process
        self.wait(
            f"{kind} {party} {self._content(exchange, args)}",
            Waiting(kind, party, process, callback, args, context),
        )

    def wait(self, label: str, waiting: Waiting) -> None:
        while label in self.waiting:
            label += " again"
        self.waiting[label] = waiting

    def _content(self, exchange: Exchange | None, args: tuple[Any, ...]) -> str:
        if exchange is None:
            return str(args[1]) if args else ""
        parts = "".join(hop.encode().hex() for hop in opened(self, exchange))
        rest = args[1].body.hex() if hasattr(args[1], "body") else str(args[2] is None)
        digest = hashlib.sha256(f"{parts}/{rest}".encode()).hexdigest()[:16]
        return f"{exchange.sender} to {exchange.receiver} {digest}"


class Schedule:
    """One schedule: the choices given, then the first of each."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.coalition = Chosen(scene)
        self.loop = self.coalition.loop
        self.rules = Rules(self.coalition)
        self.rules.watch()
        self.done: list[Choice] = []
        self.fault = ""
        self._people = len(scene.items)  # who have not heard from their nodes yet
        self._idle: dict[str, str] = {}  # by party: its state when it had nothing in hand
        self._since: dict[str, list[str]] = {party: [] for party in PARTIES}

    def begin(self) -> None:
        for place in self.coalition.places.values():
            place.begin()
        self._settle()
        while self.loop.next_s < START_S:
            self.loop.step()
            self._settle()
        self.coalition.has_begun = True
        for number, item in enumerate(self.scene.items):
            waiting = Waiting(
                "draft", item.maker, None, self._share, (number, item), self.loop.nowhere
            )
            self.coalition.wait(f"draft {number} {item.maker}", waiting)
        self._look()

    def _share(self, number: int, item: Shared) -> None:
        self.loop.create_task(self._shared(number, item), context=self.loop.nowhere.copy())

    async def _shared(self, number: int, item: Shared) -> None:
        label = {
            "mark": MARKS[item.maker],
            "releasable_to": [p for p in PARTIES if p != item.maker],
            "kind": "report",
            "topics": [item.topic],
            "about": ["PRK"],
        }
        with suppress(LinkError, Refusal):
            body = CONTENT + bytes([number])
            await self.coalition.share(item.maker, label, [item.to], body=body)
        self._people -= 1

    def _settle(self) -> None:
        while self.loop.is_ready:
            self.loop.step()
        self.coalition.raise_errors()

    # choices

    def do(self, choice: Choice) -> int:
        """Let one thing happen, with a fault or without; how many effects its node had."""
        label, fault = choice
        self.done.append(choice)
        waiting = self.coalition.waiting.pop(label)
        place = self.coalition[waiting.party]
        before = place.effects
        self._since[waiting.party].append(f"{self.loop.now_s} {label}")
        if fault:
            self.fault = fault
            self._plan(place, waiting, label, fault)
        if fault != "lost":
            self.loop.call_soon(waiting.callback, *waiting.args, context=waiting.context)
        self._settle()
        place.dies_at = 0
        self.coalition.drops_answer = False
        effects = place.effects - before
        self._look()
        return effects

    def _plan(self, place: Place, waiting: Waiting, label: str, fault: str) -> None:
        if fault == "twice":
            copy = replace(waiting, args=(*waiting.args[:2], None))
            self.coalition.wait(f"{label} copy", copy)
        elif fault == "unanswered":
            self.coalition.drops_answer = True
        elif fault != "lost":
            when, number = fault.split()
            place.dies_at = place.effects + int(number)
            place.dies_before = when == "before"

    def faults_of(self, choice: Choice, kind: str, effects: int) -> list[Choice]:
        """What could have gone wrong in what has just happened."""
        faults = [f"before {number}" for number in range(1, effects + 1)]
        if effects:
            faults.append(f"after {effects}")
        if kind in ("arrival", "answer"):
            faults.append("lost")
        if kind == "arrival":
            faults.append("twice")
        if kind == "arrival" and not self.scene.answers:
            faults.append("unanswered")
        return [(choice[0], fault) for fault in faults]

    def tick(self) -> None:
        """Nothing waits: time passes, to the next timer."""
        assert self.loop.now_s < REST_S_MAX, "no rest"
        self.loop.step()
        self._settle()
        for party in PARTIES:
            self._since[party].append(f"{self.loop.now_s} tick")
        self._look()

    def is_at_rest(self) -> bool:
        places = self.coalition.places.values()
        return not self._people and all(p.is_serving and not p.disk.state.outbox for p in places)

    # states

    def _look(self) -> None:
        """What died waits to be started, and what was for it is gone; who has nothing in hand."""
        waiting = self.coalition.waiting
        for label, each in list(waiting.items()):
            if each.process is not None and not each.process.is_alive:
                del waiting[label]
        for party, place in self.coalition.places.items():
            label = f"start {party}"
            if not place.is_up and label not in waiting:
                start = Waiting("start", party, None, place.begin, (), self.loop.nowhere)
                self.coalition.wait(label, start)
            if self._has_nothing_in_hand(place):
                self._idle[party] = self._state_of(place)
                self._since[party].clear()

    def _has_nothing_in_hand(self, place: Place) -> bool:
        process = place.process
        if process is None:
            return True
        commits = any(
            w.kind == "commit" and w.process is process for w in self.coalition.waiting.values()
        )
        return process.is_serving and not (commits or process.waiting or process.asking)

    def _state_of(self, place: Place) -> str:
        state = place.disk.state
        now_ms = place.clock.monotonic_ms()
        rows = [
            (r.peer, r.precedence, max(0, r.due_ms - now_ms), max(0, r.lease_until_ms - now_ms),
             r.attempts, r.error, r.subject, r.body)
            for _, r in sorted(state.outbox.items())
        ]  # fmt: skip
        rows.sort(key=lambda row: row[:1])  # those of one peer keep their order
        told = [key for key in self.rules.told if key[0] == place.party] if rows else []
        documents = [
            (kind, key, r.state, r.rank, _item_state(r.body) if kind == "item" else r.body)
            for (kind, key), r in state.documents.items()
        ]
        stored = (
            sorted(documents),
            rows,
            sorted(row.entry for row in state.journal),
            sorted(state.meta.items()),
            sorted(told),
        )  # fmt: skip
        process = place.process
        volatile: Any = None
        if process is not None:
            volatile = [
                (peer, self._courier_state(place, courier, now_ms))
                for peer, courier in sorted(place.couriers.items())
            ]
        return hashlib.sha256(repr((stored, volatile)).encode()).hexdigest()

    def _courier_state(self, place: Place, courier: Courier, now_ms: int) -> Any:
        calls = courier.calls
        wakes = {}
        for when, callback in self.loop.timers():
            timeout = getattr(callback, "__self__", None)
            if isinstance(timeout, Timeout) and timeout._task in courier._tasks:  # type: ignore[attr-defined]
                wakes[courier._tasks.index(timeout._task)] = round(when - self.loop.now_s, 6)  # type: ignore[attr-defined]
        hands = courier.hands
        rows = place.disk.state.outbox

        def what(number: int) -> bytes:  # not which row it is, but what it is about
            return rows[number].body if number in rows else b""

        return (
            calls.error,
            courier._calls_failed,
            sorted((party, key.key_id) for party, key in calls._keys.items()),
            calls._renew_at_ms - now_ms,
            sorted(map(what, hands._numbers)),
            [(precedence, what(number)) for precedence, number, _ in sorted(hands._waiting)],
            sorted((what(number), ms - now_ms) for number, (_, ms) in hands._accepted.items()),
            [max(0, ms - now_ms) for ms in courier._look_ms],
            courier._found,
            [max(0, ms - now_ms) for ms in courier._later_ms],
            [awake.is_set() for awake in courier._awake],
            sorted(wakes.items()),
        )

    def key(self) -> str:
        """What the schedule has come to: equal for two that go on alike."""
        parties = [(self._idle.get(p, ""), self._since[p]) for p in PARTIES]
        whole = (self.loop.now_s, bool(self.fault), self._people, parties)
        return hashlib.sha256(repr((whole, sorted(self.coalition.waiting))).encode()).hexdigest()

    def end(self) -> str:
        """What each party has in the end, whatever way that took."""
        return "; ".join(
            f"{party}: {' and '.join(sorted(map(_words, place.items().values()))) or 'nothing'}"
            for party, place in self.coalition.places.items()
        )


@lru_cache(maxsize=16384)
def _item_state(body: bytes) -> str:
    item = item_of(body)
    return repr(
        (
            item.manifest_payload,
            sorted(s.keyid for s in item.manifest_signatures),
            (item.precedence, item.at, item.made_here, item.key, item.stored, item.held_as),
            sorted(item.basis.items()),
            sorted(item.sealed_keys.items()),
            sorted(item.certificates.by_keyid),
            item.incoming,
            [replace(o, outbox=None if o.outbox is None else 0) for o in item.outgoing],
        )
    )


def _words(item: Item) -> str:
    """An item as a party has it: whose, how it came, and how its ways ended."""
    came = [f" {incoming.state}" for incoming in item.incoming]
    ways = [f" to {o.proposal.to} {o.state}" for o in item.outgoing]
    return f"{item.manifest.maker}'s{''.join((*came, *ways))}"


def explore(scene: Scene, *, merges: bool = True) -> Explored:
    """Play every schedule of a scene. Raises Broken at the first that breaks a rule.

    `merges` off plays also those to their end that have come to a known state.
    """
    found = Explored()
    known: set[str] = set()
    stack: list[tuple[Choice, ...]] = [()]
    with remembered(), _silent():
        while stack:
            _play(scene, stack.pop(), stack, known, found)
            if not merges:
                known.clear()
    return found


def check_no_quota_counts(schedule: Schedule) -> None:
    """What is not in a schedule's state may not decide anything."""
    for place in schedule.coalition.places.values():
        assert not any(entry["event"] == "limit-reached" for entry in place.entries())


@contextmanager
def _silent() -> Iterator[None]:
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _play(
    scene: Scene,
    given: tuple[Choice, ...],
    stack: list[tuple[Choice, ...]],
    known: set[str],
    found: Explored,
) -> None:
    """One schedule, to its end or to a state that is known."""
    schedule = Schedule(scene)
    waiting = schedule.coalition.waiting
    before = events._get_running_loop()
    events._set_running_loop(schedule.loop)  # type: ignore[arg-type]
    found.schedules += 1
    try:
        schedule.begin()
        while True:
            if not waiting:
                if schedule.is_at_rest():
                    check_end(schedule.rules)
                    check_no_quota_counts(schedule)
                    found.ends[schedule.end()] += 1
                    break
                schedule.tick()
                continue
            number = len(schedule.done)
            if number < len(given):
                choice = given[number]
            else:
                key = schedule.key()
                if key in known:
                    found.known += 1
                    break
                known.add(key)
                found.choices += 1
                choice, *others = [(label, "") for label in waiting]
                stack.extend((*schedule.done, other) for other in others)
            earlier, kind = tuple(schedule.done), waiting[choice[0]].kind
            effects = schedule.do(choice)
            if choice[1]:
                found.faults[f"{kind} {choice[1].split()[0]}"] += number == len(given) - 1
            elif number >= len(given) - 1 and scene.faults and not schedule.fault:
                others = schedule.faults_of(choice, kind, effects)
                stack.extend((*earlier, other) for other in others)
    except Exception as e:
        raise Broken(schedule.done, e) from e
    finally:
        found.longest = max(found.longest, len(schedule.done))
        events._set_running_loop(before)
        schedule.coalition.close()
