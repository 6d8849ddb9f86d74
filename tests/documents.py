"""The document of a pact of three, and parties that sign it."""

from datetime import UTC, datetime
from typing import Any

from pacts import Party, Table
from regime_texts import PACT, files
from relto import canonical
from relto.signing.signatures import sign_document

__all__ = ["LIFE", "NOW", "SCHEMES", "SIGNED_AT", "document_terms", "payload_of", "signed"]

SCHEMES = {
    "JPN": {"en": "Ministry of Defense, Japan", "ko": "일본 방위성"},
    "KOR": {"en": "Ministry of National Defense", "ko": "대한민국 국방부"},
    "USA": {"en": "Department of Defense", "ko": "미합중국 국방부"},
}
LIFE = {"en": ["It begins with the last copy."], "ko": ["마지막 사본으로 발효한다."]}
SIGNED_AT = {
    "USA": datetime(2020, 1, 2, 5, tzinfo=UTC),
    "KOR": datetime(2020, 1, 3, 2, tzinfo=UTC),
    "JPN": datetime(2020, 1, 3, 2, tzinfo=UTC),
}
NOW = datetime(2020, 1, 5, tzinfo=UTC)


def document_terms(*changes: tuple[str, str, str], of: str = "pact") -> dict[str, Any]:
    """The terms of the pact of three as data, with changes in its files."""
    stated = ", ".join(f'{name} = "sha256:{"0" * 64}"' for name in SCHEMES)
    ca = (PACT, "\n[[clause]]", f"ca = {{ {stated} }}\n\n[[clause]]")
    return Table(of=of, texts=files(ca, *changes)).instrument.terms.to_json()


def payload_of(terms: dict[str, Any]) -> bytes:
    return canonical.encode(terms)


def signed(document: bytes, parties: dict[str, Party], *names: str) -> bytes:
    """The document with the signatures of the parties named, in that order."""
    for name in names:
        party = parties[name]
        document = sign_document(
            document, name, party.signer, party.certificate, [party.ca], SIGNED_AT[name]
        )
    return document
