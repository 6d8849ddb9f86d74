"""Signed envelopes: DSSE v1 (secure-systems-lab/dsse, protocol.md and envelope.md).

What is signed is the pre-authentication encoding of type and payload, so that bytes signed as one
kind of record are never taken for another. An envelope travels as canonical JSON. A record's
identity is the SHA-256 of its payload alone: who signed, and how often, does not change it.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from relto import canonical
from relto.canonical import Json
from relto.errors import CallerError, PeerError
from relto.ports import Signer

__all__ = [
    "SIGNATURES_MAX",
    "SIGNATURE_BYTES_MAX",
    "Envelope",
    "PublicKey",
    "Signature",
    "from_base64",
    "keyid",
    "pae",
    "payload_type",
    "sign",
    "to_base64",
    "verify",
]

SIGNATURES_MAX = 8
SIGNATURE_BYTES_MAX = 4096
"""A passkey's `sig` is a whole WebAuthn assertion, about 1 KiB; others are at most 72 bytes."""

PublicKey: TypeAlias = PublicKeyTypes
"""Any key that a certificate may hold; `verify` takes Ed25519 and ECDSA P-256 and no other."""

_KEYID = re.compile(r"[0-9a-f]{64}")
_PAYLOAD_TYPE = re.compile(r"[!-~]{1,255}")  # visible ASCII
_RECORD_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature. `keyid` only says which key to try; it vouches for nothing."""

    keyid: str
    sig: bytes

    def __post_init__(self) -> None:
        if not _KEYID.fullmatch(self.keyid):
            raise CallerError("keyid is not 64 lower-case hex digits")
        if not 1 <= len(self.sig) <= SIGNATURE_BYTES_MAX:
            raise CallerError(
                f"signature of {len(self.sig)} bytes; 1 to {SIGNATURE_BYTES_MAX} are allowed"
            )

    def to_json(self) -> dict[str, Json]:
        """The signature as an envelope has it (DSSE envelope.md)."""
        return {"keyid": self.keyid, "sig": to_base64(self.sig)}

    @classmethod
    def from_json(cls, value: Json) -> "Signature":
        """Raises PeerError where `value` is no signature."""
        members = _members(value, ("keyid", "sig"), what="signature")
        try:
            return cls(
                keyid=_text(members["keyid"], what="keyid"),
                sig=from_base64(members["sig"], what="sig"),
            )
        except CallerError as error:
            raise PeerError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Envelope:
    """A typed payload and 1 to 8 signatures over it, by different keys. Nothing is verified yet.

    `payload` may be read before `verify` to learn whose key to ask for, and for nothing else.
    """

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        if not _PAYLOAD_TYPE.fullmatch(self.payload_type):
            raise CallerError("payloadType is not 1 to 255 visible ASCII characters")
        if not 1 <= len(self.signatures) <= SIGNATURES_MAX:
            raise CallerError(
                f"envelope with {len(self.signatures)} signatures;"
                f" 1 to {SIGNATURES_MAX} are allowed"
            )
        if len({signature.keyid for signature in self.signatures}) != len(self.signatures):
            raise CallerError("envelope has two signatures by one key; each signs once")

    @property
    def record_id(self) -> str:
        """SHA-256 of the payload, in lower-case hex: what other records call this one."""
        return hashlib.sha256(self.payload).hexdigest()

    def to_json(self) -> dict[str, Json]:
        """The envelope as a value inside other canonical JSON (DSSE envelope.md)."""
        return {
            "payload": to_base64(self.payload),
            "payloadType": self.payload_type,
            "signatures": [signature.to_json() for signature in self.signatures],
        }

    @classmethod
    def from_json(cls, value: Json) -> "Envelope":
        """The envelope that `value` states; exactly the keys that `to_json` writes.

        Raises:
            PeerError: it is not one.
        """
        members = _members(value, ("payload", "payloadType", "signatures"), what="envelope")
        listed = members["signatures"]
        if not isinstance(listed, list):
            raise PeerError('"signatures" of an envelope is not a list')
        # Before any of them is decoded: a long list costs nothing.
        if len(listed) > SIGNATURES_MAX:
            raise PeerError(f"envelope with {len(listed)} signatures; at most {SIGNATURES_MAX}")
        try:
            return cls(
                payload_type=_text(members["payloadType"], what="payloadType"),
                payload=from_base64(members["payload"], what="payload"),
                signatures=tuple(Signature.from_json(each) for each in listed),
            )
        except CallerError as error:
            raise PeerError(str(error)) from error

    def encode(self) -> bytes:
        """The envelope as canonical JSON bytes."""
        return canonical.encode(self.to_json())

    @classmethod
    def decode(cls, data: bytes, *, size_bytes_max: int) -> "Envelope":
        """The envelope that `data` is, if `data` is exactly what `encode` writes for it.

        Raises:
            PeerError: one line that says what is wrong.
        """
        return cls.from_json(canonical.decode(data, size_bytes_max=size_bytes_max, depth_max=3))


def pae(payload_type: str, payload: bytes) -> bytes:
    """Bytes that are signed: DSSE v1 pre-authentication encoding. Lengths are in bytes.

    >>> pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    type_bytes = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(type_bytes), type_bytes, len(payload), payload)


