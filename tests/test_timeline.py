"""When agreements are in force: events, notices and pillars; and finding lines in TOML."""
# ruff: noqa: E501  # a case a line

from __future__ import annotations

import random
import tomllib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reference import Reference
from regime_texts import TIMELINE, files
from relto.regime import check_regime, load_regime
from relto.tables import Problems, parse
from relto.timeline import EVENTS, Event, make_timeline
from strategies import random_regime, regime_files

SEEDS = st.integers(0, 2**32 - 1)
START = datetime(2020, 1, 1, tzinfo=UTC)


def on(day: int, seconds: int = 0) -> datetime:
    return START + timedelta(days=day - 1, seconds=seconds)


def said(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def event(day: int, name: str, effective: int | None = None, agreement: str = "a") -> Event:
    return Event(agreement, on(day), name, None if effective is None else on(effective))


def days_in_force(*events: Event, rests_on: dict[str, tuple[str, ...]] | None = None) -> set[int]:
    """The days of 1 to 20 at whose beginning `a` is in force."""
    timeline, faults = make_timeline(events, rests_on or {"a": ()})
    assert faults == []
    return {day for day in range(1, 21) if "a" in timeline.in_force_at(said(on(day)))}


def days(first: int, last: int) -> set[int]:
    return set(range(first, last + 1))


BEGUN = event(2, "in-force")
NOTICE = event(3, "termination-notified", 10)

LIVES: list[tuple[str, list[Event], set[int]]] = [
    ("nothing", [], set()),
    ("begins", [BEGUN], days(2, 20)),
    ("is suspended and resumed", [BEGUN, event(4, "suspended"), event(6, "resumed")], {2, 3, *days(6, 20)}),
    ("is terminated", [BEGUN, event(5, "terminated")], days(2, 4)),
    ("lapses", [BEGUN, event(5, "lapsed")], days(2, 4)),
    ("lapses and begins anew", [BEGUN, event(5, "lapsed"), event(8, "in-force")], {*days(2, 4), *days(8, 20)}),
    ("begins anew while suspended", [BEGUN, event(4, "suspended"), event(6, "in-force")], {2, 3, *days(6, 20)}),
    ("ends by a notice", [BEGUN, NOTICE], days(2, 9)),
    ("ends by the earlier of two notices", [BEGUN, NOTICE, event(4, "termination-notified", 7)], days(2, 6)),
    ("ends by a notice while suspended", [BEGUN, NOTICE, event(9, "suspended")], days(2, 8)),
    ("outlives a notice suspended in time", [BEGUN, NOTICE, event(9, "termination-suspended")], days(2, 20)),
    ("outlives a notice suspended at its instant", [BEGUN, NOTICE, event(10, "termination-suspended")], days(2, 20)),
    ("outlives a notice withdrawn at its instant", [BEGUN, NOTICE, event(10, "notices-withdrawn")], days(2, 20)),
    ("ends by a notice resumed in time", [BEGUN, NOTICE, event(4, "termination-suspended"), event(6, "termination-resumed")], days(2, 9)),
    ("ends at once by a notice resumed too late", [BEGUN, NOTICE, event(4, "termination-suspended"), event(12, "termination-resumed")], days(2, 11)),
    ("outlives notices withdrawn while suspended", [BEGUN, NOTICE, event(4, "termination-suspended"), event(12, "notices-withdrawn")], days(2, 20)),
    ("ends by a later notice than the one suspended", [BEGUN, NOTICE, event(4, "termination-suspended"), event(5, "termination-notified", 8)], days(2, 7)),
    ("begins anew and knows no old notice", [BEGUN, NOTICE, event(8, "in-force")], days(2, 20)),
    ("begins anew after a notice ended it", [BEGUN, NOTICE, event(14, "in-force")], {*days(2, 9), *days(14, 20)}),
    ("ends at once by a notice that comes late", [BEGUN, event(6, "termination-notified", 3)], days(2, 5)),
    ("ends, and old notices end with it", [BEGUN, NOTICE, event(5, "terminated"), event(6, "in-force")], {*days(2, 4), *days(6, 20)}),
    ("counts the file's order in one instant", [event(4, "suspended"), BEGUN, event(4, "resumed")], days(2, 20)),
    ("counts the file's order in one instant, the other way", [BEGUN, event(4, "lapsed"), event(4, "in-force")], days(2, 20)),
]  # fmt: skip


@pytest.mark.parametrize(("events", "expected"), [x[1:] for x in LIVES], ids=[x[0] for x in LIVES])
def test_an_agreement(events: list[Event], expected: set[int]) -> None:
    assert days_in_force(*events) == expected


MISPLACED: list[tuple[str, list[Event]]] = [
    ("suspended before it began", [event(1, "suspended"), BEGUN]),
    ("suspended twice", [BEGUN, event(3, "suspended"), event(4, "suspended")]),
    ("suspended after its end", [BEGUN, event(3, "lapsed"), event(4, "suspended")]),
    ("suspended after a notice ended it", [BEGUN, NOTICE, event(11, "suspended")]),
    ("resumed and never suspended", [BEGUN, event(3, "resumed")]),
    ("resumed twice", [BEGUN, event(3, "suspended"), event(4, "resumed"), event(5, "resumed")]),
    ("resumed after its end", [BEGUN, event(3, "suspended"), event(4, "lapsed"), event(5, "resumed")]),
    ("no notice to suspend", [BEGUN, event(3, "termination-suspended")]),
    ("no notice to resume", [BEGUN, event(3, "termination-resumed")]),
    ("no notice to withdraw", [BEGUN, event(3, "notices-withdrawn")]),
    ("notice suspended too late", [BEGUN, NOTICE, event(11, "termination-suspended")]),
    ("notice withdrawn too late", [BEGUN, NOTICE, event(11, "notices-withdrawn")]),
    ("notice withdrawn twice", [BEGUN, NOTICE, event(4, "notices-withdrawn"), event(5, "notices-withdrawn")]),
]  # fmt: skip


@pytest.mark.parametrize("events", [x[1] for x in MISPLACED], ids=[x[0] for x in MISPLACED])
def test_an_event_out_of_place_is_a_fault(events: list[Event]) -> None:
    _, faults = make_timeline(events, {"a": ()})
    misplaced = 0 if events[0].event == "suspended" else len(events) - 1
    assert [index for index, _ in faults] == [misplaced]


def test_a_misplaced_event_is_an_error_at_its_line_in_any_order_of_the_file() -> None:
    late = '[[event]]\nagreement = "pact"\nat = 2013-01-01T00:00:00Z\nevent = "resumed"\n'
    _, problems = check_regime(files((TIMELINE, "[[event]]", late + "[[event]]")))
    assert [str(p) for p in problems.errors] == [
        'timeline.toml:4: "resumed" of pact at 2013-01-01T00:00:00Z comes while the agreement is '
        "not suspended; correct the order"
    ]


def test_an_agreement_stands_and_falls_with_its_pillars_and_theirs() -> None:
    rests_on: dict[str, tuple[str, ...]] = {"a": ("b",), "b": ("c",), "c": ()}
    begun = [event(1, "in-force", agreement=name) for name in "ab"]
    pillar = [
        event(3, "in-force", agreement="c"),
        event(6, "suspended", agreement="c"),
        event(9, "resumed", agreement="c"),
        event(12, "lapsed", agreement="c"),
    ]
    assert days_in_force(*begun, *pillar, rests_on=rests_on) == {3, 4, 5, 9, 10, 11}


def test_an_instant_within_a_second_counts_from_the_next_whole_one() -> None:
    begun = Event("a", on(2) + timedelta(microseconds=1), "in-force")
    ended = Event("a", on(4) + timedelta(milliseconds=500), "lapsed")
    timeline, _ = make_timeline([begun, ended], {"a": ()})
    expected = {on(2): False, on(2, 1): True, on(4): True, on(4, 1): False}
    assert {at: "a" in timeline.in_force_at(said(at)) for at in expected} == expected


def test_an_event_is_read_at_its_own_offset() -> None:
    timeline = load_regime(files()).timeline
    assert "pact" not in timeline.in_force_at("2014-12-28T14:59:59Z")
    assert "pact" in timeline.in_force_at("2014-12-28T15:00:00Z")
    assert timeline.in_force_at("1987-09-24T03:59:59Z") == frozenset()
    assert timeline.in_force_at("1987-09-24T04:00:00Z") == {"ko-us"}


def test_the_timeline_knows_every_event_of_the_design() -> None:
    assert sorted(EVENTS) == [
        "in-force",
        "lapsed",
        "notices-withdrawn",
        "resumed",
        "suspended",
        "terminated",
        "termination-notified",
        "termination-resumed",
        "termination-suspended",
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SEEDS)
def test_at_every_edge_and_a_second_to_either_side_the_reference_says_the_same(seed: int) -> None:
    made = random_regime(random.Random(seed))
    timeline, reference = load_regime(regime_files(made)).timeline, Reference(made)
    edges = {
        edge + timedelta(seconds=offset)
        for entry in made["timeline"]["event"]
        for edge in (entry["at"], entry.get("effective", entry["at"]))
        for offset in (-1, 0, 1)
    }
    for at in edges:
        expected = {name for name in made["agreements"] if reference.in_force(name, at)}
        assert timeline.in_force_at(said(at.astimezone(UTC))) == expected


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SEEDS)
def test_the_order_of_events_of_different_instants_does_not_matter(seed: int) -> None:
    rng = random.Random(seed)
    made = random_regime(rng)
    events = [
        Event(e["agreement"], e["at"], e["event"], e.get("effective"))
        for e in made["timeline"]["event"]
    ]
    rests_on = {a: tuple(each.get("rests_on", ())) for a, each in made["agreements"].items()}
    order = {at: [e for e in events if e.at == at] for at in {e.at for e in events}}
    shuffled = [order[e.at].pop(0) for e in rng.sample(events, len(events))]
    one, other = make_timeline(events, rests_on)[0], make_timeline(shuffled, rests_on)[0]
    assert one.turns == other.turns


