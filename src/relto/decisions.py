"""The decision: may this holder give this item to that party, by which path and article?

`Engine` compiles a regime once; `Engine.decide` is a pure function of a question (DESIGN §4).
Step numbers in comments are those of DESIGN §4 and docs/spec/decision.md. The default is `Deny`;
a fault inside a rule is `Deny` with the code `error`, never a door.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relto.channels import Candidate, Channel, Compiled, How
from relto.clauses import Share
from relto.labels import KIND_BITS, SELF, Source
from relto.questions import Question
from relto.readers import ANY_GRANT, EXPIRED, Readers, Standing
from relto.regime import Regime

__all__ = [
    "CODES",
    "Allow",
    "Deny",
    "Engine",
    "Leg",
    "Obligation",
    "Reason",
    "Review",
]

CODES = (
    "already-holds",
    "recalled",
    "mark-stale",
    "consent-withdrawn",
    "consent-expired",
    "not-releasable",
    "no-agreement",
    "third-party-rule",
    "not-in-force",
    "outside-kind",
    "outside-topic",
    "outside-subject",
    "mark-not-covered",
    "no-equivalent-mark",
    "consent-required",
    "no-common-path",
    "error",
)

ALLOWS_MAX = 100_000  # kept by an engine


@dataclass(frozen=True, slots=True)
class Leg:
    """One transfer: the mark is the receiver's, by the table of the protecting agreement."""

    sender: str
    receiver: str
    mark: str
    protected_by: str


@dataclass(frozen=True, slots=True)
class Review:
    """Who must review before the item leaves a party: 1 or 2 disclosure officers."""

    party: str
    officers: int


@dataclass(frozen=True, slots=True)
class Obligation:
    """A duty of a receiver. Hours for the two `…_within_h`, True for `return_or_destroy`."""

    duty: str
    value: int | bool
    party: str
    cites: str


@dataclass(frozen=True, slots=True)
class Reason:
    """Why not: a code of CODES, the clause tried and the source it was tried for."""

    code: str
    cites: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Allow:
    """The item may go, exactly so.

    `by_source` has the citation for each source in order; `cites` is the same without repeats.
    """

    path: tuple[str, ...]
    legs: tuple[Leg, ...]
    by_source: tuple[str, ...]
    review: tuple[Review, ...]
    obligations: tuple[Obligation, ...]

    @property
    def cites(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.by_source))


@dataclass(frozen=True, slots=True)
class Deny:
    """The item may not go, for every one of these reasons."""

    reasons: tuple[Reason, ...]


class Engine(Compiled):
    """Decides by one regime. Holds no state but caches; safe to share between threads."""

    def __init__(self, regime: Regime) -> None:
        super().__init__(regime)
        self.allows: dict[tuple[tuple[Candidate, ...], str, bool], Allow] = {}

    def decide(self, question: Question) -> Allow | Deny:
        """The decision, with the articles that say so. Never raises for a decoded question."""
        try:
            return _Deciding(self, question).decide()
        except Exception:  # a fault inside a rule refuses (DESIGN §4)
            return Deny((Reason("error"),))

    def decide_stated(
        self, question: Question, path: Sequence[str], by_source: Mapping[str, str]
    ) -> Allow | Deny:
        """Whether the stated path with the stated citation for each source is one that passes.

        For a receiver, who checks what a sender chose instead of choosing (DESIGN §6). Sources
        that `by_source` leaves out may stand on any citation.
        """
        try:
            return _Deciding(self, question).decide(tuple(path), by_source)
        except Exception:  # a fault inside a rule refuses (DESIGN §4)
            return Deny((Reason("error"),))

    def holds_blind(self, question: Question) -> bool:
        """Whether the holder holds the item only as a hub that does not read."""
        return _Deciding(self, question).holds_blind


