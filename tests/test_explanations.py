"""Decisions in words: written out in three languages, and complete for every code."""
# ruff: noqa: E501  # texts as they are printed

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pact_checks import vector_files, vectors
from regime_texts import PACT, files
from relto.decisions import CODES, Deny, Engine, Reason
from relto.errors import QuestionError
from relto.explanations import LANGUAGES, banner, explain, in_language, needs
from relto.phrases import DUTIES, HEADINGS, NEEDS, REASONS, WORDS
from relto.questions import decode_question
from relto.regime import check_regime, load_regime
from relto.stores.folder import read_folder

TISA = Path(__file__).parent.parent / "regimes" / "tisa"
ITEM: dict[str, Any] = {
    "id": "i1",
    "originator": "KOR",
    "mark": "KOR:II",
    "releasable_to": ["JPN", "USA"],
    "kind": "report",
    "topics": ["missile.launch"],
    "about": ["PRK"],
}
FROM_SEOUL: dict[str, Any] = {
    "at": "2015-01-05T00:00:00Z",
    "holder": "KOR",
    "to": "JPN",
    "item": ITEM,
}
FROM_WASHINGTON = FROM_SEOUL | {
    "holder": "USA",
    "holding": {
        "held_as": "USA:S",
        "basis": {"i1": [{"agreement": "tisa-2014", "article": "4"}]},
    },
}


@cache
def tisa() -> Engine:
    regime, _ = check_regime(*read_folder(TISA))
    assert regime is not None
    return Engine(regime)


def said(question: dict[str, Any], language: str, engine: Engine | None = None) -> str:
    engine = engine or tisa()
    decoded = decode_question(question, engine.regime)
    return explain(engine, decoded, engine.decide(decoded), language)


ALLOWED = {
    "en": """\
KOR → USA → JPN: may go
  item: i1, report, KOR 군사II급비밀 (KOR:II)
  path: 군사II급비밀 → SECRET → 極秘
    KOR → USA: stamped SECRET (USA:S), protected by gsomia-kor-usa-1987 (Agreement between the Republic of Korea and the United States of America on the Protection of Military Secrets (1987))
    USA → JPN: stamped 極秘 (JPN:GOKUHI), protected by gsomia-jpn-usa-2007 (Agreement between Japan and the United States of America concerning Security Measures for the Protection of Classified Military Information (2007))
  articles:
    tisa-2014/4: The Ministry of National Defense and the Ministry of Defense may share with each other classified information on the nuclear and missile threats posed by North Korea by providing it to the United States Department of Defense, which, the originator having approved, may pass it to the other at the equivalent classification. It is protected on each leg under the agreement between the two who stand on it.
  review:
    KOR: 1 disclosure officer(s)
    USA: 1 disclosure officer(s)
  duties:
    USA: confirm receipt within 24 h (gsomia-kor-usa-1987/receipt)
    USA: return or destroy when no longer needed (gsomia-kor-usa-1987/return)
    USA: report loss or possible loss at once (gsomia-kor-usa-1987/loss)
    JPN: confirm receipt within 24 h (gsomia-jpn-usa-2007/receipt)
    JPN: return or destroy when no longer needed (gsomia-jpn-usa-2007/return)
    JPN: report loss or possible loss at once (gsomia-jpn-usa-2007/loss)""",
    "ko": """\
KOR → USA → JPN: 제공할 수 있음
  대상 정보: i1, report, KOR 군사II급비밀 (KOR:II)
  전달 경로: 군사II급비밀 → SECRET → 極秘
    KOR → USA: 표시 등급 SECRET (USA:S), 보호 근거 gsomia-kor-usa-1987 (대한민국 정부와 미합중국 정부 간의 군사비밀보호에 관한 보안협정 (1987년))
    USA → JPN: 표시 등급 極秘 (JPN:GOKUHI), 보호 근거 gsomia-jpn-usa-2007 (일본국 정부와 미합중국 정부 간의 군사비밀정보의 보호를 위한 비밀보안조치에 관한 협정 (2007년))
  근거 조항:
    tisa-2014/4: 대한민국 국방부와 일본 방위성은 북한의 핵과 미사일 위협에 관한 비밀정보를 미합중국 국방부에 제공하는 방식으로 서로 공유할 수 있다. 미합중국 국방부는 정보를 생산한 당사자의 승인이 있으면 이를 동등한 비밀등급으로 지정하여 다른 당사자에게 전달할 수 있다. 공유된 비밀정보는 각 구간에서 해당 양자 협정에 따라 보호된다.
  검토:
    KOR: 공개심사관 1명
    USA: 공개심사관 1명
  의무:
    USA: 24시간 이내에 수령을 확인 (gsomia-kor-usa-1987/receipt)
    USA: 더 이상 필요하지 않으면 반환 또는 파기 (gsomia-kor-usa-1987/return)
    USA: 유출 또는 유출 가능성을 즉시 통보 (gsomia-kor-usa-1987/loss)
    JPN: 24시간 이내에 수령을 확인 (gsomia-jpn-usa-2007/receipt)
    JPN: 더 이상 필요하지 않으면 반환 또는 파기 (gsomia-jpn-usa-2007/return)
    JPN: 유출 또는 유출 가능성을 즉시 통보 (gsomia-jpn-usa-2007/loss)""",
    "ja": """\
KOR → USA → JPN: 提供できる
  対象情報: i1, report, KOR 군사II급비밀 (KOR:II)
  伝達経路: 군사II급비밀 → SECRET → 極秘
    KOR → USA: 表示区分 SECRET (USA:S), 保護の根拠 gsomia-kor-usa-1987 (大韓民国政府とアメリカ合衆国政府との間の軍事秘密の保護に関する保安協定（1987年）)
    USA → JPN: 表示区分 極秘 (JPN:GOKUHI), 保護の根拠 gsomia-jpn-usa-2007 (秘密軍事情報の保護のための秘密保持の措置に関する日本国政府とアメリカ合衆国政府との間の協定（2007年）)
  根拠条項:
    tisa-2014/4: 大韓民国国防部及び日本国防衛省は、北朝鮮による核及びミサイルの脅威に関する秘密情報を、アメリカ合衆国国防省に提供する方法により、相互に共有することができる。アメリカ合衆国国防省は、情報を作成した参加者の承認がある場合には、これを同等の秘密区分に指定して、他方の参加者に伝達することができる。共有された秘密情報は、各区間において、当該区間に係る二国間の協定に基づき保護される。
  審査:
    KOR: 開示審査官1名
    USA: 開示審査官1名
  義務:
    USA: 24時間以内に受領を確認 (gsomia-kor-usa-1987/receipt)
    USA: 不要となった時は返却または破棄 (gsomia-kor-usa-1987/return)
    USA: 漏えい又はそのおそれを直ちに通報 (gsomia-kor-usa-1987/loss)
    JPN: 24時間以内に受領を確認 (gsomia-jpn-usa-2007/receipt)
    JPN: 不要となった時は返却または破棄 (gsomia-jpn-usa-2007/return)
    JPN: 漏えい又はそのおそれを直ちに通報 (gsomia-jpn-usa-2007/loss)""",
}

