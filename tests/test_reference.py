"""The reference itself, against answers worked out by hand from DESIGN §§2-4."""

from __future__ import annotations

import copy
import random
import tomllib
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reference import Reference
from strategies import questions, random_question, random_regime, regime_files, regimes

NOW = "2015-01-05T00:00:00Z"
EARLIER = "2015-01-04T00:00:00Z"
LATER = "2015-01-05T00:00:01Z"
CODES = (
    "already-holds",
    "recalled",
    "mark-stale",
    "not-releasable",
    "consent-withdrawn",
    "consent-expired",
    "consent-required",
    "no-agreement",
    "third-party-rule",
    "not-in-force",
    "outside-kind",
    "outside-topic",
    "outside-subject",
    "mark-not-covered",
    "no-equivalent-mark",
    "no-common-path",
)


# A pact of three: between KOR and JPN everything passes USA. AUS is an outsider.

PACT = """
format = "relto-agreement/1"
id = "pact"
kind = "arrangement"
parties = ["JPN", "KOR", "USA"]
depositary = "USA"
rests_on = ["jp-us", "ko-us"]
title = { en = "The pact" }

[[clause]]
article = "4"
text = { en = "Through the hub." }
[clause.share]
from = ["JPN", "KOR"]
to = ["JPN", "KOR"]
via = "USA"
protected_by = { "JPN-USA" = "jp-us", "KOR-USA" = "ko-us" }
about = ["PRK"]
topics = ["missile", "nuclear"]
kinds = ["report", "assessment"]
marks = ["KOR:II", "KOR:III", "JPN:GOKUHI", "JPN:HI"]
consent = "label"
release = "review"

[[clause]]
article = "5"
text = { en = "From the hub." }
[clause.share]
from = ["USA"]
to = ["JPN", "KOR"]
protected_by = { "JPN-USA" = "jp-us", "KOR-USA" = "ko-us" }
consent = "label"
release = "automatic"

[[clause]]
article = "6"
text = { en = "Onward." }
[clause.onward]
by = ["USA"]
to = ["AUS"]
protected_by = { "AUS-USA" = "au-us" }
topics = ["missile"]
consent = "item"
release = "automatic"
"""

JP_US = """
format = "relto-agreement/1"
id = "jp-us"
kind = "agreement"
parties = ["JPN", "USA"]
depositary = "USA"
title = { en = "Japan and the United States" }
[[clause]]
article = "2"
text = { en = "Equal marks." }
[clause.equate]
rows = [ { JPN = ["GOKUHI", "TOKUTEI"], USA = ["S"] }, { JPN = ["HI"], USA = ["C"] } ]
[[clause]]
article = "3"
text = { en = "Care." }
[clause.protect]
receipt_within_h = 24
two_person_from = ["USA:S"]
"""

KO_US = """
format = "relto-agreement/1"
id = "ko-us"
kind = "agreement"
parties = ["KOR", "USA"]
depositary = "USA"
title = { en = "Korea and the United States" }
[[clause]]
article = "2"
text = { en = "Equal marks." }
[clause.equate]
rows = [ { KOR = ["II"], USA = ["S"] }, { KOR = ["III"], USA = ["C"] } ]
[[clause]]
article = "3"
text = { en = "Care." }
[clause.protect]
receipt_within_h = 48
return_or_destroy = true
[[clause]]
article = "4"
text = { en = "More care." }
[clause.protect]
receipt_within_h = 12
two_person_from = ["KOR:II"]
"""

AU_US = """
format = "relto-agreement/1"
id = "au-us"
kind = "agreement"
parties = ["AUS", "USA"]
depositary = "USA"
title = { en = "Australia and the United States" }
[[clause]]
article = "2"
text = { en = "Equal marks." }
[clause.equate]
rows = [ { AUS = ["S"], USA = ["S"] } ]
"""


def ladder(party: str, *codes: str) -> dict[str, Any]:
    marks: list[dict[str, Any]] = [{"code": code, "banner": {"en": code}} for code in codes]
    return {"party": party, "name": {"en": party}, "mark": marks}


def event(agreement: str, day: int, kind: str, effective: int | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"agreement": agreement, "at": on(day), "event": kind}
    return found if effective is None else found | {"effective": on(effective)}


def on(day: int, seconds: int = 0) -> datetime:
    return datetime(2015, 1, 1, tzinfo=UTC) + timedelta(days=day - 1, seconds=seconds)


def regime() -> dict[str, Any]:
    japan = ladder("JPN", "KIMITSU", "GOKUHI", "TOKUTEI", "HI")
    japan["mark"][2]["beside"] = "GOKUHI"
    texts = {"pact": PACT, "jp-us": JP_US, "ko-us": KO_US, "au-us": AU_US}
    return {
        "schemes": {
            "KOR": ladder("KOR", "I", "II", "III"),
            "JPN": japan,
            "USA": ladder("USA", "TS", "S", "C"),
            "AUS": ladder("AUS", "S"),
        },
        "vocabulary": {
            "topics": ["missile", "missile.launch", "nuclear.test", "cyber"],
            "subjects": ["PRK", "IRN"],
        },
        "agreements": {name: tomllib.loads(text) for name, text in texts.items()},
        "timeline": {"event": [event(name, 1, "in-force") for name in texts]},
    }


