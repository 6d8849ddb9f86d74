"""A regime compiled for deciding: rules, and the channels they open between two parties.

Topics, subjects and kinds are bits of integers, equal marks are tables looked up by name, and
the channels of a pair are found once, so that a decision does not grow with agreements that do
not touch the pair.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import pairwise, product

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
from relto.labels import ANY_KIND, KIND_BITS, Basis
from relto.marks import Mark
from relto.regime import Regime
from relto.timeline import Turns

DUTIES = ("receipt_within_h", "return_or_destroy", "report_compromise_within_h")

__all__ = ["Between", "Candidate", "Channel", "Compiled", "How", "Rule"]


class How(IntEnum):
    """What a candidate stands on; in the order in which citations are compared (6)."""

    CLAUSE = 0
    CONSENT = 1
    OWN_INFORMATION = 2


_PREFIX = {How.CLAUSE: "", How.CONSENT: "consent+", How.OWN_INFORMATION: "own-information+"}


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A share or onward clause, compiled: `covers` has the bits of kinds, topics and subjects."""

    agreement: str
    article: str
    cites: str
    body: Share | Onward
    covers: int
    marks: frozenset[str] | None
    consent_by_item: bool
    automatic: bool


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """A rule as it applies from one holder to one recipient."""

    rule: Rule
    path: tuple[str, ...]
    guards: tuple[str, ...]  # the protecting agreement of each leg
    turns: Turns  # when the clause's agreement and all guards are in force together
    stamps: Mapping[str, tuple[str, ...]]  # mark as held -> the mark to stamp on each leg
    hub: str | None  # a hub on the path that reads
    key: tuple[tuple[str, ...], tuple[str, ...], bool]  # what must be common to all sources (6)
    from_sender: bool  # the holder is one of the clause's originators


class Candidate:
    """A channel with what it stands on: something to try for one source (4)."""

    __slots__ = ("automatic", "channel", "cites", "how", "order")

    def __init__(self, channel: Channel, how: How) -> None:
        rule = channel.rule
        self.channel = channel
        self.how = how
        self.cites = _PREFIX[how] + rule.cites
        self.order = (how, rule.agreement, rule.article)
        self.automatic = rule.automatic and how is not How.CONSENT  # a consent is reviewed


def _stamps(tables: Sequence[Mapping[str, Mark]]) -> dict[str, tuple[str, ...]]:
    """For each mark as held, the mark on each leg by its own table; none where a row is missing."""
    found: dict[str, tuple[str, ...]] = {m: (stamp.name,) for m, stamp in tables[0].items()}
    for table in tables[1:]:
        found = {m: (*s, table[s[-1]].name) for m, s in found.items() if s[-1] in table}
    return found


class Between:
    """All that can be tried from one holder to one recipient, in order of agreement and article."""

    def __init__(
        self,
        holder: str,
        to: str,
        sharing: list[Channel],
        passing: list[Channel],
        parties: Mapping[str, frozenset[str]],
    ) -> None:
        self.holder = holder
        self.to = to
        self.first_hand = [Candidate(c, How.CLAUSE) for c in sharing if c.from_sender]
        self._sharing = sharing
        self._parties = parties  # of each agreement
        self._through = {  # by citation, with the originators whose items may pass
            (c.rule.agreement, c.rule.article): (Candidate(c, How.CLAUSE), c.rule.body.senders)
            for c in sharing
            if isinstance(c.rule.body, Share) and c.rule.body.via == c.path[0]
        }
        self._onward: dict[str, list[Candidate]] = {}  # by agreement
        for c in passing:
            self._onward.setdefault(c.rule.agreement, []).append(Candidate(c, How.CLAUSE))

    @cached_property
    def by_consent(self) -> list[Candidate]:
        return [Candidate(c, How.CONSENT) for c in self._sharing]

    @cached_property
    def as_own(self) -> list[Candidate]:
        return [Candidate(c, How.OWN_INFORMATION) for c in self._sharing]

    def of(self, originator: str, receipts: tuple[Basis, ...]) -> Sequence[Candidate]:
        """What a source may travel by, without a consent, in order of clauses (4)."""
        if originator == self.holder:  # a.
            return self.first_hand
        if originator == self.to:  # c.
            return self.as_own
        if len(receipts) == 1:  # b.
            return self._after(receipts[0], originator)
        every = {c: None for receipt in receipts for c in self._after(receipt, originator)}
        return sorted(every, key=lambda c: c.order)

    def _after(self, receipt: Basis, originator: str) -> list[Candidate]:
        """What the holder may pass the originator's on by, after that receipt (4 b)."""
        if receipt.how != "clause":
            return []
        found: list[Candidate] = []
        through = self._through.get((receipt.agreement, receipt.article))
        if through is not None and originator in through[1]:
            found.append(through[0])
        onward = self._onward.get(receipt.agreement)
        if onward is not None and originator in self._parties[receipt.agreement]:
            found += onward
            found.sort(key=lambda c: c.order)
        return found


