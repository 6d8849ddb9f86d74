"""The decision: equal to the slow reference over random regimes, and laws that it must keep."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pact_checks import Pact, asked, engine_equals_reference, printed
from reference import Reference, instant
from relto.answers import answer
from relto.decisions import CODES, Allow, Deny, Engine, Reason
from relto.labels import KINDS
from relto.questions import Question, decode_question
from relto.readers import Readers
from relto.regime import load_regime
from strategies import marks_of, regime_files
from test_reference import ask, consent, derived, from_korea, from_maker, item, source, terms
from test_reference import regime as trilateral

Asked = dict[str, Any]
SEEDS = st.integers(0, 2**32 - 1)
laws = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
slow_laws = settings(laws, max_examples=25)


# (a) The compiled engine and the slow reference answer alike.


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_the_engine_answers_as_the_reference(first: int) -> None:
    engine_equals_reference(range(first, first + 50))


# (b) Laws. What a law needs besides the question is drawn from the same seed.


def lists_of(question: Asked) -> list[dict[str, Any]]:
    """Everything with a `releasable_to`: the item, and its sources if it is derived."""
    return [question["item"], *question["item"].get("sources", [])]


def owners(question: Asked) -> set[str]:
    return {entry["originator"] for entry in lists_of(question)}


def ids(question: Asked) -> list[str]:
    """The ids that records can name."""
    sources = [s["item"] for s in question["item"].get("sources", []) if s["item"] != "self"]
    return [question["item"]["id"], *sources]


def changed(question: Asked, **keys: Any) -> Asked:
    return copy.deepcopy(question) | keys


def with_record(question: Asked, key: str, record: dict[str, Any]) -> Asked:
    return changed(question, **{key: [*question.get(key, []), record]})


def later(at: str, seconds: int) -> str:
    return (instant(at) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def random_consent(rng: random.Random, pact: Pact, question: Asked, **keys: Any) -> Asked:
    """A record by an owner that outnumbers every other."""
    by = rng.choice(sorted(owners(question)))
    others = [p for p in pact.made["schemes"] if p != by]
    named = rng.sample(others, rng.randint(1, len(others)))
    if question["to"] != by and rng.random() < 0.5:
        named = sorted({*named, question["to"]})
    record = {"by": by, "item": rng.choice(ids(question)), "to": named, "seq": 10**6}
    return record | {"at": later(question["at"], rng.choice((0, -1, -86400)))} | keys


@laws
@given(SEEDS)
def test_adding_a_source_never_opens_a_path(seed: int) -> None:
    """For a holding of the same kind, and while the maker does not mark the item anew.

    A holder that comes to hold as a hub that does not read need be no reader, and a source that
    is stamped high keeps a lower mark of the maker from counting. Both are other facts than the
    source itself.
    """
    for pact, question, _, _ in asked(seed):
        maker = question["item"]["originator"]
        kept = [s for s in question.get("status", []) if s["by"] != maker or "mark" not in s]
        more = changed(question, status=kept)
        for name in ids(question)[1:]:
            fewer = copy.deepcopy(more)
            fewer["item"]["sources"] = [s for s in more["item"]["sources"] if s["item"] != name]
            fewer.get("holding", {}).get("basis", {}).pop(name, None)
            one, other = pact.question(fewer), pact.question(more)
            assert one is not None
            assert other is not None
            if pact.engine.holds_blind(one) == pact.engine.holds_blind(other):
                assert pact.allows(fewer) or not pact.allows(more)


def without(made: dict[str, Any], agreement: str) -> dict[str, Any] | None:
    """The regime without that agreement and all that name it; None if none would be left."""
    gone = {agreement}
    while True:
        named = {
            name
            for name, each in made["agreements"].items()
            if name not in gone and not gone.isdisjoint(names_in(each))
        }
        if not named:
            break
        gone |= named
    if gone >= made["agreements"].keys():
        return None
    events = [e for e in made["timeline"]["event"] if e["agreement"] not in gone]
    agreements = {name: a for name, a in made["agreements"].items() if name not in gone}
    return made | {"agreements": agreements, "timeline": {"event": events}}


def names_in(agreement: dict[str, Any]) -> Iterator[str]:
    yield from agreement.get("rests_on", [])
    for clause in agreement["clause"]:
        yield from (
            (clause.get("share") or clause.get("onward") or {}).get("protected_by", {}).values()
        )


@slow_laws
@given(SEEDS)
def test_removing_an_agreement_never_opens_a_path(seed: int) -> None:
    fewer: Pact | None = None
    for number, (pact, question, _, rng) in enumerate(asked(seed, count=40)):
        if number % 10 == 0:
            made = without(pact.made, rng.choice(list(pact.made["agreements"])))
            fewer = Pact(made) if made else None
        if fewer is not None:
            assert pact.allows(question) or not fewer.allows(question)


def ended(made: dict[str, Any], agreement: str, at: datetime) -> dict[str, Any]:
    """The regime in which that agreement ends at `at`, and nothing happens to it afterwards."""
    events = [e for e in made["timeline"]["event"] if e["agreement"] != agreement or e["at"] <= at]
    events.append({"agreement": agreement, "at": at, "event": "terminated"})
    return made | {"timeline": {"event": events}}


@slow_laws
@given(SEEDS)
def test_an_agreement_that_comes_out_of_force_never_opens_a_path(seed: int) -> None:
    for pact, question, _, rng in asked(seed, count=4):
        agreement = rng.choice(list(pact.made["agreements"]))
        fewer = Pact(ended(pact.made, agreement, instant(question["at"])))
        decision = fewer.decide(question)
        if isinstance(decision, Allow):
            assert pact.allows(question)
            assert not any(f"{agreement}/" in f"/{cites}" for cites in decision.cites)
            assert agreement not in {leg.protected_by for leg in decision.legs}


@laws
@given(SEEDS)
def test_a_withdrawal_never_adds_a_reader_and_never_opens_a_path(seed: int) -> None:
    for pact, question, before, rng in asked(seed):
        record = random_consent(rng, pact, question, grant=False)
        withdrawn = with_record(question, "consents", record)
        after = pact.question(withdrawn)
        assert after is not None
        then, now = (Readers(q, pact.engine.ranks) for q in (before, after))
        for party in pact.made["schemes"]:
            assert then.reads(party) or not now.reads(party)
            if party in record["to"] and record["item"] == question["item"]["id"]:
                assert not now.reads(party) or owners(question) == {party}
        assert pact.allows(question) or not pact.allows(withdrawn)


@laws
@given(SEEDS)
def test_a_live_grant_never_removes_a_reader_and_never_shuts_a_path(seed: int) -> None:
    for pact, question, before, rng in asked(seed):
        record = random_consent(rng, pact, question, grant=True)
        if rng.random() < 0.5:
            record["expires"] = later(question["at"], 1)
        granted = with_record(question, "consents", record)
        after = pact.question(granted)
        assert after is not None
        then, now = (Readers(q, pact.engine.ranks) for q in (before, after))
        for party in pact.made["schemes"]:
            assert now.reads(party) or not then.reads(party)
            if party in record["to"] and {record["by"]} == owners(question):
                assert now.reads(party) or record["item"] != question["item"]["id"]
        assert pact.allows(granted) or not pact.allows(question)


@laws
@given(SEEDS)
def test_an_expired_grant_opens_nothing_that_no_grant_leaves_shut(seed: int) -> None:
    for pact, question, _, rng in asked(seed):
        if question.get("consents"):
            continue
        record = random_consent(rng, pact, question, grant=True)
        record["expires"] = later(question["at"], rng.choice((0, 0, -1)))
        expired = with_record(question, "consents", record)
        assert pact.allows(question) or not pact.allows(expired)


@laws
@given(SEEDS)
def test_an_empty_list_of_readers_lets_nobody_read_and_an_absent_one_is_no_question(
    seed: int,
) -> None:
    for pact, question, _, _ in asked(seed):
        closed = changed(question, consents=[])
        closed["item"] |= {"releasable_to": []}
        decision = pact.decide(closed)
        assert isinstance(decision, Deny)
        allowed = {"already-holds", "recalled", "mark-stale", "not-releasable"}
        assert {reason.code for reason in decision.reasons} <= allowed
        for position, entry in enumerate(lists_of(question)):
            one_closed = changed(question, consents=[])
            lists_of(one_closed)[position]["releasable_to"] = []
            assert entry["originator"] == question["to"] or not pact.allows(one_closed)
            absent = changed(question)
            del lists_of(absent)[position]["releasable_to"]
            assert pact.question(absent) is None
            null = changed(question)
            lists_of(null)[position]["releasable_to"] = None
            assert pact.question(null) is None
        anyone = changed(question, consents=[])
        for entry in lists_of(anyone):
            entry["releasable_to"] = [p for p in pact.made["schemes"] if p != entry["originator"]]
        assert not pact.denies(anyone, "not-releasable")


@laws
@given(SEEDS)
def test_taking_a_reader_off_a_list_never_opens_a_path(seed: int) -> None:
    for pact, question, _, rng in asked(seed):
        fewer = changed(question)
        entry = rng.choice(lists_of(fewer))
        if entry["releasable_to"]:
            entry["releasable_to"].remove(rng.choice(entry["releasable_to"]))
            assert pact.allows(question) or not pact.allows(fewer)


def with_thresholds(made: dict[str, Any]) -> dict[str, Any]:
    """The regime in which what lets a mark travel lets every lower mark of its party travel."""
    found = copy.deepcopy(made)
    reference = Reference(found)
    for agreement in found["agreements"].values():
        for clause in agreement["clause"]:
            scope = clause.get("share") or clause.get("onward") or {}
            if "marks" in scope:
                scope["marks"] = [
                    mark
                    for party in found["schemes"]
                    for mark in marks_of(found["schemes"], party)
                    if any(
                        named.startswith(f"{party}:") and not reference.below(named, mark)
                        for named in scope["marks"]
                    )
                ]
    return found


@slow_laws
@given(SEEDS)
def test_raising_a_mark_never_opens_a_path_that_was_shut_by_marks(seed: int) -> None:
    """Where `marks` lists with each mark all lower ones of its party.

    A clause that refused a source for its mark then refuses it for every higher one: whatever is
    decided, the source does not travel under that clause. Other clauses may take it: `marks` is
    a list, and may name a high mark alone.
    """
    pact: Pact | None = None
    for plain, question, _, rng in asked(seed, count=30):
        pact = pact or Pact(with_thresholds(plain.made))
        reference = Reference(pact.made)
        before = pact.decide(question)
        if not isinstance(before, Deny):
            continue
        for reason in before.reasons:
            if reason.code != "mark-not-covered":
                continue
            raised = changed(question)
            names = {entry.get("item", entry.get("id")): entry for entry in lists_of(raised)}
            entry = names[reason.source]
            marks = marks_of(pact.made["schemes"], entry["originator"])
            higher = [m for m in marks if reference.below(entry["mark"], m)]
            if not higher:
                continue
            entry["mark"] = rng.choice(higher)
            if entry.get("item") == "self":
                raised["item"]["mark"] = entry["mark"]
            after, read = pact.decide(raised), pact.question(raised)
            if isinstance(after, Allow) and read is not None:
                by_source = zip(read.label.sources, after.by_source, strict=True)
                assert reason.cites not in [c for s, c in by_source if s.item == reason.source]


@laws
@given(SEEDS)
def test_nothing_goes_under_what_is_not_in_force(seed: int) -> None:
    for pact, question, _, _ in asked(seed):
        decision = pact.decide(question)
        if isinstance(decision, Allow):
            at, reference = instant(question["at"]), Reference(pact.made)
            used = {cites.rpartition("+")[2].partition("/")[0] for cites in decision.cites}
            for agreement in used | {leg.protected_by for leg in decision.legs}:
                assert reference.in_force(agreement, at)
        assert not pact.allows(changed(question, at="1900-01-01T00:00:00Z"))


@laws
@given(SEEDS)
def test_an_allow_is_one_chain_of_legs_each_marked_by_its_own_table(seed: int) -> None:
    for pact, question, decoded, _ in asked(seed):
        decision = pact.decide(question)
        if not isinstance(decision, Allow):
            continue
        assert decision.path[0] == question["holder"]
        assert decision.path[-1] == question["to"]
        assert len(set(decision.path)) == len(decision.path) <= 3
        assert [(leg.sender, leg.receiver) for leg in decision.legs] == [*pairwise(decision.path)]
        reference, mark = Reference(pact.made), decoded.holding.held_as
        if mark is None:
            records = [
                s
                for s in question.get("status", [])
                if s["by"] == question["holder"] and "mark" in s
            ]
            if records:
                continue
            mark = decoded.label.mark
        for leg in decision.legs:
            mark = reference.equivalent(leg.protected_by, mark, leg.receiver)
            assert leg.mark == mark
            assert {leg.sender, leg.receiver} <= set(
                pact.made["agreements"][leg.protected_by]["parties"]
            )
        assert len(decision.by_source) == len(decoded.label.sources)
        assert {review.party for review in decision.review} <= set(decision.path[:-1])
        assert {duty.party for duty in decision.obligations} <= set(decision.path[1:])


def sources_cited(question: Question, allow: Allow) -> dict[str, str]:
    return {s.item: cites for s, cites in zip(question.label.sources, allow.by_source, strict=True)}


@laws
@given(SEEDS)
def test_a_receiver_finds_the_same_allow_when_it_is_stated(seed: int) -> None:
    for pact, question, decoded, _ in asked(seed):
        allow = pact.decide(question)
        if not isinstance(allow, Allow):
            continue
        cited, engine = sources_cited(decoded, allow), pact.engine
        assert engine.decide_stated(decoded, allow.path, cited) == allow
        assert engine.decide_stated(decoded, list(allow.path), {}) == allow
        backwards = engine.decide_stated(decoded, allow.path[::-1], cited)
        assert isinstance(backwards, Deny)
        for name in cited:
            other = engine.decide_stated(decoded, allow.path, cited | {name: "nothing/1"})
            assert isinstance(other, Deny)
            assert Reason("no-common-path") in other.reasons


@laws
@given(SEEDS)
def test_nothing_that_is_stated_passes_where_the_decision_is_to_deny(seed: int) -> None:
    for pact, question, decoded, rng in asked(seed):
        deny = pact.decide(question)
        if isinstance(deny, Allow):
            continue
        holder, to = question["holder"], question["to"]
        hub = rng.choice(list(pact.made["schemes"]))
        path = rng.choice(((holder, to), (holder, hub, to)))
        clauses = [
            f"{agreement}/{clause['article']}"
            for agreement, each in pact.made["agreements"].items()
            for clause in each["clause"]
        ]
        how = rng.choice(("", "consent+", "own-information+"))
        stated = {s.item: how + rng.choice(clauses) for s in decoded.label.sources}
        assert isinstance(pact.engine.decide_stated(decoded, path, stated), Deny)


def shuffled(rng: random.Random, value: Any) -> Any:
    """The same JSON with its keys and lists in another order, but for `sources`."""
    if isinstance(value, dict):
        keys = rng.sample(list(value), len(value))
        return {
            k: [shuffled(rng, s) for s in value[k]] if k == "sources" else shuffled(rng, value[k])
            for k in keys
        }
    if isinstance(value, list):
        return [shuffled(rng, inner) for inner in rng.sample(value, len(value))]
    return value


@laws
@given(SEEDS)
def test_the_order_of_records_and_of_earlier_questions_does_not_matter(seed: int) -> None:
    for pact, question, _, rng in asked(seed):
        found = answer(pact.engine, question)
        assert answer(pact.engine, question) == found
        other = shuffled(rng, question)
        # Records of one seq are one record, so their lists stand in one order.
        other |= {k: shuffled_records(rng, question[k]) for k in RECORDS if k in question}
        assert answer(pact.engine, other) == found
        assert answer(Engine(pact.engine.regime), question) == found


RECORDS = ("consents", "status")


def shuffled_records(rng: random.Random, records: list[Any]) -> list[Any]:
    return [dict(rng.sample(list(r.items()), len(r))) for r in rng.sample(records, len(records))]


@laws
@given(SEEDS)
def test_the_order_of_sources_chooses_citations_but_never_opens_or_shuts(seed: int) -> None:
    for pact, question, _, rng in asked(seed):
        if "sources" not in question["item"]:
            continue
        other = changed(question)
        rng.shuffle(other["item"]["sources"])
        before, after = pact.decide(question), pact.decide(other)
        assert type(before) is type(after)
        if isinstance(before, Deny) and isinstance(after, Deny):
            assert set(before.reasons) == set(after.reasons)


@laws
@given(SEEDS)
def test_a_derived_item_with_self_alone_is_decided_as_a_plain_one(seed: int) -> None:
    for pact, question, _, _ in asked(seed):
        if "sources" in question["item"]:
            continue
        made = changed(question)
        name, label = question["item"]["id"], question["item"]
        kept = ("originator", "mark", "releasable_to", "topics", "about", "exercise")
        own = {"item": "self"} | {key: label[key] for key in kept if key in label}
        made["item"]["sources"] = [own]
        basis = made.get("holding", {}).get("basis", {})
        if name in basis:
            basis["self"] = basis.pop(name)
        plain, whole = printed(pact.engine, question), printed(pact.engine, made)
        for reason in whole.get("reasons", []):
            if reason.get("source") == "self":
                reason["source"] = name
        if "reasons" in whole:
            whole["reasons"] = [
                dict(entries)
                for entries in dict.fromkeys(tuple(r.items()) for r in whole["reasons"])
            ]
        assert plain == whole


@laws
@given(SEEDS)
def test_an_exercise_is_decided_as_the_real(seed: int) -> None:
    for pact, question, _, _ in asked(seed):
        other = changed(question)
        for entry in lists_of(other):
            if entry.pop("exercise", None) is None:
                entry["exercise"] = True
        assert printed(pact.engine, other) == printed(pact.engine, question)


@laws
@given(SEEDS)
def test_records_of_strangers_of_other_items_and_of_the_future_change_nothing(seed: int) -> None:
    for pact, question, _, rng in asked(seed):
        found = printed(pact.engine, question)
        record = random_consent(rng, pact, question, grant=rng.random() < 0.5)
        by = record["by"]
        status = {"by": by, "item": record["item"], "at": record["at"], "seq": 10**6 + 1}
        status |= rng.choice(({"recalled": True}, {"mark": marks_of(pact.made["schemes"], by)[0]}))
        future = {"at": later(question["at"], 1)}
        others = [p for p in pact.made["schemes"] if p not in owners(question)]
        for extra in (future, {"item": "another"}, {"item": "self"}):
            assert printed(pact.engine, with_record(question, "consents", record | extra)) == found
            assert printed(pact.engine, with_record(question, "status", status | extra)) == found
        if others:
            stranger = {"by": rng.choice(others)}
            assert (
                printed(pact.engine, with_record(question, "consents", record | stranger)) == found
            )
            status = {k: v for k, v in status.items() if k != "mark"} | {"recalled": True}
            assert printed(pact.engine, with_record(question, "status", status | stranger)) == found


@laws
@given(SEEDS)
def test_a_recall_is_final(seed: int) -> None:
    for pact, question, _, rng in asked(seed):
        position = rng.randrange(len(lists_of(question)))
        entry = lists_of(question)[position]
        name = question["item"]["id"] if position == 0 else entry["item"]
        name = question["item"]["id"] if name == "self" else name
        recall = {"by": entry["originator"], "item": name, "seq": 10**6, "recalled": True}
        recall["at"] = later(question["at"], rng.choice((0, -1, -(10**6))))
        recalled = with_record(question, "status", recall)
        grant = random_consent(rng, pact, question, grant=True, seq=10**6 + 1)
        for final in (recalled, with_record(recalled, "consents", grant)):
            decision = pact.decide(final)
            assert isinstance(decision, Deny)
            assert decision.reasons[0].code in ("recalled", "already-holds")


@laws
@given(SEEDS)
def test_what_came_from_another_goes_nowhere_without_a_basis_or_a_consent(seed: int) -> None:
    for pact, question, decoded, _ in asked(seed):
        foreign = [
            s.originator
            for s in decoded.label.sources
            if s.originator not in (question["holder"], question["to"])
        ]
        bare = changed(question, consents=[])
        bare.get("holding", {}).pop("basis", None)
        assert not foreign or not pact.allows(bare)


@laws
@given(SEEDS)
def test_reasons_are_codes_of_the_design_and_every_deny_has_one(seed: int) -> None:
    for pact, question, decoded, _ in asked(seed):
        decision = pact.decide(question)
        if isinstance(decision, Deny):
            assert decision.reasons
            assert len(set(decision.reasons)) == len(decision.reasons)
            names = {s.item for s in decoded.label.sources} | {decoded.label.id, None}
            for reason in decision.reasons:
                assert reason.code in CODES
                assert reason.code != "error"
                assert reason.source in names
                assert reason.cites is None or pact.engine.regime.clause(reason.cites)


# Examples for what the laws only bound


def engine(made: dict[str, Any] | None = None) -> Engine:
    return Engine(load_regime(regime_files(made or trilateral())))


def codes(question: Asked, made: dict[str, Any] | None = None) -> list[str]:
    found = answer(engine(made), question)
    return [reason["code"] for reason in found.get("reasons", [])]


def test_marks_is_a_list_and_no_threshold() -> None:
    made = trilateral()
    terms(made, "pact", "4")["marks"] = ["KOR:II"]
    assert codes(from_korea(), made) == []
    assert codes(from_korea(item=item(mark="KOR:I")), made) == ["mark-not-covered"]
    assert codes(from_korea(item=item(mark="KOR:III")), made) == ["mark-not-covered"]


def test_tables_are_not_chained_past_the_legs_that_the_item_takes() -> None:
    """KOR:II is USA:S and USA:S is JPN:GOKUHI, but no table makes KOR:II equal to JPN:GOKUHI."""
    made = trilateral()
    terms(made, "pact", "4").pop("via")
    terms(made, "pact", "4").pop("protected_by")
    assert codes(from_korea(), made) == ["no-equivalent-mark"]


def test_a_fault_inside_a_rule_refuses() -> None:
    by = engine()
    question = decode_question(from_korea(), by.regime)
    broken = replace(question, at=None)  # type: ignore[arg-type]
    assert isinstance(by.decide(question), Allow)
    assert by.decide(broken) == Deny((Reason("error"),))
    assert by.decide_stated(broken, ("KOR", "USA", "JPN"), {}) == Deny((Reason("error"),))


def blind_relay() -> dict[str, Any]:
    """The pact with a hub that does not read, and two more clauses from the hub's own hand."""
    made = trilateral()
    fourth = terms(made, "pact", "4")
    fourth["via_reads"] = False
    for article, release in (("10", "automatic"), ("3", "review")):
        onward = {
            "by": ["USA"],
            "to": ["JPN"],
            "protected_by": {"JPN-USA": "jp-us"},
            "consent": "label",
            "release": release,
        }
        clause = {"article": article, "text": {"en": "On."}, "onward": onward}
        made["agreements"]["pact"]["clause"].append(clause)
    return made


