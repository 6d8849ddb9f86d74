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
from relto.clauses import Agreement, Equate, Onward, Share
from relto.errors import CallerError, PeerError
from relto.fields import as_hex, as_object, as_party, require_keys
from relto.instants import is_instant, moment
from relto.marks import Scheme
from relto.records import Record
from relto.regime import Regime, load_regime, plain
from relto.tables import Document, Problems, check_text, parse, quoted
from relto.topics import Vocabulary

__all__ = ["Terms", "Words", "agreement_of", "draft_terms", "extract_of"]

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
    def of(cls, files: Mapping[str, bytes]) -> "Words":
        """Those of a regime's files. Raises RegimeError with every error."""
        regime = load_regime(files)
        return cls(
            regime.schemes,
            regime.vocabulary,
            frozenset(regime.agreements),
            {party: _digest_of(files, f"schemes/{party}.toml") for party in regime.schemes},
            _digest_of(files, "vocabulary.toml"),
            {a.id: canonical.digest(extract_of(a)) for a in regime.agreements.values()},
        )


def draft_terms(files: Mapping[str, bytes], agreement: str) -> Terms:
    """The terms of an agreement of the regime in `files` (relative path -> bytes).

    Raises RegimeError with every error of the regime, CallerError where it has no such agreement,
    or where the agreement states no fingerprints, without which no signature can be checked.
    """
    regime = load_regime(files)
    found = regime.agreements.get(agreement)
    if found is None:
        names = ", ".join(sorted(regime.agreements))
        raise CallerError(f"no agreement {quoted(agreement)} in this regime; there are {names}")
    if not found.ca:
        raise CallerError(
            f"{agreement} states no fingerprints of its parties' CAs, so nobody could check who "
            "signs it; add ca to its file (relto keys show prints them)"
        )
    words = Words.of(files)
    return Terms(
        _data_of(files, found.file),
        words.vocabulary_digest,
        {party: words.scheme_digests[party] for party in sorted(_parties_named(found, regime))},
        {pillar: words.extract_digests[pillar] for pillar in sorted(_pillars(found))},
    )


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
    problems = Problems()
    document = Document(f"agreements/{terms.id}.toml", _as_toml(terms.agreement), {})
    known = Known(words.schemes, words.vocabulary, words.pillars | {terms.id}, frozenset())
    try:
        is_plain = check_text(document, problems)
    except RecursionError:
        raise PeerError(f"the terms of {terms.id} are nested too deeply") from None
    agreement = decode_agreement(document, terms.id, known, problems) if is_plain else None
    if agreement is None:
        raise PeerError(f"the terms are no sound agreement: {problems.errors[0].message}")
    if _pillars(agreement) != terms.pillars.keys():
        raise PeerError(f"the terms of {terms.id} do not pin exactly what it stands on")
    return agreement


def extract_of(agreement: Agreement) -> dict[str, Any]:
    """What others than its parties may know of an agreement: who is bound, and equal marks.

    With its depositary and the fingerprints, by which its life can be checked.
    """
    return {
        "format": EXTRACT_FORMAT,
        "id": agreement.id,
        "parties": sorted(agreement.parties),
        "depositary": agreement.depositary,
        "rests_on": sorted(agreement.rests_on),
        "ca": dict(agreement.ca),
        "rows": [
            {party: [mark.code for mark in marks] for party, marks in row.items()}
            for clause in agreement.clauses
            if isinstance(clause.body, Equate)
            for row in clause.body.rows
        ],
    }


def _pillars(agreement: Agreement) -> set[str]:
    """The other agreements that it rests on or is protected by."""
    found = set(agreement.rests_on)
    for clause in agreement.clauses:
        if isinstance(clause.body, Share | Onward):
            found.update(clause.body.protected_by.values())
    return found - {agreement.id}


def _parties_named(agreement: Agreement, regime: Regime) -> set[str]:
    """Its parties, and those whose marks or receiving its clauses speak of."""
    found = set(agreement.parties)
    for clause in agreement.clauses:
        body = clause.body
        if isinstance(body, Onward):
            found |= body.to
        if isinstance(body, Share | Onward):
            found.update(regime.marks[mark].party for mark in body.scope.marks or ())
    return found


def _data_of(files: Mapping[str, bytes], file: str) -> dict[str, Any]:
    document = parse(file, files[file], Problems())
    assert document is not None  # noqa: S101  # the regime was loaded from it
    data: dict[str, Any] = plain(document.data)
    return data


def _digest_of(files: Mapping[str, bytes], file: str) -> str:
    return canonical.digest(_data_of(files, file))


def _as_toml(agreement: Mapping[str, Any]) -> dict[str, Any]:
    """The data as it stands in the file, where an instant is none of text."""
    life = agreement.get("life")
    begins_at = life.get("begins_at") if isinstance(life, dict) else None
    if not isinstance(life, dict) or not isinstance(begins_at, str) or not is_instant(begins_at):
        return dict(agreement)
    begins: datetime = moment(begins_at)
    return {**agreement, "life": {**life, "begins_at": begins}}