class _Deciding:
    """One decision being taken: what steps (2) to (7) share."""

    def __init__(self, engine: Engine, question: Question) -> None:
        self.engine = engine
        self.q = question
        self.label = question.label
        self.readers = Readers(question, engine.ranks)
        self._blind: bool | None = None

    # the steps

    def decide(
        self, path: tuple[str, ...] | None = None, stated: Mapping[str, str] | None = None
    ) -> Allow | Deny:
        q, label = self.q, self.label
        # (2) before anything else
        if q.to in (q.holder, label.maker):
            return Deny((Reason("already-holds"),))
        self.item_mark = label.mark
        self.marks = {s.item: s.mark for s in label.sources}
        if q.status:
            if self.readers.is_recalled():
                return Deny((Reason("recalled"),))
            if self._apply_status():
                return Deny((Reason("mark-stale"),))
        # (3) effective readers
        excluded = self._not_readers()
        if excluded:
            return Deny(tuple(excluded))
        # (4) and (5) candidates of each source
        self.in_force = self.engine.in_force_at(q.at)
        held_as = q.holding.held_as
        self.mark_as_held = self.item_mark if held_as is None else held_as
        self.stamped: dict[Channel, tuple[str, ...] | None] = {}
        passing: list[list[Candidate]] = []
        reasons: list[Reason] = []
        for source in label.sources:
            candidates = self._candidates(source)
            if not candidates:
                reasons.append(Reason(self._no_candidate(source), None, source.item))
                passing.append([])
                continue
            passed = []
            failed = []
            for candidate in candidates:
                code = self._test(source, candidate)
                if code is not None:
                    failed.append(Reason(code, candidate.cites, source.item))
                elif _is_stated(candidate, source, path, stated):
                    passed.append(candidate)
                else:
                    failed.append(Reason("no-common-path"))
            if not passed:
                reasons += failed
            passing.append(passed)
        if reasons:
            return Deny(tuple(dict.fromkeys(reasons)))
        # (6) and (7)
        return self._choose(passing)

    def _apply_status(self) -> bool:
        """Take the marks that count; True if one of them is not stamped yet (mark-stale)."""
        q, label = self.q, self.label
        own = self.readers.item_status()
        if own is not None:
            if q.holder != label.maker and (
                q.holding.stamped_seq is None or own.seq > q.holding.stamped_seq
            ):
                return True
            assert own.mark is not None  # noqa: S101  # mark_status takes no other
            self.item_mark = own.mark
            self.marks[SELF if label.derived else label.id] = own.mark
        if label.derived:
            for source in label.sources:
                if source.item == SELF:
                    continue
                status = self.readers.mark_status(source.originator, source.item)
                if status is None or status.mark is None:
                    continue
                if status.mark != source.mark and (own is None or own.at < status.at):
                    return True
                self.marks[source.item] = status.mark
        return False

    def _not_readers(self) -> list[Reason]:
        q, label = self.q, self.label
        if self.readers.lists(q.to) and self.readers.lists(q.holder):
            return []
        parties = [q.to]
        if not self.holds_blind:
            parties.append(q.holder)
        found: dict[Reason, None] = {}
        for source in label.sources:
            for party in parties:
                code = self.readers.source_excludes(source, party)
                if code is not None:
                    found[Reason(code, None, source.item)] = None
        if label.derived:
            for party in parties:
                code = self.readers.item_excludes(party)
                if code is not None:
                    found[Reason(code, None, label.id)] = None
        return list(found)

    @property
    def holds_blind(self) -> bool:
        """Every receipt was as the hub of a clause with `via_reads = false`, and there is one."""
        if self._blind is None:
            holder, basis = self.q.holder, self.q.holding.basis
            hubs = self.engine.blind_hubs
            self._blind = (
                bool(hubs)
                and holder != self.label.maker
                and any(basis.values())
                and all(
                    hubs.get((b.agreement, b.article)) == holder
                    for receipts in basis.values()
                    for b in receipts
                )
            )
        return self._blind

    def _candidates(self, source: Source) -> list[Candidate]:
        """(4) What this source may travel by, in order of clauses, then consent, then own."""
        q = self.q
        between = self.engine.between(q.holder, q.to)
        originator = source.originator
        if q.holder == originator:  # a.
            return between.first_hand
        if q.to == originator:  # c.
            return between.as_own
        # b.
        found: list[Candidate] = []
        for basis in q.holding.basis.get(source.item, ()):
            if basis.how != "clause":
                continue
            through = between.passed_through.get((basis.agreement, basis.article))
            if (
                through is not None
                and isinstance(body := through.channel.rule.body, Share)
                and originator in body.senders
            ):
                found.append(through)
            if originator in self.engine.regime.agreements[basis.agreement].parties:
                found += between.by_onward.get(basis.agreement, ())
        if len(found) > 1:
            found = sorted(dict.fromkeys(found), key=lambda c: c.order)
        if self.readers.standing(source, q.to) in ANY_GRANT:
            found += between.by_consent
        return found

    def _no_candidate(self, source: Source) -> str:
        """(7) The code of a source that nothing could even be tried for."""
        at_home = source.originator in (self.q.holder, self.q.to)
        granted = self.readers.standing(source, self.q.to) in ANY_GRANT
        return "no-agreement" if at_home or granted else "third-party-rule"

    def _test(self, source: Source, candidate: Candidate) -> str | None:
        """(5) The first test that the candidate fails, in their fixed order."""
        channel = candidate.channel
        rule = channel.rule
        by_clause = candidate.how is How.CLAUSE
        if rule.agreement not in self.in_force or not self.in_force.issuperset(channel.guards):
            return "not-in-force"
        if not rule.kinds & KIND_BITS[self.label.kind]:
            return "outside-kind"
        if rule.topics != -1 and (not source.topics or source.topics & ~rule.topics):
            return "outside-topic"
        if rule.subjects != -1 and (not source.subjects or source.subjects & ~rule.subjects):
            return "outside-subject"
        if by_clause and rule.marks is not None and self.marks[source.item] not in rule.marks:
            return "mark-not-covered"
        if self._stamps(channel) is None:
            return "no-equivalent-mark"
        if channel.hub is not None and not self.readers.reads(channel.hub):
            return "not-releasable"
        if candidate.how is How.CONSENT and self.readers.standing(source, self.q.to) in EXPIRED:
            return "consent-expired"
        if by_clause and rule.consent_by_item:
            standing = self.readers.standing(source, self.q.to)
            if standing in EXPIRED:
                return "consent-expired"
            if standing is Standing.NONE:
                return "consent-required"
        return None

    def _stamps(self, channel: Channel) -> tuple[str, ...] | None:
        """The mark on each leg, mapped leg by leg by its own table; None where a row is missing."""
        if channel not in self.stamped:
            self.stamped[channel] = _map(self.mark_as_held, channel)
        return self.stamped[channel]

    def _choose(self, passing: list[list[Candidate]]) -> Allow | Deny:
        """(6) The preferred combination of passing candidates on a common path."""
        if len(passing) == 1 and len(passing[0]) == 1:  # what follows would choose the same
            return self._allow((passing[0][0],))
        first = {c.channel.key: None for c in passing[0]}
        best: tuple[Any, ...] | None = None
        chosen: tuple[Candidate, ...] = ()
        for key in first:
            options = [[c for c in passed if c.channel.key == key] for passed in passing]
            if not all(options):
                continue
            unreviewed = options
            if self._senders(options[0][0].channel):  # somebody reads, and so would review
                unreviewed = [[c for c in option if c.automatic] for option in options]
            reviewed = not all(unreviewed)
            if reviewed:
                combination, officers = self._most_officers(options)
            else:
                combination, officers = _first_by_citation(unreviewed), 0
            rank = (
                reviewed,
                len(key[0]),
                -officers,
                tuple(c.order for c in combination),
            )
            if best is None or rank < best:
                best, chosen = rank, combination
        if best is None:
            return Deny((Reason("no-common-path"),))
        return self._allow(chosen)

    def _most_officers(self, options: list[list[Candidate]]) -> tuple[tuple[Candidate, ...], int]:
        """The combination with most officers in sum, then the least citations.

        Which senders need two officers is a set that grows with the agreements chosen, so it is
        enough to keep, for every such set, the least combination that reaches it.
        """
        channel = options[0][0].channel
        senders = self._senders(channel)
        base = frozenset(p for p, guard, rank in senders if self._needs_two(guard, p, rank))
        states: dict[frozenset[str], tuple[tuple[Any, ...], tuple[Candidate, ...]]] = {
            base: ((), ())
        }
        for option in options:
            grown: dict[frozenset[str], tuple[tuple[Any, ...], tuple[Candidate, ...]]] = {}
            for reached, (orders, so_far) in states.items():
                for candidate in option:
                    agreement = candidate.channel.rule.agreement
                    more = reached | {
                        p for p, _, rank in senders if self._needs_two(agreement, p, rank)
                    }
                    entry = ((*orders, candidate.order), (*so_far, candidate))
                    if more not in grown or entry[0] < grown[more][0]:
                        grown[more] = entry
            states = grown
        most = max(len(reached) for reached in states)
        _, combination = min(
            (entry for reached, entry in states.items() if len(reached) == most),
            key=lambda entry: entry[0],
        )
        return combination, len(senders) + most

    def _senders(self, channel: Channel) -> list[tuple[str, str, int]]:
        """(party, agreement protecting its leg, rank of the mark in its hands) of who reviews."""
        stamps = self._stamps(channel)
        assert stamps is not None  # noqa: S101  # the candidate passed
        ranks = self.engine.ranks
        in_hands = (self.mark_as_held, *stamps)
        senders = []
        for index, party in enumerate(channel.path[:-1]):
            blind = self.holds_blind if index == 0 else channel.hub is None
            if not blind:
                senders.append((party, channel.guards[index], ranks[in_hands[index]]))
        return senders

    def _needs_two(self, agreement: str, party: str, rank: int) -> bool:
        floor = self.engine.two_person_from.get(agreement, {}).get(party)
        return floor is not None and rank <= floor

    def _allow(self, chosen: tuple[Candidate, ...]) -> Allow:
        """(7), kept for the next question: it depends on nothing but what the key says."""
        key = (chosen, self.mark_as_held, self.holds_blind)
        allows = self.engine.allows
        allow = allows.get(key)
        if allow is None:
            if len(allows) >= ALLOWS_MAX:
                allows.clear()
            allow = allows[key] = self._make_allow(chosen)
        return allow

    def _make_allow(self, chosen: tuple[Candidate, ...]) -> Allow:
        channel = chosen[0].channel
        stamps = self._stamps(channel)
        assert stamps is not None  # noqa: S101  # the candidate passed
        path = channel.path
        legs = tuple(
            Leg(path[i], path[i + 1], stamps[i], guard) for i, guard in enumerate(channel.guards)
        )
        agreements = {c.channel.rule.agreement for c in chosen}
        review: tuple[Review, ...] = ()
        if not all(c.automatic for c in chosen):
            review = tuple(
                Review(
                    party,
                    2 if any(self._needs_two(a, party, rank) for a in {*agreements, guard}) else 1,
                )
                for party, guard, rank in self._senders(channel)
            )
        obligations = [
            Obligation(duty, value, leg.receiver, cites)
            for leg in legs
            if leg.receiver in (channel.hub, path[-1])  # a hub that does not read is no recipient
            for duty, value, cites in self.engine.duties_under(
                frozenset([*agreements, leg.protected_by])
            )
        ]
        return Allow(path, legs, tuple(c.cites for c in chosen), review, tuple(obligations))


def _map(mark: str, channel: Channel) -> tuple[str, ...] | None:
    marks = []
    for table in channel.tables:
        stamp = table.get(mark)
        if stamp is None:
            return None
        mark = stamp.name
        marks.append(mark)
    return tuple(marks)


def _is_stated(
    candidate: Candidate,
    source: Source,
    path: tuple[str, ...] | None,
    stated: Mapping[str, str] | None,
) -> bool:
    if path is None or stated is None:
        return True
    wanted = stated.get(source.item)
    return candidate.channel.path == path and wanted in (None, candidate.cites)


def _first_by_citation(options: list[list[Candidate]]) -> tuple[Candidate, ...]:
    return tuple(min(option, key=lambda c: c.order) for option in options)
