"""What has become of an agreement, told and drawn: moves by their deposits, and what time did."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from pacts import Table, day
from relto.chronicles import Entry, chronicle, picture, told
from relto.instruments import Checked, check_instrument

LATER = "2020-06-01T00:00:00Z"


def checked(table: Table) -> Checked:
    return check_instrument(table.instrument, table.words)


def test_moves_stand_in_the_order_in_which_they_were_received() -> None:
    table = Table()
    table.move("USA", "opened", day(1)).deposit(day(1))
    table.move("KOR", "signed", day(2)).move("JPN", "signed", day(3)).deposit(day(4))
    assert chronicle(checked(table), LATER) == (
        Entry(day(1), "open", "USA", "opened"),
        Entry(day(4), "open", "KOR", "signed", made_at=day(2)),
        Entry(day(4), "open", "JPN", "signed", made_at=day(3)),
    )


def test_only_what_happened_up_to_the_instant_is_told() -> None:
    table = Table().signed()
    entries = chronicle(checked(table), "2020-01-02T23:59:59Z")
    assert [e.move for e in entries] == ["opened", "signed"]
    assert chronicle(checked(table), day(4))[-1].state == "in-force"


def test_what_time_did_stands_where_it_did_it() -> None:
    table = Table('begins = "date"\nbegins_at = 2020-01-10T00:00:00Z\nterm_months = 1').signed()
    table.move("KOR", "suspended", day(12)).deposit(day(12))
    table.move("KOR", "resumed", day(14)).deposit(day(14))
    entries = chronicle(checked(table), LATER)
    assert entries[-4:] == (
        Entry(day(10), "in-force"),
        Entry(day(12), "suspended", "KOR", "suspended"),
        Entry(day(14), "in-force", "KOR", "resumed"),
        Entry("2020-02-10T00:00:00Z", "ended"),
    )
    assert entries[-5].state == "signed"


def test_what_begins_with_a_move_is_told_once() -> None:
    table = Table('begins = "notifications"').signed()
    for number, party in enumerate(("JPN", "KOR", "USA"), start=6):
        table.move(party, "notified", day(number)).deposit(day(number))
    assert chronicle(checked(table), LATER)[-2:] == (
        Entry(day(7), "signed", "KOR", "notified"),
        Entry(day(8), "in-force", "USA", "notified"),
    )


def test_an_end_that_was_put_off_at_its_very_instant_is_no_end() -> None:
    table = Table().signed()
    table.move("KOR", "termination-notified", day(5), day(9)).deposit(day(5))
    assert chronicle(checked(table), day(9))[-1] == Entry(day(9), "ended")
    table.move("KOR", "termination-suspended", day(9)).deposit(day(9))
    states = [e.state for e in chronicle(checked(table), LATER)]
    assert states == ["open", "open", "open", "in-force", "in-force", "in-force"]


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", "KOR: notice of termination (takes effect at 2020-01-09T00:00:00Z)  [in force]"),
        ("ko", "KOR: 종료 통보 (효력 발생일시 2020-01-09T00:00:00Z)  [발효 중]"),
        ("ja", "KOR: 終了の通告 (効力発生日時 2020-01-09T00:00:00Z)  [有効]"),
    ],
)
def test_it_is_told_and_drawn_in_three_languages(language: str, words: str) -> None:
    table = Table().signed()
    table.move("KOR", "termination-notified", day(5), day(9)).deposit(day(5))
    found = checked(table)
    entries = chronicle(found, LATER)
    lines = list(told(entries, language))
    assert f"{day(5)}  {words}" in lines
    drawn = ElementTree.fromstring(picture(found, entries, language))
    texts = ["".join(t.itertext()) for t in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert words.split("  [")[0] in texts
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}circle"))) == len(lines) == 6
