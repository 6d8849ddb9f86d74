"""A good certificate passes; thirty kinds of bad ones are refused, each with its own reason."""

import ssl
import subprocess
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID as Purpose
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from relto.envelope import keyid
from relto.errors import CallerError, PeerError
from relto.keys import (
    Identity,
    decode_certificate,
    fingerprint,
    identity_of,
    issue,
    make_ca,
    spoken,
    verify_ca,
    verify_leaf,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SPAN = (datetime(2014, 1, 1, tzinfo=UTC), datetime(2027, 12, 31, 23, 59, 59, tzinfo=UTC))
CA_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CA = make_ca("KOR", key=CA_KEY, now=NOW)
EXERCISE_CA = make_ca("KOR", key=CA_KEY, now=NOW, exercise=True, validity=SPAN)
SAME_NAME = make_ca("KOR", key=OTHER_KEY, now=NOW)
NEEDS_OPENSSL = pytest.mark.skipif(
    which("openssl") is None, reason="openssl is not installed: no second opinion on certificates"
)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def leaf(role: str, ca: x509.Certificate = CA, **more: Any) -> x509.Certificate:
    key = ED25519 if role == "node" else P256
    name = "kim" if role == "officer" else None
    given_: dict[str, Any] = {"name": name, "now": NOW, "public_key": key.public_key(), **more}
    return issue(ca=ca, ca_key=CA_KEY, role=role, **given_)


def check(certificate: x509.Certificate | bytes, role: str, **more: Any) -> x509.Certificate:
    given_: dict[str, Any] = {"ca": der(CA), "party": "KOR", "at": NOW, **more}
    bytes_ = certificate if isinstance(certificate, bytes) else der(certificate)
    return verify_leaf(bytes_, role=role, **given_)


def usage(**on: bool) -> x509.KeyUsage:
    off = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(**{**off, **on})


URI = x509.UniformResourceIdentifier
SIGNS = usage(digital_signature=True)
CERTIFIES = usage(key_cert_sign=True, crl_sign=True)
BOTH = x509.ExtendedKeyUsage([Purpose.SERVER_AUTH, Purpose.CLIENT_AUTH])
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
NO_CA = x509.BasicConstraints(ca=False, path_length=None)
CONSTRAINED = x509.NameConstraints([x509.DNSName("kor.example")], None)


def forge(
    san: str | list[x509.GeneralName] | None = "relto://KOR/node",
    *,
    key: Any = ED25519,
    usage: x509.KeyUsage | None = SIGNS,
    basic: x509.BasicConstraints | None = NO_CA,
    eku: x509.ExtendedKeyUsage | None = None,
    critical: x509.ExtensionType | None = None,
    issuer: str = "KOR ca",
    signed_by: Any = CA_KEY,
    hash_: Any = None,
    not_before: datetime = NOW,
    not_after: datetime = NOW + timedelta(days=90),
    subject: str = "KOR node",
) -> bytes:
    """What `issue` would make, with the one thing changed that a case is about."""

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    if isinstance(san, str):
        san = [URI(san)]
    if san is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(san), critical=False)
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    if basic is not None:
        builder = builder.add_extension(basic, critical=True)
    if eku is not None:
        builder = builder.add_extension(eku, critical=False)
    if critical is not None:
        builder = builder.add_extension(critical, critical=True)
    if hash_ is None and not isinstance(signed_by, ed25519.Ed25519PrivateKey):
        hash_ = hashes.SHA256()
    return der(builder.sign(signed_by, hash_))


def forge_ca(**changes: Any) -> bytes:
    given_: dict[str, Any] = {
        "san": "relto://KOR/ca",
        "key": CA_KEY,
        "usage": CERTIFIES,
        "basic": x509.BasicConstraints(ca=True, path_length=0),
        "subject": "KOR ca",
        "not_after": NOW + timedelta(days=3650),
        **changes,
    }
    return forge(**given_)