REFUSED = {
    "en": """\
USA → JPN: may not go
  item: i1, report, KOR 군사II급비밀 (KOR:II)
  as held: SECRET (USA:S)
  why not:
    outside-topic: off the topics that the article covers
      tisa-2014/4: The Ministry of National Defense and the Ministry of Defense may share with each other classified information on the nuclear and missile threats posed by North Korea by providing it to the United States Department of Defense, which, the originator having approved, may pass it to the other at the equivalent classification. It is protected on each leg under the agreement between the two who stand on it.
  what would change it:
    the item within the topics of tisa-2014/4: missile, nuclear""",
    "ko": """\
USA → JPN: 제공할 수 없음
  대상 정보: i1, report, KOR 군사II급비밀 (KOR:II)
  보유 등급: SECRET (USA:S)
  거부 사유:
    outside-topic: 조항이 다루는 주제를 벗어남
      tisa-2014/4: 대한민국 국방부와 일본 방위성은 북한의 핵과 미사일 위협에 관한 비밀정보를 미합중국 국방부에 제공하는 방식으로 서로 공유할 수 있다. 미합중국 국방부는 정보를 생산한 당사자의 승인이 있으면 이를 동등한 비밀등급으로 지정하여 다른 당사자에게 전달할 수 있다. 공유된 비밀정보는 각 구간에서 해당 양자 협정에 따라 보호된다.
  무엇이 달라져야 하는가:
    이 정보이(가) tisa-2014/4의 주제 안에 있어야 함: missile, nuclear""",
    "ja": """\
USA → JPN: 提供できない
  対象情報: i1, report, KOR 군사II급비밀 (KOR:II)
  保有時の区分: SECRET (USA:S)
  拒否の理由:
    outside-topic: 条項が扱う主題の範囲外である
      tisa-2014/4: 大韓民国国防部及び日本国防衛省は、北朝鮮による核及びミサイルの脅威に関する秘密情報を、アメリカ合衆国国防省に提供する方法により、相互に共有することができる。アメリカ合衆国国防省は、情報を作成した参加者の承認がある場合には、これを同等の秘密区分に指定して、他方の参加者に伝達することができる。共有された秘密情報は、各区間において、当該区間に係る二国間の協定に基づき保護される。
  何が変われば提供できるか:
    この情報がtisa-2014/4の主題の範囲内にあること: missile, nuclear""",
}


