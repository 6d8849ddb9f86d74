"""The decision procedure of DESIGN §§2-4 a second time: slow, obvious, on plain dicts.

The engine is tested against this. Nothing here is shared with it, and nothing is indexed,
compiled or cached: each sentence of the text is one straight loop.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

KINDS = (
    "report",
    "assessment",
    "warning",
    "imagery",
    "rfi",
    "reply",
    "collection-request",
    "tearline",
    "capability",
)
DUTIES = ("receipt_within_h", "return_or_destroy", "report_compromise_within_h")
CLAUSE, CONSENT, OWN = "clause", "consent", "own-information"
PREFERENCE = {CLAUSE: 0, CONSENT: 1, OWN: 2}


class Malformed(ValueError):
    """The question is not one: §4 (1)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One clause under which one source might go, and how it would."""

    kind: str
    agreement: str
    article: str
    terms: dict[str, Any]
    path: tuple[str, ...]
    protected_by: tuple[str, ...]
    hub_reads: bool | None  # None: no hub

    @property
    def cites(self) -> str:
        clause = f"{self.agreement}/{self.article}"
        return clause if self.kind == CLAUSE else f"{self.kind}+{clause}"

    @property
    def order(self) -> tuple[int, str, str]:
        return PREFERENCE[self.kind], self.agreement, self.article

    @property
    def way(self) -> tuple[tuple[str, ...], tuple[str, ...], bool | None]:
        """What the candidates of all sources must have in common (§4 (6))."""
        return self.path, self.protected_by, self.hub_reads

    @property
    def automatic(self) -> bool:
        """§4 (7): a consent is always reviewed; own information as its clause says."""
        return self.kind != CONSENT and self.terms["release"] == "automatic"


class Reference:
    """Answers of `relto decide` against one valid regime.

    The regime is `{"schemes": {party: …}, "vocabulary": …, "agreements": {id: …}, "timeline": …}`,
    each value as `tomllib` returns it.
    """

    def __init__(self, regime: dict[str, Any]) -> None:
        self.schemes: dict[str, Any] = regime["schemes"]
        self.vocabulary: dict[str, Any] = regime["vocabulary"]
        self.agreements: dict[str, Any] = regime["agreements"]
        self.events: list[dict[str, Any]] = regime["timeline"].get("event", [])

    def answer(self, question: Any) -> dict[str, Any]:
        """The object that `relto decide --batch` prints, without `needs`."""
        head = {}
        if isinstance(question, dict) and isinstance(question.get("id"), str):
            head = {"id": question["id"]}
        try:
            check_question(self, question)  # (1)
        except Malformed as fault:
            return head | {"error": str(fault)}
        return head | Case(self, question).decide()

    # §2: marks, tables and clauses

    def marks(self, party: str) -> list[str]:
        return [f"{party}:{mark['code']}" for mark in self.schemes[party]["mark"]]

    def rank(self, mark: str) -> int:
        """0 is the highest rung; a mark beside a rung has that rung's rank."""
        party, code = mark.split(":", 1)
        ladder = self.schemes[party]["mark"]
        for position, rung in enumerate(ladder):
            if rung["code"] == code:
                if "beside" in rung:
                    return self.rank(f"{party}:{rung['beside']}")
                return position
        raise AssertionError(mark)

    def below(self, mark: str, other: str) -> bool:
        return self.rank(mark) > self.rank(other)

    def topics(self) -> set[str]:
        """The topics of the vocabulary and the ancestors that they imply."""
        known = set()
        for name in self.vocabulary["topics"]:
            parts = name.split(".")
            for length in range(1, len(parts) + 1):
                known.add(".".join(parts[:length]))
        return known

    def clauses(self, kind: str) -> list[tuple[str, str, dict[str, Any]]]:
        """(agreement, article, terms) of every clause of that kind."""
        found = []
        for agreement_id, agreement in self.agreements.items():
            for clause in agreement.get("clause", []):
                if kind in clause:
                    found.append((agreement_id, clause["article"], clause[kind]))
        return found

    def clause(self, agreement: str, article: str) -> tuple[str, dict[str, Any]] | None:
        """The one share or onward clause with that citation: its kind and its terms."""
        for kind in ("share", "onward"):
            for its_agreement, its_article, terms in self.clauses(kind):
                if (its_agreement, its_article) == (agreement, article):
                    return kind, terms
        return None

    def protects(self, agreement: str) -> list[tuple[str, dict[str, Any]]]:
        return [(a, terms) for own, a, terms in self.clauses("protect") if own == agreement]

    def equivalent(self, agreement: str, mark: str, receiver: str) -> str | None:
        """What the receiver stamps: the first of its marks in the row that has this mark."""
        party, code = mark.split(":", 1)
        for own, _, terms in self.clauses("equate"):
            if own == agreement:
                for row in terms["rows"]:
                    if code in row.get(party, []) and receiver in row:
                        return f"{receiver}:{row[receiver][0]}"
        return None

    # §2: timeline

    def in_force(self, agreement_id: str, at: datetime) -> bool:
        """Whether the agreement, and all that it rests on, is in force at that instant."""
        if not self._in_force_by_itself(agreement_id, at):
            return False
        return all(self.in_force(p, at) for p in self.agreements[agreement_id].get("rests_on", []))

    def _in_force_by_itself(self, agreement_id: str, at: datetime) -> bool:
        events = [e for e in self.events if e["agreement"] == agreement_id and e["at"] <= at]
        events.sort(key=lambda event: event["at"])  # stable: the file's order for equal instants
        state = "not begun"
        notices: list[dict[str, Any]] = []  # pending: {"effective", "suspended"}
        for event in events:
            # A notice whose date lies before this event has ended the agreement by now. At the
            # very instant of its date the event is still in time.
            if any(n["effective"] < event["at"] and not n["suspended"] for n in notices):
                state, notices = "ended", []
            match event["event"]:
                case "in-force":
                    state, notices = "in force", []
                case "suspended":
                    state = "suspended"
                case "resumed":
                    state = "in force"
                case "termination-notified":
                    notices.append({"effective": event["effective"], "suspended": False})
                case "termination-suspended":
                    for notice in notices:
                        notice["suspended"] = True
                case "termination-resumed":
                    for notice in notices:
                        notice["suspended"] = False
                case "notices-withdrawn":
                    notices = []
                case "terminated" | "lapsed":
                    state, notices = "ended", []
        if any(n["effective"] <= at and not n["suspended"] for n in notices):
            state = "ended"
        return state == "in force"


