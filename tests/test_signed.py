"""A regime that was signed decides as the drafted one does, and only by what was signed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pacts import Capital, Party, Table, day
from regime_texts import PACT
from relto.decisions import Allow, Deny, Engine
from relto.errors import RegimeError
from relto.instruments import Pillar, check_instrument
from relto.questions import decode_question
from relto.regime import Regime, closure
from relto.signed import check_folder, draft_terms, load_folder, words_of

Files = dict[str, bytes]
AT = "2020-02-01T00:00:00Z"


@pytest.fixture(scope="module")
def capital() -> Capital:
    return Capital()


ALL = ("pact", "ko-us", "jp-us", "au-us")


def answer(regime: Regime, at: str = AT) -> Allow | Deny:
    question = {
        "id": "q", "at": at, "holder": "KOR", "to": "JPN",
        "item": {
            "id": "i", "originator": "KOR", "mark": "KOR:II", "releasable_to": ["JPN", "USA"],
            "kind": "report", "topics": ["missile.launch"], "about": ["PRK"],
        },
    }  # fmt: skip
    return Engine(regime).decide(decode_question(question, regime))


def errors(files: Files) -> list[str]:
    regime, problems = check_folder(files)
    assert regime is None
    return [str(problem) for problem in problems.errors]


def test_what_was_signed_decides_as_its_draft_would(capital: Capital) -> None:
    signed = load_folder(capital.folder(*ALL))
    decision = answer(signed)
    assert isinstance(decision, Allow)
    assert decision.path == ("KOR", "USA", "JPN")
    assert [leg.protected_by for leg in decision.legs] == ["ko-us", "jp-us"]
    drafted = load_folder(capital.texts)
    assert signed.agreements.keys() == drafted.agreements.keys()
    for name, agreement in signed.agreements.items():
        draft = drafted.agreements[name]
        assert [c.body for c in agreement.clauses] == [c.body for c in draft.clauses]


def test_it_is_in_force_from_the_deposit_of_the_last_signature(capital: Capital) -> None:
    regime = load_folder(capital.folder(*ALL))
    assert isinstance(answer(regime, "2020-01-03T23:59:59Z"), Deny)
    assert isinstance(answer(regime, "2020-01-04T00:00:00Z"), Allow)


def test_a_party_decides_alike_by_extracts_of_what_it_is_not_in(capital: Capital) -> None:
    whole = closure(load_folder(capital.folder(*ALL)), "JPN")
    part = load_folder(capital.folder("pact", "jp-us", pillars=("ko-us", "au-us")))
    own = closure(part, "JPN")
    assert own.agreements.keys() == whole.agreements.keys()
    assert answer(own) == answer(whole)
    assert own.agreement_digests == whole.agreement_digests
    # It has no duties and no permissions of an agreement that it is not in.
    assert b"receipt_within_h" not in capital.pillar("ko-us").encode()
    assert [type(c.body).__name__ for c in own.agreements["ko-us"].clauses] == ["Equate"]


def test_a_draft_beside_what_was_signed_permits_nothing(capital: Capital) -> None:
    folder = capital.folder("ko-us", "jp-us", "au-us")
    decision = answer(load_folder({**folder, PACT: capital.texts[PACT]}))
    assert isinstance(decision, Deny)
    assert decision.codes == ("not-in-force",)


def test_terms_can_be_drafted_in_the_words_of_what_was_signed(capital: Capital) -> None:
    folder = {**capital.folder("ko-us", "jp-us", "au-us"), PACT: capital.texts[PACT]}
    words = words_of(folder)
    assert check_instrument(capital.instruments["pact"], words).life.phase == "in-force"
    assert draft_terms(folder, "pact").encode() == draft_terms(capital.texts, "pact").encode()


def test_a_pillar_suspends_what_rests_on_it(capital: Capital) -> None:
    table = Table(of="ko-us", texts=capital.texts, parties=capital.keys)
    table.signed().move("KOR", "suspended", day(20)).deposit(day(20))
    folder = {**capital.folder(*ALL), "signed/ko-us.json": table.instrument.encode()}
    regime = load_folder(folder)
    assert isinstance(answer(regime, "2020-01-19T23:59:59Z"), Allow)
    decision = answer(regime, day(20))
    assert isinstance(decision, Deny)
    assert decision.codes == ("not-in-force",)


def test_the_digest_names_terms_and_how_far_their_lives_have_come(capital: Capital) -> None:
    one = load_folder(capital.folder(*ALL))
    assert one.digest == load_folder(capital.folder(*reversed(ALL))).digest
    assert one.agreement_digests["pact"] == capital.instruments["pact"].digest
    table = Table(of="ko-us", texts=capital.texts, parties=capital.keys).signed()
    table.move("KOR", "suspended", day(20)).deposit(day(20))
    later = {**capital.folder(*ALL), "signed/ko-us.json": table.instrument.encode()}
    assert load_folder(later).digest != one.digest


Change = Callable[[Capital, Files], Files]


def _renamed(_: Capital, files: Files) -> Files:
    return {("signed/act.json" if f == "signed/pact.json" else f): d for f, d in files.items()}


def _tampered(_: Capital, files: Files) -> Files:
    data = files["signed/pact.json"].replace(b"Through the hub.", b"Past the hub.")
    return {**files, "signed/pact.json": data}


def _lower_table(capital: Capital, files: Files) -> Files:
    """An extract with other rows than those that our own agreement pins."""
    extract = dict(capital.pillar("ko-us").extract)
    extract["rows"] = extract["rows"][:1]
    pillar = capital.pillar("ko-us")
    forged = Pillar(extract, pillar.terms, pillar.moves, pillar.deposits, pillar.certificates)
    return {**files, "signed/ko-us.json": forged.encode()}


def _without(name: str) -> Change:
    return lambda _, files: {f: d for f, d in files.items() if f != f"signed/{name}.json"}


def _with(name: str, data: bytes) -> Change:
    return lambda _, files: {**files, name: data}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_renamed, 'signed/act.json:1: is of pact; name the file "pact.json"'),
        (_tampered, "signed/pact.json:1: opened of USA is about other terms"),
        (_lower_table, "signed/pact.json:1: the terms of pact pin another ko-us than is here"),
        (_without("ko-us"), 'unknown agreement "ko-us" in rests_on'),
        (_without("pact"), "signed/au-us.json:1: nothing signed here pins this extract"),
        (_with("timeline.toml", b""), "timeline.toml:1: stands beside signed agreements"),
        (
            _with("signed/x.json", b"{}"),
            "is no signed agreement: a file of format",
        ),
        (_with("signed/x.json", b"{ }"), "signed/x.json:1: is no signed agreement"),
    ],
)
def test_a_folder_in_which_one_thing_is_wrong_is_no_regime(
    capital: Capital, change: Change, words: str
) -> None:
    good = capital.folder("pact", "jp-us", pillars=("ko-us", "au-us"))
    assert load_folder(good).digest
    found = errors(change(capital, good))
    assert any(words in error for error in found), found
    with pytest.raises(RegimeError):
        load_folder(change(capital, good))


def test_an_exercise_never_stands_beside_the_real(capital: Capital) -> None:
    keys = {name: Party.of(name, exercise=True) for name in ("AUS", "USA")}
    text = capital.texts["agreements/au-us.toml"].decode()
    for name, party in keys.items():
        text = text.replace(capital.keys[name].fingerprint, party.fingerprint)
    texts = {**capital.texts, "agreements/au-us.toml": text.encode()}
    exercise = Table(of="au-us", texts=texts, parties=keys).signed().instrument
    folder = capital.folder("ko-us", "jp-us")
    assert load_folder(folder).digest
    assert load_folder({**capital.folder(), "signed/au-us.json": exercise.encode()}).digest
    found = errors({**folder, "signed/au-us.json": exercise.encode()})
    assert found == ["signed:1: an exercise's agreements stand beside real ones; part them"]


def test_an_extract_is_read_only_in_its_one_form(capital: Capital) -> None:
    pillar = capital.pillar("ko-us")
    good = capital.folder("pact", "jp-us", pillars=("ko-us", "au-us"))
    for change, words in (
        ({"note": "x"}, "keys other than"),
        ({"parties": ["USA", "KOR"]}, "not written in its one form"),
        ({"rows": [{"KOR": ["IV"], "USA": ["S"]}]}, 'unknown mark "KOR:IV"'),
        ({"life": {"begins": "soon"}}, "is not sound"),
        ({"format": "relto-extract/2"}, "of format"),
        ({"rests_on": {"pact": "0"}}, "hexadecimal"),
    ):
        extract = {**pillar.extract, **change}
        forged = Pillar(extract, pillar.terms, pillar.moves, pillar.deposits, pillar.certificates)
        found = errors({**good, "signed/ko-us.json": forged.encode()})
        assert any(words in error for error in found), (change, found)