@pytest.mark.parametrize("language", ["en", "ko", "ja"])
def test_a_korean_secret_goes_to_tokyo_as_each_party_stamps_it(language: str) -> None:
    assert said(FROM_SEOUL, language) == ALLOWED[language]


@pytest.mark.parametrize("language", ["en", "ko", "ja"])
def test_a_report_on_the_sony_hack_is_refused_and_told_what_would_change_it(language: str) -> None:
    off_topic = FROM_WASHINGTON | {"item": ITEM | {"topics": ["cyber.intrusion"]}}
    assert said(off_topic, language) == REFUSED[language]


def test_the_hub_sees_the_mark_of_the_originator_its_own_and_the_next() -> None:
    lines = said(FROM_WASHINGTON, "en").splitlines()
    assert lines[:4] == [
        "USA → JPN: may go",
        "  item: i1, report, KOR 군사II급비밀 (KOR:II)",
        "  as held: SECRET (USA:S)",
        "  path: 군사II급비밀 → SECRET → 極秘",
    ]


def test_an_exercise_says_so_first() -> None:
    for language, word in {"en": "[EXERCISE] ", "ko": "[훈련] ", "ja": "[演習] "}.items():
        assert said(FROM_SEOUL | {"item": ITEM | {"exercise": True}}, language).startswith(word)


def test_before_the_pact_each_agreement_that_was_missing_is_named() -> None:
    eve = decode_question(FROM_SEOUL | {"at": "2014-12-28T14:59:59Z"}, tisa().regime)
    decision = tisa().decide(eve)
    assert isinstance(decision, Deny)
    assert needs(tisa(), eve, decision) == [
        f"{name} and all it stands on in force (now not in force: {idle})"
        for name, idle in {
            "gsomia-jpn-kor-2012": "gsomia-jpn-kor-2012",
            "gsomia-jpn-kor-2016": "gsomia-jpn-kor-2016",
            "tisa-2014": "tisa-2014",
            "warning-2023": "tisa-2014, warning-2023",
        }.items()
    ]


def test_a_pillar_that_is_out_of_force_is_named() -> None:
    lapse = (
        '[[event]]\nagreement = "jp-us"\nat = 2015-01-01T00:00:00Z\nevent = "lapsed"\n[[event]]\n'
    )
    engine = Engine(load_regime(files(("timeline.toml", "[[event]]\n", lapse))))
    question = decode_question(FROM_SEOUL, engine.regime)
    decision = engine.decide(question)
    assert isinstance(decision, Deny)
    assert needs(engine, question, decision) == [
        "pact and all it stands on in force (now not in force: jp-us, pact)"
    ]


def test_grade_one_has_no_path_and_the_article_says_which_marks_have() -> None:
    question = FROM_SEOUL | {"item": ITEM | {"mark": "KOR:I"}}
    text = said(question, "en")
    assert "mark-not-covered: its mark is not one that may travel" in text
    assert (
        "a mark of KOR that tisa-2014/4 lets travel: JPN:GOKUHI, JPN:HI, JPN:TOKUTEI, KOR:II, KOR:III"
        in text
    )


# Every code, every language


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


@pytest.mark.parametrize(
    "phrases", [HEADINGS, DUTIES, REASONS, NEEDS, WORDS], ids=["headings", "duties", "reasons", "needs", "words"]
)  # fmt: skip
def test_a_phrase_says_the_same_in_every_language(phrases: dict[str, dict[str, str]]) -> None:
    for name, texts in phrases.items():
        assert tuple(texts) == LANGUAGES, name
        assert all(text.strip() for text in texts.values()), name
        assert len({frozenset(placeholders(text)) for text in texts.values()}) == 1, name


def test_korean_is_korean_and_japanese_is_japanese() -> None:
    for phrases in (HEADINGS, DUTIES, REASONS, NEEDS, WORDS):
        for texts in phrases.values():
            assert re.search("[가-힣]", texts["ko"])
            assert re.search("[ぁ-んァ-ヶ一-龯]", texts["ja"])
            assert texts["en"].isascii()


