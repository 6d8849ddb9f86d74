"""`relto prove`: properties, chains that break them, certificates, and the checker's own eyes."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from pact_moves import engine_equals_model
from proof_bugs import BUGS
from regime_texts import PACT, TIMELINE, files
from relto.apps.cli import main
from relto.errors import CallerError, RegimeError
from relto.phrases import LANGUAGES
from relto.proofs.certificates import certificate_of
from relto.proofs.chains import Chain
from relto.proofs.checker import check
from relto.proofs.differing import difference_of
from relto.proofs.drawings import drawing
from relto.proofs.properties import Property, decode_properties, default_properties
from relto.proofs.proving import Proof, prove
from relto.proofs.stories import account, story, words
from relto.regime import Regime, load_regime
from relto.stores.folder import read_folder
from strategies import random_regime, regime_files

ROOT = Path(__file__).parent.parent
TISA = str(ROOT / "regimes/tisa")
IN_2015 = "2015-01-05T00:00:00Z"

DIRECT = """
[[clause]]
article = "9"
text = { en = "Straight on.", ko = "직접." }
[clause.share]
from = ["KOR"]
to = ["JPN"]
consent = "label"
release = "review"
[[clause]]
article = "10"
text = { en = "Equal marks.", ko = "상응 등급." }
[clause.equate]
rows = [ { KOR = ["II"], JPN = ["HI"] } ]
"""


def proved(*changes: tuple[str, str, str], at: str | None = None, **options: Any) -> Proof:
    regime = load_regime(files(*changes))
    return prove(regime, default_properties(regime), at, **options)


def broken(proof: Proof) -> list[str]:
    return [v.property.id for v in proof.verdicts if not v.holds]


def chain_of(proof: Proof, name: str) -> Chain:
    (chain,) = [v.chain for v in proof.verdicts if v.property.id == name]
    assert chain is not None
    return chain


def told(proof: Proof, name: str) -> list[str]:
    return list(story(proof.regime, chain_of(proof, name), "en"))


def added(text: str) -> tuple[str, str, str]:
    """Clauses at the end of the pact."""
    return PACT, '[[clause]]\narticle = "5"', f'{text}\n[[clause]]\narticle = "5"'


def tisa() -> Regime:
    return load_regime(read_folder(Path(TISA))[0])


# what holds, and what does not


def test_of_a_pact_through_a_hub_every_property_made_from_it_holds() -> None:
    proof = proved()
    assert [v.property.id for v in proof.verdicts] == [
        "jpn-kor-only-through-usa",
        "jpn-kor-possible",
        "kor-jpn-only-through-usa",
        "kor-jpn-possible",
        "pact-parties",
        "marks-keep",
        "readers-as-listed",
    ]
    # article 5 covers anything, and gives to AUS, but only by an item's own consent
    assert broken(proof) == []


def test_a_consent_to_an_outsider_lets_it_hold_what_only_the_parties_should() -> None:
    proof = proved(consents=frozenset([("KOR", "AUS")]))
    assert broken(proof) == ["pact-parties"]
    assert told(proof, "pact-parties") == [
        "1. KOR has a report of its own, KOR:II, missile, PRK, held as 군사II급비밀 (KOR:II)",
        "2. 2014-12-28T15:00:00Z: KOR gives it to USA, on the way to JPN, under pact/4, protected "
        "by ko-us; USA reads it and holds it as SECRET (USA:S)",
        "3. 2014-12-28T15:00:00Z: USA gives it to AUS under pact/5, protected by au-us; "
        "AUS holds it as SECRET (AUS:S)",
    ]


def test_a_direct_clause_breaks_the_hub_only_property_where_it_is_not_named() -> None:
    regime = load_regime(files(added(DIRECT)))
    data = b"""
        format = "relto-properties/1"
        [[property]]
        id = "only-usa"
        [property.only_through]
        originator = "KOR"
        to = "JPN"
        through = ["USA"]
    """
    proof = prove(regime, decode_properties("p.toml", data, regime))
    assert told(proof, "only-usa") == [
        "1. KOR has a report of its own, KOR:II, held as 군사II급비밀 (KOR:II)",
        "2. 2014-12-28T15:00:00Z: KOR gives it to JPN under pact/9, protected by pact; "
        "JPN holds it as HI (JPN:HI)",
    ]


def test_a_direct_table_that_equates_lower_lets_a_mark_fall_on_the_way_home() -> None:
    """Nobody wrote that Washington may hold KOR:II as CONFIDENTIAL: two tables in turn say so."""
    assert told(proved(added(DIRECT)), "marks-keep")[1:] == [
        "2. 2014-12-28T15:00:00Z: KOR gives it to JPN under pact/9, protected by pact; "
        "JPN holds it as HI (JPN:HI)",
        "3. JPN makes a report of it and marks it HI (JPN:HI)",
        "4. 2014-12-28T15:00:00Z: JPN gives it to USA, on the way to KOR, under pact/4 "
        "(the recipient's own information), protected by jp-us; USA reads it and holds it as "
        "CONFIDENTIAL (USA:C)",
    ]


def test_a_mark_that_falls_on_the_way_through_the_hub_is_found() -> None:
    """KOR:II is JPN:GOKUHI between the two, but the hub's own tables make JPN:HI of it."""
    equal = DIRECT.replace('JPN = ["HI"]', 'JPN = ["GOKUHI"]')
    equal = equal.replace('from = ["KOR"]', 'from = ["JPN"]').replace(
        'to = ["JPN"]', 'to = ["KOR"]'
    )
    rows = '{ JPN = ["GOKUHI", "TOKUTEI"], USA = ["S"] }, { JPN = ["HI"], USA = ["C"] }'
    lower = '{ JPN = ["HI"], USA = ["S"] }'
    proof = proved(added(equal), ("agreements/jp-us.toml", rows, lower))
    assert "marks-keep" in broken(proof)
    assert told(proof, "marks-keep")[-1].endswith("JPN holds it as HI (JPN:HI)")


