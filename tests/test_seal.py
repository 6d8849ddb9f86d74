"""Sealing for one holder of a key: hop messages between nodes, and rows in the store."""

import dataclasses

import pytest
from cryptography.hazmat.primitives import hpke
from hypothesis import given
from hypothesis import strategies as st
from pyhpke import AEADId, CipherSuite, KDFId, KEMId

from relto import seal
from relto.errors import CallerError, PeerError
from relto.seal import HYBRID, X25519_ONLY, HpkePrivateKey, HpkePublicKey, Suite

SEED = bytes(range(32))
INFO = seal.hop_info(version=1, sender="KOR", recipient="USA", key_id="ab")
SUITES = pytest.mark.parametrize("suite", [HYBRID, X25519_ONLY], ids=["hybrid", "x25519"])


@SUITES
def test_what_is_sealed_opens(suite: Suite) -> None:
    private = HpkePrivateKey(SEED, suite)
    received = HpkePublicKey(private.public_key.raw, suite)
    for plaintext in (b"", b"x", bytes(100_000)):
        sealed = seal.seal(plaintext, received, INFO)
        assert len(sealed) == suite.enc_bytes + len(plaintext) + 16
        assert seal.open_sealed(sealed, private, INFO) == plaintext


def test_nodes_use_the_hybrid_unless_told_otherwise() -> None:
    private = HpkePrivateKey(SEED)
    assert private.suite is HYBRID
    assert HpkePublicKey(private.public_key.raw).suite is HYBRID
    assert HYBRID.hpke_suite is not X25519_ONLY.hpke_suite
    assert len(private.public_key.raw) == 1184 + 32
    assert HYBRID.enc_bytes == 1088 + 32


@SUITES
def test_sealing_twice_never_gives_the_same_bytes(suite: Suite) -> None:
    public = HpkePrivateKey(SEED, suite).public_key
    sealed = [seal.seal(b"same", public, INFO) for _ in range(100)]
    assert len({each[: suite.enc_bytes] for each in sealed}) == 100
    assert len(set(sealed)) == 100


@SUITES
def test_every_changed_byte_is_refused(suite: Suite) -> None:
    private = HpkePrivateKey(SEED, suite)
    sealed = seal.seal(b"hop", private.public_key, INFO)
    for index in range(len(sealed)):
        # 0x80: X25519 ignores the top bit of a public key (RFC 7748 §5); HPKE does not.
        for mask in (0x01, 0x80):
            changed = bytearray(sealed)
            changed[index] ^= mask
            with pytest.raises(PeerError, match="does not open"):
                seal.open_sealed(bytes(changed), private, INFO)


@SUITES
def test_every_truncation_and_extension_is_refused(suite: Suite) -> None:
    private = HpkePrivateKey(SEED, suite)
    sealed = seal.seal(b"hop", private.public_key, INFO)
    for length in range(len(sealed)):
        with pytest.raises(PeerError):
            seal.open_sealed(sealed[:length], private, INFO)
    with pytest.raises(PeerError):
        seal.open_sealed(sealed + b"\0", private, INFO)


def test_a_message_opens_only_as_the_hop_it_was_sealed_for() -> None:
    private = HpkePrivateKey(SEED)
    info = seal.hop_info(version=1, sender="KOR", recipient="USA", key_id="ab")
    sealed = seal.seal(b"hop", private.public_key, info)
    assert seal.open_sealed(sealed, private, info) == b"hop"
    for other in (
        seal.hop_info(version=2, sender="KOR", recipient="USA", key_id="ab"),
        seal.hop_info(version=1, sender="JPN", recipient="USA", key_id="ab"),
        seal.hop_info(version=1, sender="KOR", recipient="JPN", key_id="ab"),
        seal.hop_info(version=1, sender="USA", recipient="KOR", key_id="ab"),
        seal.hop_info(version=1, sender="KOR", recipient="USA", key_id="ac"),
        b"",
    ):
        with pytest.raises(PeerError, match="does not open"):
            seal.open_sealed(sealed, private, other)
    with pytest.raises(PeerError, match="does not open"):
        seal.open_sealed(sealed, HpkePrivateKey(bytes(32)), info)


@pytest.mark.parametrize("size", [0, 31, 33, 96])
def test_a_seed_has_32_bytes(size: int) -> None:
    with pytest.raises(CallerError, match="it has 32"):
        HpkePrivateKey(bytes(size))


@pytest.mark.parametrize(
    "raw", [b"", bytes(1215), bytes(1217), b"\xff" * 1216], ids=["0", "1215", "1217", "not reduced"]
)
def test_what_is_no_public_key_is_refused(raw: bytes) -> None:
    # FIPS 203 §7.2: the last has coefficients that are not reduced modulo q.
    with pytest.raises(PeerError, match="HPKE public key"):
        HpkePublicKey(raw)