def test_every_code_has_a_reason_and_a_need() -> None:
    assert set(REASONS) == set(NEEDS) == set(CODES)
    assert set(CODES) == {
        "already-holds",
        "recalled",
        "mark-stale",
        "consent-withdrawn",
        "consent-expired",
        "not-releasable",
        "no-agreement",
        "third-party-rule",
        "not-in-force",
        "outside-kind",
        "outside-topic",
        "outside-subject",
        "mark-not-covered",
        "no-equivalent-mark",
        "consent-required",
        "no-common-path",
        "error",
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_vector_is_explained_and_no_brace_stays_unfilled(language: str) -> None:
    engines = {
        name: Engine(load_regime(vector_files(name))) for name in {v["regime"] for v in vectors()}
    }
    met = set()
    for case in vectors():
        engine = engines[case["regime"]]
        try:
            question = decode_question(case["question"], engine.regime)
        except QuestionError:
            continue
        decision = engine.decide(question)
        text = explain(engine, question, decision, language)
        assert not set("{}") & set(text), case["name"]
        assert "None" not in text
        if isinstance(decision, Deny):
            met |= {reason.code for reason in decision.reasons}
            wanted = needs(engine, question, decision, language)
            assert wanted, case["name"]
            assert len(set(wanted)) == len(wanted)
            assert all(need in text for need in wanted)
    assert met == set(CODES) - {"error"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_fault_is_explained_too(language: str) -> None:
    question = decode_question(FROM_SEOUL, tisa().regime)
    text = explain(tisa(), question, Deny((Reason("error"),)), language)
    assert REASONS["error"][language] in text
    assert NEEDS["error"][language] in text


# What is easily said wrong


def derived(maker: str, own: str, name: str, **source: Any) -> dict[str, Any]:
    """The maker's assessment, built on one source."""
    label = {"topics": ["missile.launch"], "about": ["PRK"]}
    return {
        "id": name,
        "originator": maker,
        "mark": own,
        "kind": "assessment",
        "releasable_to": [],
        **label,
        "sources": [
            {"item": "self", "originator": maker, "mark": own, "releasable_to": ["JPN"], **label},
            {"held_as": own, **source, **label},
        ],
    }


def test_what_is_said_of_an_item_does_not_depend_on_what_was_said_before() -> None:
    """`x` is the item in one question, and a source of another item in the next."""
    engine = Engine(tisa().regime)
    korean = {"originator": "KOR", "mark": "KOR:II", "releasable_to": ["JPN", "USA"]}
    american = {"originator": "USA", "mark": "USA:S", "releasable_to": ["KOR"]}
    first = FROM_SEOUL | {"holder": "USA", "item": derived("USA", "USA:S", "x", item="k", **korean)}
    second = FROM_SEOUL | {"item": derived("KOR", "KOR:II", "y", item="x", **american)}
    second |= {"holder": "USA", "holding": {"held_as": "USA:S"}}
    for question in (first, second):
        fresh = Engine(tisa().regime)
        assert said(question, "en", engine) == said(question, "en", fresh)
    assert "for source x, or leave out x" in said(second, "en", engine)
    assert "for the item" in said(first, "en", engine)


def test_an_article_may_have_a_plus_sign() -> None:
    engine = Engine(load_regime(files((PACT, 'article = "4"', 'article = "4+5"'))))
    found = engine.regime.clause("consent+pact/4+5")
    assert found is not None
    assert found == engine.regime.clause("pact/4+5")
    assert "pact/4+5: Through the hub." in said(FROM_SEOUL, "en", engine)
    off = FROM_SEOUL | {"item": ITEM | {"kind": "rfi"}}
    assert "another kind: pact/4+5 covers report" in said(off, "en", engine)


def test_a_consent_and_own_information_say_so_beside_their_article() -> None:
    grant = {"by": "KOR", "item": "i1", "to": ["JPN"], "seq": 1, "grant": True}
    bare = FROM_WASHINGTON | {
        "holding": {"held_as": "USA:S"},
        "consents": [grant | {"at": "2015-01-01T00:00:00Z"}],
    }
    assert "consent+gsomia-jpn-usa-2007/provision: Either Party may" in said(bare, "en")
    assert said(bare, "en").count("[with the originator's consent]") == 1
    assert said(bare, "ko").count("[생산자의 동의에 따라]") == 1
    assert said(bare, "ja").count("[作成元の同意により]") == 1


def test_a_language_that_is_missing_falls_back_to_english_and_then_to_any() -> None:
    assert in_language({"ko": "가", "en": "a"}, "ja") == "a"
    assert in_language({"ko": "가", "fr": "b"}, "ja") == "가"
    assert in_language({"ko": "가", "en": "a"}, "ko") == "가"


def test_a_banner_is_what_the_party_itself_stamps() -> None:
    assert banner(tisa(), "KOR:II") == "군사II급비밀"
    assert banner(tisa(), "USA:S") == "SECRET"
    assert banner(tisa(), "JPN:GOKUHI") == "極秘"