def test_nothing_is_possible_before_the_pact_is_in_force() -> None:
    before, after = proved(at="2014-12-28T14:59:59Z"), proved(at="2014-12-28T15:00:00Z")
    assert broken(before) == ["jpn-kor-possible", "kor-jpn-possible"]
    assert broken(after) == []


def test_a_chain_waits_but_never_goes_back_in_time() -> None:
    """The onward clause's guard has ended before the pact begins: no instant has both in turn."""
    ended = """[[event]]
agreement = "au-us"
at = 2010-01-01T00:00:00Z
event = "terminated"
"""
    consents = frozenset([("KOR", "AUS")])
    change = (TIMELINE, '[[event]]\nagreement = "pact"', f'{ended}[[event]]\nagreement = "pact"')
    assert broken(proved(change, consents=consents)) == []
    again = ended.replace("2010", "2020").replace("terminated", "in-force")
    later = (TIMELINE, '[[event]]\nagreement = "pact"', f'{again}[[event]]\nagreement = "pact"')
    proof = proved(change, later, consents=consents)
    assert broken(proof) == ["pact-parties"]
    last = told(proof, "pact-parties")[-1]
    assert last.startswith("3. 2020-01-01T00:00:00Z: USA gives it to AUS")


def test_of_the_real_pact_one_default_property_does_not_hold() -> None:
    """What Japan gave Korea alone in 2016 may go home by Washington, which then reads it."""
    regime = tisa()
    proof = prove(regime, default_properties(regime))
    assert broken(proof) == ["gsomia-jpn-kor-2016-stays"]
    assert told(proof, "gsomia-jpn-kor-2016-stays")[2:] == [
        "3. KOR makes a report of it and marks it 군사III급비밀 (KOR:III)",
        "4. 2016-11-22T15:00:00Z: KOR gives it to USA, on the way to JPN, under tisa-2014/4 "
        "(the recipient's own information), protected by gsomia-kor-usa-1987; USA reads it and "
        "holds it as CONFIDENTIAL (USA:C)",
    ]
    assert broken(prove(regime, default_properties(regime), IN_2015)) == []


def test_a_korean_launch_warning_does_reach_tokyo_in_2015_but_not_by_itself() -> None:
    regime = tisa()
    proof = prove(regime, default_properties(regime), IN_2015)
    steps = chain_of(proof, "kor-jpn-possible").steps
    assert [step.held.holder for step in steps] == ["USA", "JPN"]


def test_clauses_that_can_never_apply_are_named_with_the_reason() -> None:
    regime = tisa()
    idle = prove(regime, default_properties(regime)).idle
    assert [(one.cites, one.in_force) for one in idle] == [("gsomia-jpn-kor-2012/provision", False)]
    unequal = ("agreements/au-us.toml", 'AUS = ["S"], USA = ["S"]', 'AUS = ["S"], USA = ["C"]')
    assert [(one.cites, one.in_force) for one in proved(unequal).idle] == [("pact/5", True)]
    assert proved().idle == ()  # pact/5 asks for a consent that nobody gave yet


# properties as files


def test_a_property_file_says_every_error_with_its_line() -> None:
    data = b"""format = "relto-properties/1"
[[property]]
id = "a"
[property.only_through]
originator = "KOR"
to = "PRK"
through = []
[[property]]
id = "b"
[property.stays]
[[property]]
id = "c"
"""
    with pytest.raises(RegimeError) as raised:
        decode_properties("p.toml", data, load_regime(files()))
    assert [str(p) for p in raised.value.problems] == [
        'p.toml:6: to = "PRK" is not one of AUS, JPN, KOR, USA',
        "p.toml:7: through is an empty list; name parties",
        'p.toml:10: missing key "agreement"; add one of au-us, jp-us, ko-us, pact',
        "p.toml:11: exactly one of only_through, stays, within_scope, held_only_by, mark_keeps, "
        "readers_as_listed, possible belongs in a property",
    ]


