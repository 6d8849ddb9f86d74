"""Whether a regime keeps its properties: for each a proof, or the shortest chain that breaks it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

from relto.clauses import Citation, Share
from relto.proofs.chains import Chain, shortest
from relto.proofs.fixpoint import Instants, Reach, reach_of
from relto.proofs.model import Bits, Classes, Model, Move
from relto.proofs.properties import (
    Never,
    Place,
    Possible,
    Property,
    places,
)
from relto.regime import Regime

__all__ = ["Idle", "Proof", "Verdict", "prove"]

Readers = frozenset[str] | None  # whom every label names; None: everyone


@dataclass(frozen=True, slots=True)
class Verdict:
    """A property with what was found.

    `chain`: the shortest that breaks it, or, of what must be possible, the shortest that shows
    it. A property that holds otherwise has none; nor has one that must be possible and is not.
    """

    property: Property
    holds: bool
    chain: Chain | None = None


@dataclass(frozen=True, slots=True)
class Idle:
    """A clause that no move can use, whatever originators consent to. `in_force`: if it ever is."""

    cites: str
    in_force: bool


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found for one regime. `reaches`: the closed set of each originator's information."""

    regime: Regime
    at: str | None
    consents: frozenset[tuple[str, str]]
    verdicts: tuple[Verdict, ...]
    idle: tuple[Idle, ...]
    reaches: Mapping[str, Reach]

    @property
    def holds(self) -> bool:
        return all(verdict.holds for verdict in self.verdicts)


def prove(
    regime: Regime,
    properties: Iterable[Property],
    at: str | None = None,
    consents: frozenset[tuple[str, str]] = frozenset(),
) -> Proof:
    """Every property held against every chain of moves that the regime permits.

    The moves of a chain are made at instants in rising order, anywhere on the timeline; with `at`
    all at that one. `consents` has (originator, recipient): that originator's item-specific
    consents to that recipient, for any item; no others are given.
    """
    proving = _Proving(regime, tuple(properties), at, consents)
    verdicts = tuple(proving.verdict(one) for one in proving.properties)
    reaches = {party: proving.reach(None, party) for party in sorted(regime.parties)}
    return Proof(regime, at, consents, verdicts, tuple(proving.idle()), reaches)


class _Proving:
    def __init__(
        self,
        regime: Regime,
        properties: tuple[Property, ...],
        at: str | None,
        consents: frozenset[tuple[str, str]],
    ) -> None:
        self.regime = regime
        self.properties = properties
        self.consents = consents
        self.models: dict[Readers, Model] = {}
        self.classes: dict[str, Classes] = {}
        self.reaches: dict[tuple[Readers, str], Reach] = {}
        self.instants = Instants.of(regime) if at is None else Instants([at])

    def _model(self, readers: Readers) -> Model:
        if readers not in self.models:
            self.models[readers] = Model(self.regime, self.consents, readers)
        return self.models[readers]

    def _classes(self, originator: str) -> Classes:
        if originator not in self.classes:
            self.classes[originator] = self._model(None).classes(originator)
        return self.classes[originator]

    def reach(self, readers: Readers, originator: str) -> Reach:
        key = (readers, originator)
        if key not in self.reaches:
            model, classes = self._model(readers), self._classes(originator)
            self.reaches[key] = reach_of(model, classes, self.instants)
        return self.reaches[key]

    def verdict(self, one: Property) -> Verdict:
        form = one.form
        if isinstance(form, Possible):
            reach = self.reach(form.releasable_to, form.originator)
            model = self._model(form.releasable_to)
            chain = shortest(model, reach, partial(form.meets, reach.classes))
            return Verdict(one, chain is not None, chain)
        shown = min(self._leaks(form), key=lambda c: len(c.steps), default=None)
        return Verdict(one, shown is None, shown)

    @cached_property
    def _moves(self) -> Mapping[Place, list[tuple[str, Move, Bits]]]:
        """Every move that anyone can make, with its originator, by the places where it stands."""
        found: dict[Place, list[tuple[str, Move, Bits]]] = defaultdict(list)
        for originator in sorted(self.regime.parties):
            for move, bits in self.reach(None, originator).moves.items():
                for place in places(originator, move):
                    found[place].append((originator, move, bits))
        return found

    def _leaks(self, form: Never) -> Iterator[Chain]:
        """For each originator with a move that breaks it, the shortest chain that does."""
        model = self._model(None)
        broken: set[str] = set()
        for originator, move, bits in self._moves.get(form.place, ()):
            reach = self.reach(None, originator)
            if originator not in broken and bits & form.forbids(model, reach.classes, move):
                broken.add(originator)
                chain = shortest(model, reach, partial(form.forbids, model, reach.classes))
                assert chain is not None  # noqa: S101  # the move is the end of one
                yield chain

    def idle(self) -> Iterator[Idle]:
        """Clauses that can never apply, even with every consent there could be."""
        model = Model(self.regime, self.consents, all_asked=True)
        used: set[str] = set()
        for originator in sorted(self.regime.parties):
            reach = reach_of(model, self._classes(originator), self.instants)
            used.update(Citation.parse(move.cites).clause for move in reach.moves)
        routes = list(model.routes())
        standing = {r.cites for r in routes if self.instants.changes(r.turns)}
        for route in routes:
            shares = route.cites in standing and isinstance(route.body, Share)
            if shares and any(map(route.stamps, route.tables[0])):  # a consent can open it
                used.add(route.cites)
        return (Idle(r, r in standing) for r in sorted({r.cites for r in routes} - used))
