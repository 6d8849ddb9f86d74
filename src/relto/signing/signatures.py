"""A party's signature in its field of the document: PAdES, by the key that signs the terms.

A signature is a revision appended to the document; what it looks like on the page follows from who
signs and when. The key stays behind a `Signer`, so that it may lie in a token.
"""

import asyncio
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from asn1crypto import algos, tsp
from asn1crypto import x509 as asn1_x509
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.generic import pdf_name
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.pdf_utils.writer import init_xobject_dictionary
from pyhanko.sign import signers as pyhanko_signers
from pyhanko.sign.fields import SigSeedSubFilter
from pyhanko.sign.general import SigningError
from pyhanko.sign.signers.cms_embedder import PdfCMSEmbedder, SigIOSetup, SigObjSetup
from pyhanko.sign.signers.pdf_byterange import PreparedByteRangeDigest, SignatureObject
from pyhanko.sign.timestamps import TimeStamper, TimestampRequestError
from pyhanko_certvalidator.registry import SimpleCertificateStore

from relto.certificates import decode_certificate
from relto.envelope import keyid
from relto.errors import CallerError
from relto.ports import Signer
from relto.signing.documents import FIELD_POINTS, Update

__all__ = ["CMS_BYTES_MAX", "Prepared", "Stamp", "prepare", "sign_document"]

CMS_BYTES_MAX = 16 * 1024  # reserved for each signature, with certificates and time-stamp
ECDSA_BYTES_MAX = 72  # a P-256 signature in DER

Stamp = Callable[[bytes], bytes]
"""Asks a time-stamping authority: a TimeStampReq in DER, its TimeStampResp in DER (RFC 3161)."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document with an empty place for one more signature, and the digest that it signs."""

    digest: bytes
    _place: PreparedByteRangeDigest
    _written: bytes

    def filled(self, signature: bytes) -> bytes:
        """The document with that CMS (DER) in the place; the rest of the place is zeros.

        Raises:
            CallerError: it does not fit.
        """
        if len(signature) > CMS_BYTES_MAX:
            raise CallerError(f"signature of {len(signature)} bytes; {CMS_BYTES_MAX} have room")
        out = io.BytesIO(self._written)
        self._place.fill_with_cms(out, signature)
        return out.getvalue()


def prepare(document: bytes, party: str, at: datetime) -> Prepared:
    """The document as it is before the signature of `party` at the instant `at` (whole seconds)."""
    update = Update(document)
    steps = PdfCMSEmbedder().write_cms(party, update, existing_fields_only=True)
    field = next(steps).get_object()
    look = update.add_object(_appearance(party, at))
    field[pdf_name("/AP")] = generic.DictionaryObject({pdf_name("/N"): look})
    steps.send(
        SigObjSetup(
            SignatureObject(
                timestamp=at.astimezone(UTC).replace(microsecond=0),
                subfilter=SigSeedSubFilter.PADES,
                bytes_reserved=2 * CMS_BYTES_MAX,
            )
        )
    )
    place, out = steps.send(SigIOSetup(md_algorithm="sha256"))
    return Prepared(place.document_digest, place, out.getvalue())


def sign_document(
    document: bytes,
    party: str,
    signer: Signer,
    certificate: bytes,
    chain: Sequence[bytes],
    at: datetime,
    stamp: Stamp | None = None,
) -> bytes:
    """The document with the signature of `party` in its field.

    `certificate` is of the signing key, `chain` what vouches for it, all DER. With `stamp` the
    signature carries a time-stamp; nothing is signed where it fails.

    What the document says is not checked here: `relto.signing.checking`.

    Raises:
        CallerError: the key is not the certificate's; the party has no field, or has signed; no
            time-stamp is to be had.
    """
    if signer.keyid != keyid(decode_certificate(certificate).public_key()):
        raise CallerError("the key given is not the one in the certificate")
    try:
        prepared = prepare(document, party, at)
    except (PdfError, SigningError) as error:
        raise CallerError(
            f"no empty field of {party} in this document: it has signed, or is no party of it"
        ) from error
    hand = _Hand(signer, certificate, chain)
    stamper = None if stamp is None else _Stamper(stamp)
    try:
        signed = asyncio.run(
            hand.async_sign(prepared.digest, "sha256", use_pades=True, timestamper=stamper)
        )
    except (TimestampRequestError, ValueError, TypeError) as error:
        raise CallerError(f"no time-stamp, so nothing is signed: {error}") from error
    return prepared.filled(signed.dump())


class _Hand(pyhanko_signers.Signer):
    """Our signer as the library wants one."""

    def __init__(self, signer: Signer, certificate: bytes, chain: Sequence[bytes]) -> None:
        store = SimpleCertificateStore()
        store.register_multiple(asn1_x509.Certificate.load(each) for each in chain)
        super().__init__(
            signing_cert=asn1_x509.Certificate.load(certificate),
            cert_registry=store,
            signature_mechanism=algos.SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"}),
        )
        self._signer = signer

    async def async_sign_raw(
        self, data: bytes, digest_algorithm: str, dry_run: bool = False
    ) -> bytes:
        return bytes(ECDSA_BYTES_MAX) if dry_run else self._signer.sign(data)


class _Stamper(TimeStamper):
    """A time-stamping authority as the library wants one."""

    def __init__(self, stamp: Stamp) -> None:
        super().__init__()
        self._stamp = stamp

    async def async_request_tsa_response(self, req: tsp.TimeStampReq) -> tsp.TimeStampResp:
        return tsp.TimeStampResp.load(self._stamp(req.dump()), strict=True)


def _appearance(party: str, at: datetime) -> generic.StreamObject:
    """What is seen in the field: whose signature it is, and the instant that it states."""
    lines = [(14, party), (9, f"signed {at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")]
    content, height = [b"q BT"], FIELD_POINTS[1] - 24
    for size, words in lines:
        content.append(f"/F {size} Tf 1 0 0 1 10 {height} Tm ({words}) Tj".encode("ascii"))
        height -= 18
    content.append(b"ET Q")
    font = generic.DictionaryObject(
        {
            pdf_name("/Type"): pdf_name("/Font"),
            pdf_name("/Subtype"): pdf_name("/Type1"),
            pdf_name("/BaseFont"): pdf_name("/Helvetica"),
            pdf_name("/Encoding"): pdf_name("/WinAnsiEncoding"),
        }
    )
    fonts = generic.DictionaryObject({pdf_name("/F"): font})
    return init_xobject_dictionary(
        command_stream=b" ".join(content),
        box_width=FIELD_POINTS[0],
        box_height=FIELD_POINTS[1],
        resources=generic.DictionaryObject({pdf_name("/Font"): fonts}),
    )