class Case:
    """One well-formed question on its way through §4 (2)-(7)."""

    def __init__(self, regime: Reference, question: dict[str, Any]) -> None:
        self.regime = regime
        self.at: datetime = instant(question["at"])
        self.holder: str = question["holder"]
        self.to: str = question["to"]
        self.item: dict[str, Any] = question["item"]
        self.maker: str = self.item["originator"]
        self.derived = "sources" in self.item
        self.holding: dict[str, Any] = question.get("holding", {})
        self.basis: dict[str, list[dict[str, str]]] = self.holding.get("basis", {})
        self.consents = [c for c in question.get("consents", []) if instant(c["at"]) <= self.at]
        self.status = [s for s in question.get("status", []) if instant(s["at"]) <= self.at]
        # An item without sources is its own single source, with its id.
        own = self.item | {"item": self.item["id"]}
        self.sources: list[dict[str, Any]] = self.item["sources"] if self.derived else [own]
        self.others = [s for s in self.sources if self.derived and s["item"] != "self"]

    # §3: consents and readers

    def record(self, by: str, ids: Iterable[str], party: str) -> dict[str, Any] | None:
        """The consent record of that originator, under these ids, that counts for the party."""
        named = self.records(by, ids, party)
        return max(named, key=lambda record: record["seq"]) if named else None

    def records(self, by: str, ids: Iterable[str], party: str) -> list[dict[str, Any]]:
        return [c for c in self.consents if c["by"] == by and c["item"] in ids and party in c["to"]]

    def expired(self, record: dict[str, Any]) -> bool:
        return "expires" in record and instant(record["expires"]) <= self.at

    def ids(self, source: dict[str, Any]) -> set[str]:
        """The ids under which its originator's consents count for a source."""
        if not self.derived or source["item"] == "self":
            return {self.item["id"]}
        return {source["item"], self.item["id"]}

    def lists(self) -> list[tuple[str, str, set[str], list[str]]]:
        """(name in reasons, owner, ids of its consents, releasable_to) of all that restrict."""
        found = [
            (s["item"], s["originator"], self.ids(s), s["releasable_to"]) for s in self.sources
        ]
        if self.derived:
            item_id = self.item["id"]
            found.append((item_id, self.maker, {item_id}, self.item["releasable_to"]))
        return found

    def exclusion(
        self, party: str, owner: str, ids: set[str], releasable_to: list[str]
    ) -> str | None:
        """Why the party is not an effective reader of this source or list, if it is not."""
        if party == owner:
            return None
        record = self.record(owner, ids, party)
        if record is None:
            return None if party in releasable_to else "not-releasable"
        if not record["grant"]:
            return "consent-withdrawn"
        if not self.expired(record):
            return None
        # An expired grant changes nothing, but a refusal before it keeps the party out.
        refused_before = any(
            not earlier["grant"] and earlier["seq"] < record["seq"]
            for earlier in self.records(owner, ids, party)
        )
        if party in releasable_to and not refused_before:
            return None
        return "consent-expired"

    def reads(self, party: str) -> bool:
        """Whether the party is an effective reader of the item."""
        return all(
            self.exclusion(party, owner, ids, listed) is None
            for _, owner, ids, listed in self.lists()
        )

    # §3: status

    def recalled(self, by: str, item_id: str) -> bool:
        return any(
            s["by"] == by and s["item"] == item_id and s.get("recalled") for s in self.status
        )

    def reclassified(
        self, by: str, item_id: str, floors: Iterable[str] = ()
    ) -> dict[str, Any] | None:
        """The mark status that counts. One with a mark below a floor is ignored."""
        counting = [
            s
            for s in self.status
            if s["by"] == by
            and s["item"] == item_id
            and "mark" in s
            and not any(self.regime.below(s["mark"], floor) for floor in floors)
        ]
        return max(counting, key=lambda record: record["seq"]) if counting else None

    def item_status(self) -> dict[str, Any] | None:
        floors = [source["held_as"] for source in self.others]
        return self.reclassified(self.maker, self.item["id"], floors)

    def source_status(self, source: dict[str, Any]) -> dict[str, Any] | None:
        if source in self.others:
            return self.reclassified(source["originator"], source["item"])
        return self.item_status()  # of the item, and so of `self`

    def mark(self, source: dict[str, Any]) -> str:
        status = self.source_status(source)
        return str(status["mark"] if status else source["mark"])

    def mark_as_held(self) -> str:
        """§4 (5): the item's mark for its originator or maker, `held_as` for anyone else."""
        if self.holder != self.maker:
            return str(self.holding["held_as"])
        status = self.item_status()
        return str(status["mark"] if status else self.item["mark"])

    # §4

    def decide(self) -> dict[str, Any]:
        # (2)
        if self.to in (self.holder, self.maker):
            return deny([{"code": "already-holds"}])
        if self.recalled(self.maker, self.item["id"]) or any(
            self.recalled(source["originator"], source["item"]) for source in self.others
        ):
            return deny([{"code": "recalled"}])
        if self.mark_stale():
            return deny([{"code": "mark-stale"}])
        # (3)
        excluded = self.excluded()
        if excluded:
            return deny(excluded)
        # (4), (5)
        passing: list[list[Candidate]] = []
        reasons: list[dict[str, str]] = []
        for source in self.sources:
            candidates = self.candidates(source)
            passed = [c for c in candidates if self.failure(source, c) is None]
            passing.append(passed)
            if passed:
                continue
            if not candidates:
                reasons.append({"code": self.no_candidate(source), "source": source["item"]})
            for candidate in candidates:
                code = self.failure(source, candidate)
                assert code is not None
                reasons.append({"code": code, "cites": candidate.cites, "source": source["item"]})
        if reasons:
            return deny(reasons)
        # (6)
        combinations = [
            combination
            for combination in itertools.product(*passing)
            if len({candidate.way for candidate in combination}) == 1
        ]
        if not combinations:
            return deny([{"code": "no-common-path"}])
        return self.allow(min(combinations, key=self.preference))  # (7)

    def mark_stale(self) -> bool:
        status = self.item_status()
        if self.holder != self.maker and status is not None:
            stamped = self.holding.get("stamped_seq")
            if stamped is None or status["seq"] > stamped:
                return True
        for source in self.others:
            changed = self.source_status(source)
            if changed is None or changed["mark"] == source["mark"]:
                continue
            if status is None or instant(status["at"]) < instant(changed["at"]):
                return True
        return False

    def excluded(self) -> list[dict[str, str]]:
        """(3): the sources and lists that exclude the recipient or the holder."""
        parties = [self.to]
        if not self.holds_only_as_a_hub_that_does_not_read():
            parties.append(self.holder)
        reasons = []
        for name, owner, ids, releasable_to in self.lists():
            for party in parties:
                code = self.exclusion(party, owner, ids, releasable_to)
                if code:
                    reasons.append({"code": code, "source": name})
        return reasons

    def holds_only_as_a_hub_that_does_not_read(self) -> bool:
        receipts = [receipt for receipts in self.basis.values() for receipt in receipts]
        if self.holder == self.maker or not receipts:
            return False
        for receipt in receipts:
            if "agreement" in receipt:
                agreement, article = receipt["agreement"], receipt["article"]
            else:  # by consent or as own information: the clause of the channel says how it came
                citation = receipt.get(CONSENT) or receipt[OWN]
                agreement, _, article = citation.partition("/")
            clause = self.regime.clause(agreement, article)
            assert clause is not None
            kind, terms = clause
            if kind != "share" or terms.get("via") != self.holder or terms.get("via_reads", True):
                return False
            if self.holder in terms["to"]:
                return False  # it may have come to the holder as its last recipient
        return True

    def candidates(self, source: dict[str, Any]) -> list[Candidate]:
        """(4), in the order of clauses: as citations are compared in (6)."""
        originator, found = source["originator"], []
        if self.holder == originator:  # a.
            for agreement, article, terms in self.regime.clauses("share"):
                if self.holder in terms["from"] and self.to in terms["to"]:
                    found.append(self.candidate(CLAUSE, agreement, article, terms))
        elif self.to == originator:  # c.
            found += self.channels(OWN)
        else:  # b.
            for receipt in self.basis.get(source["item"], []):
                if "agreement" in receipt:
                    found += self.under_basis(originator, receipt["agreement"], receipt["article"])
            record = self.record(originator, self.ids(source), self.to)
            if record is not None and record["grant"]:
                found += self.channels(CONSENT)
        unique = {candidate.order: candidate for candidate in found}
        return [unique[order] for order in sorted(unique)]

    def under_basis(self, originator: str, agreement: str, article: str) -> list[Candidate]:
        found = []
        clause = self.regime.clause(agreement, article)
        assert clause is not None
        kind, terms = clause
        if (
            kind == "share"
            and terms.get("via") == self.holder
            and originator in terms["from"]
            and self.to in terms["to"]
        ):
            found.append(self.candidate(CLAUSE, agreement, article, terms))
        if originator in self.regime.agreements[agreement]["parties"]:
            for its_agreement, its_article, terms in self.regime.clauses("onward"):
                if (
                    its_agreement == agreement
                    and self.holder in terms["by"]
                    and self.to in terms["to"]
                ):
                    found.append(self.candidate(CLAUSE, agreement, its_article, terms))
        return found

    def channels(self, kind: str) -> list[Candidate]:
        """Every channel from the holder to the recipient, as candidates of that kind."""
        found = []
        for agreement, article, terms in self.regime.clauses("share"):
            holder_is_hub = terms.get("via") == self.holder
            if self.to in terms["to"] and (self.holder in terms["from"] or holder_is_hub):
                found.append(self.candidate(kind, agreement, article, terms))
        return found

    def candidate(
        self, kind: str, agreement: str, article: str, terms: dict[str, Any]
    ) -> Candidate:
        hub = terms.get("via")
        if hub in (None, self.holder, self.to):  # direct
            path: tuple[str, ...] = (self.holder, self.to)
            hub_reads = None
        else:
            path = (self.holder, hub, self.to)
            hub_reads = terms.get("via_reads", True)
        given = terms.get("protected_by", {})
        protected_by = tuple(
            given.get("-".join(sorted(leg)), agreement) for leg in itertools.pairwise(path)
        )
        return Candidate(kind, agreement, article, terms, path, protected_by, hub_reads)

    def no_candidate(self, source: dict[str, Any]) -> str:
        record = self.record(source["originator"], self.ids(source), self.to)
        granted = record is not None and record["grant"]
        if source["originator"] in (self.holder, self.to) or granted:
            return "no-agreement"
        return "third-party-rule"

    def failure(self, source: dict[str, Any], candidate: Candidate) -> str | None:
        """(5): the first test that the candidate fails."""
        terms = candidate.terms
        by_clause = candidate.kind == CLAUSE
        for agreement in (candidate.agreement, *candidate.protected_by):
            if not self.regime.in_force(agreement, self.at):
                return "not-in-force"
        if "kinds" in terms and self.item["kind"] not in terms["kinds"]:
            return "outside-kind"
        if "topics" in terms:
            if not source["topics"]:
                return "outside-topic"
            for topic in source["topics"]:
                if not any(f"{topic}.".startswith(f"{named}.") for named in terms["topics"]):
                    return "outside-topic"
        if "about" in terms:
            if not source["about"]:
                return "outside-subject"
            for subject in source["about"]:
                if subject not in terms["about"]:
                    return "outside-subject"
        if by_clause and "marks" in terms and self.mark(source) not in terms["marks"]:
            return "mark-not-covered"
        if self.leg_marks(candidate) is None:
            return "no-equivalent-mark"
        if candidate.hub_reads and not self.reads(candidate.path[1]):
            return "not-releasable"
        record = self.record(source["originator"], self.ids(source), self.to)
        if by_clause and terms["consent"] == "item":
            if record is None:
                return "consent-required"
            if self.expired(record):
                return "consent-expired"
        if candidate.kind == CONSENT:
            assert record is not None
            if self.expired(record):
                return "consent-expired"
        return None

    def leg_marks(self, candidate: Candidate) -> list[str] | None:
        """The mark that each receiver stamps, or None where a table has no row."""
        mark, stamped = self.mark_as_held(), []
        for receiver, agreement in zip(candidate.path[1:], candidate.protected_by, strict=True):
            equal = self.regime.equivalent(agreement, mark, receiver)
            if equal is None:
                return None
            mark = equal
            stamped.append(mark)
        return stamped

    def preference(self, chosen: tuple[Candidate, ...]) -> tuple[Any, ...]:
        """(6): the least is taken."""
        review = self.review(chosen)
        return (
            bool(review),
            len(chosen[0].path),
            -sum(reviewer["officers"] for reviewer in review),
            [candidate.order for candidate in chosen],
        )

    def review(self, chosen: tuple[Candidate, ...]) -> list[dict[str, Any]]:
        if all(candidate.automatic for candidate in chosen):
            return []
        way, marks = chosen[0], self.leg_marks(chosen[0])
        assert marks is not None
        in_hands = [self.mark_as_held(), *marks]
        review = []
        for position, party in enumerate(way.path[:-1]):
            if position == 1 and not way.hub_reads:
                continue
            if position == 0 and self.holds_only_as_a_hub_that_does_not_read():
                continue
            agreements = {candidate.agreement for candidate in chosen}
            agreements.add(way.protected_by[position])
            two = any(
                limit.split(":", 1)[0] == party and not self.regime.below(in_hands[position], limit)
                for agreement in agreements
                for _, terms in self.regime.protects(agreement)
                for limit in terms.get("two_person_from", [])
            )
            review.append({"party": party, "officers": 2 if two else 1})
        return review

    def obligations(self, chosen: tuple[Candidate, ...]) -> list[dict[str, Any]]:
        """What binds each receiver: the chosen clauses' agreements and that of its own leg.

        A hub that does not read is not a recipient, and `protect` does not bind it.
        """
        way = chosen[0]
        found = []
        for position, party in enumerate(way.path[1:]):
            if party != self.to and not way.hub_reads:
                continue
            agreements = {candidate.agreement for candidate in chosen}
            agreements.add(way.protected_by[position])
            for duty in DUTIES:
                duties = [
                    (terms[duty], agreement, article)
                    for agreement in agreements
                    for article, terms in self.regime.protects(agreement)
                    if duty in terms and terms[duty] is not False
                ]
                if duties:
                    value, agreement, article = min(duties)  # fewer hours are stricter
                    cites = f"{agreement}/{article}"
                    found.append({"duty": duty, "value": value, "party": party, "cites": cites})
        return found

    def allow(self, chosen: tuple[Candidate, ...]) -> dict[str, Any]:
        way, marks = chosen[0], self.leg_marks(chosen[0])
        assert marks is not None
        legs = [
            {"from": sender, "to": receiver, "mark": mark, "protected_by": agreement}
            for (sender, receiver), mark, agreement in zip(
                itertools.pairwise(way.path), marks, way.protected_by, strict=True
            )
        ]
        return {
            "decision": "allow",
            "path": list(way.path),
            "legs": legs,
            "cites": without_repeats(candidate.cites for candidate in chosen),
            "review": self.review(chosen),
            "obligations": self.obligations(chosen),
        }


