"""Certificates: a party's CA, the leaves it vouches for, and what makes a leaf acceptable.

One level: a party CA (self-signed, pathlen 0) issues leaves, each for one role. Who holds a leaf is
said in its single SAN URI, `relto://KOR/officer/kim`; a certificate for exercises says
`relto-exercise://` there, and so does the CA that may issue it. Pure. `relto.issuing` makes them.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID, SignatureAlgorithmOID

from relto.envelope import PublicKey
from relto.errors import CallerError, PeerError
from relto.marks import PARTY_PATTERN, is_party_code

__all__ = [
    "ALGORITHM",
    "LEAF_ROLES",
    "LIFE",
    "REMEMBERED",
    "TLS_PURPOSES",
    "Identity",
    "algorithm_of",
    "decode_certificate",
    "fingerprint",
    "identity_of",
    "spoken",
    "verify_ca",
    "verify_leaf",
]

# DESIGN §6, "Keys": how long each certificate lives, and what kind of key it holds.
LIFE = {
    "ca": timedelta(days=3650),
    "node": timedelta(days=90),
    "officer": timedelta(days=365),
    "signing": timedelta(days=365),
    "tls": timedelta(days=90),
}
ALGORITHM = {
    "ca": "P-256",
    "node": "Ed25519",
    "officer": "P-256",
    "signing": "P-256",
    "tls": "P-256",
}
LEAF_ROLES = ("node", "officer", "signing", "tls")

DER_BYTES_MAX = 8 * 1024  # a certificate of ours has about 500
REMEMBERED = 1024  # certificates whose checks are remembered: all but their time never changes
_NAME = r"(?=.{1,32}\Z)[a-z0-9]+(?:[._-][a-z0-9]+)*"  # it is a file name too, never `..`
_URI = re.compile(
    rf"(?P<scheme>relto|relto-exercise)://(?P<party>{PARTY_PATTERN})/"
    rf"(?:(?P<role>ca|node|signing|tls)|officer/(?P<name>{_NAME}))",
    re.ASCII,
)
_FINGERPRINT = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
TLS_PURPOSES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
_CHECKED = frozenset(  # the extensions that the checks below read; another that is critical refuses
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    }
)

_E = TypeVar("_E", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a certificate speaks for. Only officers have a `name`.

    >>> Identity("KOR", "officer", "kim", exercise=False).uri
    'relto://KOR/officer/kim'
    >>> str(Identity("KOR", "node", None, exercise=True))
    'EXERCISE KOR node'
    """

    party: str
    role: str
    name: str | None
    exercise: bool

    def __post_init__(self) -> None:
        if not is_party_code(self.party):
            raise CallerError(
                f"party {_quoted(self.party)}: want 1 to 16 capital letters, digits and _, like KOR"
            )
        if self.role not in LIFE:
            raise CallerError(f"unknown role {_quoted(self.role)}; roles: {', '.join(LIFE)}")
        if (self.name is not None) != (self.role == "officer"):
            raise CallerError(f"role {_quoted(self.role)}: a name is for officers, who need one")
        if self.name is not None and not re.fullmatch(_NAME, self.name, re.ASCII):
            raise CallerError(
                f"officer {_quoted(self.name)}: want at most 32 small letters and digits, "
                "single . _ - between them"
            )

    @property
    def uri(self) -> str:
        """The SAN URI that says so."""
        scheme = "relto-exercise" if self.exercise else "relto"
        return f"{scheme}://{self.party}/{self.role}" + (f"/{self.name}" if self.name else "")

    def __str__(self) -> str:
        words = ["EXERCISE"] if self.exercise else []
        return " ".join([*words, self.party, self.role, *([self.name] if self.name else [])])


def verify_leaf(leaf: bytes, *, ca: bytes, party: str, role: str, at: datetime) -> x509.Certificate:
    """The leaf, once it holds that the CA vouches for it as `role` of `party` at the instant `at`.

    Both are DER. The caller knows the rest: that this CA is the party's, by its fingerprint in the
    agreement; that nothing revokes the leaf; for `officer`, that `identity_of` names the right one.

    Raises:
        PeerError: it does not hold; the text says why.
        CallerError: `role`, `party` or `at` is malformed.
    """
    if role not in LEAF_ROLES:
        raise CallerError(f"unknown role {_quoted(role)}; roles: {', '.join(LEAF_ROLES)}")
    # (1) The CA is a CA, is this party's, signed itself and is valid at that time.
    verify_ca(ca, party=party, at=at)
    certificate = _vouched(leaf, ca, party, role)
    # (8) It is valid at that time.
    _check_time(certificate, at, "certificate")
    return certificate