# The scanner that finds where keys stand, against the tree of tomllib


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    found = {path}
    entries = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in entries:
        found |= paths_of(inner, (*path, key))
    return found


def lines_of(text: str) -> dict[tuple[str | int, ...], int]:
    problems = Problems()
    document = parse("file.toml", text.encode(), problems)
    assert document is not None, problems.errors
    assert document.data == tomllib.loads(text)
    assert set(document.lines) == paths_of(document.data)
    return document.lines


plain = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=6)
values = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(10**6), 10**6),
        st.floats(allow_nan=False),
        plain,
        st.datetimes(timezones=st.sampled_from([UTC])),
        st.dates(),
        st.times(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(plain, inner, max_size=4)),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=st.dictionaries(plain, values, max_size=5), crlf=st.booleans())
def test_every_path_of_a_written_document_has_a_line(tree: dict[str, Any], *, crlf: bool) -> None:
    text = tomli_w.dumps(tree)
    lines = lines_of(text)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
    if crlf:
        assert lines_of(text.replace("\n", "\r\n")) == lines


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_every_key_of_a_document_stands_where_its_line_says(seed: int) -> None:
    """Each key is different, so that the line that holds it is known."""
    rng = random.Random(seed)
    text, expected = random_toml(rng)
    lines = lines_of(text)
    assert {path: lines[path] for path in expected} == expected


