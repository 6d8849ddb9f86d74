"""Checking a signed document: it is made again from what it should be, and compared byte by byte.

A PDF can show one thing and be signed for another; which changes after a signature are harmless is
a question with a long history of wrong answers. It is not asked here. The document follows from the
terms, and each signature's revision from party, instant and signature: a file that is anything else
than these, one after the other, is refused. Nothing in it is interpreted before it is known.
"""

import asyncio
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from asn1crypto import x509 as asn1_x509
from asn1crypto.parser import peek
from cryptography import x509
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.general import CMSExtractionError, SigningError
from pyhanko.sign.validation import async_validate_pdf_signature
from pyhanko.sign.validation.errors import SignatureValidationError
from pyhanko.sign.validation.pdf_embedded import EmbeddedPdfSignature
from pyhanko.sign.validation.status import PdfSignatureStatus
from pyhanko_certvalidator import ValidationContext
from pyhanko_certvalidator.errors import PathError, ValidationError

from relto.certificates import verify_leaf
from relto.envelope import keyid
from relto.errors import CallerError, PeerError
from relto.signing.documents import make_document
from relto.signing.signatures import prepare
from relto.signing.wording import signers
from relto.tables import quoted

__all__ = ["DOCUMENT_BYTES_MAX", "DocumentSignature", "SignedDocument", "verify_document"]

DOCUMENT_BYTES_MAX = 64 * 1024 * 1024

# Where to look for what a revision was made from: found wrong, it only makes another revision.
_FIELD = re.compile(rb"\n/T \(([^()\n]{1,64})\)\n")
_CONTENTS = re.compile(rb"\n/Contents <([0-9A-F]{2,65536})>\n")
_AT = re.compile(rb"\n/M \(D\\072([0-9]{14})Z\)\n")

_UNREADABLE = (
    PdfError,
    CMSExtractionError,
    SigningError,
    SignatureValidationError,
    PathError,
    ValidationError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
)
"""What the library raises on a signature that is none."""


@dataclass(frozen=True, slots=True)
class DocumentSignature:
    """A party's signature that holds: when by its own word, and by a time-stamping authority's.

    `stamped_at` is absent where there is no time-stamp, or none that we trust.
    """

    party: str
    at: datetime
    stamped_at: datetime | None
    keyid: str


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """The signatures of a document in their order, and the parties that have not signed."""

    signatures: tuple[DocumentSignature, ...]
    missing: tuple[str, ...]


def verify_document(
    document: bytes,
    payload: bytes,
    schemes: Mapping[str, Mapping[str, str]],
    life: Mapping[str, Sequence[str]],
    *,
    cas: Mapping[str, bytes],
    at: datetime,
    tsa: Sequence[bytes] = (),
) -> SignedDocument:
    """Who has signed the document of the terms in `payload`, once all of it holds.

    `schemes` and `life` are those of `make_document`; `cas` has each party's CA and `tsa` the roots
    of time-stamping authorities that we trust, in DER; `at` is now. The caller knows that the CAs
    are the ones that the terms state, and that nothing revokes a certificate.

    Raises:
        PeerError: it does not hold; one line says why.
    """
    if len(document) > DOCUMENT_BYTES_MAX:
        raise PeerError(f"the document has more than {DOCUMENT_BYTES_MAX} bytes")
    # (1) It begins with the document of these terms, their attachment included.
    known = make_document(payload, schemes, life)
    _check_beginning(document, known)
    # (2) What follows is, revision for revision, what a party's signature makes of it.
    parties = signers(payload)
    signatures: list[DocumentSignature] = []
    while len(known) < len(document):
        party, signed_at, made = _next(document, known, [s.party for s in signatures])
        if party not in parties:
            raise PeerError(f"a signature in a field {quoted(party)}, which is no party's")
        # (3) Each holds under its party's CA, at its time; and their times rise.
        signature = _verified(made, party, signed_at, cas, tsa)
        if signatures and signature.at < signatures[-1].at:
            raise PeerError(
                f"signatures are out of order: {party} signed at {_shown(signature.at)}, over one "
                f"of {signatures[-1].party} at {_shown(signatures[-1].at)}"
            )
        if signature.at > at:
            raise PeerError(f"{party} signed at {_shown(signature.at)}, which is yet to come")
        signatures.append(signature)
        known = made
    have = {s.party for s in signatures}
    return SignedDocument(tuple(signatures), tuple(p for p in parties if p not in have))


