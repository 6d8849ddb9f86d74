"""A coalition in which whatever waits happens when it is chosen, and not at an instant.

`Scene` says what is shared and what is chosen, `Schedule` plays a list of choices.
"""

import hashlib
from asyncio import Future
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from relto.items import Item
from relto.links import LinkError, Response
from sim.coalition import PARTIES, Coalition, Exchange, Place, fail
from sim.crypto import CHEAP, engine_of, repeatable_suite
from sim.loop import Process
from sim.rules import CONTENT, Rules, opened
from sim.states import Unclear, state_of
from world import Refusal

__all__ = ["TICK", "Choice", "Node", "Scene", "Schedule", "Shared", "State", "Step"]

START_S = 1.0  # by which all nodes know each other's keys
REST_S_MAX = 1_000.0
MARKS = {"JPN": "JPN:HI", "KOR": "KOR:III", "USA": "USA:C"}

COUNTED = ("payload-key", "blob", "journal")  # what a node asks of chance more than once

Choice = tuple[str, str]  # what happens, and with which fault
TICK: Choice = ("tick", "")  # nothing waits: time passes, to the next timer


@dataclass(frozen=True)
class Shared:
    """An item that somebody shares: whose, with whom, about what."""

    maker: str
    to: str
    topic: str


@dataclass(frozen=True)
class Scene:
    """What is explored, and what of it is chosen. Of equal items the first is shared first."""

    items: tuple[Shared, ...]
    answers: bool = True  # whether an answer is chosen, or follows its message at once
    commits: bool = False  # whether a commit is chosen, or follows its asking at once
    faults: bool = True


class Node(NamedTuple):
    """What a node has come to."""

    digest: str
    lives: int
    is_up: bool
    is_serving: bool
    owes: bool  # something is in its outbox
    next_s: float  # when its next timer is due


class State(NamedTuple):
    """What a schedule has come to: of two that are equal all that follows is."""

    now_s: float
    has_failed: bool  # the fault has struck
    people: int  # who have not heard from their nodes yet
    nodes: tuple[Node, ...]
    waiting: frozenset[str]

    @property
    def is_at_rest(self) -> bool:
        is_quiet = not self.people and not self.waiting
        return is_quiet and all(node.is_serving and not node.owes for node in self.nodes)


class Step(NamedTuple):
    """What one node made of what happened to it."""

    after: Node
    added: tuple[str, ...]  # what waits now because of it
    effects: int
    answered: int  # people
    has_died: bool


@dataclass(slots=True)
class Waiting:
    """Something that can happen next."""

    kind: str
    party: str
    process: Process | None  # in which it happens; None: in whatever there is then
    callback: Callable[..., Any]
    args: tuple[Any, ...]
    context: Context