def test_what_default_properties_say_can_be_written_as_a_file_and_read_again() -> None:
    regime = tisa()
    properties = default_properties(regime)
    shown = {"format": "relto-properties/1", "property": [one.shown() for one in properties]}
    assert decode_properties("p.toml", tomli_w.dumps(shown).encode(), regime) == properties


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_property_and_chain_is_told_in_every_language(language: str) -> None:
    regime = tisa()
    proof = prove(regime, default_properties(regime))
    lines = list(account(proof, language))
    assert not [line for line in lines if "{" in line]
    sentences = {words(v.property, language) for v in proof.verdicts}
    assert len(sentences) == len(proof.verdicts)
    svg = drawing(regime, chain_of(proof, "gsomia-jpn-kor-2016-stays"), language)
    assert svg.count("<rect") == 5  # the ground and four ways of holding


def test_words_of_its_own_stand_before_those_made_from_the_form() -> None:
    one = Property("a", default_properties(tisa())[0].form, {"ko": "우리말", "en": "ours"})
    assert (words(one, "ko"), words(one, "ja")) == ("우리말", "ours")


# certificates


def certificate(proof: Proof) -> Any:
    return json.loads(json.dumps(certificate_of(proof)))


def test_a_certificate_is_accepted_by_a_checker_that_shares_no_code_with_the_prover() -> None:
    source = (ROOT / "src/relto/proofs/checker.py").read_text(encoding="utf-8")
    assert "relto.proofs" not in source
    assert len([line for line in source.splitlines() if line.strip()]) <= 200
    for at in (None, IN_2015):
        for consents in (frozenset[tuple[str, str]](), frozenset([("KOR", "JPN"), ("JPN", "USA")])):
            regime = tisa()
            check(certificate(prove(regime, default_properties(regime), at, consents)), regime)


@pytest.mark.parametrize("seed", range(30))
def test_prover_and_checker_agree_on_random_regimes(seed: int) -> None:
    rng = random.Random(seed)
    regime = load_regime(regime_files(random_regime(rng)))
    parties = sorted(regime.parties)
    consents = frozenset((a, b) for a in parties for b in parties if a != b and rng.random() < 0.2)
    proof = prove(regime, default_properties(regime), consents=consents)
    made = certificate(proof)
    check(made, regime)
    for verdict in proof.verdicts:
        if not verdict.holds and verdict.chain is not None:
            lying = copy.deepcopy(made)
            lying["properties"] = [verdict.property.shown()]
            with pytest.raises(CallerError, match=f"{verdict.property.id} is broken by"):
                check(lying, regime)


def test_a_certificate_that_leaves_anything_out_is_refused() -> None:
    proof = proved(consents=frozenset([("KOR", "AUS")]))
    whole = certificate(proof)
    check(whole, proof.regime)
    refused = 0
    for party, held in whole["held"].items():
        for number in range(len(held)):
            lacking = copy.deepcopy(whole)
            del lacking["held"][party][number]
            with pytest.raises(CallerError, match="is missing"):
                check(lacking, proof.regime)
            refused += 1
    assert refused == sum(len(held) for held in whole["held"].values()) > 20


def test_a_certificate_with_one_label_less_or_an_instant_later_is_refused() -> None:
    proof = proved()
    whole = certificate(proof)
    fewer = copy.deepcopy(whole)
    fewer["labels"] = [f"{int(bits, 16) & int(bits, 16) - 1:x}" for bits in whole["labels"]]
    later = copy.deepcopy(whole)
    for held in later["held"].values():
        for entry in held:
            entry[5] = [[len(proof.reaches["KOR"].instants.every) - 1, n] for _, n in entry[5]]
    for wrong in (fewer, later):
        with pytest.raises(CallerError, match="is missing"):
            check(wrong, proof.regime)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("regime", "0" * 64),
        ("format", "relto-proof/2"),
        ("held", {}),
        ("labels", ["xyz"]),
        ("consents", [["KOR"]]),
        ("properties", [{"id": "a", "always_fine": {}}]),
        ("properties", None),
    ],
)
def test_a_certificate_of_something_else_is_refused(key: str, value: object) -> None:
    proof = proved()
    with pytest.raises(CallerError, match="the certificate"):
        check(certificate(proof) | {key: value}, proof.regime)


