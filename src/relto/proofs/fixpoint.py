"""All that can be held, and by which moves: the least set that the permitted moves close.

Holdings outlast the agreement they came under, so a chain may wait: its moves are made at
instants in rising order, each while what it needs is in force.
"""

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from relto.proofs.model import Bits, Classes, Held, Model, Move
from relto.regime import Regime
from relto.timeline import Turns, stands_at

__all__ = ["Instants", "Reach", "beginnings", "makings", "reach_of"]


class Instants:
    """Instants in order, by their index, and at which of them something stands."""

    def __init__(self, instants: Sequence[str]) -> None:
        self.every = tuple(instants)
        self._changes: dict[Turns, tuple[int, ...]] = {}

    @classmethod
    def of(cls, regime: Regime) -> "Instants":
        """Those at which what is in force changes: nothing changes between them."""
        return cls(sorted({at for turns in regime.timeline.turns.values() for at in turns}))

    def changes(self, turns: Turns) -> tuple[int, ...]:
        """At which it begins to stand, ceases, begins again, …"""
        found = self._changes.get(turns)
        if found is None:
            standing = [stands_at(turns, at) for at in self.every]
            pairs = enumerate(pairwise([False, *standing]))
            found = tuple(n for n, (before, now) in pairs if before != now)
            self._changes[turns] = found
        return found

    def first(self, turns: Turns, since: int) -> int | None:
        """The first index, not before `since`, at which it stands; None if there is none."""
        changes = self.changes(turns)
        passed = bisect_right(changes, since)
        if passed % 2:
            return since
        return changes[passed] if passed < len(changes) else None


@dataclass
class Reach:
    """What can be held of one originator's information.

    `held`: for each way of holding, the classes, by the index of the instant from which on they
    can be. `moves`: every move that some class can make, with those that can. `options`: what
    each way of holding permits, when, and to which classes.
    """

    classes: Classes
    instants: Instants
    held: dict[Held, dict[int, Bits]] = field(default_factory=lambda: defaultdict(dict))
    moves: dict[Move, Bits] = field(default_factory=lambda: defaultdict(int))
    options: dict[Held, list[tuple[Turns, Move, Bits]]] = field(default_factory=dict)


def beginnings(model: Model, classes: Classes) -> Iterator[tuple[Held, Bits]]:
    """How the originator holds its own: under its mark, or a higher one in what it makes of it."""
    scheme = model.regime.schemes[classes.originator]
    for mark in reversed(scheme.marks):  # its own mark comes before a higher one
        below = frozenset(other.name for other in scheme.marks if other.rank >= mark.rank)
        yield Held(classes.originator, "", mark.name), classes.covered("mark", below)


def makings(model: Model, classes: Classes, held: Held, bits: Bits) -> Iterator[tuple[Held, Bits]]:
    """What a reader can make of it: an item of any kind, under its mark as held or a higher one.

    What its originator makes of it is among the beginnings.
    """
    if not held.reads or held.holder == classes.originator:
        return
    any_kind = classes.in_any_kind(bits)
    rank = model.ranks[held.mark]
    for mark in reversed(model.regime.schemes[held.holder].marks):
        if mark.rank <= rank:
            yield Held(held.holder, held.basis, mark.name, made=True), any_kind


def reach_of(model: Model, classes: Classes, instants: Instants) -> Reach:
    """The fixpoint: every instant in turn, with what was held before it."""
    reach = Reach(classes, instants)
    _Climb(model, reach).run()
    return reach


@dataclass(slots=True, eq=False)
class _Option:
    """A move of one way of holding: whether it stands now, and for which classes."""

    move: Move
    open_to: Bits
    stands: bool = False


class _Climb:
    def __init__(self, model: Model, reach: Reach) -> None:
        self.model = model
        self.reach = reach
        self.total: dict[Held, Bits] = {}
        self.options: dict[Held, list[_Option]] = {}
        self.turning: list[list[_Option]] = [[] for _ in reach.instants.every]  # by instant
        self.waiting: deque[tuple[Held, Bits]] = deque()
        self.now = 0

    def run(self) -> None:
        for held, bits in beginnings(self.model, self.reach.classes):
            self._add(held, bits)
        for now, turning in enumerate(self.turning):
            self.now = now
            for option in turning:
                option.stands = not option.stands
                if option.stands:  # what was held before may move by it now
                    self._take(option, self.total[option.move.source])
            while self.waiting:
                held, bits = self.waiting.popleft()
                for option in self.options[held]:
                    if option.stands:
                        self._take(option, bits)

    def _take(self, option: _Option, bits: Bits) -> None:
        taken = bits & option.open_to
        if taken:
            self.reach.moves[option.move] |= taken
            self._add(option.move.target, taken)

    def _add(self, held: Held, bits: Bits) -> None:
        before = self.total.get(held)
        if before is None:
            before = 0
            self.options[held] = list(self._options(held))
        fresh = bits & ~before
        if not fresh:
            return
        self.total[held] = before | fresh
        at = self.reach.held[held]
        at[self.now] = at.get(self.now, 0) | fresh
        self.waiting.append((held, fresh))
        for made, any_kind in makings(self.model, self.reach.classes, held, fresh):
            self._add(made, any_kind)

    def _options(self, held: Held) -> Iterator[_Option]:
        permitted = list(self.model.moves(self.reach.classes, held))
        self.reach.options[held] = permitted
        for turns, move, open_to in permitted:
            option = _Option(move, open_to)
            for at in self.reach.instants.changes(turns):
                if at <= self.now:
                    option.stands = not option.stands
                else:
                    self.turning[at].append(option)
            yield option
