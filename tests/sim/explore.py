"""Every order of what happens to two items on three nodes, with one fault at every place: choices
instead of a seed.

What is chosen:

* which of the things that wait happens next: a person's draft, the arrival of a hop message, the
  arrival of its answer or of the word that the connection is gone, the start of a process that
  died; and, in a `Scene` with `commits`, each commit of a node's writer;
* once a schedule, a fault in the thing that happens: the node's process dies before any of the
  effects (commit, send, receipt, answer) that it would have had, or after the last of them; a
  message or an answer is lost; a message comes twice, the second time whenever that is chosen.

What is not chosen, and so is not exhaustive: time passes only when nothing else waits, so nothing
that is not lost is late for its time-out; starting a process, and asking for a key of the week,
happen at once; without `commits` a commit follows its asking at once, and without `answers` an
answer its message. Disks do not fail, nobody lies, no clock is wrong: those are for schedules from
seeds.

Why so many orders come to an end:

1. Two schedules that have come to the same `State` go on alike, so that only one does. A state is
   what each node has come to (`sim.states`) and what waits, which counts by what is in it.
2. What happens, happens to one node. What it makes of that depends on what it has come to, on the
   time, and on which nodes serve (for a key of the week), and not on what else waits or what the
   others have come to. So that is played once, and each other order in which the same comes to the
   same node is worked out from it: things that happen to different nodes need not be played in
   both orders. This is where partial-order reduction gains, without leaving out any state.
3. Of two equal items the first is shared first: the other order is the same by other names.

None of it is taken on trust. Whatever is played starts from what was worked out, and must have come
to exactly that; what comes of it must be what is worked out; no node may have changed but the one
to which it happened; each different end is played from the start and looked at as a whole. And
`play_all` goes through small scenes without (2), or without (1) as well, to the same states.
A rule that looks at several nodes at once looks at each step of a node in one of the orders in
which it occurs, and at every end.

A node's code is a function of what it has come to also because its randomness goes by what is asked
for, and not by when. Peers' quotas are in no state: that nobody comes to one is checked.
"""

import gc
import logging
from asyncio import events
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sim.choices import TICK, Choice, Scene, Schedule, Shared, State, Step
from sim.coalition import PARTIES
from sim.crypto import remembered
from sim.rules import check_end

__all__ = ["SCENES", "Broken", "Explored", "explore", "play_all"]

COLLECT_EVERY = 100  # schedules
TELL_EVERY = 1_000  # states

log = logging.getLogger("relto")

ONE = (Shared("KOR", "JPN", "passed"),)
CROSSING = (Shared("KOR", "JPN", "passed"), Shared("JPN", "KOR", "passed"))
ONE_WAY = (Shared("KOR", "JPN", "passed"), Shared("KOR", "JPN", "passed"))
PAST_A_BLIND_HUB = (Shared("KOR", "JPN", "automatic"), Shared("JPN", "KOR", "automatic"))