@lru_cache(maxsize=REMEMBERED)
def _vouched(leaf: bytes, ca: bytes, party: str, role: str) -> x509.Certificate:
    """Steps (2) to (7) of `verify_leaf`, which no time changes. What is refused is not kept."""
    issuer = decode_certificate(ca)
    # (2) Its bytes are a certificate, with no critical extension that goes unchecked here.
    certificate = decode_certificate(leaf)
    what = f"certificate {_quoted(_common_name(certificate))}"
    _check_critical(certificate, what)
    # (3) That CA signed it.
    _check_signed(certificate, issuer, what, f"the CA of {party}")
    # (4) It is no CA, so that nobody vouches in the party's stead.
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise PeerError(f"{what}: is a CA, want a leaf")
    # (5) It speaks for that party, in that role.
    identity = identity_of(certificate)
    if identity.party != party:
        raise PeerError(f"{what}: speaks for {identity.party}, want {party}")
    if identity.role != role:
        raise PeerError(f'{what}: role is "{identity.role}", want "{role}"')
    # (6) An exercise never mixes with the real.
    if identity.exercise != identity_of(issuer).exercise:
        kinds = ("real", "exercise")
        raise PeerError(
            f"{what}: is for {kinds[identity.exercise]} use, its CA for "
            f"{kinds[not identity.exercise]} use"
        )
    # (7) Its key is of the kind that the role takes, and may be used for it and nothing else.
    _check_key(certificate, role, what)
    return certificate


def verify_ca(ca: bytes, *, party: str, at: datetime) -> x509.Certificate:
    """The CA, once it holds that it is a self-signed CA of `party`, valid at `at`.

    Anyone can make one that passes; what makes it the party's is its fingerprint, which the
    agreement names and which people confirm by voice at the first import.

    Raises:
        PeerError: it does not hold; the text says why.
        CallerError: `party` or `at` is malformed.
    """
    if at.utcoffset() is None:
        raise CallerError(f'instant "{at}": has no time zone')
    certificate = _sound_ca(ca, party)
    _check_time(certificate, at, "CA")
    return certificate


@lru_cache(maxsize=REMEMBERED)
def _sound_ca(ca: bytes, party: str) -> x509.Certificate:
    """All of `verify_ca` but the time. What is refused is not kept."""
    wanted = Identity(party, "ca", None, exercise=False)
    certificate = decode_certificate(ca)
    what = f"CA {_quoted(_common_name(certificate))}"
    _check_critical(certificate, what)
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise PeerError(f"{what}: is not a CA")
    if constraints.path_length != 0:
        raise PeerError(f"{what}: path length is {constraints.path_length}, want 0")
    usage = _extension(certificate, x509.KeyUsage)
    if usage is None or not usage.key_cert_sign:
        raise PeerError(f"{what}: its key may not sign certificates")
    identity = identity_of(certificate)
    if identity.role != "ca":
        raise PeerError(f'{what}: role is "{identity.role}", want "ca"')
    if identity.party != wanted.party:
        raise PeerError(f"{what}: is the CA of {identity.party}, want {party}")
    if algorithm_of(certificate.public_key()) != ALGORITHM["ca"]:
        raise PeerError(f"{what}: key is not {ALGORITHM['ca']}")
    _check_signed(certificate, certificate, what, "itself")
    return certificate


@lru_cache(maxsize=REMEMBERED)
def decode_certificate(der: bytes) -> x509.Certificate:
    """The certificate in `der`, with every part of it readable. Nothing is verified yet.

    Raises:
        PeerError: these bytes are not one, or it holds what nobody can read.
    """
    if len(der) > DER_BYTES_MAX:
        raise PeerError(f"certificate has {len(der)} bytes, at most {DER_BYTES_MAX} are read")
    try:
        certificate = x509.load_der_x509_certificate(der)
        # The library reads these only when asked: ask now, so that nothing raises further in.
        _ = (certificate.subject, certificate.issuer, certificate.serial_number)
        _ = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
        _ = (certificate.extensions, certificate.public_key())
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
        CryptographyDeprecationWarning,  # under `-W error`: what the library will refuse soon
    ) as error:
        raise PeerError(f"not a certificate: {_quoted(str(error))}") from error
    if certificate.serial_number <= 0:  # RFC 5280 §4.1.2.2
        raise PeerError(f'certificate has the serial number "{certificate.serial_number}"')
    # The library passes over a count of unused bits before the signature, where DER has 0: one
    # certificate would have several fingerprints.
    if not der.endswith(b"\0" + certificate.signature):
        raise PeerError("not a certificate: its signature is not in whole bytes")
    return certificate