@dataclass
class Chosen(Coalition):
    """A coalition in which what is to come waits until it is chosen."""

    scene: Scene
    has_begun: bool = False
    waiting: dict[str, Waiting] = field(default_factory=dict)
    added: list[tuple[str, str]] = field(default_factory=list)  # by which party, what
    counted: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lives: dict["Future[Response]", int] = field(default_factory=dict)  # of who waits for it

    def __post_init__(self) -> None:
        crypto = replace(CHEAP, suite=repeatable_suite)
        super().__init__(0, {p: engine_of("carried", p) for p in PARTIES}, crypto)

    def random_bytes(self, place: Place, what: str, size_bytes: int) -> bytes:
        """By what it is for, and the how many-th of that it is where several are asked for: so that
        the order of other things does not matter."""
        words = f"{place.party}/{what}"
        if what in COUNTED:
            self.counted[place.party, what] += 1
            words += f"/{self.counted[place.party, what]}"
        return hashlib.shake_256(words.encode()).digest(size_bytes)

    def transmit(self, exchange: Exchange, answer: "Future[Response]") -> None:
        self._lives[answer] = self[exchange.sender].lives
        super().transmit(exchange, answer)

    def _cut_off(self, exchange: Exchange, answer: "Future[Response]", words: str) -> None:
        self.later(
            "answer", exchange.sender, 0.0, _cut_off, exchange, words, answer,
            context=self.loop.nowhere,
        )  # fmt: skip

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
        process = None if kind == "arrival" else place.process
        waiting = Waiting(kind, party, process, callback, args, context)
        if kind == "commit":
            if self.has_begun and self.scene.commits and place.is_serving:
                self.wait(party, f"commit {party}", waiting)
                return
        else:
            exchange, what, answer = args
            life = self._lives.get(answer, 0)
            is_gone = kind == "answer" and (place.lives != life or not place.is_up)
            if self.has_begun and exchange.request.path.endswith("/hop"):
                by = exchange.sender if kind == "arrival" else exchange.receiver
                label = f"{kind} {party} {life} {self._content(exchange, what, kind)}"
                if is_gone:  # who asked is dead
                    self.added.append((by, label))
                else:
                    self.wait(by, label, waiting)
                return
            if is_gone:
                return
        self.loop.call_soon(callback, *args, context=context)

    def wait(self, by: str, label: str, waiting: Waiting) -> None:
        assert label not in self.waiting, f"{label} waits already"
        self.waiting[label] = waiting
        self.added.append((by, label))

    def _content(self, exchange: Exchange, what: Any, kind: str) -> str:
        parts = "".join(hop.encode().hex() for hop in opened(self, exchange))
        answer = what.body.hex() if isinstance(what, Response) else kind
        digest = hashlib.sha256(f"{parts}/{answer}".encode()).hexdigest()[:16]
        words = f": {what}" if isinstance(what, str) else ""
        return f"{exchange.sender} to {exchange.receiver} {digest}{words}"


def _cut_off(exchange: Exchange, words: str, answer: "Future[Response]") -> None:
    fail(answer, words)