def _check_beginning(document: bytes, base: bytes) -> None:
    if document.startswith(base):
        return
    if base.startswith(document):
        raise PeerError("the document is cut off")
    raise PeerError(
        "the document is not the one that these terms give: another text, another attachment, or "
        "made by another version of the programs in requirements/documents.txt"
    )


def _next(document: bytes, known: bytes, signed: list[str]) -> tuple[str, datetime, bytes]:
    """Party and instant of the signature after `known`, and the document up to its end."""
    where = f"after the signature of {signed[-1]}" if signed else "before any signature"
    field, contents, signed_at = (
        pattern.search(document, len(known)) for pattern in (_FIELD, _CONTENTS, _AT)
    )
    if field is None or contents is None or signed_at is None:
        cut = "" if document.rstrip().endswith(b"%%EOF") else ", or the document is cut off"
        raise PeerError(f"{where} something else than a signature was added{cut}")
    party = field[1].decode("ascii", "replace")
    if party in signed:
        raise PeerError(f"{party} signs twice")
    try:
        at = datetime.strptime(signed_at[1].decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        made = prepare(known, party, at).filled(_first_value(contents[1]))
    except (*_UNREADABLE, CallerError):
        raise PeerError(f"{where} something else than a signature was added") from None
    if document.startswith(made):
        return party, at, made
    if made.startswith(document):
        raise PeerError(f"the document is cut off within the signature of {party}")
    raise PeerError(f"more than its field was changed with the signature of {party}")


def _first_value(digits: bytes) -> bytes:
    """The DER value at the beginning; the zeros that fill its place are not part of it."""
    data = bytes.fromhex(digits.decode())
    return data[: peek(data)]


def _verified(
    made: bytes, party: str, at: datetime, cas: Mapping[str, bytes], tsa: Sequence[bytes]
) -> DocumentSignature:
    """The last signature of a document, once it holds. Raises PeerError."""
    if party not in cas:
        raise PeerError(f"no CA of {party} is known to check its signature under")
    try:
        embedded = PdfFileReader(io.BytesIO(made)).embedded_signatures[-1]
        certificate = bytes(embedded.signer_cert.dump())
    except _UNREADABLE as error:
        raise PeerError(f"the signature of {party} is not one that can be read") from error
    what = f"the signature of {party}"
    leaf = _vouched(certificate, cas[party], party, at, what)
    status = _status(embedded, cas[party], at, tsa, what)
    if not (status.intact and status.valid):
        raise PeerError(f"{what} does not hold: it is of another document, or by another key")
    if not status.trusted:
        raise PeerError(f"{what} is by a certificate that its CA does not vouch for")
    stamp = status.timestamp_validity
    stamped_at: datetime | None = None
    if stamp is not None and tsa:
        if not (stamp.valid and stamp.intact and stamp.trusted):
            raise PeerError(f"the time-stamp of {what} does not hold")
        stamped_at = stamp.timestamp
        if stamped_at < at:
            raise PeerError(f"{what} is stamped {_shown(stamped_at)}, before {_shown(at)}")
        _vouched(certificate, cas[party], party, stamped_at, what)
    return DocumentSignature(party, at, stamped_at, keyid(leaf.public_key()))


def _vouched(
    certificate: bytes, ca: bytes, party: str, at: datetime, what: str
) -> x509.Certificate:
    try:
        return verify_leaf(certificate, ca=ca, party=party, role="signing", at=at)
    except PeerError as error:
        raise PeerError(f"{what}: {error}") from error


def _status(
    embedded: EmbeddedPdfSignature, ca: bytes, at: datetime, tsa: Sequence[bytes], what: str
) -> PdfSignatureStatus:
    try:
        return asyncio.run(
            async_validate_pdf_signature(
                embedded, _context((ca,), at), _context(tsa, at), skip_diff=True
            )
        )
    except _UNREADABLE as error:
        raise PeerError(f"{what} is not one that can be read") from error


def _context(roots: Sequence[bytes], at: datetime) -> ValidationContext:
    return ValidationContext(
        trust_roots=[asn1_x509.Certificate.load(root) for root in roots],
        moment=at,
        best_signature_time=at,
        allow_fetching=False,
    )


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