def random_toml(rng: random.Random) -> tuple[str, dict[tuple[str | int, ...], int]]:
    """Odd but legal TOML, and the line of each key in it."""
    text: list[str] = []
    expected: dict[tuple[str | int, ...], int] = {}
    arrays = 0

    def line() -> int:
        return "".join(text).count("\n") + 1

    def written(name: str) -> str:
        return rng.choice((name, f'"{name}"', f"'{name}'", f'"\\u{ord(name[0]):04x}{name[1:]}"'))

    def spelled() -> str:
        return rng.choice(
            (
                "1",
                "+1_000",
                "0xff",
                "inf",
                "true",
                "1979-05-27 07:32:00Z",
                '"a ] } = # , b"',
                "'a \" ] \\'",
                '"\\" \\\\"',
                '""',
                "''",
                '"""one\\\n   two"""',
                "'''it''s'''",
                '"""a""\\""" ""b"""""',
                "[]",
                "{}",
                "[ # ]\n  'x', # '\n\n  2 ]",
                "[[1, 2], ['#', \"]\"],]",
                "{ a = { b.c = 1, 'd ' = [ {}, { e = ']' } ] } }",
            )
        )

    prefix: tuple[str | int, ...] = ()
    for number in range(rng.randint(1, 12)):
        text.append(rng.choice(("", "\n", "# comment [x] = \"'\n", "  \t", "\n\n")))
        name = f"k{number}"
        kind = rng.random()
        if kind < 0.2:
            expected[name,] = expected[name, "t"] = line()
            prefix = (name, "t")
            text.append(f"[ {written(name)} . {written('t')} ] # [x]\n")
        elif kind < 0.4:
            expected.setdefault(("rows",), line())
            expected["rows", arrays] = line()
            prefix = ("rows", arrays)
            arrays += 1
            text.append(f"[[{written('rows')}]]\n")
        elif kind < 0.5 and arrays:
            prefix = ("rows", arrays - 1, name)
            expected[prefix] = line()
            text.append(f"[rows.{written(name)}]\n")
        elif kind < 0.7:
            expected[*prefix, name] = expected[*prefix, name, "d"] = line()
            text.append(f"{written(name)} . {written('d')}\t= {spelled()}\n")
        else:
            expected[*prefix, name] = line()
            text.append(f"{written(name)}={spelled()} # x\n")
    if rng.random() < 0.3:
        text[-1] = text[-1].removesuffix("\n")
    return "".join(text), expected


def test_an_element_stands_on_its_own_line() -> None:
    lines = lines_of(
        'a = [ # one\n  "x",\n\n  { b = 1, c = [\n 2 ] },\n]\n[[t]]\n[t.u]\nv = """\\\n\n"""\nw=1\n'
    )
    assert lines["a",] == 1
    assert lines["a", 0] == 2
    assert lines["a", 1] == 4
    assert lines["a", 1, "c"] == 4
    assert lines["a", 1, "c", 0] == 5
    assert lines["t",] == lines["t", 0] == 7
    assert lines["t", 0, "u"] == 8
    assert lines["t", 0, "u", "w"] == 12
