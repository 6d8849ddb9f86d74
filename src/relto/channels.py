"""A regime compiled for deciding: rules, and the channels they open between two parties.

Topics, subjects and kinds are bits of integers, equal marks are tables looked up by name, and
the channels of a pair are found once, so that a decision does not grow with agreements that do
not touch the pair.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

from relto.clauses import (
    Agreement,
    Clause,
    Onward,
    Protect,
    Share,
    equivalences,
    leg_key,
    path_of,
)
from relto.labels import KIND_BITS
from relto.marks import Mark
from relto.regime import Regime

__all__ = ["Candidate", "Channel", "Compiled", "How", "Rule"]


class How(IntEnum):
    """What a candidate stands on; in the order in which citations are compared (6)."""

    CLAUSE = 0
    CONSENT = 1
    OWN_INFORMATION = 2


_PREFIX = {How.CLAUSE: "", How.CONSENT: "consent+", How.OWN_INFORMATION: "own-information+"}


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A share or onward clause, compiled. A mask of -1 covers everything."""

    agreement: str
    article: str
    cites: str
    body: Share | Onward
    kinds: int
    topics: int
    subjects: int
    marks: frozenset[str] | None
    consent_by_item: bool
    automatic: bool


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """A rule as it applies from one holder to one recipient."""

    rule: Rule
    path: tuple[str, ...]
    guards: tuple[str, ...]  # the protecting agreement of each leg
    tables: tuple[Mapping[str, Mark], ...]  # equal marks on each leg: mark -> mark to stamp
    hub: str | None  # a hub on the path that reads
    key: tuple[tuple[str, ...], tuple[str, ...], bool]  # what must be common to all sources (6)
    from_sender: bool  # the holder is one of the clause's originators


@dataclass(frozen=True, slots=True)
class Candidate:
    channel: Channel
    how: How
    automatic: bool

    @property
    def cites(self) -> str:
        return _PREFIX[self.how] + self.channel.rule.cites

    @property
    def order(self) -> tuple[int, str, str]:
        return (self.how, self.channel.rule.agreement, self.channel.rule.article)


class Compiled:
    """A regime compiled for deciding. Holds no state but caches; safe to share."""

    def __init__(self, regime: Regime) -> None:
        self.regime = regime
        self.ranks = {mark.name: mark.rank for mark in regime.marks.values()}
        self._tables = {a.id: equivalences(a) for a in regime.agreements.values()}
        self.rules: dict[str, Rule] = {}
        self._sharing: dict[str, list[Rule]] = {}  # by a party in `from`, or the hub
        self._passing: dict[str, list[Rule]] = {}  # by a party in `by`
        self._channels: dict[tuple[str, str], list[Channel]] = {}
        self._onward: dict[tuple[str, str], list[Channel]] = {}
        for agreement in sorted(regime.agreements.values(), key=lambda a: a.id):
            for clause in sorted(agreement.clauses, key=lambda c: c.article):
                self._compile(agreement, clause)
        self.protect = {
            a.id: [(c.article, c.body) for c in a.clauses if isinstance(c.body, Protect)]
            for a in regime.agreements.values()
        }
        self.two_person_from = {
            a: self._two_person_floors(bodies) for a, bodies in self.protect.items()
        }

    def _two_person_floors(self, bodies: list[tuple[str, Protect]]) -> dict[str, int]:
        """party -> the rank at or above which (numerically at or below) two officers are needed."""
        floors: dict[str, int] = {}
        for _, body in bodies:
            for mark in body.two_person_from:
                party = mark.partition(":")[0]
                floors[party] = max(floors.get(party, -1), self.ranks[mark])
        return floors

    def _compile(self, agreement: Agreement, clause: Clause) -> None:
        body = clause.body
        if not isinstance(body, Share | Onward):
            return
        vocabulary = self.regime.vocabulary
        scope = body.scope
        rule = Rule(
            agreement.id,
            clause.article,
            f"{agreement.id}/{clause.article}",
            body,
            -1 if scope.kinds is None else sum(KIND_BITS[k] for k in scope.kinds),
            -1 if scope.topics is None else vocabulary.covered_by(scope.topics),
            -1 if scope.about is None else sum(vocabulary.subject_bits[s] for s in scope.about),
            scope.marks,
            body.consent == "item",
            body.release == "automatic",
        )
        self.rules[rule.cites] = rule
        if isinstance(body, Share):
            for party in body.senders | ({body.via} if body.via else set()):
                self._sharing.setdefault(party, []).append(rule)
        else:
            for party in body.by:
                self._passing.setdefault(party, []).append(rule)

    def _channel(self, rule: Rule, path: tuple[str, ...], *, from_sender: bool) -> Channel:
        legs = list(pairwise(path))
        guards = tuple(rule.body.protected_by.get(leg_key(a, b), rule.agreement) for a, b in legs)
        tables = tuple(
            self._tables[guard].get(leg, {}) for guard, leg in zip(guards, legs, strict=True)
        )
        reads = isinstance(rule.body, Share) and rule.body.via_reads
        hub = path[1] if len(path) == 3 and reads else None
        return Channel(
            rule, path, guards, tables, hub, (path, guards, hub is not None), from_sender
        )

    def channels_between(self, holder: str, to: str) -> list[Channel]:
        """Channels from holder to recipient (4), in order of agreement and article."""
        found = self._channels.get((holder, to))
        if found is None:
            found = []
            for rule in self._sharing.get(holder, ()):
                body = rule.body
                assert isinstance(body, Share)  # noqa: S101  # what _compile put there
                if to not in body.to:
                    continue
                if holder in body.senders:
                    path = path_of(holder, body.via, to)
                    found.append(self._channel(rule, path, from_sender=True))
                else:
                    found.append(self._channel(rule, (holder, to), from_sender=False))
            self._channels[holder, to] = found
        return found

    def onward_between(self, holder: str, to: str) -> list[Channel]:
        found = self._onward.get((holder, to))
        if found is None:
            found = [
                self._channel(rule, (holder, to), from_sender=False)
                for rule in self._passing.get(holder, ())
                if to in rule.body.to
            ]
            self._onward[holder, to] = found
        return found

    def in_force_at(self, at: str) -> frozenset[str]:
        """Ids of agreements in force at an instant, with all that they rest on."""
        return self.regime.timeline.in_force_at(at)