# --- what is good --------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["node", "tls", "officer", "signing"])
@pytest.mark.parametrize("ca", [CA, EXERCISE_CA], ids=["real", "exercise"])
def test_an_issued_leaf_holds_for_its_role(role: str, ca: x509.Certificate) -> None:
    certificate = leaf(role, ca)
    assert check(certificate, role, ca=der(ca)) == certificate


def test_what_the_forger_makes_is_good_unless_a_case_changes_it() -> None:
    check(forge(), "node")
    check(forge("relto://KOR/tls", key=P256, eku=BOTH), "tls")
    check(forge("relto://KOR/officer/kim", key=P256), "officer")
    verify_ca(forge_ca(), party="KOR", at=NOW)
    check(forge(), "node", ca=forge_ca())


@pytest.mark.parametrize(
    ("role", "days"), [("node", 90), ("tls", 90), ("officer", 365), ("signing", 365)]
)
def test_a_leaf_is_valid_from_its_first_to_its_last_second(role: str, days: int) -> None:
    certificate = leaf(role, now=NOW + timedelta(microseconds=999_999))
    end = NOW + timedelta(days=days)
    check(certificate, role, at=NOW)
    check(certificate, role, at=end)
    with pytest.raises(PeerError, match="not valid before 2026-03-01T12:00:00Z"):
        check(certificate, role, at=NOW - SECOND)
    with pytest.raises(PeerError, match=f"expired at {end:%Y-%m-%dT%H:%M:%SZ}"):
        check(certificate, role, at=end + SECOND)


def test_an_instant_in_another_time_zone_is_the_same_instant() -> None:
    seoul = timezone(timedelta(hours=9))
    check(leaf("node"), "node", at=NOW.astimezone(seoul))
    with pytest.raises(PeerError, match="not valid before"):
        check(leaf("node"), "node", at=(NOW - SECOND).astimezone(seoul))


def test_a_ca_lives_ten_years() -> None:
    assert CA.not_valid_after_utc - CA.not_valid_before_utc == timedelta(days=3650)


@pytest.mark.parametrize("role", ["node", "tls", "officer", "signing"])
def test_an_exercise_leaf_holds_in_2014_and_today(role: str) -> None:
    certificate = leaf(role, EXERCISE_CA, validity=SPAN)
    for at in (SPAN[0], datetime(2014, 12, 29, tzinfo=UTC), NOW, SPAN[1]):
        check(certificate, role, ca=der(EXERCISE_CA), at=at)