SCENES = {
    "one item": Scene(ONE),
    "one item, every commit": Scene(ONE, commits=True),
    "two items that cross": Scene(CROSSING, answers=False),
    "two items one way": Scene(ONE_WAY, answers=False),
    "two items past a blind hub": Scene(PAST_A_BLIND_HUB, answers=False),
    "two items that cross, every answer": Scene(CROSSING),
    "two items one way, every answer": Scene(ONE_WAY),
    "two items past a blind hub, every answer": Scene(PAST_A_BLIND_HUB),
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

    states: int = 0
    open: int = 0  # of these, those that nobody has gone on from yet
    moves: int = 0  # from one state to the next
    steps: int = 0  # of one node, by what it was and what happened to it
    schedules: int = 0  # that were played, since they had something new for a node, or an end
    longest: int = 0  # choices of one of those
    ends: Counter[str] = field(default_factory=Counter)  # states in which all was at rest
    faults: Counter[str] = field(default_factory=Counter)


class Player:
    """Plays schedules of one scene, each from the start, or on from the one before."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.schedules = 0
        self._before = events._get_running_loop()
        self._schedule: Schedule | None = None

    def at(self, choices: list[Choice]) -> Schedule:
        """The schedule that has made these choices, and no others."""
        if self._schedule is None or self._schedule.done != choices:
            self.close()
            self.schedules += 1
            if not self.schedules % COLLECT_EVERY:
                gc.collect()
            self._schedule = Schedule(self.scene)
            events._set_running_loop(self._schedule.loop)  # type: ignore[arg-type]
            self._schedule.begin()
            try:
                self._schedule.go(choices)
            except Exception as e:
                raise Broken(self._schedule.done, e) from e
        return self._schedule

    def do(self, choice: Choice) -> dict[str, Step]:
        assert self._schedule is not None
        try:
            return dict(self._schedule.do(choice))
        except Exception as e:
            raise Broken(self._schedule.done, e) from e

    def ends(self, choices: list[Choice]) -> str:
        """How a schedule ends that has made these choices. Raises Broken."""
        schedule = self.at(choices)
        try:
            check_end(schedule.rules)
            for place in schedule.coalition.places.values():  # what no state has may decide nothing
                assert not any(entry["event"] == "limit-reached" for entry in place.entries())
        except Exception as e:
            raise Broken(schedule.done, e) from e
        return schedule.end()

    def close(self) -> None:
        if self._schedule is not None:
            self._schedule.coalition.close()
            self._schedule = None
        events._set_running_loop(self._before)


def choices_of(scene: Scene, state: State) -> list[Choice]:
    """What can happen next, but for faults."""
    if not state.waiting:
        return [] if state.is_at_rest else [TICK]
    labels = sorted(state.waiting)
    if not scene.answers and labels[0].startswith("answer "):
        return [(labels[0], "")]
    return [(label, "") for label in labels]


def faults_of(choice: Choice, effects: int) -> list[Choice]:
    """What could go wrong in what happens, with so many effects of the node that it happens to."""
    label, _ = choice
    if choice == TICK:
        return []
    faults = [f"before {number}" for number in range(1, effects + 1)]
    if effects:
        faults.append(f"after {effects}")
    if label.startswith(("arrival ", "answer ")):
        faults.append("lost")
    if label.startswith("arrival "):
        faults.append("twice")
    return [(label, fault) for fault in faults]


class Explorer:
    """Goes through all states of a scene. What a node does is played once for each of its states,
    and known from then on."""

    def __init__(self, scene: Scene, tell: Callable[[Explored], None] = lambda found: None) -> None:
        self.scene = scene
        self.player = Player(scene)
        self.found = Explored()
        self._tell = tell
        self._steps: dict[tuple[object, ...], Step] = {}
        self._came: dict[State, tuple[State, Choice] | None] = {}  # from which, how
        self._ends: dict[tuple[str, ...], str] = {}

    def run(self) -> Explored:
        """Raises Broken at the first schedule that breaks a rule."""
        with remembered(), _silent():
            return self._run()

    def _run(self) -> Explored:
        start = self.player.at([]).state
        self._came[start] = None
        stack, done = [start], 0
        try:
            while stack:
                state = stack.pop()
                self._visit(state, stack)
                done += 1
                if not done % TELL_EVERY:
                    self._tell(self._counted(len(stack)))
        finally:
            self.player.close()
        return self._counted(0)

    @property
    def states(self) -> set[State]:
        return set(self._came)

    def _counted(self, left: int) -> Explored:
        self.found.states, self.found.open = len(self._came), left
        self.found.steps, self.found.schedules = len(self._steps), self.player.schedules
        return self.found

    def _visit(self, state: State, stack: list[State]) -> None:
        choices = choices_of(self.scene, state)
        if not choices:
            self._end(state)
        for choice in choices:
            effects = self._follow(state, choice, stack)
            if self.scene.faults and not state.has_failed:
                for faulty in faults_of(choice, effects):
                    self._follow(state, faulty, stack)
                    kind = choice[0].split()[0]
                    self.found.faults[f"{kind} {faulty[1].split()[0]}"] += 1

    def _follow(self, state: State, choice: Choice, stack: list[State]) -> int:
        """Go on to what comes of a choice; how many effects it had."""
        self.found.moves += 1
        steps = self._steps_of(state, choice)
        after = _after(state, choice, steps)
        if after not in self._came:
            self._came[after] = state, choice
            stack.append(after)
        return sum(step.effects for step in steps.values())

    def _steps_of(self, state: State, choice: Choice) -> dict[str, Step]:
        parties = PARTIES if choice == TICK else (choice[0].split()[1],)
        serving = tuple(node.is_serving for node in state.nodes)
        due_s = min(node.next_s for node in state.nodes) if choice == TICK else state.now_s
        keys = {
            party: (state.now_s, due_s, serving, state.nodes[PARTIES.index(party)], choice)
            for party in parties
        }
        if not all(key in self._steps for key in keys.values()):
            way = self._way_to(state)
            assert self.player.at(way).state == state, "another state than foreseen"
            played = self.player.do(choice)
            for party, key in keys.items():
                known = self._steps.setdefault(key, played[party])
                assert known == played[party], "equal states of a node have gone on in two ways"
            assert self.player.at([*way, choice]).state == _after(state, choice, played)
        return {party: self._steps[key] for party, key in keys.items()}

    def _way_to(self, state: State) -> list[Choice]:
        way = []
        came = self._came[state]
        while came is not None:
            state, choice = came
            way.append(choice)
            came = self._came[state]
        self.found.longest = max(self.found.longest, len(way))
        return way[::-1]

    def _end(self, state: State) -> None:
        nodes = tuple(node.digest for node in state.nodes)
        if nodes not in self._ends:
            way = self._way_to(state)
            assert self.player.at(way).state == state, "another state than foreseen"
            self._ends[nodes] = self.player.ends(way)
        self.found.ends[self._ends[nodes]] += 1


def _after(state: State, choice: Choice, steps: dict[str, Step]) -> State:
    """What a coalition comes to by what its nodes do."""
    nodes = list(state.nodes)
    waiting = set(state.waiting) - {choice[0]}
    people, now_s = state.people, state.now_s
    if choice == TICK:
        now_s = min(node.next_s for node in state.nodes)
    for party, step in steps.items():
        nodes[PARTIES.index(party)] = step.after
        people -= step.answered
        if step.has_died:
            gone = f"answer {party} ", f"commit {party}"
            waiting = {label for label in waiting if not label.startswith(gone)}
    for step in steps.values():
        for label in step.added:
            kind, party, *more = label.split()
            node = nodes[PARTIES.index(party)]
            if kind != "answer" or (node.is_up and node.lives == int(more[0])):
                waiting.add(label)
    has_failed = state.has_failed or bool(choice[1])
    return State(now_s, has_failed, people, tuple(nodes), frozenset(waiting))


def explore(scene: Scene, tell: Callable[[Explored], None] = lambda found: None) -> Explored:
    """Go through all states of a scene. Raises Broken at the first schedule that breaks a rule.

    `tell` hears now and then of what was explored.
    """
    return Explorer(scene, tell).run()


def play_all(scene: Scene, *, merges: bool) -> tuple[set[State], Counter[str]]:
    """The same by playing everything, as long as that may take: all states, and how often which
    end was come to. Without `merges` also what has come to a state that is known."""
    states: set[State] = set()
    ends: Counter[str] = Counter()
    player = Player(scene)
    ways: list[list[Choice]] = [[]]
    with remembered(), _silent():
        try:
            while ways:
                way = ways.pop()
                state = player.at(way).state
                if state in states and merges:
                    continue
                states.add(state)
                choices = choices_of(scene, state)
                if not choices:
                    ends[player.ends(way)] += 1
                for choice in choices:
                    after = [choice]
                    if scene.faults and not state.has_failed:
                        player.at(way)
                        effects = sum(step.effects for step in player.do(choice).values())
                        after += faults_of(choice, effects)
                    ways += [[*way, each] for each in after]
        finally:
            player.close()
    return states, ends


@contextmanager
def _silent() -> Iterator[None]:
    level = log.level
    log.setLevel(logging.CRITICAL)
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        log.setLevel(level)