def identity_of(cert: x509.Certificate) -> Identity:
    """Who the certificate says it speaks for; whether that is so, `verify_leaf` knows.

    Raises:
        PeerError: its SAN is not exactly one `relto://` or `relto-exercise://` URI; beside which a
            `tls` leaf may have DNS names and IP addresses.
    """
    what = f"certificate {_quoted(_common_name(cert))}"
    names = list(_extension(cert, x509.SubjectAlternativeName) or ())
    uris = [n.value for n in names if isinstance(n, x509.UniformResourceIdentifier)]
    if len(uris) != 1:
        raise PeerError(f"{what}: need exactly one SAN URI, got {len(uris)}")
    match = _URI.fullmatch(uris[0])
    if match is None:
        raise PeerError(f"{what}: SAN {_quoted(uris[0])} is not like relto://KOR/officer/kim")
    role = match["role"] or "officer"
    beside = (x509.DNSName, x509.IPAddress) if role == "tls" else ()
    for general in names:
        if not isinstance(general, (x509.UniformResourceIdentifier, *beside)):
            raise PeerError(f"{what}: a SAN {type(general).__name__} beside its URI")
    return Identity(match["party"], role, match["name"], match["scheme"] == "relto-exercise")


def fingerprint(cert: x509.Certificate) -> str:
    """`sha256:` and 64 hex digits of SHA-256 over the DER: what an agreement's `ca` holds.

    It names these bytes. A leaf with an ECDSA signature has a twin (r, n-s) with another
    fingerprint, so whoever revokes goes by its `keyid`.
    """
    return "sha256:" + cert.fingerprint(hashes.SHA256()).hex()


def spoken(fingerprint: str) -> str:
    """The 64 digits in 16 groups of four, for two people to compare over the telephone.

    >>> spoken("sha256:" + "0123456789abcdef" * 4)[:24]
    '0123 4567 89ab cdef 0123'

    Raises:
        CallerError: it is not a fingerprint.
    """
    match = _FINGERPRINT.fullmatch(fingerprint)
    if match is None:
        raise CallerError(f'fingerprint {_quoted(fingerprint)}: want "sha256:" and 64 hex digits')
    return " ".join(match[1][i : i + 4] for i in range(0, 64, 4))


def algorithm_of(public_key: PublicKey) -> str:
    """`P-256`, `Ed25519`, or the library's word for a kind that no role takes."""
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return "Ed25519"
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        curve = public_key.curve
        return "P-256" if isinstance(curve, ec.SECP256R1) else curve.name
    return type(public_key).__name__.removesuffix("PublicKey")


def _check_critical(certificate: x509.Certificate, what: str) -> None:
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _CHECKED:
            raise PeerError(
                f"{what}: critical extension {extension.oid.dotted_string} is not understood"
            )


def _check_signed(
    certificate: x509.Certificate, issuer: x509.Certificate, what: str, by: str
) -> None:
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise PeerError(f"{what}: not signed with ECDSA and SHA-256")
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise PeerError(f"{what}: not signed by {by}") from error


def _check_key(certificate: x509.Certificate, role: str, what: str) -> None:
    algorithm = algorithm_of(certificate.public_key())
    if algorithm != ALGORITHM[role]:
        raise PeerError(f'{what}: key is {algorithm}, role "{role}" takes {ALGORITHM[role]}')
    usage = _extension(certificate, x509.KeyUsage)
    if usage is None or not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise PeerError(f"{what}: key usage is not that of a leaf that signs")
    purposes = set(_extension(certificate, x509.ExtendedKeyUsage) or ())
    if role == "tls":
        if not purposes.issuperset(TLS_PURPOSES):
            raise PeerError(f"{what}: is not for both ends of TLS (serverAuth, clientAuth)")
    elif not purposes.isdisjoint({*TLS_PURPOSES, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}):
        raise PeerError(f'{what}: is for TLS, which role "{role}" is not')


def _check_time(certificate: x509.Certificate, at: datetime, what: str) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if start <= at <= end:
        return
    what = f"{what} {_quoted(_common_name(certificate))}"
    if at < start:
        raise PeerError(f"{what}: not valid before {start:%Y-%m-%dT%H:%M:%SZ}")
    raise PeerError(f"{what}: expired at {end:%Y-%m-%dT%H:%M:%SZ}")


def _extension(certificate: x509.Certificate, kind: type[_E]) -> _E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _quoted(text: str) -> str:
    """`text` in quotes, on one line whatever someone put in it, and cut where it is long."""
    plain = text if len(text) <= 80 else text[:80] + "…"
    return '"' + "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in plain) + '"'
