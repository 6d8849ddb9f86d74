"""The shortest chain of permitted moves that ends as it should not, or as it must be able to."""

from collections.abc import Callable
from dataclasses import dataclass

from relto.proofs.fixpoint import Reach, beginnings, makings
from relto.proofs.model import Bits, Held, Model, Move, SourceClass

__all__ = ["Chain", "Step", "shortest"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step: a move, or an item made of what is held (`move` is None).

    `at` is the earliest instant at which the chain can be there; `kind` the item's from then on.
    """

    at: str
    move: Move | None
    held: Held
    kind: str


@dataclass(frozen=True, slots=True)
class Chain:
    """How a source of this class comes to the end of the chain, from its originator's hands."""

    originator: str
    source: SourceClass
    begins: Held
    steps: tuple[Step, ...]


@dataclass(slots=True, eq=False)
class _Arrival:
    held: Held
    when: int  # index of an instant
    bits: Bits
    before: "_Arrival | None" = None
    move: Move | None = None


def shortest(model: Model, reach: Reach, goal: Callable[[Move], Bits]) -> Chain | None:
    """The chain of fewest steps whose last move is one of `goal`'s classes; None if there is none.

    Level by level; of two ways of equal length the earlier one goes on.
    """
    classes = reach.classes
    level = [_Arrival(held, 0, bits) for held, bits in beginnings(model, classes) if bits]
    seen: dict[Held, list[tuple[int, Bits]]] = {}
    while level:
        following: list[_Arrival] = []
        for arrival in level:
            fresh = arrival.bits
            for when, bits in seen.get(arrival.held, ()):
                if when <= arrival.when:
                    fresh &= ~bits
            if not fresh:
                continue
            seen.setdefault(arrival.held, []).append((arrival.when, fresh))
            arrival.bits = fresh
            for made, bits in makings(model, classes, arrival.held, fresh):
                following.append(_Arrival(made, arrival.when, bits, arrival))
            for after in _moves(reach, arrival):
                assert after.move is not None  # noqa: S101  # what _moves gives
                if end := after.bits & goal(after.move):
                    return _told(reach, after, end)
                following.append(after)
        level = sorted(following, key=lambda a: a.when)
    return None


def _moves(reach: Reach, arrival: _Arrival) -> list[_Arrival]:
    found = []
    for turns, move, open_to in reach.options[arrival.held]:
        taken = arrival.bits & open_to
        when = reach.instants.first(turns, arrival.when) if taken else None
        if when is not None:
            found.append(_Arrival(move.target, when, taken, arrival, move))
    return found


def _told(reach: Reach, last: _Arrival, end: Bits) -> Chain:
    """The chain back from its last arrival, for the first class of `end`."""
    classes = reach.classes
    number = (end & -end).bit_length() - 1
    steps: list[Step] = []
    arrival: _Arrival | None = last
    while arrival is not None and arrival.before is not None:
        kind = classes.every[number].kind
        steps.append(Step(reach.instants.every[arrival.when], arrival.move, arrival.held, kind))
        arrival = arrival.before
        if not arrival.bits >> number & 1:  # made of another kind
            other = arrival.bits & classes.beside(classes.every[number])
            number = (other & -other).bit_length() - 1
    assert arrival is not None  # noqa: S101  # the loop ends at a beginning
    return Chain(classes.originator, classes.every[number], arrival.held, tuple(reversed(steps)))