@SUITES
def test_nothing_is_sealed_to_an_x25519_key_of_low_order(suite: Suite) -> None:
    raw = HpkePrivateKey(SEED, suite).public_key.raw
    low = HpkePublicKey(raw[:-32] + bytes(32), suite)
    with pytest.raises(PeerError, match="nothing can be sealed"):
        seal.seal(b"hop", low, INFO)


def test_a_private_key_does_not_show_itself() -> None:
    private = HpkePrivateKey(b"\xab" * 32)
    assert repr(private) == f"HpkePrivateKey(public_key={private.public_key!r})"
    assert repr(private.public_key) == f'HpkePublicKey("{private.public_key.key_id}")'


def test_the_size_limit_is_met_on_both_sides() -> None:
    private = HpkePrivateKey(SEED)
    limit = seal.PLAINTEXT_BYTES_MAX
    sealed = seal.seal(bytes(limit), private.public_key, INFO)
    assert seal.open_sealed(sealed, private, INFO) == bytes(limit)
    with pytest.raises(CallerError, match=f"at most {limit}"):
        seal.seal(bytes(limit + 1), private.public_key, INFO)
    with pytest.raises(PeerError, match="are allowed"):
        seal.open_sealed(sealed + b"\0", private, INFO)


# pyhpke: RFC 9180 by another author.

OUTSIDE = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.AES256_GCM)


def test_pyhpke_opens_what_we_seal() -> None:
    private = HpkePrivateKey(SEED, X25519_ONLY)
    sealed = seal.seal(b"hop", private.public_key, INFO)
    outside_key = OUTSIDE.kem.deserialize_private_key(SEED)
    context = OUTSIDE.create_recipient_context(sealed[:32], outside_key, info=INFO)
    assert context.open(sealed[32:]) == b"hop"


def test_we_open_what_pyhpke_seals() -> None:
    private = HpkePrivateKey(SEED, X25519_ONLY)
    outside_key = OUTSIDE.kem.deserialize_public_key(private.public_key.raw)
    enc, context = OUTSIDE.create_sender_context(outside_key, info=INFO)
    assert seal.open_sealed(enc + context.seal(b"hop"), private, INFO) == b"hop"


def test_suites_do_not_open_each_other_s_messages() -> None:
    other = dataclasses.replace(
        HYBRID,
        hpke_suite=hpke.Suite(
            hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305
        ),
    )
    sealed = seal.seal(b"hop", HpkePrivateKey(SEED).public_key, INFO)
    with pytest.raises(PeerError, match="does not open"):
        seal.open_sealed(sealed, HpkePrivateKey(SEED, other), INFO)


# The store.

KEY = b"k" * 32
NONCE = bytes(range(24))


@given(st.binary(max_size=100), st.binary(max_size=20), st.binary(min_size=24, max_size=24))
def test_what_is_wrapped_unwraps(plaintext: bytes, aad: bytes, nonce: bytes) -> None:
    wrapped = seal.wrap(KEY, nonce, plaintext, aad)
    assert len(wrapped) == 24 + len(plaintext) + 16
    assert seal.unwrap(KEY, wrapped, aad) == plaintext


def test_every_changed_bit_or_cut_of_a_wrapped_value_is_refused() -> None:
    wrapped = seal.wrap(KEY, NONCE, b"payload key", b"item 1")
    for bit in range(len(wrapped) * 8):
        flipped = bytearray(wrapped)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PeerError, match="does not open"):
            seal.unwrap(KEY, bytes(flipped), b"item 1")
    for length in range(len(wrapped)):
        with pytest.raises(PeerError):
            seal.unwrap(KEY, wrapped[:length], b"item 1")
    with pytest.raises(PeerError, match="does not open"):
        seal.unwrap(KEY, wrapped + b"\0", b"item 1")


def test_a_wrapped_value_opens_only_in_its_place_and_under_its_key() -> None:
    wrapped = seal.wrap(KEY, NONCE, b"payload key", b"item 1")
    with pytest.raises(PeerError, match="does not open"):
        seal.unwrap(KEY, wrapped, b"item 2")
    with pytest.raises(PeerError, match="does not open"):
        seal.unwrap(b"l" * 32, wrapped, b"item 1")


@pytest.mark.parametrize(("key", "nonce"), [(31, 24), (33, 24), (16, 24), (32, 12), (32, 25)])
def test_a_storage_key_has_32_bytes_and_a_nonce_24(key: int, nonce: int) -> None:
    with pytest.raises(CallerError, match="it has"):
        seal.wrap(bytes(key), bytes(nonce), b"", b"")