@pytest.mark.parametrize(
    ("certificate", "uri", "subject"),
    [
        (CA, "relto://KOR/ca", "KOR ca"),
        (EXERCISE_CA, "relto-exercise://KOR/ca", "EXERCISE KOR ca"),
        (leaf("node"), "relto://KOR/node", "KOR node"),
        (leaf("node", EXERCISE_CA), "relto-exercise://KOR/node", "EXERCISE KOR node"),
        (leaf("officer"), "relto://KOR/officer/kim", "KOR officer kim"),
        (leaf("signing"), "relto://KOR/signing", "KOR signing"),
        (leaf("tls"), "relto://KOR/tls", "KOR tls"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_who_it_is_stands_in_the_san_and_readable_in_the_subject(
    certificate: x509.Certificate, uri: str, subject: str
) -> None:
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(URI) == [uri]
    assert certificate.subject.rfc4514_string() == f"CN={subject}"
    identity = identity_of(certificate)
    assert (identity.uri, str(identity)) == (uri, subject)


def test_an_officer_is_named_and_nobody_else_is() -> None:
    assert identity_of(leaf("officer")) == Identity("KOR", "officer", "kim", False)
    assert identity_of(leaf("node", EXERCISE_CA)) == Identity("KOR", "node", None, True)


def test_only_a_tls_leaf_has_dns_names() -> None:
    kinds = {}
    for role in ("node", "tls", "officer", "signing"):
        extension = leaf(role).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        kinds[role] = extension.value.get_values_for_type(x509.DNSName)
    assert kinds == {"node": [], "tls": ["localhost"], "officer": [], "signing": []}
    hub = leaf("tls", dns_names=("hub.example", "hub"))
    check(hub, "tls")


def test_a_serial_may_be_given() -> None:
    assert leaf("node", serial=42).serial_number == 42
    assert leaf("node").serial_number != leaf("node").serial_number


# --- what is bad ---------------------------------------------------------------------------------

BAD_LEAVES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "expired": (
        "node",
        lambda: forge(not_before=NOW - 2 * SECOND, not_after=NOW - SECOND),
        "expired",
    ),
    "not yet valid": ("node", lambda: forge(not_before=NOW + SECOND), "not valid before"),
    "other party's CA": (
        "node",
        lambda: forge(issuer="USA ca", signed_by=OTHER_KEY),
        "not signed by the CA",
    ),
    "same-name other CA": (
        "node",
        lambda: forge(signed_by=OTHER_KEY),
        "not signed by the CA of KOR",
    ),
    "issuer of another name": (
        "node",
        lambda: forge(issuer="KOR Ca"),
        "not signed by the CA of KOR",
    ),
    "self-signed": (
        "node",
        lambda: forge(issuer="KOR node", signed_by=ED25519),
        "not signed with ECDSA",
    ),
    "signed by a leaf": (
        "node",
        lambda: forge(issuer="KOR officer kim", signed_by=P256),
        "not signed by the CA",
    ),
    "SHA-384": ("node", lambda: forge(hash_=hashes.SHA384()), "not signed with ECDSA and SHA-256"),
    "RSA signature": ("node", lambda: forge(signed_by=RSA), "not signed with ECDSA"),
    "wrong party": ("node", lambda: forge("relto://USA/node"), "speaks for USA, want KOR"),
    "wrong role": (
        "officer",
        lambda: forge("relto://KOR/signing", key=P256),
        'role is "signing", want "officer"',
    ),
    "node as tls": ("tls", lambda: forge(), 'role is "node", want "tls"'),
    "the CA as leaf": ("signing", lambda: der(CA), "is a CA, want a leaf"),
    "a leaf that is a CA": (
        "node",
        lambda: forge(basic=x509.BasicConstraints(ca=True, path_length=0)),
        "is a CA, want a leaf",
    ),
    "role ca, no CA": ("node", lambda: forge("relto://KOR/ca", key=P256), 'role is "ca"'),
    "exercise leaf, real CA": (
        "node",
        lambda: forge("relto-exercise://KOR/node"),
        "is for exercise use, its CA for real",
    ),
    "P-256 node": ("node", lambda: forge(key=P256), 'key is P-256, role "node" takes Ed25519'),
    "Ed25519 tls": (
        "tls",
        lambda: forge("relto://KOR/tls", eku=BOTH),
        'key is Ed25519, role "tls" takes P-256',
    ),
    "P-384 officer": (
        "officer",
        lambda: forge("relto://KOR/officer/kim", key=P384),
        "key is secp384r1",
    ),
    "RSA signing": ("signing", lambda: forge("relto://KOR/signing", key=RSA), "key is RSA"),
    "no SAN": ("node", lambda: forge(None), "exactly one SAN URI, got 0"),
    "empty SAN": ("node", lambda: forge([]), "exactly one SAN URI, got 0"),
    "DNS SAN only": ("tls", lambda: forge([x509.DNSName("localhost")], key=P256), "got 0"),
    "two SAN URIs": (
        "node",
        lambda: forge([URI("relto://KOR/node"), URI("relto://USA/node")]),
        "got 2",
    ),
    "the same SAN twice": ("node", lambda: forge([URI("relto://KOR/node")] * 2), "got 2"),
    "DNS name on a node": (
        "node",
        lambda: forge([URI("relto://KOR/node"), x509.DNSName("a")]),
        "a SAN DNSName",
    ),
    "mail address on tls": (
        "tls",
        lambda: forge([URI("relto://KOR/tls"), x509.RFC822Name("a@b")], key=P256, eku=BOTH),
        "a SAN RFC822Name",
    ),
    "no key usage": ("node", lambda: forge(usage=None), "key usage"),
    "usage without signing": ("node", lambda: forge(usage=usage(key_agreement=True)), "key usage"),
    "usage with certSign": (
        "node",
        lambda: forge(usage=usage(digital_signature=True, key_cert_sign=True)),
        "key usage",
    ),
    "usage with cRLSign": (
        "node",
        lambda: forge(usage=usage(digital_signature=True, crl_sign=True)),
        "key usage",
    ),
    "tls without purposes": ("tls", lambda: forge("relto://KOR/tls", key=P256), "both ends of TLS"),
    "tls for servers only": (
        "tls",
        lambda: forge(
            "relto://KOR/tls", key=P256, eku=x509.ExtendedKeyUsage([Purpose.SERVER_AUTH])
        ),
        "both ends of TLS",
    ),
    "tls for any purpose": (
        "tls",
        lambda: forge(
            "relto://KOR/tls", key=P256, eku=x509.ExtendedKeyUsage([Purpose.ANY_EXTENDED_KEY_USAGE])
        ),
        "both ends of TLS",
    ),
    "officer for TLS": (
        "officer",
        lambda: forge("relto://KOR/officer/kim", key=P256, eku=BOTH),
        "is for TLS",
    ),
    "node for any purpose": (
        "node",
        lambda: forge(eku=x509.ExtendedKeyUsage([Purpose.ANY_EXTENDED_KEY_USAGE])),
        "is for TLS",
    ),
    "unknown critical extension": (
        "node",
        lambda: forge(critical=UNKNOWN),
        r"1\.3\.6\.1\.4\.1\.99999\.1 is not understood",
    ),
    "critical name constraints": ("node", lambda: forge(critical=CONSTRAINED), "is not understood"),
    "no bytes": ("node", lambda: b"", "not a certificate"),
    "PEM for DER": ("node", lambda: leaf("node").public_bytes(Encoding.PEM), "not a certificate"),
    "truncated": ("node", lambda: forge()[:-1], "not a certificate"),
    "trailing byte": ("node", lambda: forge() + b"\0", "not a certificate"),
    "too large": ("node", lambda: b"\x30" * 8193, "has 8193 bytes, at most 8192"),
}


@pytest.mark.parametrize("case", BAD_LEAVES)
def test_a_bad_leaf_is_refused_in_one_line_that_says_why(case: str) -> None:
    role, make, why = BAD_LEAVES[case]
    with pytest.raises(PeerError, match=why) as refused:
        check(make(), role)
    assert "\n" not in str(refused.value)


def test_a_real_leaf_is_refused_under_an_exercise_ca() -> None:
    forged = forge(issuer="EXERCISE KOR ca")
    with pytest.raises(PeerError, match="is for real use, its CA for exercise use"):
        check(forged, "node", ca=der(EXERCISE_CA))


def test_a_leaf_of_a_real_ca_is_refused_under_the_exercise_ca_of_the_same_key() -> None:
    with pytest.raises(PeerError, match="not signed by the CA of KOR"):
        check(leaf("node"), "node", ca=der(EXERCISE_CA))


@pytest.mark.parametrize(
    "uri",
    [
        "relto://KOR",
        "relto://KOR/",
        "relto://KOR/node/",
        "relto://KOR/node/kim",
        "relto://KOR/node?x",
        "relto://KOR/node#x",
        "relto://KOR/node\n",
        "relto://KOR/NODE",
        "relto://KOR/admin",
        "relto://kor/node",
        "relto://_K/node",
        "relto://KOR:443/node",
        "relto://a@KOR/node",
        "relto:///node",
        "RELTO://KOR/node",
        "relto-drill://KOR/node",
        "https://KOR/node",
        " relto://KOR/node",
        "relto://KOR/officer",
        "relto://KOR/officer/",
        "relto://KOR/officer/Kim",
        "relto://KOR/officer/kim/lee",
        "relto://KOR/officer/../ca",
        "relto://KOR/officer/..",
        "relto://KOR/officer/kim%2f",
        "relto://KOR/officer/kim.",
        "relto://KOR/officer/" + "k" * 33,
        "relto://KOR/node\x1b[2Jpaid" + "A" * 300,
    ],
)
def test_a_san_that_is_not_exactly_ours_is_refused(uri: str) -> None:
    with pytest.raises(PeerError, match="is not like relto://KOR/officer/kim") as refused:
        check(forge(uri), "node")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 250


BAD_CAS: dict[str, tuple[Callable[[], bytes], str]] = {
    "no basic constraints": (lambda: forge_ca(basic=None), "is not a CA"),
    "not a CA": (lambda: forge_ca(basic=x509.BasicConstraints(False, None)), "is not a CA"),
    "a leaf": (lambda: der(leaf("signing")), "is not a CA"),
    "no path length": (
        lambda: forge_ca(basic=x509.BasicConstraints(True, None)),
        "path length is None",
    ),
    "path length 1": (
        lambda: forge_ca(basic=x509.BasicConstraints(True, 1)),
        "path length is 1, want 0",
    ),
    "no key usage": (lambda: forge_ca(usage=None), "may not sign certificates"),
    "usage of a leaf": (lambda: forge_ca(usage=SIGNS), "may not sign certificates"),
    "another party's": (lambda: forge_ca(san="relto://USA/ca"), "is the CA of USA, want KOR"),
    "role of a leaf": (lambda: forge_ca(san="relto://KOR/signing"), 'role is "signing", want "ca"'),
    "no SAN": (lambda: forge_ca(san=None), "exactly one SAN URI, got 0"),
    "DNS name": (lambda: forge_ca(san=[URI("relto://KOR/ca"), x509.DNSName("a")]), "a SAN DNSName"),
    "P-384": (lambda: forge_ca(key=P384, signed_by=P384), "key is not P-256"),
    "RSA": (lambda: forge_ca(key=RSA, signed_by=RSA), "key is not P-256"),
    "Ed25519": (lambda: forge_ca(key=ED25519, signed_by=ED25519), "key is not P-256"),
    "SHA-512": (lambda: forge_ca(hash_=hashes.SHA512()), "not signed with ECDSA and SHA-256"),
    "an intermediate": (
        lambda: forge_ca(issuer="ROOT", signed_by=OTHER_KEY),
        "not signed by itself",
    ),
    "signed by another": (lambda: forge_ca(signed_by=OTHER_KEY), "not signed by itself"),
    "expired": (lambda: forge_ca(not_before=NOW - 2 * SECOND, not_after=NOW - SECOND), "expired"),
    "not yet valid": (lambda: forge_ca(not_before=NOW + SECOND), "not valid before"),
    "unknown critical extension": (lambda: forge_ca(critical=UNKNOWN), "is not understood"),
    "critical name constraints": (lambda: forge_ca(critical=CONSTRAINED), "is not understood"),
    "no bytes": (lambda: b"", "not a certificate"),
}


@pytest.mark.parametrize("case", BAD_CAS)
def test_a_good_leaf_is_refused_under_a_bad_ca(case: str) -> None:
    make, why = BAD_CAS[case]
    with pytest.raises(PeerError, match=why):
        check(forge(), "node", ca=make())
    with pytest.raises(PeerError, match=why):
        verify_ca(make(), party="KOR", at=NOW)


def test_no_flipped_bit_passes() -> None:
    good = forge()
    for position, byte in enumerate(good):
        for bit in (1, 2, 128):  # the library alone takes a signature with 1 or 2 unused bits
            bad = good[:position] + bytes([byte ^ bit]) + good[position + 1 :]
            with pytest.raises(PeerError):
                check(bad, "node")


@pytest.mark.parametrize("serial", [b"\x87", b"\x00"], ids=["negative", "zero"])
def test_a_serial_number_that_is_not_positive_is_refused(serial: bytes) -> None:
    good = forge()
    bad = good.replace(b"\x02\x01\x07", b"\x02\x01" + serial, 1)
    assert bad != good
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all that the library does about it today
        with pytest.raises(PeerError, match="has the serial number"):
            decode_certificate(bad)


def test_a_signature_with_unused_bits_is_refused() -> None:
    """The library reads it as the same signature, so it would give a second fingerprint."""
    good = next(der for der in iter(forge, b"") if der[-1] & 1 == 0)
    position = len(good) - len(decode_certificate(good).signature) - 1
    bad = good[:position] + b"\x01" + good[position + 1 :]
    twin = x509.load_der_x509_certificate(bad)
    twin.verify_directly_issued_by(CA)
    assert fingerprint(twin) != fingerprint(decode_certificate(good))
    with pytest.raises(PeerError, match="its signature is not in whole bytes"):
        check(bad, "node")


@given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda tail: forge_prefix() + tail))
def test_any_bytes_are_refused_with_a_peer_error(data: bytes) -> None:
    with pytest.raises(PeerError):
        decode_certificate(data)


