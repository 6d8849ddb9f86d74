"""The decision: may this holder give this item to that party, by which path and article?

`Engine` compiles a regime once; `Engine.decide` is a pure function of a question (DESIGN §4).
Step numbers in comments are those of DESIGN §4 and docs/spec/decision.md. The default is `Deny`;
a fault inside a rule is `Deny` with the code `error`, never a door.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relto.channels import Candidate, Compiled, How
from relto.labels import KIND_BITS, SELF, Source
from relto.questions import Question
from relto.readers import ANY_GRANT, EXPIRED, Readers, Standing
from relto.regime import Regime
from relto.timeline import stands_at

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

    @property
    def codes(self) -> tuple[str, ...]:
        """Their codes without repeats: what a refusal tells."""
        return tuple(dict.fromkeys(reason.code for reason in self.reasons))


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

    __slots__ = ("_blind", "_readers", "engine", "label", "mark_as_held", "marks", "q")

    def __init__(self, engine: Engine, question: Question) -> None:
        self.engine = engine
        self.q = question
        self.label = question.label
        self.marks: dict[str, str] = {}  # of sources whose mark is no longer that of the label
        self._readers: Readers | None = None
        self._blind: bool | None = None

    @property
    def readers(self) -> Readers:
        """What the records say; only made where the label alone does not settle it."""
        if self._readers is None:
            self._readers = Readers(self.q, self.engine.ranks)
        return self._readers

    # the steps

    def decide(
        self, path: tuple[str, ...] | None = None, stated: Mapping[str, str] | None = None
    ) -> Allow | Deny:
        q, label = self.q, self.label
        holder, to = q.holder, q.to
        # (2) before anything else
        if to == holder or to == label.maker:
            return Deny((Reason("already-holds"),))
        held_as = q.holding.held_as
        self.mark_as_held = label.mark if held_as is None else held_as
        if q.status:
            if self.readers.is_recalled():
                return Deny((Reason("recalled"),))
            if self._apply_status():
                return Deny((Reason("mark-stale"),))
        # (3) effective readers
        listed = label.listed
        if q.consents or to not in listed or holder not in listed:
            excluded = self._not_readers()
            if excluded:
                return Deny(tuple(excluded))
        # (4) and (5) candidates of each source
        passing: list[list[Candidate]] = []
        reasons: list[Reason] = []
        for source in label.sources:
            passed: list[Candidate] = []
            failed: list[tuple[str, Candidate]] = []
            for candidate in self._candidates(source):
                code = self._test(source, candidate)
                if code is None and stated is not None:
                    code = _not_stated(candidate, source, path, stated)
                if code is None:
                    passed.append(candidate)
                else:
                    failed.append((code, candidate))
            if not passed:
                reasons += self._reasons(source, failed)
            passing.append(passed)
        if reasons:
            return Deny(tuple(dict.fromkeys(reasons)))
        # (6) and (7)
        return self._choose(passing)

    def _reasons(self, source: Source, failed: list[tuple[str, Candidate]]) -> list[Reason]:
        """(7) Why nothing passed for this source."""
        if not failed:
            return [Reason(self._no_candidate(source), None, source.item)]
        return [
            Reason(code) if code == "no-common-path" else Reason(code, c.cites, source.item)
            for code, c in failed
        ]

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
            if q.holding.held_as is None:
                self.mark_as_held = own.mark
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
            self._blind = self._find_blind()
        return self._blind

    def _find_blind(self) -> bool:
        holder, hubs = self.q.holder, self.engine.blind_hubs
        blind = False
        if hubs and holder != self.label.maker:
            for receipts in self.q.holding.basis.values():
                for receipt in receipts:
                    if hubs.get((receipt.agreement, receipt.article)) != holder:
                        return False
                    blind = True
        return blind

    def _candidates(self, source: Source) -> Sequence[Candidate]:
        """(4) What this source may travel by, in order of clauses, then consent, then own."""
        q = self.q
        between = self.engine.between(q.holder, q.to)
        originator = source.originator
        if q.holder == originator:  # a.
            return between.first_hand
        if q.to == originator:  # c.
            return between.as_own
        # b.
        receipts = q.holding.basis.get(source.item, ())
        found: Sequence[Candidate]
        if len(receipts) == 1:
            found = between.after(receipts[0], originator)
        else:
            every = {c: None for receipt in receipts for c in between.after(receipt, originator)}
            found = sorted(every, key=lambda c: c.order)
        if q.consents and self.readers.standing(source, q.to) in ANY_GRANT:
            return [*found, *between.by_consent]
        return found

    def _no_candidate(self, source: Source) -> str:
        """(7) The code of a source that nothing could even be tried for."""
        at_home = source.originator in (self.q.holder, self.q.to)
        granted = self.readers.standing(source, self.q.to) in ANY_GRANT
        return "no-agreement" if at_home or granted else "third-party-rule"

    def _test(self, source: Source, candidate: Candidate) -> str | None:
        """(5) The first test that the candidate fails, in their fixed order."""
        if not stands_at(candidate.turns, self.q.at):
            return "not-in-force"
        if not candidate.kinds & KIND_BITS[self.label.kind]:
            return "outside-kind"
        named = candidate.topics
        if named != -1 and (not source.topics or source.topics & ~named):
            return "outside-topic"
        named = candidate.subjects
        if named != -1 and (not source.subjects or source.subjects & ~named):
            return "outside-subject"
        marks = candidate.marks
        if marks is not None and self.marks.get(source.item, source.mark) not in marks:
            return "mark-not-covered"
        if self.mark_as_held not in candidate.stamps:
            return "no-equivalent-mark"
        if candidate.hub is not None and not self.readers.reads(candidate.hub):
            return "not-releasable"
        if candidate.how is How.CONSENT and self.readers.standing(source, self.q.to) in EXPIRED:
            return "consent-expired"
        if candidate.by_item:
            standing = self.readers.standing(source, self.q.to)
            if standing in EXPIRED:
                return "consent-expired"
            if standing is Standing.NONE:
                return "consent-required"
        return None

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
            if self._senders(options[0][0]):  # somebody reads, and so would review
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
        senders = self._senders(options[0][0])
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

    def _senders(self, passed: Candidate) -> list[tuple[str, str, int]]:
        """(party, agreement protecting its leg, rank of the mark in its hands) of who reviews."""
        channel = passed.channel
        ranks = self.engine.ranks
        in_hands = (self.mark_as_held, *passed.stamps[self.mark_as_held])
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
        stamps = chosen[0].stamps[self.mark_as_held]
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
                for party, guard, rank in self._senders(chosen[0])
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


def _first_by_citation(options: list[list[Candidate]]) -> tuple[Candidate, ...]:
    return tuple(min(option, key=lambda c: c.order) for option in options)
