"""The life of an agreement: legal moves, the passing of time, and three lives that history had."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regime_texts import files
from relto.clauses import Agreement, Lasting
from relto.errors import PeerError
from relto.lives import LEGAL, Life, events_of, life_at, may_move, moved
from relto.moves import MOVES, Move
from relto.regime import load_regime
from relto.timeline import make_timeline

PARTIES = ("JPN", "KOR", "USA")
TERMS = "0" * 64


def agreement(**lasting: Any) -> Agreement:
    """An agreement of three, deposited with USA."""
    pact = load_regime(files()).agreements["pact"]
    return replace(pact, lasting=Lasting(**lasting))


class Story:
    """A life told move by move; each party counts its own."""

    def __init__(self, of: Agreement) -> None:
        self.life = Life(of)
        self._seq = 0

    def move(self, party: str, move: str, at: str, effective: str = "", made_at: str = "") -> Story:
        self._seq += 1
        record = Move(party, "pact", TERMS, move, self._seq, made_at or at, effective)
        self.life = moved(self.life, record, at)
        return self

    def at(self, at: str) -> Life:
        return life_at(self.life, at)

    def refuses(self, party: str, move: str, at: str, effective: str = "") -> str:
        before = self.life
        with pytest.raises(PeerError) as refused:
            self.move(party, move, at, effective)
        assert self.life is before
        return str(refused.value)


def opened(of: Agreement) -> Story:
    return Story(of).move("USA", "opened", day(1))


def signed(of: Agreement) -> Story:
    """All have signed: USA on the 2nd, KOR on the 3rd, JPN on the 4th, received an hour later."""
    story = opened(of)
    for number, party in enumerate(("USA", "KOR", "JPN"), start=2):
        story.move(party, "signed", f"2020-01-0{number}T01:00:00Z", made_at=day(number))
    return story


def day(number: int, month: int = 1) -> str:
    return f"2020-{month:02}-{number:02}T00:00:00Z"


# beginning


def test_a_draft_is_opened_by_its_depositary_alone() -> None:
    story = Story(agreement())
    assert "by the depositary" in story.refuses("KOR", "opened", day(1))
    assert story.move("USA", "opened", day(1)).life.phase == "open"


@pytest.mark.parametrize("order", [("JPN", "KOR", "USA"), ("USA", "JPN", "KOR")])
def test_parties_sign_in_any_order_and_it_is_signed_when_all_have(order: tuple[str, ...]) -> None:
    story = opened(agreement(begins="copies"))
    for number, party in enumerate(order, start=2):
        assert story.life.phase == "open"
        assert party in story.life.missing
        story.move(party, "signed", day(number))
    assert story.life.phase == "in-force"
    assert story.life.missing == ()


def test_a_party_signs_once() -> None:
    story = opened(agreement()).move("KOR", "signed", day(2))
    assert "once" in story.refuses("KOR", "signed", day(3))


def test_it_begins_with_the_last_signature_even_if_that_was_received_later() -> None:
    life = signed(agreement(begins="signature")).life
    assert (life.begins, life.phase) == (day(4), "in-force")


def test_it_begins_when_the_depositary_has_all_copies() -> None:
    life = signed(agreement(begins="copies")).life
    assert life.begins == "2020-01-04T01:00:00Z"


def test_it_begins_when_all_have_notified_and_not_before() -> None:
    story = signed(agreement(begins="notifications"))
    story.move("USA", "notified", day(5)).move("JPN", "notified", day(6))
    assert story.life.phase == "signed"
    assert "once" in story.refuses("JPN", "notified", day(7))
    story.move("KOR", "notified", day(8))
    assert (story.life.phase, story.life.begins) == ("in-force", day(8))


def test_only_an_agreement_that_begins_by_notifications_takes_them() -> None:
    story = signed(agreement(begins="date", begins_at=day(1, 3)))
    assert "where the agreement begins so" in story.refuses("KOR", "notified", day(5))


def test_it_begins_at_its_date_or_when_signed_if_that_is_later() -> None:
    early = signed(agreement(begins="date", begins_at=day(10)))
    assert early.life.phase == "signed"
    assert early.at("2020-01-09T23:59:59Z").phase == "signed"
    assert early.at(day(10)).phase == "in-force"
    late = signed(agreement(begins="date", begins_at=day(2)))
    assert (late.life.phase, late.life.begins) == ("in-force", "2020-01-04T01:00:00Z")


def test_any_party_withdraws_before_the_last_signature_and_then_nobody_moves_any_more() -> None:
    story = opened(agreement()).move("USA", "signed", day(2)).move("JPN", "signed", day(3))
    story.move("KOR", "withdrawn", day(4))
    assert (story.life.phase, story.life.ended) == ("withdrawn", day(4))
    for party in PARTIES:
        assert may_move(story.life, party, day(5)) == ()
    assert "only one that is open is signed" in story.refuses("KOR", "signed", day(5))
    assert list(events_of(story.life)) == []


def test_after_the_last_signature_a_withdrawal_comes_too_late() -> None:
    story = signed(agreement())
    assert "only one that is open is withdrawn" in story.refuses("KOR", "withdrawn", day(5))


# suspension


def test_it_is_in_force_again_only_when_all_that_suspended_it_have_resumed() -> None:
    story = signed(agreement()).move("KOR", "suspended", day(5)).move("JPN", "suspended", day(6))
    assert story.life.state == "suspended"
    assert "suspended it" in story.refuses("USA", "resumed", day(7))
    story.move("KOR", "resumed", day(7))
    assert story.life.state == "suspended"
    story.move("JPN", "resumed", day(8))
    assert story.life.state == "in-force"
    assert story.life.changes == ((day(4), "in-force"), (day(5), "suspended"), (day(8), "resumed"))


def test_a_party_suspends_once() -> None:
    story = signed(agreement()).move("KOR", "suspended", day(5))
    assert "has not suspended" in story.refuses("KOR", "suspended", day(6))


# notices


def test_a_notice_ends_the_agreement_at_its_instant_and_not_a_second_before() -> None:
    story = signed(agreement(notice_days=30))
    story.move("KOR", "termination-notified", day(5), "2020-02-04T00:00:00Z")
    assert story.at("2020-02-03T23:59:59Z").is_in_force
    ended = story.at("2020-02-04T00:00:00Z")
    assert (ended.phase, ended.ended, ended.why) == ("ended", "2020-02-04T00:00:00Z", "terminated")


def test_a_notice_is_given_as_long_before_as_the_agreement_says() -> None:
    story = signed(agreement(notice_days=30))
    fault = story.refuses("KOR", "termination-notified", day(5), "2020-02-03T23:59:59Z")
    assert "30 days before; 2020-02-04T00:00:00Z is the earliest" in fault


def test_a_notice_counts_from_its_receipt_and_not_from_the_date_on_it() -> None:
    story = signed(agreement(notice_days=30))
    late = Move("KOR", "pact", TERMS, "termination-notified", 9, day(5), "2020-02-04T00:00:00Z")
    with pytest.raises(PeerError, match="2020-02-09T00:00:00Z is the earliest"):
        moved(story.life, late, day(10))


def test_a_notice_is_suspended_and_withdrawn_also_at_the_very_instant_it_would_take_effect() -> (
    None
):
    for move in ("termination-suspended", "notice-withdrawn"):
        story = signed(agreement()).move("KOR", "termination-notified", day(5), day(9))
        story.move("KOR", move, day(9))
        assert story.at(day(20)).is_in_force
        story = signed(agreement()).move("KOR", "termination-notified", day(5), day(9))
        assert "is ended" in story.refuses("KOR", move, "2020-01-09T00:00:01Z")


def test_a_notice_resumed_in_time_keeps_its_date_and_one_resumed_late_ends_at_once() -> None:
    for resumed, ends in ((day(7), day(9)), (day(12), day(12))):
        story = signed(agreement()).move("KOR", "termination-notified", day(5), day(9))
        story.move("KOR", "termination-suspended", day(6))
        story.move("KOR", "termination-resumed", resumed)
        assert story.at(day(20)).ended == ends


def test_nobody_touches_the_notice_of_another() -> None:
    story = signed(agreement()).move("KOR", "termination-notified", day(5), day(9))
    for move in ("termination-suspended", "termination-resumed", "notice-withdrawn"):
        assert "out of place" in story.refuses("JPN", move, day(6))
    story.move("JPN", "termination-notified", day(6), day(8))
    story.move("KOR", "notice-withdrawn", day(7))
    assert story.at(day(20)).ended == day(8)


def test_a_party_gives_one_notice_at_a_time() -> None:
    story = signed(agreement()).move("KOR", "termination-notified", day(5), day(9))
    assert "without a notice pending" in story.refuses(
        "KOR", "termination-notified", day(6), day(8)
    )


# terms


def test_it_lapses_when_its_term_is_over() -> None:
    story = signed(agreement(term_months=2))
    assert story.life.next_end == day(4, 3)
    assert story.at("2020-03-03T23:59:59Z").is_in_force
    assert (story.at(day(4, 3)).phase, story.at(day(4, 3)).why) == ("ended", "lapsed")


def test_a_term_that_begins_on_a_31st_ends_on_the_last_day_of_a_shorter_month() -> None:
    story = opened(agreement(term_months=1))
    for party in PARTIES:
        story.move(party, "signed", "2020-01-31T00:00:00Z")
    assert story.life.next_end == "2020-02-29T00:00:00Z"


def test_it_is_renewed_by_silence() -> None:
    story = signed(agreement(term_months=12, renews=True))
    assert story.life.next_end == ""
    assert story.at("2031-06-01T00:00:00Z").is_in_force


def test_a_notice_that_is_late_for_one_term_is_for_the_next() -> None:
    lasting = {"term_months": 12, "renews": True, "notice_days": 90}
    in_time = "2020-10-06T00:00:00Z"  # 90 days before 4 January 2021
    late = "2020-10-06T00:00:01Z"
    story = signed(agreement(**lasting))
    story.move("KOR", "termination-notified", in_time, "2021-01-04T00:00:00Z")
    story = signed(agreement(**lasting))
    fault = story.refuses("KOR", "termination-notified", late, "2021-01-04T00:00:00Z")
    assert "2021-01-04T00:00:01Z is the earliest" in fault
    fault = story.refuses("KOR", "termination-notified", late, "2021-07-01T00:00:00Z")
    assert "2022-01-04T00:00:00Z is the earliest" in fault
    story.move("KOR", "termination-notified", late, "2022-01-04T00:00:00Z")


@pytest.mark.parametrize(
    ("effective", "is_in_time"),
    [
        ("2021-01-02T23:59:59Z", False),
        ("2021-01-03T00:00:00Z", True),
        ("2021-01-05T00:00:00Z", True),
        ("2021-01-05T00:00:01Z", False),
    ],
)
def test_a_term_ends_on_a_day_wherever_that_is_counted(effective: str, *, is_in_time: bool) -> None:
    story = signed(agreement(term_months=12, renews=True))
    if is_in_time:
        story.move("KOR", "termination-notified", day(5), effective)
    else:
        assert "ends with a term" in story.refuses("KOR", "termination-notified", day(5), effective)


# who, when, in which order


def test_a_stranger_moves_nothing() -> None:
    assert "is no party" in signed(agreement()).refuses("AUS", "suspended", day(5))
    assert may_move(signed(agreement()).life, "AUS", day(5)) == ()


def test_a_move_is_received_after_it_is_made_and_after_the_one_before() -> None:
    story = signed(agreement())
    early = Move("KOR", "pact", TERMS, "suspended", 9, day(6), "")
    with pytest.raises(PeerError, match="after its receipt"):
        moved(story.life, early, day(5))
    assert "before the move before it" in story.refuses("KOR", "suspended", day(4))


def test_a_party_numbers_its_moves_upwards() -> None:
    story = signed(agreement())
    with pytest.raises(PeerError, match="under seq 3 or later"):
        moved(story.life, Move("KOR", "pact", TERMS, "suspended", 3, day(5)), day(5))


# history


def test_the_pact_of_2014_was_signed_in_three_places_and_began_with_the_copies() -> None:
    story = Story(agreement(begins="copies")).move("USA", "opened", "2014-12-22T00:00:00Z")
    story.move("USA", "signed", "2014-12-23T15:00:00Z")
    story.move("KOR", "signed", "2014-12-28T14:00:00Z", made_at="2014-12-26T02:00:00Z")
    story.move("JPN", "signed", "2014-12-28T15:00:00Z", made_at="2014-12-26T06:00:00Z")
    assert story.life.begins == "2014-12-28T15:00:00Z"  # the 29th in Seoul and Tokyo
    assert story.at("2030-01-01T00:00:00Z").is_in_force


def test_the_pact_of_2012_was_called_off_within_the_hour_before_its_signing() -> None:
    two = replace(agreement(), parties=frozenset({"JPN", "KOR"}), depositary="KOR")
    story = Story(two).move("KOR", "opened", "2012-06-26T00:00:00Z")
    story.move("KOR", "withdrawn", "2012-06-29T06:10:00Z")
    assert story.life.phase == "withdrawn"
    assert "is withdrawn" in story.refuses("JPN", "signed", "2012-06-29T07:00:00Z")


def test_the_agreement_of_2016_was_all_but_ended_in_2019_and_made_whole_in_2023() -> None:
    lasting = Lasting("notifications", "", 90, 12, renews=True)
    two = replace(agreement(), parties=frozenset({"JPN", "KOR"}), depositary="KOR", lasting=lasting)
    story = Story(two).move("KOR", "opened", "2016-11-23T00:00:00Z")
    for move in ("signed", "notified"):
        for party in ("JPN", "KOR"):
            story.move(party, move, "2016-11-23T01:00:00Z")
    ends = "2019-11-22T15:00:00Z"  # as the 22nd ended in Seoul
    story.move("KOR", "termination-notified", "2019-08-23T06:00:00Z", ends)
    assert story.at(ends).phase == "ended"
    story.move("KOR", "termination-suspended", "2019-11-22T09:00:00Z")
    assert story.at("2022-01-01T00:00:00Z").is_in_force
    story.move("KOR", "notice-withdrawn", "2023-03-21T00:00:00Z")
    assert story.life.notices == {}
    assert story.at("2030-01-01T00:00:00Z").is_in_force


# laws

LASTINGS = st.sampled_from(
    [
        Lasting(),
        Lasting("copies", "", 2),
        Lasting("notifications", "", 1),
        Lasting("date", day(6)),
        Lasting("signature", "", 3, 1),
        Lasting("copies", "", 10, 1, renews=True),
    ]
)


def told(seed: int, lasting: Lasting) -> Story:
    """A random story of at most 40 moves, legal and other ones, a few hours apart."""
    rng = random.Random(seed)
    story = Story(replace(agreement(), lasting=lasting))
    hours = 24
    for _ in range(40):
        hours += rng.choice((0, 1, 5, 30, 200))
        at = f"2020-{1 + hours // 672:02}-{1 + hours % 672 // 24:02}T{hours % 24:02}:00:00Z"
        if hours >= 672 * 10:
            break
        party = rng.choice(PARTIES)
        legal = may_move(story.life, party, at)
        move = rng.choice(legal) if legal and rng.random() < 0.8 else rng.choice(MOVES)
        ends = hours + rng.choice((0, 24, 72, 240, 744))
        effective = f"2020-{1 + ends // 672:02}-{1 + ends % 672 // 24:02}T{ends % 24:02}:00:00Z"
        try:
            story.move(party, move, at, effective if move == "termination-notified" else "")
        except PeerError:
            assert move not in legal or move == "termination-notified", (move, legal)
        else:
            assert move in legal, (move, legal)
    return story


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), LASTINGS)
def test_what_may_be_moved_is_moved_and_nothing_else_is(seed: int, lasting: Lasting) -> None:
    told(seed, lasting)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), LASTINGS)
def test_it_is_in_force_only_between_all_signatures_and_its_end(
    seed: int, lasting: Lasting
) -> None:
    story = told(seed, lasting)
    life = story.life
    if life.missing:
        assert not life.changes
    if life.phase == "withdrawn":
        assert not life.changes
        assert life.missing
    instants = [at for at, _ in life.changes]
    assert instants == sorted(instants)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), LASTINGS, st.integers(0, 8_000))
def test_the_timeline_says_what_the_life_says_at_every_later_instant(
    seed: int, lasting: Lasting, hours: int
) -> None:
    story = told(seed, lasting)
    at = f"2020-{1 + hours // 672:02}-{1 + hours % 672 // 24:02}T{hours % 24:02}:00:00Z"
    at = max(at, story.life.last_at or at)
    timeline, faults = make_timeline(list(events_of(story.life)), {"pact": ()})
    assert faults == []
    assert ("pact" in timeline.in_force_at(at)) == story.at(at).is_in_force


def test_every_move_has_its_place_in_the_table() -> None:
    assert tuple(LEGAL) == MOVES