def deny(reasons: list[dict[str, str]]) -> dict[str, Any]:
    return {"decision": "deny", "reasons": without_repeats(reasons)}


def without_repeats(values: Iterable[Any]) -> list[Any]:
    kept: list[Any] = []
    for value in values:
        if value not in kept:
            kept.append(value)
    return kept


def instant(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


# §4 (1): what is malformed


def check_question(regime: Reference, question: Any) -> None:
    """Raises Malformed unless §4 (1) lets the question through."""
    check_keys(
        question,
        ("at", "holder", "to", "item"),
        ("id", "holding", "consents", "status"),
        "question",
    )
    if "id" in question:
        check_string(question["id"], "id")
    check_instant(question["at"])
    check_party(regime, question["holder"])
    check_party(regime, question["to"])
    check_item(regime, question["item"])
    check_holding(regime, question.get("holding", {}), question["holder"], question["item"])
    check_records(regime, question)


def check_item(regime: Reference, item: Any) -> None:
    required = ("id", "originator", "mark", "releasable_to", "kind", "topics", "about")
    check_keys(item, required, ("exercise", "sources"), "item")
    check_string(item["id"], "item id")
    require(item["id"] != "self", 'no item has the id "self"')
    check_label(regime, item)
    check_string(item["kind"], "kind")
    require(item["kind"] in KINDS, f"unknown kind {item['kind']!r}")
    if "sources" in item:
        check_sources(regime, item)


def check_label(regime: Reference, label: dict[str, Any]) -> None:
    """What an item and a source have alike."""
    check_party(regime, label["originator"])
    check_mark(regime, label["mark"], label["originator"])
    check_strings(label["releasable_to"], "releasable_to")
    for party in label["releasable_to"]:
        check_party(regime, party)
        require(party != label["originator"], "releasable_to names the originator")
    require(
        len(set(label["releasable_to"])) == len(label["releasable_to"]),
        "releasable_to names a party twice",
    )
    check_strings(label["topics"], "topics")
    for topic in label["topics"]:
        require(topic in regime.topics(), f"unknown topic {topic!r}")
    check_strings(label["about"], "about")
    for subject in label["about"]:
        require(subject in regime.vocabulary["subjects"], f"unknown subject {subject!r}")
    if "exercise" in label:
        require(label["exercise"] is True, "exercise is true or absent")


def check_sources(regime: Reference, item: dict[str, Any]) -> None:
    sources, maker = item["sources"], item["originator"]
    require(isinstance(sources, list), "sources is not a list")
    required = ("item", "originator", "mark", "releasable_to", "topics", "about")
    for source in sources:
        require(isinstance(source, dict), "a source is not an object")
        is_self = source.get("item") == "self"
        needed = required if is_self else (*required, "held_as")
        check_keys(source, needed, ("exercise",), "source")  # `held_as` in `self` is unknown
        check_string(source["item"], "source id")
        require(source["item"] != item["id"], "an item is not its own source")
        check_label(regime, source)
        require(
            (source["originator"] == maker) == is_self,
            "what came from the maker belongs to self, and only that",
        )
        if not is_self:
            check_mark(regime, source["held_as"], maker)
    ids = [source["item"] for source in sources]
    require(ids.count("self") == 1, "sources need exactly one self")
    require(len(set(ids)) == len(ids), "a source stands twice")
    for source in sources:
        floor = source["mark"] if source["item"] == "self" else source["held_as"]
        require(not regime.below(item["mark"], floor), f"item's mark lies below {floor}")
        require(set(source["topics"]) <= set(item["topics"]), "item lacks a source's topic")
        require(set(source["about"]) <= set(item["about"]), "item lacks a source's subject")
        require(
            source.get("exercise") == item.get("exercise"), "an exercise never mixes with the real"
        )


def check_holding(regime: Reference, holding: Any, holder: str, item: dict[str, Any]) -> None:
    check_keys(holding, (), ("held_as", "basis", "stamped_seq"), "holding")
    if holder == item["originator"]:
        require("held_as" not in holding, "the maker has no held_as")
    else:
        require("held_as" in holding, "held_as is missing")
        check_mark(regime, holding["held_as"], holder)
    if "stamped_seq" in holding:
        check_integer(holding["stamped_seq"], "stamped_seq")
    basis = holding.get("basis", {})
    require(isinstance(basis, dict), "basis is not an object")
    originators = {item["id"]: item["originator"]}
    if "sources" in item:
        originators = {source["item"]: source["originator"] for source in item["sources"]}
    for source_id, receipts in basis.items():
        require(source_id in originators, f"basis for no source: {source_id!r}")
        require(originators[source_id] != holder, f"basis for the holder's own {source_id!r}")
        require(isinstance(receipts, list), "a basis is not a list")
        for receipt in receipts:
            check_receipt(regime, receipt)


def check_receipt(regime: Reference, receipt: Any) -> None:
    require(isinstance(receipt, dict), "a basis is not an object")
    for kind in (CONSENT, OWN):
        if kind in receipt:
            check_keys(receipt, (kind,), (), "basis")
            check_string(receipt[kind], kind)
            agreement, _, article = receipt[kind].partition("/")
            break
    else:
        check_keys(receipt, ("agreement", "article"), (), "basis")
        check_string(receipt["agreement"], "agreement")
        check_string(receipt["article"], "article")
        agreement, article = receipt["agreement"], receipt["article"]
    require(
        regime.clause(agreement, article) is not None,
        f"no share or onward article {agreement}/{article}",
    )


def check_records(regime: Reference, question: dict[str, Any]) -> None:
    consents, status = question.get("consents", []), question.get("status", [])
    require(isinstance(consents, list), "consents is not a list")
    require(isinstance(status, list), "status is not a list")
    for record in consents:
        check_keys(record, ("by", "item", "to", "seq", "at", "grant"), ("expires",), "consent")
        check_strings(record["to"], "to")
        for party in record["to"]:
            check_party(regime, party)
        require(isinstance(record["grant"], bool), "grant is not a boolean")
        if "expires" in record:
            check_instant(record["expires"])
    for record in status:
        check_keys(record, ("by", "item", "at", "seq"), ("mark", "recalled"), "status")
        if "recalled" in record:
            require(isinstance(record["recalled"], bool), "recalled is not a boolean")
    for record in [*consents, *status]:
        check_party(regime, record["by"])
        check_string(record["item"], "item")
        check_integer(record["seq"], "seq")
        check_instant(record["at"])
        if "mark" in record:
            check_mark(regime, record["mark"], record["by"])
    for one, other in itertools.combinations([*consents, *status], 2):
        if (one["by"], one["seq"]) == (other["by"], other["seq"]):
            require(one == other, f"two records of {one['by']} with seq {one['seq']}")


def require(condition: bool, message: str) -> None:
    if not condition:
        raise Malformed(message)


def check_keys(value: Any, required: tuple[str, ...], optional: tuple[str, ...], what: str) -> None:
    require(isinstance(value, dict), f"{what} is not an object")
    for key in required:
        require(key in value, f"{what} lacks {key!r}")
    for key in value:
        require(key in required or key in optional, f"{what} has an unknown key {key!r}")


def check_string(value: Any, what: str) -> None:
    require(isinstance(value, str), f"{what} is not a string")


def check_strings(value: Any, what: str) -> None:
    require(isinstance(value, list), f"{what} is not a list")
    for entry in value:
        check_string(entry, what)


def check_integer(value: Any, what: str) -> None:
    require(type(value) is int, f"{what} is not an integer")


def check_instant(value: Any) -> None:
    check_string(value, "an instant")
    shape = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
    require(re.fullmatch(shape, value) is not None, f"no instant: {value!r}")
    try:
        instant(value)
    except ValueError:
        raise Malformed(f"no instant: {value!r}") from None


def check_party(regime: Reference, value: Any) -> None:
    check_string(value, "a party")
    require(value in regime.schemes, f"unknown party {value!r}")


def check_mark(regime: Reference, value: Any, party: str) -> None:
    check_string(value, "a mark")
    require(value in regime.marks(party), f"unknown mark {value!r} of {party}")