def test_a_certificate_of_one_regime_says_nothing_of_another_with_the_digest_put_in() -> None:
    """The checker reads the clauses anew: one that the certificate knows nothing of fails it."""
    wider = load_regime(files(added(DIRECT)))
    lying = certificate(proved()) | {"regime": wider.digest}
    with pytest.raises(CallerError, match="is missing"):
        check(lying, wider)


# the model and the program


def test_every_move_that_the_decision_allows_is_one_of_the_models_and_the_other_way_round() -> None:
    engine_equals_model(range(100), 10)


@pytest.mark.parametrize("name", BUGS)
def test_a_fault_in_either_is_noticed(name: str) -> None:
    with BUGS[name](), pytest.raises(AssertionError):
        engine_equals_model(range(100))


# differences

WIDER = (PACT, 'topics = ["missile"]', 'topics = ["missile", "cyber"]')


def test_a_topic_more_is_told_with_an_example_of_what_may_be_given_now() -> None:
    found = difference_of(load_regime(files()), load_regime(files(WIDER)))
    assert [change.what for change in found.changes] == ["pact/4 share"]
    stands = [(one.id, before, after) for one, before, after in found.properties]
    assert stands == [("jpn-kor-possible", False, True), ("kor-jpn-possible", False, True)]
    first = found.permissions[0]
    assert (first.gained, first.path, first.cites) == (True, ("JPN", "USA", "KOR"), "pact/4")
    assert first.example.topics == frozenset(["cyber"])
    assert all(permission.gained for permission in found.permissions)


def test_the_other_way_round_the_same_is_no_longer_possible() -> None:
    wider, before = load_regime(files(WIDER)), load_regime(files())
    gained = difference_of(before, wider).permissions
    lost = difference_of(wider, before).permissions
    assert [(p.path, p.cites, p.example) for p in gained] == [
        (p.path, p.cites, p.example) for p in lost
    ]
    assert not any(p.gained for p in lost)


def test_a_property_that_a_change_breaks_is_told() -> None:
    found = difference_of(load_regime(files()), load_regime(files(added(DIRECT))))
    stands = [(one.id, before, after) for one, before, after in found.properties]
    # what the new clause permits is excepted in the property that is made with it
    assert stands == [("marks-keep", True, False)]


def test_a_new_party_and_an_agreement_that_never_begins_change_no_permission() -> None:
    """Labels are numbered by other words then: the same ones are still the same."""
    more = files()
    more["vocabulary.toml"] = more["vocabulary.toml"].replace(b'"cyber"', b'"air", "cyber"')
    more["schemes/NZL.toml"] = more["schemes/AUS.toml"].replace(b"AUS", b"NZL")
    found = difference_of(load_regime(files()), load_regime(more))
    assert [change.what for change in found.changes] == ["topics", "marks of NZL"]
    assert found.permissions == ()


def test_words_alone_make_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["regime", "diff", TISA, TISA]) == 0
    assert capsys.readouterr().out == "nothing differs but words\n"


# the command


def test_the_command_proves_writes_checks_and_says_by_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = str(tmp_path / "proof.json")
    assert main(["prove", TISA, "--at", IN_2015, "--certificate", made]) == 0
    assert main(["prove", TISA, "--check", made]) == 0
    assert capsys.readouterr().out.endswith(
        "properties hold at 2015-01-05T00:00:00Z; consents counted on: none\n"
    )
    assert main(["prove", TISA, "--json", "--drawings", str(tmp_path)]) == 1
    shown = json.loads(capsys.readouterr().out)
    leaking = [p["id"] for p in shown["properties"] if not p["holds"]]
    assert leaking == ["gsomia-jpn-kor-2016-stays"]
    svg = (tmp_path / "gsomia-jpn-kor-2016-stays.svg").read_text(encoding="utf-8")
    assert svg.startswith("<svg ")
    lying = json.loads(Path(made).read_text(encoding="utf-8"))
    held_by = {"parties": ["KOR", "USA"], "agreement": "tisa-2014"}
    lying["properties"] = [{"id": "x", "held_only_by": held_by}]
    Path(made).write_text(json.dumps(lying), encoding="utf-8")
    assert main(["prove", TISA, "--check", made]) == 1
    assert "x is broken by" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--at", "yesterday"], '"yesterday" is no instant such as 2015-01-05T00:00:00Z'),
        (["--with-consent", "KOR"], '--with-consent "KOR" is not two parties such as KOR:JPN'),
        (["--properties", "none.toml"], 'cannot read "none.toml"'),
        (["--check", "none.json"], 'cannot read "none.json"'),
        (["--check", "none.json", "--at", IN_2015], "--at stands beside --check"),
    ],
)
def test_wrong_arguments_get_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prove", TISA, *arguments]) == 2
    assert said in capsys.readouterr().err
