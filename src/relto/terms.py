"""Terms: what the parties of an agreement sign, its words as data with all that they stand on.

The terms are the agreement's file as canonical JSON, with the digests of the schemes and the
vocabulary that its words are taken from, and of the agreements that it rests on or is protected by
(docs/spec/agreement.md). Equal words are equal bytes, so that a party that signs them at home signs
what the others sign.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self

from relto import canonical
from relto.agreements import Known, decode_agreement, is_agreement_id
from relto.clauses import Agreement, Equate
from relto.errors import PeerError
from relto.fields import as_hex, as_object, as_party, as_text, require_keys
from relto.instants import is_instant, moment
from relto.marks import Scheme
from relto.records import Record
from relto.regime import Regime, pillars_of, plain, without_permissions
from relto.tables import Document, Problems, check_text, parse, quoted
from relto.topics import Vocabulary

__all__ = [
    "Terms",
    "Words",
    "agreement_of",
    "agreement_of_extract",
    "data_of",
    "decode_extract",
    "document_of",
    "extract_of",
    "extracts_of",
]

FORMAT = "relto-terms/1"
EXTRACT_FORMAT = "relto-extract/1"


@dataclass(frozen=True, slots=True)
class Terms(Record):
    """The terms of one version of an agreement. Their digest names that version."""

    NAME: ClassVar[str] = "agreement"

    agreement: Mapping[str, Any]  # the data of its file
    vocabulary: str  # digests
    schemes: Mapping[str, str]  # party -> digest
    pillars: Mapping[str, str]  # agreement -> digest of its extract

    @property
    def id(self) -> str:
        """The agreement's id, the same for all its versions."""
        return str(self.agreement["id"])

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "agreement": dict(self.agreement),
            "pins": {
                "vocabulary": self.vocabulary,
                "schemes": dict(self.schemes),
                "agreements": dict(self.pillars),
            },
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The frame alone is checked: `agreement_of` checks the words, and needs theirs for it."""
        require_keys(data, "terms", "format", "agreement", "pins")
        if data["format"] != FORMAT:
            raise PeerError(f"terms of format {quoted(data['format'])}, not {FORMAT}")
        agreement = as_object(data["agreement"], "agreement")
        name = agreement.get("id")
        if not isinstance(name, str) or not is_agreement_id(name):
            raise PeerError(f"the terms are of an agreement {quoted(name)}, which is no id of one")
        pins = as_object(data["pins"], "pins")
        require_keys(pins, "pins", "vocabulary", "schemes", "agreements")
        schemes = as_object(pins["schemes"], "schemes")
        pillars = as_object(pins["agreements"], "agreements")
        return cls(
            agreement,
            as_hex(pins["vocabulary"], "vocabulary"),
            {as_party(party, "party"): as_hex(value, party) for party, value in schemes.items()},
            {pillar: as_hex(value, "a pin") for pillar, value in pillars.items()},
        )


@dataclass(frozen=True, slots=True)
class Words:
    """What terms may speak of, with the digests by which terms pin it."""

    schemes: Mapping[str, Scheme]
    vocabulary: Vocabulary
    pillars: frozenset[str]
    scheme_digests: Mapping[str, str]
    vocabulary_digest: str
    extract_digests: Mapping[str, str]

    @classmethod
    def of(cls, files: Mapping[str, bytes], regime: Regime) -> "Words":
        """Those of a sound regime, and of the files that it was loaded from."""
        return cls.among(files, regime.schemes, regime.vocabulary, regime.agreements)

    @classmethod
    def among(
        cls,
        files: Mapping[str, bytes],
        schemes: Mapping[str, Scheme],
        vocabulary: Vocabulary,
        agreements: Mapping[str, Agreement],
    ) -> "Words":
        """Those of sound files and what was decoded from them."""
        return cls(
            schemes,
            vocabulary,
            frozenset(agreements),
            {party: _digest_of(files, f"schemes/{party}.toml") for party in schemes},
            _digest_of(files, "vocabulary.toml"),
            _extract_digests(agreements),
        )

    def pins_of(self, agreement: Agreement) -> dict[str, str]:
        """The digests of the extracts of what an agreement rests on."""
        return {pillar: self.extract_digests[pillar] for pillar in agreement.rests_on}


def agreement_of(terms: Terms, words: Words) -> Agreement:
    """What the terms say, in words that are the ones that they pin.

    Raises PeerError where a scheme, the vocabulary or a pillar here is not the one pinned, or the
    terms are no sound agreement; its first fault is named.
    """
    if terms.vocabulary != words.vocabulary_digest:
        raise PeerError(f"the terms of {terms.id} pin another vocabulary than vocabulary.toml here")
    for party, digest in terms.schemes.items():
        if words.scheme_digests.get(party) != digest:
            raise PeerError(f"the terms of {terms.id} pin another scheme of {party} than is here")
    for pillar, digest in terms.pillars.items():
        if words.extract_digests.get(pillar) != digest:
            raise PeerError(f"the terms of {terms.id} pin another {pillar} than is here")
    known = Known(words.schemes, words.vocabulary, words.pillars | {terms.id}, frozenset())
    problems = Problems()
    agreement = decode_agreement(document_of(terms, ""), terms.id, known, problems)
    if agreement is None:
        raise PeerError(f"the terms are no sound agreement: {problems.errors[0].message}")
    if {*pillars_of(agreement)} != terms.pillars.keys():
        raise PeerError(f"the terms of {terms.id} do not pin exactly what it stands on")
    return agreement


def document_of(terms: Terms, file: str) -> Document:
    """The terms as the file of an agreement would be, for its decoder. Raises PeerError."""
    return _document(terms.agreement, file, f"the terms of {terms.id}")


def _document(data: Mapping[str, Any], file: str, what: str) -> Document:
    """Data as the file of an agreement would be. Raises PeerError for text that is not plain."""
    problems = Problems()
    document = Document(file, _as_toml(data), {})
    try:
        is_plain = check_text(document, problems)
    except RecursionError:
        raise PeerError(f"{what} are nested too deeply") from None
    if not is_plain:
        raise PeerError(f"{what} are no sound agreement: {problems.errors[0].message}")
    return document


def extract_of(agreement: Agreement, pins: Mapping[str, str]) -> dict[str, Any]:
    """What others than its parties may know of an agreement: who is bound, equal marks, its life.

    `pins` are the digests of the extracts of what it rests on.
    """
    lasting = agreement.lasting
    return {
        "format": EXTRACT_FORMAT,
        "id": agreement.id,
        "kind": agreement.kind,
        "title": dict(agreement.title),
        "parties": sorted(agreement.parties),
        "depositary": agreement.depositary,
        "rests_on": {pillar: pins[pillar] for pillar in sorted(agreement.rests_on)},
        "ca": dict(agreement.ca),
        "life": {
            "begins": lasting.begins,
            **({"begins_at": lasting.begins_at} if lasting.begins_at else {}),
            "notice_days": lasting.notice_days,
            **({"term_months": lasting.term_months} if lasting.term_months else {}),
            "renews": lasting.renews,
        },
        "rows": [
            {party: [mark.code for mark in marks] for party, marks in row.items()}
            for clause in agreement.clauses
            if isinstance(clause.body, Equate)
            for row in clause.body.rows
        ],
    }


def agreement_of_extract(extract: Mapping[str, Any], words: Words) -> Agreement:
    """The agreement as far as an extract tells: no permissions, no duties. Raises PeerError."""
    return decode_extract(extract, words.schemes, words.vocabulary, words.pillars)


def decode_extract(
    extract: Mapping[str, Any],
    schemes: Mapping[str, Scheme],
    vocabulary: Vocabulary,
    agreements: frozenset[str],
) -> Agreement:
    """The same in the words of a regime's folder, whose agreements are named."""
    require_keys(
        dict(extract), "extract", "format", "id", "kind", "title", "parties", "depositary",
        "rests_on", "ca", "life", "rows",
    )  # fmt: skip
    if extract["format"] != EXTRACT_FORMAT:
        raise PeerError(f"an extract of format {quoted(extract['format'])}, not {EXTRACT_FORMAT}")
    pins = as_object(extract["rests_on"], "rests_on")
    rows = extract["rows"]
    frame = {key: extract[key] for key in ("id", "kind", "title", "parties", "depositary", "life")}
    clause = {"article": "extract", "text": extract["title"]}
    data = {
        **frame,
        "format": "relto-agreement/1",
        **({"rests_on": list(pins)} if pins else {}),
        **({"ca": extract["ca"]} if extract["ca"] else {}),
        # An agreement has a clause; what stands in for those that are not told goes again below.
        "clause": [
            *([{**clause, "equate": {"rows": rows}}] if rows else []),
            {**clause, "protect": {"return_or_destroy": True}},
        ],
    }
    name = as_text(extract["id"], "id")
    problems = Problems()
    known = Known(schemes, vocabulary, agreements | {name}, frozenset())
    document = _document(data, "", f"the words in the extract of {name}")
    agreement = decode_agreement(document, name, known, problems)
    if agreement is None:
        raise PeerError(f"the extract of {name} is not sound: {problems.errors[0].message}")
    agreement = without_permissions(agreement)
    if extract_of(agreement, {k: as_hex(v, k) for k, v in pins.items()}) != dict(extract):
        raise PeerError(f"the extract of {name} is not written in its one form")
    return agreement


