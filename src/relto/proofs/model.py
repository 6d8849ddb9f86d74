"""The moves that a regime permits, for every kind of source label at once.

Every source of an item must pass by itself, so it is enough to follow one source: who holds it,
on what basis, under which mark (DESIGN §5). What clauses can tell apart in its label is a class;
a set of classes is the bits of an integer, and a move takes along those that it is open to.
Written from DESIGN §4 beside the engine, not from it: a test holds the two together.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

from relto.clauses import (
    Agreement,
    Citation,
    Onward,
    Scope,
    Share,
    equivalences,
    leg_key,
    path_of,
)
from relto.labels import KINDS
from relto.marks import Mark
from relto.regime import Regime
from relto.timeline import Turns

__all__ = ["Bits", "Classes", "Held", "Model", "Move", "Route", "SourceClass"]

Bits = int  # a set of classes: bit n is class n of `Classes.every`
_Names = frozenset[str]
PARTS = ("mark", "topics", "about", "kind")  # of a class


@dataclass(frozen=True, slots=True)
class SourceClass:
    """Labels that no clause tells apart, by one of them. `topics` and `about` may be empty."""

    mark: str
    topics: _Names
    about: _Names
    kind: str


@dataclass(frozen=True, slots=True)
class Held:
    """One way of holding a source: the citation it came by, and the mark it is held under.

    `basis` is empty for what the holder originated. `reads` is False for a hub that carries what
    it cannot open. `made`: as a part of what another party than its originator made.
    """

    holder: str
    basis: str
    mark: str
    reads: bool = True
    made: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A share or onward clause as it can be used from one holder to one recipient."""

    cites: str
    body: Share | Onward
    members: _Names  # the parties of its agreement
    path: tuple[str, ...]
    guards: tuple[str, ...]  # the protecting agreement of each leg
    tables: tuple[Mapping[str, Mark], ...]  # of equal marks, for each leg
    turns: Turns  # when all that it needs is in force together

    def stamps(self, mark: str) -> tuple[str, ...] | None:
        """The mark on each leg, each by its own table; None where a row is missing."""
        found = []
        for table in self.tables:
            stamp = table.get(mark)
            if stamp is None:
                return None
            mark = stamp.name
            found.append(mark)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Move:
    """A step that the rules permit. The first leg of `path` is gone; a hub decides for the rest.

    `cites` as in a decision. `readers`: who must be an effective reader of the source for it.
    """

    source: Held
    target: Held
    path: tuple[str, ...]
    cites: str
    guards: tuple[str, ...]
    marks: tuple[str, ...]
    readers: _Names


class Classes:
    """The kinds of source label of one originator that scopes can tell apart, numbered."""

    def __init__(
        self,
        originator: str,
        marks: Iterable[str],
        topics: Iterable[_Names],
        about: Iterable[_Names],
        kinds: Iterable[str],
    ) -> None:
        parts = (tuple(marks), tuple(topics), tuple(about), tuple(kinds))
        self.originator = originator
        self.every = tuple(SourceClass(*p) for p in product(*parts))
        self.all: Bits = (1 << len(self.every)) - 1
        self._kinds = len(parts[3])
        self._firsts = self.all // ((1 << self._kinds) - 1)  # the first kind of each label
        self._with: dict[str, dict[Any, Bits]] = {}  # by part, the classes with each value of it
        step = len(self.every)
        for name, values in zip(PARTS, parts, strict=True):
            run, step = step, step // len(values)
            repeats = self.all // ((1 << run) - 1)
            block = (1 << step) - 1
            self._with[name] = {v: (block << n * step) * repeats for n, v in enumerate(values)}
        self._covered: dict[tuple[str, _Names | None], Bits] = {}

    def covered(self, part: str, names: _Names | None) -> Bits:
        """Those that a scope naming `names` covers. `part`: one of PARTS.

        Topics are taken literally: give descendants too. No topic at all is outside a scope that
        names some (DESIGN §4 (5)); None covers all.
        """
        if names is None:
            return self.all
        found = self._covered.get((part, names))
        if found is None:
            found = 0
            for value, bits in self._with[part].items():
                inside = (
                    value in names if isinstance(value, str) else bool(value) and value <= names
                )
                found |= bits if inside else 0
            self._covered[part, names] = found
        return found

    def in_any_kind(self, bits: Bits) -> Bits:
        """The same labels with every kind: what a maker may make of them."""
        firsts = 0
        for n in range(self._kinds):
            firsts |= (bits >> n) & self._firsts
        return firsts * ((1 << self._kinds) - 1)

    def members(self, bits: Bits) -> Iterator[SourceClass]:
        return (one for n, one in enumerate(self.every) if bits >> n & 1)

    def beside(self, one: SourceClass) -> Bits:
        """The class itself and those that differ from it in kind alone."""
        return self.in_any_kind(1 << self.every.index(one))