class Schedule:
    """A list of choices, played."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.coalition = Chosen(scene)
        self.loop = self.coalition.loop
        self.rules = Rules(self.coalition)
        self.rules.watch()
        self.done: list[Choice] = []
        self.state: State
        self._has_failed = False
        self._people = len(scene.items)  # who have not heard from their nodes yet
        self._clear: dict[str, str] = {}  # by party: its state when that was last clear
        self._since: dict[str, list[str]] = {party: [] for party in PARTIES}

    def begin(self) -> None:
        for place in self.coalition.places.values():
            place.begin()
        self._settle()
        while self.loop.next_s < START_S:
            self.loop.step()
            self._settle()
        self.coalition.has_begun = True
        for item in dict.fromkeys(self.scene.items):
            self._draft_waits(item, 0)
        self._look()

    def _draft_waits(self, item: Shared, first: int) -> None:
        """The next draft of an item, if there is one from this number on."""
        for number, other in enumerate(self.scene.items[first:], first):
            if other == item:
                args, nowhere = (number, item), self.loop.nowhere
                waiting = Waiting("draft", item.maker, None, self._share, args, nowhere)
                self.coalition.wait(item.maker, f"draft {item.maker} {number}", waiting)
                break

    def _share(self, number: int, item: Shared) -> None:
        self._draft_waits(item, number + 1)
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

    def go(self, choices: list[Choice]) -> None:
        """Let these things happen, and look only at what that came to."""
        for choice in choices:
            self._one(choice)
            if self.scene.commits:  # the state may be what it was, and all that came since
                self._look()
        self._look()

    def do(self, choice: Choice) -> Mapping[str, Step]:
        """Let one thing happen, with a fault or without; for each party whose node could have
        noticed what that made of it."""
        before, people = self.state, self._people
        processes = {party: place.process for party, place in self.coalition.places.items()}
        effects = {party: place.effects for party, place in self.coalition.places.items()}
        self.coalition.added.clear()
        told = self._one(choice)
        self._look()
        steps = {}
        for number, party in enumerate(PARTIES):
            added = tuple(label for by, label in self.coalition.added if by == party)
            if party not in told:
                assert self.state.nodes[number] == before.nodes[number], "it is not alone"
                assert not added, "it is not alone"
                continue
            process = processes[party]
            steps[party] = Step(
                self.state.nodes[number],
                added,
                self.coalition[party].effects - effects[party],
                0 if choice == TICK else people - self._people,
                process is not None and not process.is_alive,
            )
        assert choice != TICK or people == self._people, "a person was answered by time alone"
        return steps

    def _one(self, choice: Choice) -> tuple[str, ...]:
        """Who may have noticed."""
        self.done.append(choice)
        label = choice[0]
        told = PARTIES if choice == TICK else (label.split()[1],)
        for party in told:
            self._since[party].append(f"{self.loop.now_s} {label}")
        if choice == TICK:
            self._tick()
        else:
            self._happens(*choice)
        self._tidy()
        return told

    def _happens(self, label: str, fault: str) -> None:
        waiting = self.coalition.waiting.pop(label)
        place = self.coalition[waiting.party]
        self._has_failed = self._has_failed or bool(fault)
        if fault == "twice":
            exchange, body, _ = waiting.args
            copy = replace(waiting, args=(exchange, body, None))
            self.coalition.wait(waiting.party, f"{label} copy", copy)
        elif fault and fault != "lost":
            when, number = fault.split()
            place.dies_at = place.effects + int(number)
            place.dies_before = when == "before"
        if fault != "lost":
            self.loop.call_soon(waiting.callback, *waiting.args, context=waiting.context)
        self._settle()
        place.dies_at = 0

    def _tick(self) -> None:
        """Time passes, to the next timer of a process that lives; all that are due then run."""
        due_s = min(map(self._next_s, PARTIES))
        assert due_s < REST_S_MAX, "no rest"
        while self.loop.next_s <= due_s:
            self.loop.step()
            self._settle()

    def _tidy(self) -> None:
        """What died waits to be started, and what was for it is gone."""
        waiting = self.coalition.waiting
        for label, each in list(waiting.items()):
            if each.process is not None and not each.process.is_alive:
                del waiting[label]
        for party, place in self.coalition.places.items():
            label = f"start {party}"
            if not place.is_up and label not in waiting:
                start = Waiting("start", party, None, place.begin, (), self.loop.nowhere)
                self.coalition.wait(party, label, start)

    def _look(self) -> None:
        """What all have come to."""
        waiting = self.coalition.waiting
        for party, place in self.coalition.places.items():
            if f"commit {party}" not in waiting:
                with suppress(Unclear):
                    self._clear[party] = state_of(place, self.rules)
                    self._since[party].clear()
        nodes = tuple(map(self._node, PARTIES))
        now_s, people = self.loop.now_s, self._people
        self.state = State(now_s, self._has_failed, people, nodes, frozenset(waiting))

    def _node(self, party: str) -> Node:
        place = self.coalition[party]
        drafts = self.coalition.counted[party, "payload-key"]  # as many as of "blob"
        whole = repr((place.lives, drafts, self._clear.get(party, ""), self._since[party]))
        return Node(
            hashlib.sha256(whole.encode()).hexdigest(),
            place.lives,
            place.is_up,
            place.is_serving,
            bool(place.disk.state.outbox),
            self._next_s(party),
        )

    def _next_s(self, party: str) -> float:
        """When a node's next timer is due."""
        process = self.coalition[party].process
        return min((timer.when() for timer in self.loop.timers_of(process)), default=float("inf"))

    def end(self) -> str:
        """What each party has in the end, whatever way that took."""
        return "; ".join(
            f"{party}: {' and '.join(sorted(map(_words, place.items().values()))) or 'nothing'}"
            for party, place in self.coalition.places.items()
        )


def _words(item: Item) -> str:
    """An item as a party has it: whose, how it came, and how its ways ended."""
    came = [f" {incoming.state}" for incoming in item.incoming]
    ways = [f" to {o.proposal.to} {o.state}" for o in item.outgoing]
    return f"{item.manifest.maker}'s{''.join((*came, *ways))}"