@lru_cache(maxsize=256)
def payload_type(record: str, major: int) -> str:
    """The media type of a kind of record, with its major version.

    Compare whole types for equality: another major version is then refused like another kind.

    >>> payload_type("release", 1)
    'application/vnd.relto.release.v1+json'
    """
    if not _RECORD_NAME.fullmatch(record):
        raise CallerError(f'record name "{record}" is not lower-case letters, digits and hyphens')
    if major < 1:
        raise CallerError(f"major version {major} is below 1")
    return f"application/vnd.relto.{record}.v{major}+json"


def keyid(public_key: PublicKey) -> str:
    """SHA-256 of the DER SubjectPublicKeyInfo (RFC 5280 §4.1.2.7), in lower-case hex."""
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def sign(payload_type: str, payload: bytes, signers: Sequence[Signer]) -> Envelope:
    """An envelope of `payload` with one signature by each of `signers`, in their order."""
    to_sign = pae(payload_type, payload)
    signatures = tuple(Signature(signer.keyid, signer.sign(to_sign)) for signer in signers)
    return Envelope(payload_type, payload, signatures)


def verify(envelope: Envelope, public_key: PublicKey, *, payload_type: str) -> bytes:
    """The payload, if it is of `payload_type` and `public_key` signed it.

    The caller answers for the key: that it is this party's, and held at the record's time.

    Raises:
        PeerError: another type, no signature by this key, a bad one, or a key of a refused kind.
    """
    # (1) The type is what the caller is about to read. It is signed too, see `pae`.
    if envelope.payload_type != payload_type:
        raise PeerError(f'record is of type "{envelope.payload_type}"; need "{payload_type}"')
    # (2) The signature by this key. DSSE calls keyid a hint; here it is a digest of the key, so
    #     that a signature under another keyid is not by this key or not in our format.
    expected = keyid(public_key)
    signature = next((each for each in envelope.signatures if each.keyid == expected), None)
    if signature is None:
        raise PeerError(f'no signature by key "{expected}"')
    # (3) It holds over the pre-authentication encoding.
    _verify_signature(public_key, signature.sig, pae(envelope.payload_type, envelope.payload))
    return envelope.payload


def _verify_signature(public_key: PublicKey, sig: bytes, signed: bytes) -> None:
    try:
        if isinstance(public_key, ed25519.Ed25519PublicKey):
            public_key.verify(sig, signed)
            return
        if isinstance(public_key, ec.EllipticCurvePublicKey) and isinstance(
            public_key.curve, ec.SECP256R1
        ):
            public_key.verify(sig, signed, ec.ECDSA(hashes.SHA256()))
            return
    except InvalidSignature as error:
        raise PeerError(f'bad signature by key "{keyid(public_key)}"') from error
    raise PeerError(
        f'key "{keyid(public_key)}" is neither Ed25519 nor ECDSA P-256; no other kind signs records'
    )


def _members(value: Json, keys: tuple[str, ...], *, what: str) -> Mapping[str, Json]:
    """`value`, if it is an object with exactly these keys."""
    if not isinstance(value, dict) or value.keys() != set(keys):
        raise PeerError(f"{what} is not an object with exactly the keys {', '.join(keys)}")
    return value


def _text(value: Json, *, what: str) -> str:
    if not isinstance(value, str):
        raise PeerError(f'"{what}" is not text')
    return value


def to_base64(data: bytes) -> str:
    """Standard base64 with padding (RFC 4648 §4)."""
    return base64.b64encode(data).decode("ascii")


def from_base64(value: Json, *, what: str) -> bytes:
    """Standard base64 with padding (RFC 4648 §4), in its one canonical spelling (§3.5).

    Raises PeerError for anything else; `what` is named in it.
    """
    text = _text(value, what=what)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PeerError(f'"{what}" is not standard base64') from error
    if to_base64(data) != text:
        raise PeerError(f'"{what}" is not base64 in its canonical spelling')
    return data
