"""Peers learn where their agreements differ, and nothing of those that they do not share."""

import json

import pytest

from regime_texts import FILES
from relto.comparing import Standing, Standings, differences, standings
from relto.errors import PeerError
from relto.regime import Regime, closure, load_regime

NOW = "2015-03-02T01:00:00Z"
DIGEST = "ab" * 32
TIMELINE = """\
[[event]]
agreement = "{agreement}"
at = 2015-01-01T00:00:00Z
event = "in-force"
"""


def begun(*agreements: str, more: str = "", **changed: str) -> Regime:
    """The small regime where these agreements have begun."""
    texts = {**FILES, **{f"agreements/{name}.toml": text for name, text in changed.items()}}
    texts["timeline.toml"] = "".join(TIMELINE.format(agreement=a) for a in agreements) + more
    return load_regime({name: text.encode() for name, text in texts.items()})


def shared(regime: Regime, one: str, other: str, at: str = NOW) -> list[str]:
    return sorted(standings(closure(regime, one), one, other, at).agreements)


ALL = sorted(name[11:-5] for name in FILES if name.startswith("agreements/"))


def test_only_agreements_that_bind_both_are_named() -> None:
    regime = begun(*ALL)
    for one in ("JPN", "KOR", "USA"):
        for other in {"JPN", "KOR", "USA"} - {one}:
            expected = [a for a in ALL if {one, other} <= regime.agreements[a].parties]
            assert shared(regime, one, other) == expected
    assert shared(regime, "KOR", "JPN") == ["pact"]


def test_a_draft_is_not_named_before_it_begins() -> None:
    assert shared(begun("pact"), "KOR", "USA") == ["pact"]
    assert shared(begun("pact"), "KOR", "USA", at="2014-12-31T23:59:59Z") == []
    assert shared(begun("pact"), "KOR", "USA", at="2015-01-01T00:00:00Z") == ["pact"]


def test_an_agreement_that_has_ended_is_named_and_not_in_force() -> None:
    end = (
        TIMELINE.format(agreement="pact").replace("in-force", "terminated").replace("-01T", "-02T")
    )
    told = standings(begun(*ALL, more=end), "KOR", "USA", NOW)
    assert not told.agreements["pact"].in_force
    assert standings(begun(*ALL), "KOR", "USA", NOW).agreements["pact"].in_force


def test_what_binds_others_changes_no_byte_of_the_answer() -> None:
    """Two worlds that differ in an agreement of KOR and USA alone: JPN is told the same."""
    one = begun(*ALL)
    secret = next(a for a in ALL if one.agreements[a].parties == {"KOR", "USA"})
    text = FILES[f"agreements/{secret}.toml"]
    other = begun(*ALL, **{secret: text.replace("text = {", 'text = { ja = "別",', 1)})
    assert one.agreement_digests[secret] != other.agreement_digests[secret]
    answers = {standings(closure(r, "USA"), "USA", "JPN", NOW).encode() for r in (one, other)}
    assert len(answers) == 1
    told = {standings(closure(r, "USA"), "USA", "KOR", NOW).encode() for r in (one, other)}
    assert len(told) == 2


def test_alike_is_no_difference() -> None:
    told = Standings(NOW, {"pact": Standing(DIGEST, True)})
    assert differences(told, told) == ()


@pytest.mark.parametrize(
    ("theirs", "line"),
    [
        ({}, "pact has begun here, and not there"),
        ({"pact": Standing("cd" * 32, True)}, f"pact has other terms there ({'cd' * 8}…, not "
                                              f"{'ab' * 8}…)"),
        ({"pact": Standing(DIGEST, False)}, "pact is in force here alone"),
    ],
)  # fmt: skip
def test_each_difference_has_its_line(theirs: dict[str, Standing], line: str) -> None:
    ours = Standings(NOW, {"pact": Standing(DIGEST, True)})
    assert differences(ours, Standings(NOW, theirs)) == (line,)


def test_a_difference_is_seen_from_both_sides() -> None:
    ours, theirs = Standings(NOW, {"pact": Standing(DIGEST, False)}), Standings(NOW, {})
    assert differences(theirs, ours) == ("pact has begun there, and not here",)
    in_force = Standings(NOW, {"pact": Standing(DIGEST, True)})
    assert differences(ours, in_force) == ("pact is in force there alone",)


GOOD = {"agreements": {"pact": {"digest": DIGEST, "in_force": True}}, "at": NOW}


def coded(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def test_what_is_encoded_is_decoded() -> None:
    told = Standings(NOW, {"pact": Standing(DIGEST, True)})
    assert told.encode() == coded(GOOD)
    assert Standings.decode(told.encode()) == told


@pytest.mark.parametrize(
    "bad",
    [
        [],
        {**GOOD, "more": 1},
        {"at": NOW},
        {**GOOD, "at": "yesterday"},
        {**GOOD, "at": 1},
        {**GOOD, "agreements": []},
        {**GOOD, "agreements": {"../x": GOOD["agreements"]["pact"]}},  # type: ignore[index]
        {**GOOD, "agreements": {"pact": True}},
        {**GOOD, "agreements": {"pact": {"digest": DIGEST}}},
        {**GOOD, "agreements": {"pact": {"digest": DIGEST.upper(), "in_force": True}}},
        {**GOOD, "agreements": {"pact": {"digest": DIGEST[1:], "in_force": True}}},
        {**GOOD, "agreements": {"pact": {"digest": DIGEST, "in_force": 1}}},
    ],
)
def test_anything_else_is_refused(bad: object) -> None:
    with pytest.raises(PeerError):
        Standings.decode(coded(bad))
