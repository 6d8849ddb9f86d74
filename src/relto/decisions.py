"""The decision: may this holder give this item to that party, by which path and article?

`Engine` compiles a regime once; `Engine.decide` is a pure function of a question (DESIGN §4).
Step numbers in comments are those of DESIGN §4 and docs/spec/decision.md. The default is `Deny`;
a fault inside a rule is `Deny` with the code `error`, never a door.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

from relto.channels import Candidate, Compiled, How
from relto.labels import ANY_KIND, Basis, Source
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


TRIALS_MAX = 100_000  # lists of them that an engine keeps
CHOICES_MAX = 10_000  # choices among several


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


class Reason(NamedTuple):
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


class Deny(NamedTuple):
    """The item may not go, for every one of these reasons."""

    reasons: tuple[Reason, ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """Their codes without repeats: what a refusal tells."""
        return tuple(dict.fromkeys(reason.code for reason in self.reasons))


_ALREADY_HOLDS = Deny((Reason("already-holds"),))


# holder, recipient; of a source its originator, the holder's receipts, whether its originator's
# consent opens more, and its mark; mark as held
_Key = tuple[str, str, str, tuple[Basis, ...], bool, str, str]


class Trial:
    """A candidate for sources of one mark, held by one mark: what step (5) has left to test.

    Marks and consent are asked for where the clause itself permits, not where a consent does, nor
    where it is the recipient's own information.
    """

    __slots__ = (
        *("allow", "by_consent", "by_item", "candidate", "hub", "mark_as_held", "outside"),
        *("stamps", "turns", "unmarked"),
    )

    def __init__(self, candidate: Candidate, mark: str, mark_as_held: str) -> None:
        channel, by_clause = candidate.channel, candidate.how is How.CLAUSE
        rule, stamps = channel.rule, channel.stamps.get(mark_as_held)
        self.candidate = candidate
        self.mark_as_held = mark_as_held
        self.turns = channel.turns
        self.outside = ~rule.covers
        self.unmarked: str | None = None  # the code of a test of marks that fails
        if by_clause and rule.marks is not None and mark not in rule.marks:
            self.unmarked = "mark-not-covered"
        elif stamps is None:
            self.unmarked = "no-equivalent-mark"
        self.stamps = stamps or ()
        self.hub = channel.hub
        self.by_item = by_clause and rule.consent_by_item
        self.by_consent = candidate.how is How.CONSENT
        self.allow: Allow | None = None  # kept: the answer with no other source and no other way


class Engine(Compiled):
    """Decides by one regime. Holds no state but caches; safe to share between threads."""

    def __init__(self, regime: Regime) -> None:
        super().__init__(regime)
        self.trials: dict[_Key, tuple[Trial, ...]] = {}
        self.choices: dict[tuple[tuple[tuple[Trial, ...], ...], bool], Allow | Deny] = {}

    def decide(self, question: Question) -> Allow | Deny:
        """The decision, with the articles that say so. Never raises for a decoded question."""
        try:
            return self._decide(question)
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
            return self._decide(question, tuple(path), by_source)
        except Exception:  # a fault inside a rule refuses (DESIGN §4)
            return Deny((Reason("error"),))

    def holds_blind(self, question: Question) -> bool:
        """Whether the holder holds the item only as a hub that does not read."""
        receipts = chain.from_iterable(question.holding.basis.values())
        return question.holder != question.label.maker and self._blind(question.holder, receipts)

    def _blind(self, holder: str, receipts: Iterable[Basis]) -> bool:
        """Every receipt was as the hub of a clause with `via_reads = false`, and there is one."""
        hubs = self.blind_hubs
        blind = False
        if hubs:
            for receipt in receipts:
                if hubs.get((receipt.agreement, receipt.article)) != holder:
                    return False
                blind = True
        return blind

    # the steps; `readers` are what the records say, None where there are no records

    def _decide(
        self,
        q: Question,
        path: tuple[str, ...] | None = None,
        stated: Mapping[str, str] | None = None,
    ) -> Allow | Deny:
        label, holder, to = q.label, q.holder, q.to
        # (2) before anything else
        if to == holder or to == label.maker:
            return _ALREADY_HOLDS
        readers = None
        mark_as_held = q.holding.held_as or label.mark
        if q.consents or q.status:
            readers = Readers(q, self.ranks)
            if readers.is_recalled():
                return Deny((Reason("recalled"),))
            if readers.take_status():
                return Deny((Reason("mark-stale"),))
            mark_as_held = readers.mark_as_held
        # (3) effective readers
        listed = label.listed
        if readers is not None or to not in listed or holder not in listed:
            excluded = self._not_readers(q, readers or Readers(q, self.ranks))
            if excluded:
                return Deny(tuple(excluded))
        # (4) and (5) candidates of each source
        passing: list[list[Trial]] = []
        reasons: list[Reason] = []
        for source in label.sources:
            passed: list[Trial] = []
            codes: list[str] = []
            trials = self._trials(q, source, mark_as_held, readers)
            for trial in trials:
                code = self._test(q, source, trial, readers)
                if code is None and stated is not None:
                    code = _not_stated(trial.candidate, source, path, stated)
                if code is None:
                    passed.append(trial)
                else:
                    codes.append(code)
            if not passed:
                reasons += self._reasons(q, source, trials, codes, readers)
            passing.append(passed)
        if reasons:
            if stated is not None:  # only then do they repeat: else each cites another clause
                reasons = list(dict.fromkeys(reasons))
            return Deny(tuple(reasons))
        # (6) and (7)
        if len(passing) == 1 and len(passed) == 1:  # `_choose` would choose the same
            trial = passed[0]
            if trial.allow is None:
                receipts = q.holding.basis.get(label.sources[0].item, ())
                trial.allow = self._make_allow((trial,), self._blind(holder, receipts))
            return trial.allow
        key = (tuple(map(tuple, passing)), self.holds_blind(q))
        choice = self.choices.get(key)
        if choice is None:
            if len(self.choices) >= CHOICES_MAX:
                self.choices.clear()
            choice = self.choices[key] = self._choose(*key)
        return choice

    def _reasons(
        self,
        q: Question,
        source: Source,
        trials: tuple[Trial, ...],
        codes: list[str],
        readers: Readers | None,
    ) -> list[Reason]:
        """(7) Why nothing passed for this source: the code of each trial, in their order."""
        if not trials:
            return [Reason(self._no_candidate(q, source, readers), None, source.item)]
        return [
            Reason(code)
            if code == "no-common-path"
            else Reason(code, trial.candidate.cites, source.item)
            for trial, code in zip(trials, codes, strict=True)
        ]

    def _not_readers(self, q: Question, readers: Readers) -> list[Reason]:
        label = q.label
        parties = [q.to] if self.holds_blind(q) else [q.to, q.holder]
        found: list[Reason] = []
        for source in label.sources:
            for party in parties:
                code = readers.source_excludes(source, party)
                if code is not None:
                    found.append(Reason(code, None, source.item))
        if label.derived:
            for party in parties:
                code = readers.item_excludes(party)
                if code is not None:
                    found.append(Reason(code, None, label.id))
        return found if len(found) < 2 else list(dict.fromkeys(found))

    def _trials(
        self, q: Question, source: Source, mark_as_held: str, readers: Readers | None
    ) -> tuple[Trial, ...]:
        """(4) What this source may travel by, kept for the next question."""
        granted = (
            readers is not None
            and source.originator not in (q.holder, q.to)
            and readers.standing(source, q.to) in ANY_GRANT
        )
        mark = source.mark if readers is None else readers.mark(source)
        receipts = q.holding.basis.get(source.item, ())
        key = (q.holder, q.to, source.originator, receipts, granted, mark, mark_as_held)
        found = self.trials.get(key)
        if found is None:
            if len(self.trials) >= TRIALS_MAX:
                self.trials.clear()
            candidates = self._candidates(q, source, granted=granted)
            found = self.trials[key] = tuple(Trial(c, mark, mark_as_held) for c in candidates)
        return found

    def _candidates(self, q: Question, source: Source, *, granted: bool) -> Sequence[Candidate]:
        """(4) In order of clauses, then by the originator's consent."""
        between = self.between(q.holder, q.to)
        found = between.of(source.originator, q.holding.basis.get(source.item, ()))
        return [*found, *between.by_consent] if granted else found

    def _no_candidate(self, q: Question, source: Source, readers: Readers | None) -> str:
        """(7) The code of a source that nothing could even be tried for."""
        if source.originator in (q.holder, q.to):
            return "no-agreement"
        if readers is not None and readers.standing(source, q.to) in ANY_GRANT:
            return "no-agreement"
        return "third-party-rule"

    def _test(
        self, q: Question, source: Source, trial: Trial, readers: Readers | None
    ) -> str | None:
        """(5) The first test that fails, in their fixed order."""
        if not bisect_right(trial.turns, q.at) & 1:
            return "not-in-force"
        missed = source.matter & trial.outside
        if missed:
            return self._outside(missed)
        if trial.unmarked is not None:
            return trial.unmarked
        hub = trial.hub
        if (
            hub is not None
            and (readers is not None or hub not in q.label.listed)  # else the label settles it
            and not (readers or Readers(q, self.ranks)).reads(hub)
        ):
            return "not-releasable"
        if trial.by_consent or trial.by_item:
            standing = Standing.NONE if readers is None else readers.standing(source, q.to)
            if standing in EXPIRED:
                return "consent-expired"
            if standing is Standing.NONE:
                return "consent-required"
        return None

    def _outside(self, missed: int) -> str:
        """(5) The first of kind, topic and subject that the clause does not cover."""
        if missed & ANY_KIND:
            return "outside-kind"
        if missed & self.regime.vocabulary.any_topic:
            return "outside-topic"
        return "outside-subject"

    def _choose(self, passing: tuple[tuple[Trial, ...], ...], blind: bool) -> Allow | Deny:
        """(6) The preferred combination of what passed on a common path.

        `blind`: the holder does not read, and so does not review.
        """
        first = {t.candidate.channel.key: None for t in passing[0]}
        best: tuple[Any, ...] | None = None
        chosen: tuple[Trial, ...] = ()
        for key in first:
            options = [[t for t in passed if t.candidate.channel.key == key] for passed in passing]
            if not all(options):
                continue
            unreviewed = options
            if self._senders(options[0][0], blind):  # somebody reads, and so would review
                unreviewed = [[t for t in option if t.candidate.automatic] for option in options]
            reviewed = not all(unreviewed)
            if reviewed:
                combination, officers = self._most_officers(options, blind)
            else:
                combination, officers = _first_by_citation(unreviewed), 0
            rank = (
                reviewed,
                len(key[0]),
                -officers,
                tuple(t.candidate.order for t in combination),
            )
            if best is None or rank < best:
                best, chosen = rank, combination
        if best is None:
            return Deny((Reason("no-common-path"),))
        return self._make_allow(chosen, blind)

    def _most_officers(
        self, options: list[list[Trial]], blind: bool
    ) -> tuple[tuple[Trial, ...], int]:
        """The combination with most officers in sum, then the least citations.

        Which senders need two officers is a set that grows with the agreements chosen, so it is
        enough to keep, for every such set, the least combination that reaches it.
        """
        senders = self._senders(options[0][0], blind)
        base = frozenset(p for p, guard, rank in senders if self._needs_two(guard, p, rank))
        states: dict[frozenset[str], tuple[tuple[Any, ...], tuple[Trial, ...]]] = {base: ((), ())}
        for option in options:
            grown: dict[frozenset[str], tuple[tuple[Any, ...], tuple[Trial, ...]]] = {}
            for reached, (orders, so_far) in states.items():
                for trial in option:
                    agreement = trial.candidate.channel.rule.agreement
                    more = reached | {
                        p for p, _, rank in senders if self._needs_two(agreement, p, rank)
                    }
                    entry = ((*orders, trial.candidate.order), (*so_far, trial))
                    if more not in grown or entry[0] < grown[more][0]:
                        grown[more] = entry
            states = grown
        most = max(len(reached) for reached in states)
        _, combination = min(
            (entry for reached, entry in states.items() if len(reached) == most),
            key=lambda entry: entry[0],
        )
        return combination, len(senders) + most

    def _senders(self, passed: Trial, blind: bool) -> list[tuple[str, str, int]]:
        """(party, agreement protecting its leg, rank of the mark in its hands) of who reviews."""
        channel = passed.candidate.channel
        in_hands = (passed.mark_as_held, *passed.stamps)
        reads = (not blind, channel.hub is not None)
        return [
            (party, channel.guards[index], self.ranks[in_hands[index]])
            for index, party in enumerate(channel.path[:-1])
            if reads[index]
        ]

    def _needs_two(self, agreement: str, party: str, rank: int) -> bool:
        floor = self.two_person_from.get(agreement, {}).get(party)
        return floor is not None and rank <= floor

    def _make_allow(self, chosen: tuple[Trial, ...], blind: bool) -> Allow:
        """(7) It depends on nothing but its arguments, so that it can be kept."""
        candidates = [trial.candidate for trial in chosen]
        channel, stamps = candidates[0].channel, chosen[0].stamps
        path = channel.path
        legs = tuple(
            Leg(path[i], path[i + 1], stamps[i], guard) for i, guard in enumerate(channel.guards)
        )
        agreements = {c.channel.rule.agreement for c in candidates}
        review: tuple[Review, ...] = ()
        if not all(c.automatic for c in candidates):
            review = tuple(
                Review(
                    party,
                    2 if any(self._needs_two(a, party, rank) for a in {*agreements, guard}) else 1,
                )
                for party, guard, rank in self._senders(chosen[0], blind)
            )
        obligations = [
            Obligation(duty, value, leg.receiver, cites)
            for leg in legs
            if leg.receiver in (channel.hub, path[-1])  # a hub that does not read is no recipient
            for duty, value, cites in self.duties_under(frozenset([*agreements, leg.protected_by]))
        ]
        return Allow(path, legs, tuple(c.cites for c in candidates), review, tuple(obligations))


def _not_stated(
    candidate: Candidate,
    source: Source,
    path: tuple[str, ...] | None,
    stated: Mapping[str, str],
) -> str | None:
    wanted = stated.get(source.item)
    if candidate.channel.path == path and wanted in (None, candidate.cites):
        return None
    return "no-common-path"


def _first_by_citation(options: list[list[Trial]]) -> tuple[Trial, ...]:
    return tuple(min(option, key=lambda c: c.candidate.order) for option in options)
