"""Planted bugs: named switches that break production code, each with a check that must notice.

A patch is a context manager under which the code is wrong; a check says nothing while the code is
right and raises AssertionError under its patch. `tests/test_planted_bugs.py` shows both. To add
one, write the patch, name a check, and put both into `BUGS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import test_decisions as laws
from pact_checks import engine_equals_reference, vectors_hold
from regime_texts import FILES, PACT, files
from relto import answers, channels, labels, questions, timeline
from relto.channels import Candidate, Channel, Compiled, How, Rule
from relto.clauses import equivalences
from relto.decisions import Engine, Trial
from relto.explanations import _Said
from relto.labels import Source, Status
from relto.questions import Question
from relto.readers import Readers, Standing
from relto.regime import check_regime
from relto.tables import Table
from relto.timeline import _Life
from relto.topics import NO_TOPIC, Vocabulary

__all__ = ["BUGS", "Bug", "patched"]


@dataclass(frozen=True, slots=True)
class Bug:
    """`patch` plants it; `check` must then raise AssertionError, and must not otherwise."""

    patch: Callable[[], AbstractContextManager[None]]
    check: Callable[[], None]


@contextmanager
def patched(owner: Any, name: str, wrong: Any) -> Iterator[None]:
    """`owner.name` is `wrong`, until the end."""
    right = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
    setattr(owner, name, wrong)
    try:
        yield
    finally:
        setattr(owner, name, right)


# Checks


def differential() -> None:
    engine_equals_reference(range(40))


def law(test: Any, seeds: int = 20) -> Callable[[], None]:
    """A law of tests/test_decisions.py over a fixed range of seeds."""

    def check() -> None:
        for seed in range(seeds):
            test.hypothesis.inner_test(seed)

    return check


# The decision


def chained_tables() -> AbstractContextManager[None]:
    """A mark without a row goes by way of some third party's row."""
    right = Compiled._channel

    def wrong(self: Compiled, rule: Rule, path: tuple[str, ...], *, from_sender: bool) -> Channel:
        channel = right(self, rule, path, from_sender=from_sender)
        tables = []
        for guard, (a, b) in zip(channel.guards, pairwise(path), strict=True):
            chained = {
                mark: other[by.name]
                for first in self._tables.values()
                for (x, between), row in first.items()
                if x == a
                for second in self._tables.values()
                for other in [second.get((between, b), {})]
                for mark, by in row.items()
                if by.name in other
            }
            tables.append(chained | self._tables[guard].get((a, b), {}))
        return replace(channel, stamps=channels._stamps(tables))

    return patched(Compiled, "_channel", wrong)


def empty_reader_list_dropped() -> AbstractContextManager[None]:
    right = Readers._excluded

    def wrong(
        self: Readers, party: str, owner: str, readers: frozenset[str], standing: Standing
    ) -> str | None:
        return right(self, party, owner, readers or frozenset([party]), standing)

    return patched(Readers, "_excluded", wrong)


def pillars_forgotten() -> AbstractContextManager[None]:
    return patched(timeline, "_with_pillars", lambda own, rests_on: own)


def expired_consent_taken() -> AbstractContextManager[None]:
    right = Readers._counting

    def wrong(self: Readers, by: str, ids: set[str], party: str) -> Standing:
        standing = right(self, by, ids, party)
        expired = (Standing.EXPIRED, Standing.EXPIRED_AFTER_REFUSAL)
        return Standing.GRANTED if standing in expired else standing

    return patched(Readers, "_counting", wrong)


def lower_refusal_wins() -> AbstractContextManager[None]:
    right = Readers._counting

    def wrong(self: Readers, by: str, ids: set[str], party: str) -> Standing:
        refused = any(
            not c.grant and c.by == by and c.item in ids and party in c.to and c.at <= self.q.at
            for c in self.q.consents
        )
        return Standing.WITHDRAWN if refused else right(self, by, ids, party)

    return patched(Readers, "_counting", wrong)