def forge_prefix() -> bytes:
    return der(CA)[:200]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"role": "ca"}, 'unknown role "ca"'),
        ({"role": "boss"}, 'unknown role "boss"'),
        ({"party": "kor"}, "1 to 16 capital letters"),
        ({"party": ""}, "1 to 16 capital letters"),
        ({"at": NOW.replace(tzinfo=None)}, "has no time zone"),
    ],
)
def test_a_malformed_question_is_the_callers_mistake(more: dict[str, Any], why: str) -> None:
    with pytest.raises(CallerError, match=why):
        check(leaf("node"), **{"role": "node", **more})


# --- what is not issued --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "more", "why"),
    [
        ("ca", {}, 'cannot issue for role "ca"'),
        ("boss", {}, 'cannot issue for role "boss"'),
        ("officer", {"name": None}, "a name is for officers"),
        ("node", {"name": "kim"}, "a name is for officers"),
        ("officer", {"name": "Kim"}, "want at most 32 small letters"),
        ("officer", {"name": "../ca"}, "want at most 32 small letters"),
        ("officer", {"name": ""}, "want at most 32 small letters"),
        ("officer", {"name": "kim\n"}, "want at most 32 small letters"),
        ("officer", {"name": "k" * 33}, "want at most 32 small letters"),
        ("node", {"public_key": P256.public_key()}, 'role "node" takes a Ed25519 key, got P-256'),
        ("tls", {"public_key": ED25519.public_key()}, 'role "tls" takes a P-256 key, got Ed25519'),
        ("officer", {"public_key": P384.public_key()}, "got secp384r1"),
        ("signing", {"public_key": RSA.public_key()}, "got RSA"),
        ("node", {"validity": SPAN}, "only certificates for exercises take a validity"),
        ("node", {"now": NOW.replace(tzinfo=None)}, "has no time zone"),
        ("node", {"now": NOW - SECOND}, "reaches beyond its CA's"),
        ("node", {"now": NOW + timedelta(days=3561)}, "reaches beyond its CA's"),
    ],
)
def test_what_would_not_verify_is_not_issued(role: str, more: dict[str, Any], why: str) -> None:
    with pytest.raises(CallerError, match=why):
        leaf(role, **more)