def test_where_nobody_reads_nobody_reviews_and_the_first_citation_is_taken() -> None:
    """A clause under review does not lose to an automatic one where there is none to review."""
    question = ask(item=item(releasable_to=["JPN"]))
    found = answer(engine(blind_relay()), question)
    assert (found["decision"], found["review"]) == ("allow", [])
    assert found["cites"] == ["pact/10"]
    second = blind_relay()
    second["agreements"]["pact"]["clause"][-2]["article"] = "9"
    assert answer(engine(second), question)["cites"] == ["pact/3"]


def test_of_equal_duties_the_agreement_counts_before_the_article() -> None:
    """`a` comes before `a-b`, although `a/9` comes after `a-b/1` as a string."""
    made = trilateral()
    old = made["agreements"].pop("jp-us")
    for name in ("ko", "ko-us2"):
        twin = copy.deepcopy(old) | {"id": name}
        twin["clause"][1] |= {"article": "9", "protect": {"receipt_within_h": 24}}
        made["agreements"][name] = twin
    share: dict[str, Any] = {"from": ["JPN"], "to": ["USA"], "consent": "label"}
    share["release"] = "review"
    share["protected_by"] = {"JPN-USA": "ko"}
    clause = {"article": "1", "text": {"en": "Give."}, "share": share}
    made["agreements"]["ko-us2"]["clause"].append(clause)
    made["agreements"]["pact"] |= {"rests_on": ["ko"]}
    for article in ("4", "5"):
        terms(made, "pact", article)["protected_by"]["JPN-USA"] = "ko"
    begun = datetime(2015, 1, 1, tzinfo=UTC)
    made["timeline"]["event"] = [
        {"agreement": name, "at": begun, "event": "in-force"} for name in made["agreements"]
    ]
    report = item(originator="JPN", mark="JPN:GOKUHI", releasable_to=["USA"])
    question = ask(holder="JPN", to="USA", item=report)
    del question["holding"]
    duties = answer(engine(made), question)["obligations"]
    assert [duty["cites"] for duty in duties] == ["ko/9"]