def withdrawal_spares_the_label() -> AbstractContextManager[None]:
    """A party that the label lists keeps reading after its originator's withdrawal."""
    right = Readers._excluded

    def wrong(
        self: Readers, party: str, owner: str, readers: frozenset[str], standing: Standing
    ) -> str | None:
        return None if party in readers else right(self, party, owner, readers, standing)

    return patched(Readers, "_excluded", wrong)


def hub_reads_unasked() -> AbstractContextManager[None]:
    return patched(Readers, "reads", lambda self, party: True)


def hub_passes_on_anything() -> AbstractContextManager[None]:
    """Whose information a basis is about is not asked."""
    right = Engine._candidates

    def wrong(self: Engine, q: Question, source: Source, *, granted: bool) -> Sequence[Candidate]:
        if source.originator in (q.holder, q.to):
            return right(self, q, source, granted=granted)
        found: list[Candidate] = []
        for party in self.regime.parties - {q.holder, q.to}:
            found += right(self, q, replace(source, originator=party), granted=granted)
        return sorted(set(found), key=lambda c: c.order)

    return patched(Engine, "_candidates", wrong)


Test = Callable[[Engine, Question, Source, Trial, Readers | None], str | None]


def no_topic_is_covered() -> AbstractContextManager[None]:
    right: Test = Engine._test

    def wrong(
        self: Engine, q: Question, source: Source, trial: Trial, readers: Readers | None
    ) -> str | None:
        source = replace(source, matter=source.matter & ~NO_TOPIC)
        return right(self, q, source, trial, readers)

    return patched(Engine, "_test", wrong)


def protectors_out_of_force_ignored() -> AbstractContextManager[None]:
    right = Compiled._channel

    def wrong(self: Compiled, rule: Rule, path: tuple[str, ...], *, from_sender: bool) -> Channel:
        channel = right(self, rule, path, from_sender=from_sender)
        return replace(channel, turns=self.regime.timeline.together([rule.agreement]))

    return patched(Compiled, "_channel", wrong)


def own_information_lifts_the_scope() -> AbstractContextManager[None]:
    right = Trial.__init__

    def wrong(self: Trial, candidate: Candidate, mark: str, mark_as_held: str) -> None:
        right(self, candidate, mark, mark_as_held)
        if candidate.how is How.OWN_INFORMATION:
            self.outside = 0

    return patched(Trial, "__init__", wrong)


def marks_as_a_threshold() -> AbstractContextManager[None]:
    """A mark travels if a lower one of its party is listed."""
    right = Compiled._channel

    def wrong(self: Compiled, rule: Rule, path: tuple[str, ...], *, from_sender: bool) -> Channel:
        if rule.marks is not None:
            higher = frozenset(
                mark
                for mark in self.ranks
                for named in rule.marks
                if mark.split(":")[0] == named.split(":")[0]
                and self.ranks[mark] <= self.ranks[named]
            )
            rule = replace(rule, marks=rule.marks | higher)
        return right(self, rule, path, from_sender=from_sender)

    return patched(Compiled, "_channel", wrong)


def floor_ignored() -> AbstractContextManager[None]:
    """A maker's new mark counts although a source of its item was stamped higher."""

    def wrong(self: Readers) -> Status | None:
        return self.mark_status(self.label.maker, self.label.id)

    return patched(Readers, "item_status", wrong)


def low_label_taken() -> AbstractContextManager[None]:
    """The label of a derived item may lie below what its sources were stamped."""
    right = labels.decode_label

    def wrong(data: Any, words: labels.Words) -> labels.Label:
        if isinstance(data, dict) and isinstance(data.get("sources"), list):
            party = str(data.get("originator"))
            top = next((m.name for m in words.marks.values() if m.party == party), None)
            label = right(
                data | {"mark": top} if top and data.get("mark") in words.marks else data, words
            )
            return replace(label, mark=data["mark"])
        return right(data, words)

    return patched(questions, "decode_label", wrong)