@pytest.mark.parametrize(
    ("validity", "why"),
    [
        ((SPAN[0], NOW - SECOND), "does not cover the present"),
        ((NOW + SECOND, SPAN[1]), "does not cover the present"),
        ((SPAN[1], SPAN[0]), "does not cover the present"),
        ((SPAN[0].replace(tzinfo=None), SPAN[1]), "needs a time zone"),
        ((SPAN[0].replace(microsecond=1), SPAN[1]), "whole seconds"),
        ((SPAN[0] - SECOND, SPAN[1]), "reaches beyond its CA's"),
        ((SPAN[0], SPAN[1] + SECOND), "reaches beyond its CA's"),
    ],
)
def test_an_exercise_leaf_must_hold_today_and_within_its_ca(
    validity: tuple[datetime, datetime], why: str
) -> None:
    with pytest.raises(CallerError, match=why):
        leaf("node", EXERCISE_CA, validity=validity)


@pytest.mark.parametrize("party", ["", "_K", "kor", "KOR ", "K-R", "KOR\n", "A" * 17, "대한민국"])
def test_a_ca_is_not_made_for_a_malformed_party(party: str) -> None:
    with pytest.raises(CallerError, match="1 to 16 capital letters"):
        make_ca(party, key=CA_KEY, now=NOW)