def terms(of: dict[str, Any], agreement: str, article: str) -> dict[str, Any]:
    for clause in of["agreements"][agreement]["clause"]:
        if clause["article"] == article:
            found: dict[str, Any] = clause.get("share") or clause["onward"]
            return found
    raise AssertionError(article)


def add_clause(to: dict[str, Any], agreement: str, article: str, **body: Any) -> None:
    clause = {"article": article, "text": {"en": "Added."}} | body
    to["agreements"][agreement]["clause"].append(clause)


def item(**changes: Any) -> dict[str, Any]:
    return {
        "id": "i1",
        "originator": "KOR",
        "mark": "KOR:II",
        "releasable_to": ["JPN", "USA"],
        "kind": "report",
        "topics": ["missile.launch"],
        "about": ["PRK"],
    } | changes


def source(name: str, originator: str, mark: str, **changes: Any) -> dict[str, Any]:
    others = [party for party in ("JPN", "KOR", "USA") if party != originator]
    return {
        "item": name,
        "originator": originator,
        "mark": mark,
        "releasable_to": others,
        "topics": ["missile.launch"],
        "about": ["PRK"],
    } | changes


def derived(*others: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """An American assessment."""
    own = source("self", "USA", "USA:C")
    made = {"originator": "USA", "mark": "USA:S", "releasable_to": ["AUS", "JPN", "KOR"]}
    return item(**made, kind="assessment", sources=[own, *others]) | changes


def ask(**changes: Any) -> dict[str, Any]:
    """The hub passes a Korean report on to Japan."""
    return {
        "id": "q1",
        "at": NOW,
        "holder": "USA",
        "to": "JPN",
        "item": item(),
        "holding": {
            "held_as": "USA:S",
            "basis": {"i1": [{"agreement": "pact", "article": "4"}]},
        },
    } | changes


def from_korea(**changes: Any) -> dict[str, Any]:
    """The originator sends its own report."""
    question = ask(holder="KOR", **changes)
    del question["holding"]
    return question


def from_maker(*others: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The maker of an assessment sends it to Japan."""
    basis = {
        other["item"]: [{"agreement": "pact", "article": "4"}]
        for other in others
        if other["originator"] != "USA"
    }
    return ask(item=derived(*others), holding={"basis": basis}) | changes


def consent(**changes: Any) -> dict[str, Any]:
    return {
        "by": "KOR",
        "item": "i1",
        "to": ["JPN"],
        "seq": 1,
        "at": EARLIER,
        "grant": True,
    } | changes


def status(**changes: Any) -> dict[str, Any]:
    return {"by": "KOR", "item": "i1", "seq": 9, "at": EARLIER} | changes


def answer(question: dict[str, Any], to: dict[str, Any] | None = None) -> dict[str, Any]:
    return Reference(to or regime()).answer(question)


def reasons(question: dict[str, Any], to: dict[str, Any] | None = None) -> list[dict[str, str]]:
    found: list[dict[str, str]] = answer(question, to)["reasons"]
    return found


def cites(question: dict[str, Any], to: dict[str, Any] | None = None) -> list[str]:
    found: list[str] = answer(question, to)["cites"]
    return found


FOURTH = {"cites": "pact/4", "source": "i1"}


# Allow


def test_the_hub_passes_on_what_it_received_under_the_clause() -> None:
    assert answer(ask()) == {
        "id": "q1",
        "decision": "allow",
        "path": ["USA", "JPN"],
        "legs": [{"from": "USA", "to": "JPN", "mark": "JPN:GOKUHI", "protected_by": "jp-us"}],
        "cites": ["pact/4"],
        "review": [{"party": "USA", "officers": 2}],
        "obligations": [
            {"duty": "receipt_within_h", "value": 24, "party": "JPN", "cites": "jp-us/3"}
        ],
    }


def test_the_originator_sends_by_the_hub_and_every_sender_reviews() -> None:
    assert answer(from_korea()) == {
        "id": "q1",
        "decision": "allow",
        "path": ["KOR", "USA", "JPN"],
        "legs": [
            {"from": "KOR", "to": "USA", "mark": "USA:S", "protected_by": "ko-us"},
            {"from": "USA", "to": "JPN", "mark": "JPN:GOKUHI", "protected_by": "jp-us"},
        ],
        "cites": ["pact/4"],
        "review": [{"party": "KOR", "officers": 2}, {"party": "USA", "officers": 2}],
        "obligations": [
            {"duty": "receipt_within_h", "value": 12, "party": "USA", "cites": "ko-us/4"},
            {"duty": "return_or_destroy", "value": True, "party": "USA", "cites": "ko-us/3"},
            {"duty": "receipt_within_h", "value": 24, "party": "JPN", "cites": "jp-us/3"},
        ],
    }


def test_a_lower_mark_needs_one_officer_each() -> None:
    found = answer(from_korea(item=item(mark="KOR:III")))
    assert found["review"] == [{"party": "KOR", "officers": 1}, {"party": "USA", "officers": 1}]
    assert [leg["mark"] for leg in found["legs"]] == ["USA:C", "JPN:HI"]


def test_a_hub_that_does_not_read_neither_reviews_nor_owes_but_marks_pass_its_tables() -> None:
    blind = regime()
    terms(blind, "pact", "4")["via_reads"] = False
    found = answer(from_korea(item=item(releasable_to=["JPN"])), blind)
    assert [leg["mark"] for leg in found["legs"]] == ["USA:S", "JPN:GOKUHI"]
    assert found["review"] == [{"party": "KOR", "officers": 2}]
    assert {duty["party"] for duty in found["obligations"]} == {"JPN"}


def test_a_hub_that_holds_only_as_one_that_does_not_read_need_not_be_a_reader() -> None:
    blind = regime()
    terms(blind, "pact", "4")["via_reads"] = False
    question = ask(item=item(releasable_to=["JPN"]))
    assert cites(question, blind) == ["pact/4"]
    question["holding"]["basis"]["i1"].append({"consent": "pact/5"})
    assert reasons(question, blind) == [{"code": "not-releasable", "source": "i1"}]


def test_a_hub_that_is_also_a_last_recipient_must_be_a_reader() -> None:
    blind = regime()
    terms(blind, "pact", "4")["via_reads"] = False
    terms(blind, "pact", "4")["to"].append("USA")
    question = ask(item=item(releasable_to=["JPN"]))
    assert reasons(question, blind) == [{"code": "not-releasable", "source": "i1"}]


@pytest.mark.parametrize(("limit", "officers"), [("USA:TS", 1), ("USA:S", 2), ("USA:C", 2)])
def test_two_officers_from_a_mark_upwards(limit: str, officers: int) -> None:
    strict = regime()
    strict["agreements"]["jp-us"]["clause"][1]["protect"]["two_person_from"] = [limit]
    assert answer(ask(), strict)["review"] == [{"party": "USA", "officers": officers}]


def test_automatic_goes_before_two_officers() -> None:
    assert answer(from_maker())["review"] == []
    assert cites(from_maker()) == ["pact/5"]


def test_no_review_goes_before_a_shorter_path_and_before_the_order_of_citations() -> None:
    two = regime()
    add_clause(two, "pact", "1", share=terms(two, "pact", "5") | {"release": "review"})
    assert cites(from_maker(), two) == ["pact/5"]


def test_fewer_legs_go_before_more_officers() -> None:
    two = regime()
    two["agreements"]["direct"] = tomllib.loads(
        'parties = ["JPN", "KOR"]\n[[clause]]\narticle = "1"\n[clause.equate]\n'
        'rows = [ { KOR = ["II"], JPN = ["HI"] } ]\n'
    )
    share = {"from": ["KOR"], "to": ["JPN"], "consent": "label", "release": "review"}
    add_clause(two, "direct", "2", share=share)
    two["timeline"]["event"].append(event("direct", 1, "in-force"))
    assert answer(from_korea(), two)["path"] == ["KOR", "JPN"]


def test_more_officers_go_before_the_order_of_citations() -> None:
    two = regime()
    softer = copy.deepcopy(two["agreements"]["jp-us"])
    softer["clause"].pop()
    two["agreements"]["a-soft"] = softer
    two["timeline"]["event"].append(event("a-soft", 1, "in-force"))
    share = terms(two, "pact", "5") | {"release": "review", "protected_by": {}}
    add_clause(two, "a-soft", "1", share=share)
    add_clause(two, "pact", "9", share=terms(two, "pact", "5") | {"release": "review"})
    question = from_maker(item=derived(kind="report"))
    terms(two, "pact", "5")["kinds"] = ["rfi"]
    assert cites(question, two) == ["pact/9"]


def test_articles_are_compared_as_strings() -> None:
    two = regime()
    add_clause(two, "pact", "10", share=terms(two, "pact", "5"))
    assert cites(from_maker(), two) == ["pact/10"]


def test_citations_stand_in_the_order_of_sources_without_repeats() -> None:
    sources = [
        source("k1", "KOR", "KOR:II", held_as="USA:S"),
        source("k2", "KOR", "KOR:III", held_as="USA:C"),
    ]
    assert cites(from_maker(*sources)) == ["pact/5", "pact/4"]


def test_own_information_returns_by_a_channel() -> None:
    own = source("j1", "JPN", "JPN:KIMITSU", held_as="USA:S")
    assert cites(from_maker(own)) == ["pact/5", "own-information+pact/5"]
    assert answer(from_maker(own))["review"] == []


def test_a_consent_opens_every_channel_and_is_always_reviewed() -> None:
    held = {"held_as": "USA:C", "basis": {"i1": [{"consent": "pact/5"}]}}
    found = answer(ask(holding=held, consents=[consent()]))
    assert found["cites"] == ["consent+pact/4"]
    assert found["review"] == [{"party": "USA", "officers": 1}]


def test_a_consent_and_own_information_are_not_bound_to_the_clauses_marks() -> None:
    question = ask(item=item(mark="KOR:I"), holding={"held_as": "USA:S"}, consents=[consent()])
    assert cites(question) == ["consent+pact/4"]
    own = source("j1", "JPN", "JPN:KIMITSU", held_as="USA:S")
    narrow = regime()
    terms(narrow, "pact", "5")["marks"] = ["USA:C"]
    assert cites(from_maker(own), narrow) == ["pact/5", "own-information+pact/5"]


def test_a_consent_lifts_neither_scope_nor_tables() -> None:
    held = {"held_as": "USA:TS"}
    question = ask(item=item(topics=["cyber"]), holding=held, consents=[consent()])
    assert reasons(question) == [
        {"code": "outside-topic", "cites": "consent+pact/4", "source": "i1"},
        {"code": "no-equivalent-mark", "cites": "consent+pact/5", "source": "i1"},
    ]


def test_onward_carries_to_an_outsider_what_the_agreement_brought() -> None:
    question = ask(
        to="AUS", item=item(releasable_to=["AUS", "USA"]), consents=[consent(to=["AUS"])]
    )
    assert answer(question)["legs"] == [
        {"from": "USA", "to": "AUS", "mark": "AUS:S", "protected_by": "au-us"}
    ]
    assert cites(question) == ["pact/6"]


# Each code


def test_already_holds() -> None:
    assert reasons(ask(to="USA")) == [{"code": "already-holds"}]
    assert reasons(ask(to="KOR")) == [{"code": "already-holds"}]


def test_recalled_is_final_even_for_a_source() -> None:
    again = [status(recalled=True, seq=1), status(mark="KOR:III", seq=2)]
    assert reasons(ask(status=again)) == [{"code": "recalled"}]
    question = from_maker(source("k1", "KOR", "KOR:II", held_as="USA:S"))
    question["status"] = [status(item="k1", recalled=True)]
    assert reasons(question) == [{"code": "recalled"}]


def test_a_recall_counts_from_its_own_instant_and_only_from_the_originator() -> None:
    assert reasons(ask(status=[status(recalled=True, at=NOW)])) == [{"code": "recalled"}]
    assert cites(ask(status=[status(recalled=True, at=LATER)])) == ["pact/4"]
    assert cites(ask(status=[status(recalled=True, by="JPN")])) == ["pact/4"]


def test_a_reclassification_must_be_stamped() -> None:
    question = ask(status=[status(mark="KOR:III")])
    assert reasons(question) == [{"code": "mark-stale"}]
    question["holding"]["stamped_seq"] = 8
    assert reasons(question) == [{"code": "mark-stale"}]
    question["holding"]["stamped_seq"] = 9
    assert cites(question) == ["pact/4"]


def test_the_originator_sends_under_its_new_mark() -> None:
    question = from_korea(status=[status(mark="KOR:III"), status(mark="KOR:I", seq=1)])
    assert [leg["mark"] for leg in answer(question)["legs"]] == ["USA:C", "JPN:HI"]


def test_a_maker_must_answer_a_reclassified_source_as_late() -> None:
    question = from_maker(source("k1", "KOR", "KOR:III", held_as="USA:C"))
    question["status"] = [status(item="k1", mark="KOR:II")]
    assert reasons(question) == [{"code": "mark-stale"}]
    question["status"].append(status(by="USA", mark="USA:S", at="2015-01-03T23:59:59Z"))
    assert reasons(question) == [{"code": "mark-stale"}]
    question["status"][1]["at"] = EARLIER
    assert cites(question) == ["pact/5", "pact/4"]
    question["status"] = [status(item="k1", mark="KOR:III")]  # as the label says already
    assert cites(question) == ["pact/5", "pact/4"]


def test_a_makers_mark_below_a_floor_is_ignored() -> None:
    question = from_maker(source("k1", "KOR", "KOR:II", held_as="USA:S"))
    question["status"] = [status(by="USA", mark="USA:S"), status(by="USA", mark="USA:C", seq=10)]
    assert answer(question)["legs"][0]["mark"] == "JPN:GOKUHI"


def test_an_originators_status_for_the_derived_item_is_ignored() -> None:
    question = from_maker(source("k1", "KOR", "KOR:II", held_as="USA:S"))
    question["status"] = [status(recalled=True)]
    assert answer(question)["decision"] == "allow"


def test_an_empty_list_means_nobody_else() -> None:
    assert reasons(from_korea(item=item(releasable_to=[]))) == [
        {"code": "not-releasable", "source": "i1"}
    ]


def test_each_source_and_the_items_own_list_excludes_by_itself() -> None:
    question = from_maker(source("k1", "KOR", "KOR:II", held_as="USA:S", releasable_to=["USA"]))
    question["item"]["sources"][0]["releasable_to"] = []
    question["item"]["releasable_to"] = []
    assert reasons(question) == [
        {"code": "not-releasable", "source": "self"},
        {"code": "not-releasable", "source": "k1"},
        {"code": "not-releasable", "source": "i1"},
    ]


def test_a_holder_that_lost_its_leave_may_not_pass_on() -> None:
    question = ask(consents=[consent(to=["USA"], grant=False)])
    assert reasons(question) == [{"code": "consent-withdrawn", "source": "i1"}]
    question["item"]["releasable_to"] = ["USA"]
    assert reasons(question) == [
        {"code": "not-releasable", "source": "i1"},
        {"code": "consent-withdrawn", "source": "i1"},
    ]
    made = from_maker(source("k1", "KOR", "KOR:II", held_as="USA:S"))
    made["consents"] = [consent(item="k1", to=["USA"], grant=False)]
    assert reasons(made) == [{"code": "consent-withdrawn", "source": "k1"}]


def test_a_reading_hub_must_be_a_reader() -> None:
    assert reasons(from_korea(item=item(releasable_to=["JPN"]))) == [
        {"code": "not-releasable"} | FOURTH
    ]


def test_third_party_rule() -> None:
    held = {"held_as": "USA:S"}
    assert reasons(ask(holding=held)) == [{"code": "third-party-rule", "source": "i1"}]
    held_by_five = held | {"basis": {"i1": [{"agreement": "pact", "article": "5"}]}}
    assert reasons(ask(holding=held_by_five)) == [{"code": "third-party-rule", "source": "i1"}]


def test_a_basis_serves_only_originators_that_its_clause_names() -> None:
    narrow = regime()
    terms(narrow, "pact", "4")["from"] = ["JPN"]
    assert reasons(ask(), narrow) == [{"code": "third-party-rule", "source": "i1"}]


def test_onward_serves_only_originators_that_are_parties_of_its_agreement() -> None:
    wide = regime()
    onward = {"by": ["USA"], "to": ["JPN"], "consent": "label", "release": "automatic"}
    add_clause(wide, "pact", "7", onward=onward | {"protected_by": {"JPN-USA": "jp-us"}})
    assert cites(ask(), wide) == ["pact/7"]
    foreign = item(originator="AUS", mark="AUS:S")
    assert reasons(ask(item=foreign), wide) == [{"code": "third-party-rule", "source": "i1"}]


def test_no_agreement_where_only_a_channel_is_missing() -> None:
    own = from_korea(to="AUS", item=item(releasable_to=["AUS"]))
    assert reasons(own) == [{"code": "no-agreement", "source": "i1"}]
    by_consent = ask(
        to="AUS",
        item=item(releasable_to=["AUS", "USA"]),
        holding={"held_as": "USA:S"},
        consents=[consent(to=["AUS"], expires=NOW)],
    )
    assert reasons(by_consent) == [{"code": "no-agreement", "source": "i1"}]


@pytest.mark.parametrize("ended", ["pact", "jp-us", "ko-us"])
def test_not_in_force(ended: str) -> None:
    over = regime()
    over["timeline"]["event"].append(event(ended, 5, "terminated"))
    assert reasons(ask(), over) == [{"code": "not-in-force"} | FOURTH]
    assert cites(ask(at="2015-01-04T23:59:59Z"), over) == ["pact/4"]


def test_the_agreement_of_a_leg_must_be_in_force_also_where_nothing_rests_on_it() -> None:
    over = regime()
    over["timeline"]["event"].append(event("au-us", 5, "suspended"))
    question = ask(
        to="AUS", item=item(releasable_to=["AUS", "USA"]), consents=[consent(to=["AUS"])]
    )
    assert reasons(question, over) == [{"code": "not-in-force", "cites": "pact/6", "source": "i1"}]


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("outside-kind", {"kind": "imagery"}),
        ("outside-topic", {"topics": ["missile", "cyber"]}),
        ("outside-topic", {"topics": []}),
        ("outside-subject", {"about": ["PRK", "IRN"]}),
        ("outside-subject", {"about": []}),
        ("mark-not-covered", {"mark": "KOR:I"}),
        ("outside-kind", {"kind": "imagery", "topics": [], "about": [], "mark": "KOR:I"}),
        ("outside-topic", {"topics": [], "about": [], "mark": "KOR:I"}),
        ("outside-subject", {"about": [], "mark": "KOR:I"}),
    ],
)
def test_outside_the_clause(code: str, changes: dict[str, Any]) -> None:
    assert reasons(ask(item=item(**changes))) == [{"code": code} | FOURTH]


def test_a_topic_covers_its_descendants_and_nothing_that_only_begins_like_it() -> None:
    longer = regime()
    longer["vocabulary"]["topics"].append("missiles")
    assert cites(ask(item=item(topics=["missile", "nuclear", "nuclear.test"])), longer)
    assert reasons(ask(item=item(topics=["missiles"])), longer)[0]["code"] == "outside-topic"


def test_a_missing_row_refuses() -> None:
    question = ask()
    question["holding"]["held_as"] = "USA:TS"
    assert reasons(question) == [{"code": "no-equivalent-mark"} | FOURTH]


def test_a_mark_beside_a_rung_is_as_high_but_has_no_row_that_does_not_name_it() -> None:
    two = regime()
    terms(two, "pact", "4")["marks"].append("JPN:TOKUTEI")
    report = item(originator="JPN", mark="JPN:TOKUTEI", releasable_to=["KOR", "USA"])
    question = ask(holder="JPN", to="KOR", item=report)
    del question["holding"]
    assert [leg["mark"] for leg in answer(question, two)["legs"]] == ["USA:S", "KOR:II"]
    two["agreements"]["jp-us"]["clause"][0]["equate"]["rows"][0]["JPN"] = ["GOKUHI"]
    assert reasons(question, two)[0]["code"] == "no-equivalent-mark"


def test_consent_for_the_item_is_required_expired_or_given() -> None:
    outsider = item(releasable_to=["AUS", "USA"])
    question = ask(to="AUS", item=outsider)
    sixth = {"cites": "pact/6", "source": "i1"}
    assert reasons(question) == [{"code": "consent-required"} | sixth]
    question["consents"] = [consent(to=["AUS"], expires=NOW)]
    assert reasons(question) == [{"code": "consent-expired"} | sixth]
    question["consents"] = [consent(to=["AUS"], expires=LATER)]
    assert cites(question) == ["pact/6"]


def test_an_expired_consent_fails_its_channel_and_the_label_still_stands() -> None:
    question = ask(holding={"held_as": "USA:S"}, consents=[consent(expires=NOW)])
    assert reasons(question) == [
        {"code": "consent-expired", "cites": "consent+pact/4", "source": "i1"},
        {"code": "consent-expired", "cites": "consent+pact/5", "source": "i1"},
    ]
    assert cites(from_korea(consents=[consent(expires=NOW)])) == ["pact/4"]


def test_no_common_path() -> None:
    two = regime()
    two["agreements"]["other"] = copy.deepcopy(two["agreements"]["jp-us"])
    two["timeline"]["event"].append(event("other", 1, "in-force"))
    terms(two, "pact", "5")["protected_by"] = {"JPN-USA": "other"}
    question = from_maker(source("k1", "KOR", "KOR:II", held_as="USA:S"))
    assert reasons(question, two) == [{"code": "no-common-path"}]
    assert cites(question) == ["pact/5", "pact/4"]


# Consents


@pytest.mark.parametrize(
    ("records", "code"),
    [
        ([], None),
        ([consent(grant=False)], "consent-withdrawn"),
        ([consent(grant=False, at=NOW)], "consent-withdrawn"),
        ([consent(grant=False, at=LATER)], None),
        ([consent(grant=False, by="USA")], None),
        ([consent(grant=False, item="i9")], None),
        ([consent(grant=False, to=["AUS"])], None),
        ([consent(grant=False), consent(seq=2)], None),
        ([consent(seq=2), consent(grant=False)], None),
        ([consent(), consent(grant=False, seq=2)], "consent-withdrawn"),
        ([consent(at=NOW), consent(grant=False, seq=2, at=EARLIER)], "consent-withdrawn"),
        ([consent(grant=False), consent(seq=2, expires=LATER)], None),
        ([consent(grant=False), consent(seq=2, expires=NOW)], "consent-expired"),
        ([consent(expires=NOW), consent(grant=False, at=LATER, seq=2)], None),
        ([consent(expires=NOW)], None),
    ],
)
def test_the_highest_seq_that_counts_decides(records: list[Any], code: str | None) -> None:
    found = answer(from_korea(consents=records))
    assert found["decision"] == ("deny" if code else "allow")
    if code:
        assert found["reasons"] == [{"code": code, "source": "i1"}]


def test_a_grant_widens_the_label_until_it_expires() -> None:
    narrow = item(releasable_to=["USA"])
    assert cites(from_korea(item=narrow, consents=[consent(expires=LATER)])) == ["pact/4"]
    assert reasons(from_korea(item=narrow, consents=[consent(expires=NOW)])) == [
        {"code": "consent-expired", "source": "i1"}
    ]


def test_a_consent_by_the_derived_items_id_counts_for_that_originators_sources() -> None:
    question = from_maker(source("k1", "KOR", "KOR:II", held_as="USA:S", releasable_to=["USA"]))
    assert reasons(question) == [{"code": "not-releasable", "source": "k1"}]
    question["consents"] = [consent(item="i1")]
    assert "cites" in answer(question)
    question["consents"].append(consent(item="k1", seq=2, grant=False))
    assert reasons(question) == [{"code": "consent-withdrawn", "source": "k1"}]


def test_a_makers_consent_counts_for_self_and_for_the_items_own_list() -> None:
    question = from_maker(item=derived(releasable_to=[]))
    assert reasons(question) == [{"code": "not-releasable", "source": "i1"}]
    question["consents"] = [consent(by="USA")]
    assert cites(question) == ["pact/5"]
    question["consents"] = [consent(by="USA", grant=False)]
    assert reasons(question) == [
        {"code": "consent-withdrawn", "source": "self"},
        {"code": "consent-withdrawn", "source": "i1"},
    ]


# Malformed


@pytest.mark.parametrize(
    "question",
    [
        ask(note="x"),
        ask(at=None),
        ask(at="2015-01-05T00:00:00+00:00"),
        ask(at="2015-02-30T00:00:00Z"),
        ask(holder="XXX"),
        ask(to="XXX"),
        ask(item=item(id="self"), holding={"held_as": "USA:S"}),
        ask(item=item(mark="KOR:IV")),
        ask(item=item(mark="USA:S")),
        ask(item=item(kind="rumour")),
        ask(item=item(topics=["weather"])),
        ask(item=item(about=["ATL"])),
        ask(item=item(about="PRK")),
        ask(item=item(releasable_to=["KOR"])),
        ask(item=item(releasable_to=["JPN", "JPN"])),
        ask(item=item(releasable_to=["XXX"])),
        ask(item={k: v for k, v in item().items() if k != "releasable_to"}),
        ask(item=item(sources=[])),
        ask(holding={}),
        ask(holding={"held_as": "KOR:II"}),
        ask(holding={"held_as": "USA:S", "basis": {"i2": []}}),
        ask(holding={"held_as": "USA:S", "basis": {"i1": [{"agreement": "pact"}]}}),
        ask(
            holding={
                "held_as": "USA:S",
                "basis": {"i1": [{"agreement": "jp-us", "article": "2"}]},
            }
        ),
        ask(holding={"held_as": "USA:S", "basis": {"i1": [{"consent": "pact/99"}]}}),
        from_korea() | {"holding": {"held_as": "KOR:II"}},
        from_korea() | {"holding": {"basis": {"i1": []}}},
        from_korea(consents=[consent(), consent(grant=False)]),
        from_korea(consents=[consent()], status=[status(item="i9", seq=1, recalled=True)]),
        from_korea(consents=[consent(seq=1.5)]),
        from_korea(consents=[consent(grant=1)]),
        from_korea(consents=[consent(to=["XXX"])]),
        from_korea(status=[status(mark="KOR:IV")]),
        from_maker(source("k1", "KOR", "KOR:II")),
        from_maker(source("k1", "KOR", "KOR:II", held_as="KOR:II")),
        from_maker(source("k1", "KOR", "KOR:I", held_as="USA:TS")),
        from_maker(source("k1", "KOR", "KOR:II", held_as="USA:S", topics=["nuclear.test"])),
        from_maker(source("k1", "KOR", "KOR:II", held_as="USA:S", topics=["missile"])),
        from_maker(source("k1", "KOR", "KOR:II", held_as="USA:S", exercise=True)),
        from_maker(source("u1", "USA", "USA:C", held_as="USA:C")),
        from_maker(
            source("k1", "KOR", "KOR:II", held_as="USA:S"),
            source("k1", "KOR", "KOR:II", held_as="USA:S"),
        ),
        from_maker(item=derived(source("self", "USA", "USA:C"))),
        from_maker(item=derived(exercise=True)),
        from_maker(item=derived() | {"sources": [source("self", "KOR", "KOR:II")]}),
        from_maker(item=derived() | {"sources": [source("self", "USA", "USA:TS")]}),
        from_maker(item=derived() | {"sources": [source("self", "USA", "USA:C", held_as="USA:C")]}),
    ],
)
def test_a_malformed_question_is_an_error_and_no_decision(question: dict[str, Any]) -> None:
    found = answer(question)
    assert set(found) == {"id", "error"}


def test_the_same_record_twice_is_one() -> None:
    assert cites(from_korea(consents=[consent(), consent()])) == ["pact/4"]


def test_an_answer_without_an_id_has_none() -> None:
    question = ask()
    del question["id"]
    assert "id" not in answer(question)


def test_an_exercise_is_one_in_every_source() -> None:
    made = derived(exercise=True)
    made["sources"][0]["exercise"] = True
    assert cites(from_maker(item=made)) == ["pact/5"]


# Timeline (§2)


def in_force(*events: dict[str, Any], at: datetime, rests_on: list[str] | None = None) -> bool:
    agreements: dict[str, Any] = {"a": {}, "p": {}}
    if rests_on:
        agreements["a"]["rests_on"] = rests_on
    held = {"schemes": {}, "vocabulary": {}, "agreements": agreements}
    return Reference(held | {"timeline": {"event": list(events)}}).in_force("a", at)


BEGUN = event("a", 1, "in-force")
NOTICE = event("a", 2, "termination-notified", effective=10)


def test_with_no_events_it_is_not_in_force() -> None:
    assert not in_force(at=on(5))
    assert not in_force(event("p", 1, "in-force"), at=on(5))


def test_an_event_counts_from_its_own_instant() -> None:
    assert not in_force(BEGUN, at=on(1, -1))
    assert in_force(BEGUN, at=on(1))


@pytest.mark.parametrize("kind", ["suspended", "terminated", "lapsed"])
def test_suspension_and_end_take_it_out_of_force(kind: str) -> None:
    assert in_force(BEGUN, event("a", 3, kind), at=on(3, -1))
    assert not in_force(BEGUN, event("a", 3, kind), at=on(3))


def test_resumption_puts_it_back() -> None:
    events = [BEGUN, event("a", 3, "suspended"), event("a", 4, "resumed")]
    assert not in_force(*events, at=on(4, -1))
    assert in_force(*events, at=on(4))


def test_events_stand_in_any_order_and_equal_instants_in_the_files() -> None:
    assert in_force(event("a", 4, "resumed"), event("a", 3, "suspended"), BEGUN, at=on(4))
    suspended, resumed = event("a", 3, "suspended"), event("a", 3, "resumed")
    again = event("a", 3, "suspended")
    assert in_force(suspended, resumed, BEGUN, at=on(3))
    assert not in_force(suspended, resumed, again, BEGUN, at=on(3))


def test_a_notice_ends_it_at_its_date_and_not_before() -> None:
    assert in_force(BEGUN, NOTICE, at=on(10, -1))
    assert not in_force(BEGUN, NOTICE, at=on(10))


def test_a_notice_runs_on_through_a_suspension_of_the_agreement() -> None:
    events = [BEGUN, NOTICE, event("a", 3, "suspended")]
    assert not in_force(*events, at=on(10))


def test_notices_stand_beside_each_other_and_the_first_to_fall_due_ends_it() -> None:
    sooner = event("a", 3, "termination-notified", effective=6)
    assert in_force(BEGUN, NOTICE, sooner, at=on(6, -1))
    assert not in_force(BEGUN, NOTICE, sooner, at=on(6))


def test_only_a_new_beginning_clears_notices_and_begins_it_again() -> None:
    again = event("a", 12, "in-force")
    assert not in_force(BEGUN, NOTICE, again, at=on(12, -1))
    assert in_force(BEGUN, NOTICE, again, at=on(12))
    assert in_force(BEGUN, NOTICE, event("a", 5, "in-force"), at=on(11))


@pytest.mark.parametrize("kind", ["termination-suspended", "notices-withdrawn"])
@pytest.mark.parametrize("day", [9, 10])
def test_a_notice_is_stopped_up_to_the_very_instant_of_its_date(kind: str, day: int) -> None:
    events = [BEGUN, NOTICE, event("a", day, kind)]
    assert in_force(*events, at=on(10))
    assert in_force(*events, at=on(20))


def test_withdrawal_and_suspension_touch_all_pending_notices_and_no_later_one() -> None:
    second = event("a", 3, "termination-notified", effective=12)
    third = event("a", 6, "termination-notified", effective=15)
    for kind in ("termination-suspended", "notices-withdrawn"):
        events = [BEGUN, NOTICE, second, event("a", 5, kind), third]
        assert in_force(*events, at=on(15, -1))
        assert not in_force(*events, at=on(15))


def test_a_resumed_termination_takes_effect_at_its_date_or_at_once() -> None:
    paused = event("a", 3, "termination-suspended")
    before = [BEGUN, NOTICE, paused, event("a", 5, "termination-resumed")]
    assert in_force(*before, at=on(10, -1))
    assert not in_force(*before, at=on(10))
    after = [BEGUN, NOTICE, paused, event("a", 12, "termination-resumed")]
    assert in_force(*after, at=on(12, -1))
    assert not in_force(*after, at=on(12))


@pytest.mark.parametrize("kind", ["terminated", "lapsed"])
def test_an_end_clears_notices(kind: str) -> None:
    events = [BEGUN, NOTICE, event("a", 3, kind), event("a", 4, "in-force")]
    assert not in_force(*events, at=on(4, -1))
    assert in_force(*events, at=on(10))


def test_it_is_in_force_only_while_its_pillars_are_and_again_when_they_are() -> None:
    pillar = [event("p", 2, "in-force"), event("p", 4, "suspended"), event("p", 6, "resumed")]
    expected = {on(2, -1): False, on(2): True, on(4, -1): True, on(4): False, on(6): True}
    for at, state in expected.items():
        assert in_force(BEGUN, *pillar, at=at, rests_on=["p"]) is state


# The generator


def test_random_questions_meet_every_code_and_every_kind_of_answer() -> None:
    met: Counter[str] = Counter()
    for seed in range(150):
        rng = random.Random(seed)
        made = random_regime(rng)
        reference = Reference(made)
        for _ in range(20):
            question = random_question(rng, made)
            found = reference.answer(question)
            if "error" in found:
                met["error"] += 1
            elif found["decision"] == "deny":
                met.update({reason["code"] for reason in found["reasons"]})
            else:
                met["allow"] += 1
                met["past a hub"] += len(found["path"]) == 3
                met["derived"] += "sources" in question["item"]
                met["automatic"] += not found["review"]
                met["two officers"] += any(r["officers"] == 2 for r in found["review"])
                met["blind hub"] += len(found["path"]) == 3 and len(found["review"]) == 1
                met.update({cited.partition("+")[0] for cited in found["cites"] if "+" in cited})
    rare = {"no-common-path": 3, "blind hub": 5, "own-information": 10, "recalled": 10}
    wanted = [*CODES, "allow", "error", "past a hub", "derived", "automatic", "two officers"]
    wanted += ["blind hub", "consent", "own-information"]
    few = {name: met[name] for name in wanted if met[name] < rare.get(name, 20)}
    assert not few
    assert met["error"] < 600
    assert met["allow"] > 400


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_question_survives_its_answer_and_a_regime_its_files(data: st.DataObject) -> None:
    made = data.draw(regimes())
    question = data.draw(questions(made))
    before = copy.deepcopy((made, question))
    assert Reference(made).answer(question) == Reference(made).answer(question)
    assert (made, question) == before
    files = {name: tomllib.loads(body.decode()) for name, body in regime_files(made).items()}
    read = {
        "schemes": {party: files[f"schemes/{party}.toml"] for party in made["schemes"]},
        "vocabulary": files["vocabulary.toml"],
        "agreements": {name: files[f"agreements/{name}.toml"] for name in made["agreements"]},
        "timeline": files.get("timeline.toml", {"event": []}),
    }
    assert read == made