def two_persons_below() -> AbstractContextManager[None]:
    """`two_person_from` counts at and below the mark instead of at and above it."""

    def wrong(self: Engine, agreement: str, party: str, rank: int) -> bool:
        floor = self.two_person_from.get(agreement, {}).get(party)
        return floor is not None and rank >= floor

    return patched(Engine, "_needs_two", wrong)


def consent_goes_unreviewed() -> AbstractContextManager[None]:
    right = Candidate.__init__

    def wrong(self: Candidate, channel: Channel, how: How) -> None:
        right(self, channel, how)
        self.automatic = channel.rule.automatic

    return patched(Candidate, "__init__", wrong)


def new_mark_unstamped() -> AbstractContextManager[None]:
    """A reclassification that is not stamped yet stops nothing."""
    right = Readers.take_status

    def wrong(self: Readers) -> bool:
        right(self)
        return False

    return patched(Readers, "take_status", wrong)


def recall_forgotten() -> AbstractContextManager[None]:
    return patched(Readers, "is_recalled", lambda self: False)


def records_of_the_future() -> AbstractContextManager[None]:
    """A consent counts before its `at`."""
    right = Readers._counting

    def wrong(self: Readers, by: str, ids: set[str], party: str) -> Standing:
        asked = self.q
        early = tuple(replace(c, at=min(c.at, asked.at)) for c in asked.consents)
        self.q = replace(asked, consents=early)
        try:
            return right(self, by, ids, party)
        finally:
            self.q = asked

    return patched(Readers, "_counting", wrong)


def topics_cover_upwards() -> AbstractContextManager[None]:
    """A clause on `missile.launch` takes what is about `missile`."""
    right = Vocabulary.covered_by

    def wrong(self: Vocabulary, topics: Any) -> int:
        named = set(topics)
        above = {n for n in self.topic_bits if any(t.startswith(f"{n}.") for t in named)}
        return right(self, named | above)

    return patched(Vocabulary, "covered_by", wrong)


def first_stamp_of_any_row() -> AbstractContextManager[None]:
    """The last mark of a row is stamped instead of the first."""
    right = equivalences

    def wrong(agreement: Any) -> Any:
        clauses = tuple(
            replace(c, body=replace(c.body, rows=tuple(turned(r) for r in c.body.rows)))
            if hasattr(c.body, "rows")
            else c
            for c in agreement.clauses
        )
        return right(replace(agreement, clauses=clauses))

    def turned(row: Any) -> Any:
        return {party: marks[::-1] for party, marks in row.items()}

    return patched(channels, "equivalences", wrong)


# The timeline


def notice_a_moment_early() -> AbstractContextManager[None]:
    """What happens at the very instant of `effective` comes too late."""
    right = _Life.expire

    def wrong(self: _Life, before: Any) -> None:
        right(self, before if before is None else before + datetime.resolution)

    return patched(_Life, "expire", wrong)


def new_beginning_keeps_notices() -> AbstractContextManager[None]:
    right = _Life.apply

    def wrong(self: _Life, event: timeline.Event) -> str | None:
        notices = self.notices
        fault = right(self, event)
        if event.event == "in-force":
            self.notices = notices
        return fault

    return patched(_Life, "apply", wrong)


# The loader and the edge


def empty_list_as_absent() -> AbstractContextManager[None]:
    """`topics = []` in a clause means any topic."""
    right = Table.take_names

    def wrong(self: Table, key: str, what: str, **options: Any) -> Any:
        if self.data.get(key) == [] and not options.get("required"):
            return None
        return right(self, key, what, **options)

    return patched(Table, "take_names", wrong)


def empty_lists_are_errors() -> None:
    for key in ("about", "topics", "kinds", "marks"):
        old = next(text for text in FILES[PACT].splitlines() if text.startswith(f"{key} = "))
        _, problems = check_regime(files((PACT, old, f"{key} = []")))
        assert [p.file for p in problems.errors] == [PACT], key