def test_a_ca_is_not_made_from_another_kind_of_key_or_for_a_span_of_choice() -> None:
    with pytest.raises(CallerError, match='role "ca" takes a P-256 key, got secp384r1'):
        make_ca("KOR", key=P384, now=NOW)
    with pytest.raises(CallerError, match="only certificates for exercises"):
        make_ca("KOR", key=CA_KEY, now=NOW, validity=SPAN)


def test_only_a_ca_issues_and_only_with_its_key() -> None:
    for ca, key in ((CA, OTHER_KEY), (SAME_NAME, CA_KEY), (leaf("signing"), P256)):
        with pytest.raises(CallerError, match="not the CA key of KOR"):
            issue(ca=ca, ca_key=key, public_key=P256.public_key(), role="tls", now=NOW)
    nameless = decode_certificate(forge_ca(san=None))
    with pytest.raises(CallerError, match=r"cannot issue: .* exactly one SAN URI"):
        issue(ca=nameless, ca_key=CA_KEY, public_key=P256.public_key(), role="tls", now=NOW)


# --- names for bytes -----------------------------------------------------------------------------


def test_a_fingerprint_is_spoken_in_sixteen_groups_of_four() -> None:
    text = "sha256:" + "0123456789abcdef" * 4
    groups = spoken(text).split(" ")
    assert groups == ["0123", "4567", "89ab", "cdef"] * 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "0" * 64,
        "sha256:" + "0" * 63,
        "sha256:" + "A" * 64,
        "sha256:" + "0" * 64 + "\n",
    ],
)
def test_what_is_no_fingerprint_is_not_spoken(text: str) -> None:
    with pytest.raises(CallerError, match=r"want .sha256:. and 64 hex digits"):
        spoken(text)


