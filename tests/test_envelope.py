"""Signed envelopes: what verifies, what does not, and what an outside implementation says."""

import json
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib import dsse
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import (  # type: ignore[attr-defined]  # no __all__
    CryptoSigner,
    SSlibKey,
)

from relto import envelope
from relto.envelope import Envelope, Signature
from relto.errors import CallerError, PeerError

SIZE = 1_000_000
TYPE = envelope.payload_type("release", 1)


@dataclass(frozen=True)
class TestSigner:
    """A key in memory."""

    __test__ = False
    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey

    @property
    def keyid(self) -> str:
        return envelope.keyid(self.key.public_key())

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(data)
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))


ED25519 = TestSigner(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
P256 = TestSigner(ec.derive_private_key(2**200 + 7, ec.SECP256R1()))
BOTH = pytest.mark.parametrize("signer", [ED25519, P256], ids=["ed25519", "p256"])


@BOTH
def test_a_signed_payload_verifies_after_the_wire(signer: TestSigner) -> None:
    sent = envelope.sign(TYPE, b"payload", [signer])
    received = Envelope.decode(sent.encode(), size_bytes_max=SIZE)
    assert received == sent
    assert envelope.verify(received, signer.key.public_key(), payload_type=TYPE) == b"payload"


@given(st.binary(max_size=200), st.integers(1, 8))
def test_encode_and_decode_are_inverse(payload: bytes, count: int) -> None:
    signatures = tuple(Signature(f"{i:064x}", bytes([i])) for i in range(count))
    sent = Envelope(TYPE, payload, signatures)
    data = sent.encode()
    received = Envelope.decode(data, size_bytes_max=SIZE)
    assert received == sent
    assert received.encode() == data
    assert Envelope.from_json(sent.to_json()) == sent


def test_each_of_two_signers_verifies_by_itself() -> None:
    sent = envelope.sign(TYPE, b"payload", [ED25519, P256])
    for signer in (ED25519, P256):
        assert envelope.verify(sent, signer.key.public_key(), payload_type=TYPE) == b"payload"


def test_the_record_id_is_the_payload_s_and_not_the_signatures() -> None:
    first = envelope.sign(TYPE, b"hello world", [ED25519])
    second = envelope.sign(TYPE, b"hello world", [P256])
    assert first.record_id == second.record_id
    assert (
        first.record_id == "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
    )  # sha256sum of "hello world"


@BOTH
def test_nothing_that_was_signed_can_be_changed(signer: TestSigner) -> None:
    sent = envelope.sign(TYPE, b"payload", [signer])
    key = signer.key.public_key()
    sig = sent.signatures[0].sig
    other = envelope.payload_type("release", 2)
    for changed, type_ in (
        (Envelope(TYPE, b"paylOad", sent.signatures), TYPE),
        (Envelope(TYPE, b"payload ", sent.signatures), TYPE),
        (Envelope(TYPE, b"", sent.signatures), TYPE),
        (Envelope(other, b"payload", sent.signatures), other),
        (Envelope(TYPE, b"payload", (Signature(signer.keyid, sig[:-1]),)), TYPE),
        (Envelope(TYPE, b"payload", (Signature(signer.keyid, sig + b"\0"),)), TYPE),
    ):
        with pytest.raises(PeerError, match="bad signature"):
            envelope.verify(changed, key, payload_type=type_)


@BOTH
def test_every_changed_bit_of_a_signature_is_refused(signer: TestSigner) -> None:
    sent = envelope.sign(TYPE, b"payload", [signer])
    sig = sent.signatures[0].sig
    for bit in range(len(sig) * 8):
        flipped = bytearray(sig)
        flipped[bit // 8] ^= 1 << bit % 8
        changed = Envelope(TYPE, b"payload", (Signature(signer.keyid, bytes(flipped)),))
        with pytest.raises(PeerError, match="bad signature"):
            envelope.verify(changed, signer.key.public_key(), payload_type=TYPE)


def test_another_type_or_major_version_is_refused() -> None:
    sent = envelope.sign(TYPE, b"payload", [ED25519])
    key = ED25519.key.public_key()
    for wanted in (envelope.payload_type("release", 2), envelope.payload_type("receipt", 1)):
        with pytest.raises(PeerError, match="record is of type"):
            envelope.verify(sent, key, payload_type=wanted)


def test_a_key_that_did_not_sign_is_refused() -> None:
    sent = envelope.sign(TYPE, b"payload", [ED25519])
    with pytest.raises(PeerError, match="no signature by key"):
        envelope.verify(sent, P256.key.public_key(), payload_type=TYPE)
    # Under the right keyid it is still another key's signature.
    relabelled = Envelope(TYPE, b"payload", (Signature(P256.keyid, sent.signatures[0].sig),))
    with pytest.raises(PeerError, match="bad signature"):
        envelope.verify(relabelled, P256.key.public_key(), payload_type=TYPE)


def test_other_kinds_of_key_are_refused() -> None:
    p384 = ec.derive_private_key(2**200 + 7, ec.SECP384R1())
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for key in (p384.public_key(), rsa_key.public_key()):
        keyid = envelope.keyid(key)
        sent = Envelope(TYPE, b"payload", (Signature(keyid, b"x" * 64),))
        with pytest.raises(PeerError, match="neither Ed25519 nor ECDSA P-256"):
            envelope.verify(sent, key, payload_type=TYPE)


def test_the_number_of_signatures_is_met_on_both_sides() -> None:
    nine = tuple(Signature(f"{i:064x}", b"x") for i in range(9))
    assert len(Envelope(TYPE, b"", nine[:8]).signatures) == 8
    for wrong in ((), nine):
        with pytest.raises(CallerError, match="1 to 8 are allowed"):
            Envelope(TYPE, b"", wrong)


def test_the_size_of_a_signature_is_met_on_both_sides() -> None:
    keyid = "a" * 64
    for size in (1, 4096):
        assert len(Signature(keyid, b"x" * size).sig) == size
    for size in (0, 4097):
        with pytest.raises(CallerError, match=f"signature of {size} bytes"):
            Signature(keyid, b"x" * size)


def test_the_size_of_an_envelope_is_met_on_both_sides() -> None:
    data = envelope.sign(TYPE, b"payload", [ED25519]).encode()
    assert Envelope.decode(data, size_bytes_max=len(data)).encode() == data
    with pytest.raises(PeerError, match="bytes of JSON"):
        Envelope.decode(data, size_bytes_max=len(data) - 1)


@pytest.mark.parametrize(
    ("record", "major"),
    [("", 1), ("Release", 1), ("a b", 1), ("a/b", 1), ("1a", 1), ("release", 0)],
)
def test_a_bad_record_name_or_version_is_the_caller_s_error(record: str, major: int) -> None:
    with pytest.raises(CallerError):
        envelope.payload_type(record, major)


@given(st.text(max_size=30), st.binary(max_size=60), st.text(max_size=30), st.binary(max_size=60))
def test_two_records_never_have_the_same_signed_bytes(
    type_1: str, payload_1: bytes, type_2: str, payload_2: bytes
) -> None:
    same = (type_1, payload_1) == (type_2, payload_2)
    assert (envelope.pae(type_1, payload_1) == envelope.pae(type_2, payload_2)) == same


# securesystemslib: the library that TUF and in-toto use.


def _outside_key(signer: TestSigner) -> SSlibKey:
    return SSlibKey.from_crypto(signer.key.public_key(), keyid=signer.keyid)


@BOTH
def test_securesystemslib_verifies_what_we_sign(signer: TestSigner) -> None:
    sent = envelope.sign(TYPE, b"payload", [signer])
    outside = dsse.Envelope.from_dict(json.loads(sent.encode()))
    key = _outside_key(signer)
    assert outside.pae() == envelope.pae(TYPE, b"payload")
    assert outside.verify([key], 1) == {signer.keyid: key}
    outside.payload = b"paylOad"
    with pytest.raises(VerificationError):
        outside.verify([key], 1)


@BOTH
def test_we_verify_what_securesystemslib_signs(signer: TestSigner) -> None:
    outside = dsse.Envelope(b"payload", TYPE, {})
    outside.sign(CryptoSigner(signer.key, _outside_key(signer)))
    received = Envelope.from_json(outside.to_dict())
    assert envelope.verify(received, signer.key.public_key(), payload_type=TYPE) == b"payload"
    assert received.encode() == json.dumps(
        outside.to_dict(), separators=(",", ":"), sort_keys=True
    ).encode("ascii")