def second_key_wins() -> AbstractContextManager[None]:
    return patched(answers, "_DECODER", json.JSONDecoder())


def a_key_stands_once() -> None:
    engine = laws.engine()
    twice = b'{"id": "a", "id": "b"}'
    assert answers.answer_line(engine, twice) == {
        "error": "a key stands twice in one object; write it once"
    }


def sentence_kept_under_too_little() -> AbstractContextManager[None]:
    """What would change a refusal is remembered by its template and citation alone."""

    def wrong(self: _Said, template: str, reason: Any) -> tuple[object, ...]:
        return (template, reason.cites)

    return patched(_Said, "_key", wrong)


opening = law(laws.test_an_empty_list_of_readers_lets_nobody_read_and_an_absent_one_is_no_question)

BUGS: dict[str, Bug] = {
    "equivalence tables are chained": Bug(chained_tables, differential),
    "equivalence tables are chained past the legs": Bug(
        chained_tables, laws.test_tables_are_not_chained_past_the_legs_that_the_item_takes
    ),
    "an empty reader list is dropped": Bug(empty_reader_list_dropped, opening),
    "rests_on is forgotten": Bug(pillars_forgotten, vectors_hold),
    "an expired consent is taken": Bug(
        expired_consent_taken,
        law(laws.test_an_expired_grant_opens_nothing_that_no_grant_leaves_shut),
    ),
    "a refusal of lower seq wins": Bug(
        lower_refusal_wins,
        law(laws.test_a_live_grant_never_removes_a_reader_and_never_shuts_a_path),
    ),
    "a withdrawal spares whom the label lists": Bug(
        withdrawal_spares_the_label,
        law(laws.test_a_withdrawal_never_adds_a_reader_and_never_opens_a_path),
    ),
    "a hub need not be a reader": Bug(hub_reads_unasked, differential),
    "a hub passes on anybody's information": Bug(hub_passes_on_anything, differential),
    "no topic counts as covered": Bug(no_topic_is_covered, vectors_hold),
    "a protecting agreement may be out of force": Bug(
        protectors_out_of_force_ignored, vectors_hold
    ),
    "own information lifts the scope": Bug(own_information_lifts_the_scope, vectors_hold),
    "marks is a threshold": Bug(marks_as_a_threshold, laws.test_marks_is_a_list_and_no_threshold),
    "the floor of a derived mark is ignored": Bug(floor_ignored, differential),
    "a label below its floor is taken": Bug(low_label_taken, vectors_hold),
    "two_person_from is compared the wrong way": Bug(two_persons_below, differential),
    "what goes by consent goes unreviewed": Bug(consent_goes_unreviewed, vectors_hold),
    "a new mark need not be stamped": Bug(new_mark_unstamped, differential),
    "a recall is forgotten": Bug(recall_forgotten, law(laws.test_a_recall_is_final)),
    "records count before their instant": Bug(
        records_of_the_future,
        law(laws.test_records_of_strangers_of_other_items_and_of_the_future_change_nothing),
    ),
    "a topic covers its ancestors": Bug(topics_cover_upwards, differential),
    "the last mark of a row is stamped": Bug(first_stamp_of_any_row, differential),
    "a notice ends before the events of its instant": Bug(notice_a_moment_early, vectors_hold),
    "a new beginning keeps old notices": Bug(new_beginning_keeps_notices, vectors_hold),
    "an empty list in a clause means any": Bug(empty_list_as_absent, empty_lists_are_errors),
    "the second of two equal keys wins": Bug(second_key_wins, a_key_stands_once),
    "a sentence is kept under too little": Bug(
        sentence_kept_under_too_little,
        law(laws.test_the_order_of_records_and_of_earlier_questions_does_not_matter),
    ),
}