def test_two_certificates_of_one_key_have_one_keyid_and_two_fingerprints() -> None:
    assert keyid(CA.public_key()) == keyid(EXERCISE_CA.public_key()) != keyid(P256.public_key())
    assert fingerprint(CA) != fingerprint(EXERCISE_CA)


# --- second opinions -----------------------------------------------------------------------------


def openssl(*arguments: str | Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["openssl", *arguments], input=data, capture_output=True, timeout=20)


@NEEDS_OPENSSL
@pytest.mark.parametrize("role", ["node", "tls", "officer", "signing"])
def test_openssl_verifies_what_is_issued_and_only_in_its_time(role: str, tmp_path: Path) -> None:
    ca, certificate = tmp_path / "ca.crt", tmp_path / "leaf.crt"
    ca.write_bytes(EXERCISE_CA.public_bytes(Encoding.PEM))
    certificate.write_bytes(leaf(role, EXERCISE_CA, validity=SPAN).public_bytes(Encoding.PEM))

    def verdict(at: datetime) -> int:
        seconds = str(int(at.timestamp()))
        options = ("-x509_strict", "-attime", seconds, "-CAfile", ca)
        return openssl("verify", *options, certificate).returncode

    # OpenSSL counts the last second as expired already; RFC 5280 §4.1.2.5 and we count it in.
    assert [verdict(at) for at in (SPAN[0], NOW, SPAN[1] - SECOND)] == [0, 0, 0]
    assert verdict(SPAN[0] - SECOND) != 0
    assert verdict(SPAN[1] + timedelta(days=1)) != 0
    ca.write_bytes(SAME_NAME.public_bytes(Encoding.PEM))
    assert verdict(NOW) != 0