def extracts_of(agreements: Mapping[str, Agreement]) -> dict[str, dict[str, Any]]:
    """The extract of each, what it rests on before it. None rests on itself."""
    found: dict[str, dict[str, Any]] = {}
    while len(found) < len(agreements):
        for agreement in agreements.values():
            if agreement.id not in found and found.keys() >= set(agreement.rests_on):
                pins = {pillar: canonical.digest(found[pillar]) for pillar in agreement.rests_on}
                found[agreement.id] = extract_of(agreement, pins)
    return found


def _extract_digests(agreements: Mapping[str, Agreement]) -> dict[str, str]:
    return {name: canonical.digest(extract) for name, extract in extracts_of(agreements).items()}


def data_of(files: Mapping[str, bytes], file: str) -> dict[str, Any]:
    """The data of one of a sound regime's files, as JSON."""
    document = parse(file, files[file], Problems())
    assert document is not None  # noqa: S101  # the regime was loaded from it
    data: dict[str, Any] = plain(document.data)
    return data


def _digest_of(files: Mapping[str, bytes], file: str) -> str:
    return canonical.digest(data_of(files, file))


def _as_toml(agreement: Mapping[str, Any]) -> dict[str, Any]:
    """The data as it stands in the file, where an instant is none of text."""
    life = agreement.get("life")
    begins_at = life.get("begins_at") if isinstance(life, dict) else None
    if not isinstance(life, dict) or not isinstance(begins_at, str) or not is_instant(begins_at):
        return dict(agreement)
    begins: datetime = moment(begins_at)
    return {**agreement, "life": {**life, "begins_at": begins}}