def test_a_party_named_twice_in_a_consent_is_named() -> None:
    """Only `releasable_to` is malformed with a name twice (§4 (1))."""
    narrow = item(releasable_to=["USA"])
    assert codes(from_korea(item=narrow, consents=[consent(to=["JPN", "JPN"])])) == []


def test_two_records_of_one_seq_that_differ_only_in_order_differ() -> None:
    twice = [consent(to=["JPN", "USA"]), consent(to=["USA", "JPN"])]
    assert printed(engine(), from_korea(consents=twice)) == {"error": True}
    assert codes(from_korea(consents=[twice[0], twice[0]])) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_clause_covers_the_kinds_it_names_and_no_other(kind: str) -> None:
    expected = [] if kind in ("report", "assessment") else ["outside-kind"]
    assert codes(from_korea(item=item(kind=kind))) == expected


def test_a_source_that_may_not_travel_holds_back_all_others() -> None:
    korean = source("k1", "KOR", "KOR:II", held_as="USA:S")
    assert codes(from_maker(korean)) == []
    assert codes(from_maker(korean | {"releasable_to": ["USA"]})) == ["not-releasable"]
    assert codes(from_maker(korean, item=derived(korean | {"mark": "KOR:I"}))) == [
        "mark-not-covered"
    ]