@NEEDS_OPENSSL
def test_openssl_reads_the_same_names_usages_and_fingerprint() -> None:
    def text(certificate: x509.Certificate) -> str:
        shown = openssl("x509", "-inform", "DER", "-noout", "-text", data=der(certificate))
        return shown.stdout.decode()

    assert "CA:TRUE, pathlen:0" in text(CA)
    assert "Certificate Sign, CRL Sign" in text(CA)
    assert "URI:relto://KOR/officer/kim" in text(leaf("officer"))
    assert "Digital Signature, Non Repudiation" in text(leaf("officer"))
    assert "URI:relto://KOR/tls, DNS:localhost" in text(leaf("tls"))
    assert "TLS Web Server Authentication, TLS Web Client Authentication" in text(leaf("tls"))
    assert "ED25519" in text(leaf("node"))
    shown = openssl("x509", "-inform", "DER", "-noout", "-fingerprint", "-sha256", data=der(CA))
    digits = shown.stdout.decode().strip().rpartition("=")[2]
    assert fingerprint(CA) == "sha256:" + digits.replace(":", "").lower()


def endpoint(
    folder: Path, role: str, ca: x509.Certificate, certificate: x509.Certificate
) -> ssl.SSLContext:
    """A TLS 1.3 end that shows `certificate` and trusts `ca` alone."""
    pem = folder / f"{role}.pem"
    key = P256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(certificate.public_bytes(Encoding.PEM) + key)
    protocol = ssl.PROTOCOL_TLS_SERVER if role == "server" else ssl.PROTOCOL_TLS_CLIENT
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=ca.public_bytes(Encoding.PEM).decode())
    context.load_cert_chain(pem)
    return context


def handshake(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> ssl.SSLObject:
    """The server's end after a handshake in memory, in which both sides have said hello."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname="localhost")
    for _ in range(3):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    client.write(b"hello")
    assert server.read(5) == b"hello"
    assert server.version() == "TLSv1.3"
    return server


def today(role: str, key: ec.EllipticCurvePrivateKey = CA_KEY, **more: Any) -> Any:
    """A CA and a leaf as of the system clock, which is the one that TLS goes by."""
    now = datetime.now(UTC)
    ca = make_ca("KOR", key=key, now=now, **more)
    name = "kim" if role == "officer" else None
    certificate = issue(
        ca=ca,
        ca_key=key,
        public_key=P256.public_key(),
        role=role,
        name=name,
        now=now,
        validity=more.get("validity"),
    )
    return ca, certificate


@pytest.mark.parametrize(
    "more",
    [{}, {"exercise": True, "validity": (SPAN[0], datetime(2099, 1, 1, tzinfo=UTC))}],
    ids=["real", "exercise"],
)
def test_two_nodes_shake_hands_over_tls_1_3(more: dict[str, Any], tmp_path: Path) -> None:
    ca, certificate = today("tls", **more)
    ends = [endpoint(tmp_path, role, ca, certificate) for role in ("server", "client")]
    server = handshake(*ends)
    shown = server.getpeercert(binary_form=True)
    assert shown is not None
    assert check(shown, "tls", ca=der(ca), at=datetime.now(UTC)) == certificate


def test_tls_refuses_the_ca_of_the_same_name(tmp_path: Path) -> None:
    ca, certificate = today("tls")
    _, stranger = today("tls", key=OTHER_KEY)
    server = endpoint(tmp_path, "server", ca, certificate)
    with pytest.raises(ssl.SSLError):
        handshake(server, endpoint(tmp_path, "client", ca, stranger))


def test_tls_alone_lets_an_officer_in_and_verify_leaf_does_not(tmp_path: Path) -> None:
    ca, certificate = today("tls")
    _, officer = today("officer")
    ends = endpoint(tmp_path, "server", ca, certificate), endpoint(tmp_path, "client", ca, officer)
    shown = handshake(*ends).getpeercert(binary_form=True)
    assert shown is not None
    with pytest.raises(PeerError, match='role is "officer", want "tls"'):
        check(shown, "tls", ca=der(ca), at=datetime.now(UTC))