class Compiled:
    """A regime compiled for deciding. Holds no state but caches; safe to share."""

    def __init__(self, regime: Regime) -> None:
        self.regime = regime
        self.ranks = {mark.name: mark.rank for mark in regime.marks.values()}
        self._tables = {a.id: equivalences(a) for a in regime.agreements.values()}
        self.blind_hubs: dict[tuple[str, str], str] = {}  # by citation: hubs that do not read
        self.sentences: dict[tuple[object, ...], str] = {}  # explanations given before
        self._sharing: dict[tuple[str, str], list[Rule]] = {}  # by holder and recipient
        self._passing: dict[tuple[str, str], list[Rule]] = {}
        self._between: dict[tuple[str, str], Between] = {}
        self._parties = {a.id: a.parties for a in regime.agreements.values()}
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
            (ANY_KIND if scope.kinds is None else sum(KIND_BITS[k] for k in scope.kinds))
            | (
                vocabulary.any_topic
                if scope.topics is None
                else vocabulary.covered_by(scope.topics)
            )
            | (
                vocabulary.any_subject
                if scope.about is None
                else sum(vocabulary.subject_bits[s] for s in scope.about)
            ),
            scope.marks,
            body.consent == "item",
            body.release == "automatic",
        )
        if isinstance(body, Share) and body.via and not body.via_reads and body.via not in body.to:
            self.blind_hubs[agreement.id, clause.article] = body.via
        rules, holders = (
            (self._sharing, body.senders | ({body.via} if body.via else set()))
            if isinstance(body, Share)
            else (self._passing, body.by)
        )
        for pair in product(holders, body.to):
            rules.setdefault(pair, []).append(rule)

    def _channel(self, rule: Rule, path: tuple[str, ...], *, from_sender: bool) -> Channel:
        legs = list(pairwise(path))
        guards = tuple(rule.body.protected_by.get(leg_key(a, b), rule.agreement) for a, b in legs)
        tables = [self._tables[guard].get(leg, {}) for guard, leg in zip(guards, legs, strict=True)]
        reads = isinstance(rule.body, Share) and rule.body.via_reads
        hub = path[1] if len(path) == 3 and reads else None
        return Channel(
            rule,
            path,
            guards,
            self.regime.timeline.together([rule.agreement, *guards]),
            _stamps(tables),
            hub,
            (path, guards, hub is not None),
            from_sender,
        )

    def between(self, holder: str, to: str) -> Between:
        """What can be tried from holder to recipient; found once a pair."""
        found = self._between.get((holder, to))
        if found is None:
            found = self._between[holder, to] = self._find(holder, to)
        return found

    def _find(self, holder: str, to: str) -> Between:
        pair = (holder, to)
        sharing = [
            self._channel(rule, path_of(holder, rule.body.via, to), from_sender=True)
            if holder in rule.body.senders
            else self._channel(rule, pair, from_sender=False)
            for rule in self._sharing.get(pair, ())
            if isinstance(rule.body, Share)
        ]
        passing = [
            self._channel(rule, pair, from_sender=False) for rule in self._passing.get(pair, ())
        ]
        return Between(holder, to, sharing, passing, self._parties)

    def duties_under(self, agreements: frozenset[str]) -> list[tuple[str, int | bool, str]]:
        """(duty, value, citation): the strictest of equal duties in their protect clauses."""
        strictest: dict[str, tuple[int, str, str]] = {}
        for agreement in sorted(agreements):
            for article, body in self.protect[agreement]:
                values = (
                    body.receipt_within_h,
                    0 if body.return_or_destroy else None,
                    body.report_compromise_within_h,
                )
                for duty, value in zip(DUTIES, values, strict=True):
                    if value is not None:
                        entry = (value, agreement, article)
                        strictest[duty] = min(strictest.get(duty, entry), entry)
        return [
            (duty, True if duty == "return_or_destroy" else value, f"{agreement}/{article}")
            for duty in DUTIES
            if duty in strictest
            for value, agreement, article in [strictest[duty]]
        ]

    def in_force(self, agreement: str, at: str) -> bool:
        """Whether an agreement is in force at an instant, with all that it rests on."""
        return self.regime.timeline.in_force(agreement, at)
