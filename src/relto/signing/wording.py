"""What an agreement's document says: its articles, and beside each what nodes enforce, in words.

The articles are the parties' own words. The rest is the program's: fixed phrases in English, Korean
and Japanese about the data of the terms, with nothing left out that a decision depends on. Where
the terms are in another language, its phrases are the English ones.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from relto import canonical
from relto.errors import PeerError
from relto.explanations import in_language
from relto.phrases import DUTIES, LANGUAGES
from relto.terms import Terms

__all__ = ["SIGNERS_PER_SHEET", "TERMS_BYTES_MAX", "said", "signers"]

TERMS_BYTES_MAX = 1024 * 1024
SIGNERS_PER_SHEET = 4

Texts = Mapping[str, str]
Row = tuple[str, str]

_SAID: Mapping[str, Texts] = {
    "agreement": {"en": "Agreement", "ko": "협정", "ja": "協定"},
    "arrangement": {"en": "Arrangement", "ko": "약정", "ja": "取決め"},
    "parties-agreement": {"en": "Parties", "ko": "당사자", "ja": "締約国政府"},
    "parties-arrangement": {"en": "participants", "ko": "당사자", "ja": "参加者"},
    "signed-agreement": {
        "en": "Signed for the Parties:",
        "ko": "당사자를 위하여 서명함:",
        "ja": "締約国政府のために署名した:",
    },
    "signed-arrangement": {
        "en": "Signed for the participants:",
        "ko": "당사자를 위하여 서명함:",
        "ja": "参加者のために署名した:",
    },
    "depositary": {"en": "depositary", "ko": "기탁처", "ja": "寄託者"},
    "rests-on": {"en": "rests on", "ko": "기초 협정", "ja": "基礎となる協定"},
    "supersedes": {
        "en": "takes the place of",
        "ko": "대체 대상",
        "ja": "代わる対象",
    },
    "ca": {"en": "CA of {party}", "ko": "{party}의 인증기관", "ja": "{party}の認証局"},
    "terms": {"en": "terms", "ko": "문안", "ja": "条項"},
    "article": {"en": "Article {article}", "ko": "제{article}조", "ja": "第{article}条"},
    "paragraph": {"en": "Paragraph {article}", "ko": "제{article}항", "ja": "第{article}項"},
    "from": {"en": "originated by", "ko": "생산자", "ja": "作成元"},
    "by": {"en": "passed on by", "ko": "재제공자", "ja": "再提供者"},
    "to": {"en": "to", "ko": "수령자", "ja": "受領者"},
    "way": {"en": "way", "ko": "경로", "ja": "経路"},
    "direct": {"en": "direct", "ko": "직접", "ja": "直接"},
    "via": {
        "en": "via {via}, which reads it",
        "ko": "{via} 경유, {via}은(는) 내용을 열람함",
        "ja": "{via}を経由し、{via}は内容を閲覧する",
    },
    "via-blind": {
        "en": "via {via}, which does not read it",
        "ko": "{via} 경유, {via}은(는) 내용을 열람하지 않음",
        "ja": "{via}を経由し、{via}は内容を閲覧しない",
    },
    "protected": {"en": "protected by", "ko": "보호 근거", "ja": "保護の根拠"},
    "own": {"en": "this document", "ko": "이 문서", "ja": "この文書"},
    "about": {"en": "subjects", "ko": "대상", "ja": "対象"},
    "topics": {"en": "topics", "ko": "주제", "ja": "主題"},
    "kinds": {"en": "kinds", "ko": "종류", "ja": "種別"},
    "marks": {"en": "marks", "ko": "등급", "ja": "区分"},
    "any": {"en": "any", "ko": "제한 없음", "ja": "制限なし"},
    "consent": {"en": "consent", "ko": "동의", "ja": "同意"},
    "consent-label": {
        "en": "the originator's label names who may read",
        "ko": "생산자의 표지에 열람할 수 있는 자가 명시됨",
        "ja": "作成元のラベルが開示先を明示する",
    },
    "consent-item": {
        "en": "a separate consent of the originator for each item",
        "ko": "정보마다 생산자의 별도 동의",
        "ja": "情報ごとに作成元の個別の同意",
    },
    "release": {"en": "release", "ko": "제공", "ja": "提供"},
    "release-review": {
        "en": "by a disclosure officer, after review",
        "ko": "공개심사관의 검토 후",
        "ja": "開示審査官の審査の後",
    },
    "release-automatic": {
        "en": "automatic, without review",
        "ko": "검토 없이 자동",
        "ja": "審査なしで自動",
    },
    "equal": {"en": "equal marks", "ko": "상응하는 등급", "ja": "対応する区分"},
    "receiver": {"en": "a receiver's duty", "ko": "수령자의 의무", "ja": "受領者の義務"},
    "two-person": {
        "en": "two officers release from",
        "ko": "담당관 2인의 승인 대상",
        "ja": "担当官二名の承認の対象",
    },
    "life": {"en": "Beginning and end", "ko": "발효와 종료", "ja": "発効及び終了"},
    "pins": {
        "en": "What these words stand on",
        "ko": "이 문안이 근거하는 것",
        "ja": "この文言が基づくもの",
    },
    "pins-words": {
        "en": "SHA-256 of the terms, which are attached to this document as terms.json, and of the "
        "vocabulary, schemes and agreements that they use.",
        "ko": "이 문서에 terms.json으로 첨부된 문안 및 그 문안이 사용하는 용어집, 등급 체계, "
        "협정의 SHA-256.",
        "ja": "この文書にterms.jsonとして添付された条項並びにそれが用いる語彙、区分体系及び"
        "協定のSHA-256。",
    },
}


def said(
    payload: bytes, schemes: Mapping[str, Texts], life: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """All words of the document of these terms, in the order in which they are set.

    `schemes` has the name of each party by language; `life` the sentences on beginning and end.

    Raises:
        PeerError: the payload is no terms.
    """
    terms = _terms(payload)
    try:
        return _said(terms, hashlib.sha256(payload).hexdigest(), schemes, life)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PeerError("the terms are no sound agreement") from error


def signers(payload: bytes) -> tuple[str, ...]:
    """The parties, in the order of their fields. Raises PeerError."""
    parties = _terms(payload).agreement.get("parties")
    if not isinstance(parties, list) or not all(isinstance(p, str) for p in parties):
        raise PeerError("the terms name no parties")
    return tuple(sorted(set(parties)))


def _terms(payload: bytes) -> Terms:
    data = canonical.decode(payload, size_bytes_max=TERMS_BYTES_MAX)
    if not isinstance(data, dict):
        raise PeerError("the terms are no object")
    return Terms.from_json(data)


def _said(
    terms: Terms, digest: str, schemes: Mapping[str, Texts], life: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    agreement = terms.agreement
    kind = agreement["kind"]
    languages = _languages(agreement)
    parties = sorted(set(agreement["parties"]))
    people = agreement.get("signatories", {})
    every = [
        {
            "party": party,
            "names": _each(schemes.get(party, {}), languages),
            "persons": [
                words
                for language in languages
                for words in (
                    _join(people.get(party, {}).get(key, {}).get(language, "") for key in _PERSON),
                )
                if words
            ],
        }
        for party in parties
    ]
    pins = [("vocabulary", terms.vocabulary)]
    pins += [(f"scheme {party}", pin) for party, pin in sorted(terms.schemes.items())]
    pins += [(f"agreement {pillar}", pin) for pillar, pin in sorted(terms.pillars.items())]
    return {
        "id": agreement["id"],
        "title": in_language(agreement["title"], "en"),
        "digest": digest,
        "parts": _wrapped(
            [_part(agreement, lang, schemes, life.get(lang, ())) for lang in languages]
        ),
        "pins-heading": _join(_each(_SAID["pins"], languages)),
        "pins-words": _each(_SAID["pins-words"], languages),
        "pins": [(_wrapped(name), pin) for name, pin in (("terms", digest), *pins)],
        "signed-words": _each(_SAID[f"signed-{kind}"], languages),
        "sheets": [
            _wrapped(every[i : i + SIGNERS_PER_SHEET])
            for i in range(0, len(every), SIGNERS_PER_SHEET)
        ],
    }


_PERSON = ("name", "office")
# Whatever is not written in Chinese characters, kana or hangul, which break anywhere.
_LONG_WORD = re.compile(r"[^\s\u1100-\u11ff\u2e80-\uffff]{24,}")


def _wrapped(value: Any) -> Any:
    """The same words, with places where a long one may break: none leaves the page unseen."""
    if isinstance(value, str):
        return _LONG_WORD.sub(
            lambda word: "\u200b".join(word[0][i : i + 12] for i in range(0, len(word[0]), 12)),
            value,
        )
    if isinstance(value, dict):
        return {key: _wrapped(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_wrapped(each) for each in value]
    return value


def _languages(agreement: Mapping[str, Any]) -> list[str]:
    """Those of title and articles: ours first, in their order, then others by their codes.

    Whoever signs a language signs all of the document in it, so an article that lacks one refuses.
    """
    found = set(agreement["title"])
    for clause in agreement["clause"]:
        if odd := found ^ set(clause["text"]):
            raise PeerError(
                f"article {clause['article']} and the title are not in the same languages: "
                f"{', '.join(sorted(odd))} is missing in one of them"
            )
    return [name for name in LANGUAGES if name in found] + sorted(found - set(LANGUAGES))


def _each(texts: Texts, languages: Sequence[str]) -> list[str]:
    """The text in each of the languages; where none has one, in the first that there is."""
    found = [texts[language] for language in languages if language in texts]
    return list(dict.fromkeys(found or list(texts.values())[:1]))


def _join(words: Any) -> str:
    return ", ".join(word for word in words if word)


def _part(
    agreement: Mapping[str, Any],
    language: str,
    schemes: Mapping[str, Texts],
    life: Sequence[str],
) -> dict[str, Any]:
    return {
        "language": language,
        "kind": _word(agreement["kind"], language),
        "title": in_language(agreement["title"], language),
        "frame": list(_frame(agreement, language, schemes)),
        "clauses": [
            {
                "article": _article(agreement["kind"], clause["article"], language),
                "text": in_language(clause["text"], language),
                "rows": list(_enforced(clause, language)),
            }
            for clause in agreement["clause"]
        ],
        "life-heading": _word("life", language),
        "life": list(life),
    }


def _word(key: str, language: str) -> str:
    return in_language(_SAID[key], language)


def _article(kind: str, article: str, language: str) -> str:
    """Its heading: a number as one, anything else as it stands. Arrangements have paragraphs."""
    if not article.isascii() or not article.isdigit():
        return article
    key = "article" if kind == "agreement" else "paragraph"
    return _word(key, language).format(article=article)


def _frame(
    agreement: Mapping[str, Any], language: str, schemes: Mapping[str, Texts]
) -> Iterator[Row]:
    def named(party: str) -> str:
        names = schemes.get(party)
        return f"{in_language(names, language)} ({party})" if names else party

    parties = "\n".join(named(party) for party in sorted(set(agreement["parties"])))
    yield _word(f"parties-{agreement['kind']}", language), parties
    yield _word("depositary", language), named(agreement["depositary"])
    if agreement.get("rests_on"):
        yield _word("rests-on", language), ", ".join(agreement["rests_on"])
    if agreement.get("supersedes"):
        yield _word("supersedes", language), _grouped(agreement["supersedes"])
    for party, fingerprint in sorted(agreement.get("ca", {}).items()):
        yield _word("ca", language).format(party=party), _grouped(fingerprint)


def _grouped(digits: str) -> str:
    """Hexadecimal digits in groups of eight, which people compare and lines break between."""
    digits = digits.removeprefix("sha256:")
    return " ".join(digits[i : i + 8] for i in range(0, len(digits), 8))


def _enforced(clause: Mapping[str, Any], language: str) -> Iterator[Row]:
    """What a node does by the clause."""
    if "share" in clause:
        yield from _share(clause["share"], language)
    elif "onward" in clause:
        yield _word("by", language), ", ".join(clause["onward"]["by"])
        yield _word("to", language), ", ".join(clause["onward"]["to"])
        yield _word("way", language), _word("direct", language)
        yield from _scope(clause["onward"], language)
    elif "equate" in clause:
        for row in clause["equate"]["rows"]:
            equal = "  =  ".join(
                " / ".join(f"{party}:{code}" for code in codes)
                for party, codes in sorted(row.items())
            )
            yield _word("equal", language), equal
    else:
        yield from _protect(clause["protect"], language)


def _share(share: Mapping[str, Any], language: str) -> Iterator[Row]:
    yield _word("from", language), ", ".join(share["from"])
    yield _word("to", language), ", ".join(share["to"])
    via = share.get("via")
    if via is None:
        way = _word("direct", language)
    else:
        way = _word("via" if share.get("via_reads", True) else "via-blind", language)
    yield _word("way", language), way.format(via=via)
    yield from _scope(share, language)


def _scope(body: Mapping[str, Any], language: str) -> Iterator[Row]:
    for key in ("about", "topics", "kinds", "marks"):
        yield _word(key, language), ", ".join(body.get(key, ())) or _word("any", language)
    yield _word("consent", language), _word(f"consent-{body['consent']}", language)
    yield _word("release", language), _word(f"release-{body['release']}", language)
    guards = [f"{leg}: {guard}" for leg, guard in sorted(body.get("protected_by", {}).items())]
    yield _word("protected", language), "\n".join(guards) or _word("own", language)


def _protect(protect: Mapping[str, Any], language: str) -> Iterator[Row]:
    for key in ("receipt_within_h", "return_or_destroy", "report_compromise_within_h"):
        value = protect.get(key)
        if value is None or value is False:
            continue
        at_once = key == "report_compromise_within_h" and value == 0
        words = in_language(DUTIES["report_compromise_at_once" if at_once else key], language)
        yield _word("receiver", language), words.format(value=value)
    if protect.get("two_person_from"):
        yield _word("two-person", language), ", ".join(protect["two_person_from"])
