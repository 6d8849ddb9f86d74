"""Making certificates: a party's CA, and the leaves it issues. Pure: key and time are arguments."""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from relto.certificates import (
    ALGORITHM,
    LEAF_ROLES,
    LIFE,
    TLS_PURPOSES,
    Identity,
    algorithm_of,
    identity_of,
)
from relto.envelope import PublicKey
from relto.errors import CallerError, PeerError
from relto.tables import quoted

__all__ = ["issue", "make_ca"]


def make_ca(
    party: str,
    *,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    exercise: bool = False,
    validity: tuple[datetime, datetime] | None = None,
    serial: int | None = None,
) -> x509.Certificate:
    """A self-signed CA of `party`. Only one for exercises takes a `validity`, which covers `now`.

    Raises:
        CallerError: a malformed party, a key of another kind, a validity that cannot be.
    """
    identity = Identity(party, "ca", None, exercise)
    _need_algorithm(key.public_key(), identity.role)
    builder = _builder(identity, key.public_key(), _span(identity, now, validity), serial)
    return (
        builder.issuer_name(_subject(identity))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def issue(
    *,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    public_key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
    role: str,
    name: str | None = None,
    now: datetime,
    validity: tuple[datetime, datetime] | None = None,
    dns_names: Sequence[str] = ("localhost",),
    serial: int | None = None,
) -> x509.Certificate:
    """A leaf by which the CA's party vouches for `public_key` in `role`; exercise as its CA is.

    `dns_names` go into a `tls` leaf alone. Only exercise leaves take a `validity`: the clock of an
    exercise may run in another year than TLS, which uses system time, so it covers `now` as well.

    Raises:
        CallerError: `ca` is no CA of ours or `ca_key` is not its key; a key of a kind that the role
            does not take; a validity that reaches beyond the CA's.
    """
    try:
        issuer = identity_of(ca)
    except PeerError as error:
        raise CallerError(f"cannot issue: {error}") from error
    if issuer.role != "ca" or ca_key.public_key() != ca.public_key():
        raise CallerError(f"cannot issue: the key given is not the CA key of {issuer.party}")
    if role not in LEAF_ROLES:
        raise CallerError(f"cannot issue for role {quoted(role)}; roles: {', '.join(LEAF_ROLES)}")
    identity = Identity(issuer.party, role, name, issuer.exercise)
    _need_algorithm(public_key, role)
    span = _span(identity, now, validity)
    if span[0] < ca.not_valid_before_utc or span[1] > ca.not_valid_after_utc:
        raise CallerError(
            f"cannot issue {identity}: its validity {_shown(*span)} reaches beyond its CA's, "
            f"{_shown(ca.not_valid_before_utc, ca.not_valid_after_utc)}; make a new CA"
        )
    builder = (
        _builder(identity, public_key, span, serial, dns_names if role == "tls" else ())
        .issuer_name(ca.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        # PDF readers want non-repudiation (contentCommitment) of whoever signs a document.
        .add_extension(_usage(sign_documents=role in ("officer", "signing")), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
    )
    if role == "tls":
        builder = builder.add_extension(x509.ExtendedKeyUsage(TLS_PURPOSES), critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def _span(
    identity: Identity, now: datetime, validity: tuple[datetime, datetime] | None
) -> tuple[datetime, datetime]:
    if now.utcoffset() is None:
        raise CallerError(f'instant "{now}": has no time zone')
    if validity is None:
        start = now.replace(microsecond=0)  # X.509 has whole seconds
        return start, start + LIFE[identity.role]
    if not identity.exercise:
        raise CallerError(f"{identity}: only certificates for exercises take a validity of choice")
    if any(t.utcoffset() is None or t.microsecond for t in validity):
        raise CallerError(f"{identity}: validity needs a time zone and whole seconds")
    if not validity[0] <= now <= validity[1]:
        raise CallerError(
            f"{identity}: validity {_shown(*validity)} does not cover the present, "
            f"{now:%Y-%m-%d}; TLS would refuse it, since it uses system time"
        )
    return validity


def _builder(
    identity: Identity,
    public_key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
    span: tuple[datetime, datetime],
    serial: int | None,
    dns_names: Sequence[str] = (),
) -> x509.CertificateBuilder:
    names = [x509.UniformResourceIdentifier(identity.uri), *(x509.DNSName(d) for d in dns_names)]
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(identity))
        .public_key(public_key)
        .serial_number(x509.random_serial_number() if serial is None else serial)
        .not_valid_before(span[0])
        .not_valid_after(span[1])
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _subject(identity: Identity) -> x509.Name:
    # For people: the SAN URI is what counts. X.520 bounds a common name to 64 characters.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(identity)[:64])])


def _usage(*, sign_certificates: bool = False, sign_documents: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=sign_documents,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _need_algorithm(public_key: PublicKey, role: str) -> None:
    if algorithm_of(public_key) != ALGORITHM[role]:
        raise CallerError(
            f'role "{role}" takes a {ALGORITHM[role]} key, got {algorithm_of(public_key)}'
        )


def _shown(start: datetime, end: datetime) -> str:
    return f"{start:%Y-%m-%d} to {end:%Y-%m-%d}"