class Model:
    """What a regime permits, with originators' consents as a switch.

    `consents` has pairs (originator, recipient): that originator consents, item by item, to that
    recipient. `readers` are the effective readers that labels name, of every class alike; None:
    every party, which permits most. With `all_asked` a clause that asks for a consent has it.
    """

    def __init__(
        self,
        regime: Regime,
        consents: frozenset[tuple[str, str]] = frozenset(),
        readers: frozenset[str] | None = None,
        *,
        all_asked: bool = False,
    ) -> None:
        self.regime = regime
        self.consents = consents
        self.readers = regime.parties if readers is None else readers
        self.all_asked = all_asked
        self.ranks = {mark.name: mark.rank for mark in regime.marks.values()}
        self._tables = {a.id: equivalences(a) for a in regime.agreements.values()}
        self._topics: dict[_Names, _Names] = {}
        self._floors: dict[tuple[str, str], dict[str, int]] = {}
        self._to: dict[tuple[str, str], list[Route]] = {}  # share clauses from one to another
        self._passing: dict[tuple[str, str], list[Route]] = {}  # by holder and its basis: its hub's
        self._onward: dict[tuple[str, str], list[Route]] = {}  # by holder and agreement
        for agreement in sorted(regime.agreements.values(), key=lambda a: a.id):
            for clause in sorted(agreement.clauses, key=lambda c: c.article):
                if isinstance(clause.body, Share | Onward):
                    self._open(agreement, clause.article, clause.body)

    def _open(self, agreement: Agreement, article: str, body: Share | Onward) -> None:
        cites = f"{agreement.id}/{article}"
        for path in _paths(body):
            route = self._route(agreement, cites, body, path)
            holder, to = path[0], path[-1]
            if isinstance(body, Onward):
                self._onward.setdefault((holder, agreement.id), []).append(route)
                continue
            self._to.setdefault((holder, to), []).append(route)
            if body.via == holder:
                self._passing.setdefault((holder, cites), []).append(route)

    def _route(
        self, agreement: Agreement, cites: str, body: Share | Onward, path: tuple[str, ...]
    ) -> Route:
        legs = list(pairwise(path))
        guards = tuple(body.protected_by.get(leg_key(*leg), agreement.id) for leg in legs)
        tables = tuple(self._tables[g].get(leg, {}) for g, leg in zip(guards, legs, strict=True))
        turns = self.regime.timeline.together([agreement.id, *guards])
        return Route(cites, body, agreement.parties, path, guards, tables, turns)

    def routes(self) -> Iterator[Route]:
        """Every way in which a clause can be used."""
        for table in (self._to, self._onward):
            for routes in table.values():
                yield from routes

    def classes(self, originator: str) -> Classes:
        """Every class of an originator: with any of its marks, any kind, and one topic and subject.

        Or with none: a label with several is open to no more than with any one of them.
        """
        vocabulary = self.regime.vocabulary
        return Classes(
            originator,
            [mark.name for mark in self.regime.schemes[originator].marks],
            [frozenset(), *(frozenset([name]) for name in vocabulary.topic_bits)],
            [frozenset(), *(frozenset([name]) for name in vocabulary.subject_bits)],
            KINDS,
        )

    def floors(self, originator: str, party: str) -> Mapping[str, int]:
        """For each mark of the originator the lowest rank that agreements of the two equate it to.

        A lower rank is a higher mark. For the originator itself its marks' own ranks.
        """
        key = (originator, party)
        found = self._floors.get(key)
        if found is None:
            found = self._floors[key] = {}
            if originator == party:
                marks = self.regime.schemes[party].marks
                found.update((mark.name, mark.rank) for mark in marks)
            for tables in self._tables.values():
                for mark, stamp in tables.get(key, {}).items():
                    found[mark] = max(found.get(mark, 0), stamp.rank)
        return found

    def covered_topics(self, topics: _Names | None) -> _Names | None:
        """The topics that a scope covers: those named and their descendants."""
        if topics is None:
            return None
        if topics not in self._topics:
            bits = self.regime.vocabulary.covered_by(topics)
            names = self.regime.vocabulary.topic_bits
            self._topics[topics] = frozenset(name for name, bit in names.items() if bit & bits)
        return self._topics[topics]

    def scope_of(self, citation: str) -> Scope:
        """What a citation covers, every topic named; a consent or own information any mark."""
        clause = self.regime.clause(citation)
        assert clause is not None  # noqa: S101  # a move cites one
        assert isinstance(clause.body, Share | Onward)  # noqa: S101  # and only one of these
        scope = clause.body.scope
        marks = None if Citation.parse(citation).how else scope.marks
        return Scope(scope.about, self.covered_topics(scope.topics), scope.kinds, marks)

    def open_to(self, classes: Classes, scope: Scope, *, marks: bool) -> Bits:
        """The classes inside a clause's scope; its marks count only with `marks`."""
        return (
            classes.covered("kind", scope.kinds)
            & classes.covered("topics", self.covered_topics(scope.topics))
            & classes.covered("about", scope.about)
            & (classes.covered("mark", scope.marks) if marks else classes.all)
        )

    # the steps of DESIGN §4, for one source

    def moves(self, classes: Classes, held: Held) -> Iterator[tuple[Turns, Move, Bits]]:
        """What whoever holds a source so may do, when, and with which classes."""
        originator = classes.originator
        for how, route in self._standing(originator, held):
            marks = route.stamps(held.mark)
            if marks is None:
                continue
            body, to = route.body, route.path[-1]
            is_hub = len(route.path) == 3
            hub_reads = is_hub and isinstance(body, Share) and body.via_reads
            readers = {to} if self.carries(held.holder, held.basis) else {to, held.holder}
            if hub_reads:
                readers.add(route.path[1])
            readers.discard(originator)
            if not all(self._may_read(originator, party) for party in readers):
                continue
            cites = f"{how}+{route.cites}" if how else route.cites
            reads = not is_hub or hub_reads
            target = Held(route.path[1], cites, marks[0], reads, held.made)
            who = frozenset(readers)
            yield (
                route.turns,
                Move(held, target, route.path, cites, route.guards, marks, who),
                self.open_to(classes, body.scope, marks=not how),
            )

    def _may_read(self, originator: str, party: str) -> bool:
        return party in self.readers or (originator, party) in self.consents

    def carries(self, holder: str, basis: str) -> bool:
        """Whether that basis makes of the holder a hub that does not read (§4 (3))."""
        clause = self.regime.clause(basis)
        body = None if clause is None else clause.body
        return (
            isinstance(body, Share)
            and body.via == holder
            and not body.via_reads
            and body.via not in body.to
        )

    def _standing(self, originator: str, held: Held) -> Iterator[tuple[str, Route]]:
        """(4) The routes to try for this source, each with what it stands on.

        That is the clause itself (""), a consent, or that it is the recipient's own information.
        """
        holder = held.holder
        if holder == originator:
            for to in sorted(self.regime.parties - {holder}):
                for route in self._to.get((holder, to), ()):
                    if originator in _senders(route) and self._consented(originator, route):
                        yield "", route
            return
        basis = Citation.parse(held.basis)
        if not basis.how:
            for route in self._passing.get((holder, held.basis), ()):
                if originator in _senders(route) and self._may_pass(originator, route):
                    yield "", route
            for route in self._onward.get((holder, basis.agreement), ()):
                if originator in route.members and self._may_pass(originator, route):
                    yield "", route
        for by, to in sorted(self.consents):
            if by == originator and to != holder:
                for route in self._to.get((holder, to), ()):
                    yield "consent", route
        if held.made:  # else the originator holds the item already (2)
            for route in self._to.get((holder, originator), ()):
                yield "own-information", route

    def _may_pass(self, originator: str, route: Route) -> bool:
        return route.path[-1] != originator and self._consented(originator, route)

    def _consented(self, originator: str, route: Route) -> bool:
        """Whether a clause that asks for a consent of its own has it."""
        given = self.all_asked or (originator, route.path[-1]) in self.consents
        return given or route.body.consent == "label"


def _senders(route: Route) -> _Names:
    return route.body.senders if isinstance(route.body, Share) else frozenset()


def _paths(body: Share | Onward) -> Iterator[tuple[str, ...]]:
    """Every path that the clause opens from a holder: from who may share, and from its hub."""
    if isinstance(body, Onward):
        yield from ((a, b) for a in sorted(body.by) for b in sorted(body.to) if a != b)
        return
    holders = body.senders | ({body.via} if body.via else frozenset())
    for holder in sorted(holders):
        for to in sorted(body.to - {holder}):
            yield path_of(holder, body.via, to) if holder in body.senders else (holder, to)
