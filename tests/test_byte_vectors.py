"""The files in `vectors/`: published vectors that we meet, and our own, which hold our bytes still.

`vectors/README.md` says what each file is and where it comes from.
"""

import base64
import contextlib
import dataclasses
import hashlib
import hmac
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives import hashes, hpke, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from relto import canonical, envelope, payloads, seal, streams
from relto.envelope import Envelope, Signature
from relto.errors import PeerError, ReltoError
from relto.payloads import Payload
from relto.seal import HYBRID, X25519_ONLY, HpkePrivateKey, HpkePublicKey

VECTORS = Path(__file__).parent.parent / "vectors"


def _load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


CANONICAL = _load("canonical/canonical.json")
DSSE = _load("dsse/dsse.json")
PAYLOAD = _load("payload/payload.json")
AGE_STREAM = _load("payload/age-stream.json")["vectors"]
XAES = _load("payload/xaes-256-gcm.json")
HOP = _load("hop/hop.json")["vectors"]
AGE_HYBRID = _load("hop/age-hybrid.json")
HPKE_PQ = _load("hop/hpke-pq.json")


def _each(vectors: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", vectors, ids=[each["name"] for each in vectors])


def _refused(act: Callable[[bytes], object], vector: dict[str, Any]) -> None:
    with pytest.raises(PeerError) as caught:
        act(bytes.fromhex(vector["hex"]))
    assert vector["reason"] in str(caught.value)
    assert "\n" not in str(caught.value)


# canonical


@_each(CANONICAL["accept"])
def test_canonical_bytes_are_accepted(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    value = canonical.decode(data, size_bytes_max=CANONICAL["size_bytes_max"])
    assert canonical.encode(value) == data
    assert canonical.digest(value) == vector["sha256"]


@_each(CANONICAL["refuse"])
def test_other_bytes_are_refused_for_their_reason(vector: dict[str, Any]) -> None:
    limit = CANONICAL["size_bytes_max"]
    _refused(lambda data: canonical.decode(data, size_bytes_max=limit), vector)


# dsse


def test_the_published_dsse_vector_verifies() -> None:
    vector = DSSE["published"]
    payload, type_ = bytes.fromhex(vector["payload"]), vector["payload_type"]
    assert envelope.pae(type_, payload) == bytes.fromhex(vector["pae"])
    numbers = ec.EllipticCurvePublicNumbers(int(vector["x"]), int(vector["y"]), ec.SECP256R1())
    key = numbers.public_key()
    # Published as r || s without a keyid; relto has DER and requires keyid.
    raw = bytes.fromhex(vector["sig_r_s"])
    der = utils.encode_dss_signature(
        int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    )
    signed = Envelope(type_, payload, (Signature(envelope.keyid(key), der),))
    assert envelope.verify(signed, key, payload_type=type_) == b"hello world"
    private = ec.derive_private_key(int(vector["d"]), ec.SECP256R1())
    assert private.public_key() == key


@_each(DSSE["accept"])
def test_our_envelopes_verify_under_each_of_their_keys(vector: dict[str, Any]) -> None:
    data = vector["envelope"].encode()
    received = Envelope.decode(data, size_bytes_max=10_000)
    assert received.encode() == data
    assert received.record_id == vector["record_id"]
    for each in vector["keys"]:
        key = serialization.load_der_public_key(bytes.fromhex(each["spki"]))
        assert envelope.keyid(key) == each["keyid"]
        payload = envelope.verify(received, key, payload_type=vector["payload_type"])
        assert payload == vector["payload"].encode()


@_each(DSSE["refuse"])
def test_other_envelopes_are_refused_for_their_reason(vector: dict[str, Any]) -> None:
    _refused(lambda data: Envelope.decode(data, size_bytes_max=10_000), vector)


# payload


@_each(PAYLOAD["accept"])
def test_our_payloads_have_these_bytes(vector: dict[str, Any]) -> None:
    body = bytes(i * 7 % 251 for i in range(vector["body_bytes"]))
    key, commitment = bytes.fromhex(vector["payload_key"]), bytes.fromhex(vector["commitment"])
    plaintext = Payload(vector["header"], body).encode()
    padded = payloads.pad(plaintext)
    ciphertext = streams.encrypt(key, padded)
    assert hashlib.sha256(plaintext).hexdigest() == vector["plaintext_sha256"]
    assert len(padded) == vector["padded_bytes"]
    assert hashlib.sha256(padded).hexdigest() == vector["padded_sha256"]
    assert len(ciphertext) == vector["ciphertext_bytes"]
    assert hashlib.sha256(ciphertext).hexdigest() == vector["ciphertext_sha256"]
    assert plaintext.hex() == vector.get("plaintext", plaintext.hex())
    assert ciphertext.hex() == vector.get("ciphertext", ciphertext.hex())
    assert streams.commitment(key) == commitment
    assert streams.decrypt(key, ciphertext, commitment=commitment) == padded


def test_our_key_derivation_is_hkdf_as_written_in_rfc_5869() -> None:
    # Extract and expand with nothing but HMAC: 32 bytes are one block.
    key = bytes.fromhex(PAYLOAD["accept"][0]["payload_key"])
    extracted = hmac.digest(bytes(32), key, "sha256")
    commitment = hmac.digest(extracted, b"relto/payload/v1/commitment\x01", "sha256")
    assert commitment == streams.commitment(key)
    aead = AESGCM(hmac.digest(extracted, b"relto/payload/v1/aes-256-gcm\x01", "sha256"))
    assert aead.encrypt(bytes(11) + b"\x01", b"secret", None) == streams.encrypt(key, b"secret")


@_each(PAYLOAD["refuse_plaintext"])
def test_other_payloads_are_refused_for_their_reason(vector: dict[str, Any]) -> None:
    _refused(Payload.decode, vector)


@_each(PAYLOAD["refuse_padded"])
def test_other_padding_is_refused_for_its_reason(vector: dict[str, Any]) -> None:
    _refused(payloads.unpad, vector)


def test_the_buckets_are_these() -> None:
    assert [[n, payloads.bucket_size_bytes(n)] for n, _ in PAYLOAD["buckets"]] == PAYLOAD["buckets"]


@_each(AGE_STREAM)
def test_our_stream_is_the_stream_of_age(vector: dict[str, Any]) -> None:
    # C2SP age.md, "Payload": the key is HKDF-SHA256 of the file key, with the nonce as salt.
    derive = HKDF(hashes.SHA256(), 32, salt=bytes.fromhex(vector["nonce"]), info=b"payload")
    aead = ChaCha20Poly1305(derive.derive(bytes.fromhex(vector["file_key"])))
    ciphertext = zlib.decompress(base64.b64decode(vector["ciphertext_zlib"]))
    released, refused = bytearray(), False
    try:
        for chunk in streams.decrypt_chunks(aead, [ciphertext]):
            released += chunk
    except PeerError:
        refused = True
    assert refused == (vector["expect"] == "payload failure")
    # The vectors also say what age has let out by the time it sees the failure. We let out the
    # same, or one chunk less: we do not open a full chunk before we know whether it is the last.
    let_out = [bytes(released)]
    if refused:
        index = len(released) // streams.CHUNK_BYTES
        at = index * (streams.CHUNK_BYTES + streams.TAG_BYTES)
        sealed = ciphertext[at : at + streams.CHUNK_BYTES + streams.TAG_BYTES]
        for last in (b"\x00", b"\x01"):
            with contextlib.suppress(InvalidTag):
                opened = aead.decrypt(index.to_bytes(11, "big") + last, sealed, None)
                let_out.append(bytes(released) + opened)
    assert vector["released_sha256"] in [hashlib.sha256(each).hexdigest() for each in let_out]
    if not refused:
        assert b"".join(streams.encrypt_chunks(aead, [bytes(released)])) == ciphertext


def test_the_age_vectors_hold_both_kinds() -> None:
    expected = [vector["expect"] for vector in AGE_STREAM]
    assert expected.count("success") == 6
    assert expected.count("payload failure") == 18


@pytest.mark.parametrize("vector", XAES["vectors"])
def test_wrapping_is_xaes_256_gcm_as_published(vector: dict[str, str]) -> None:
    key, nonce, aad, plaintext = (
        bytes.fromhex(vector[name]) for name in ("key", "nonce", "aad", "plaintext")
    )
    wrapped = nonce + bytes.fromhex(vector["ciphertext"])
    assert seal.wrap(key, nonce, plaintext, aad) == wrapped
    assert seal.unwrap(key, wrapped, aad) == plaintext


def test_wrapping_is_xaes_256_gcm_in_ten_thousand_random_cases() -> None:
    # "Accumulated randomized tests": inputs from SHAKE-128 of nothing, outputs hashed.
    stream = memoryview(hashlib.shake_128(b"").digest(4_000_000))
    accumulated = hashlib.shake_128()
    at = 0

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        return bytes(stream[at - size : at])

    for _ in range(10_000):
        key, nonce = take(32), take(24)
        plaintext = take(take(1)[0])
        aad = take(take(1)[0])
        accumulated.update(seal.wrap(key, nonce, plaintext, aad)[24:])
    assert accumulated.hexdigest(32) == XAES["accumulated_10000"]


# hop

_CHACHA_HPKE = hpke.Suite(
    hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305
)
_CHACHA = dataclasses.replace(HYBRID, hpke_suite=_CHACHA_HPKE)


@_each(HOP)
def test_our_hop_messages_open(vector: dict[str, Any]) -> None:
    suite = {each.name: each for each in (HYBRID, X25519_ONLY)}[vector["suite"]]
    private = HpkePrivateKey(bytes.fromhex(vector["seed"]), suite)
    assert private.public_key == HpkePublicKey(bytes.fromhex(vector["public"]), suite)
    assert private.public_key.key_id == vector["key_id"]
    info = seal.hop_info(version=1, sender="KOR", recipient="USA", key_id=vector["key_id"])
    assert info == vector["info"].encode()
    opened = seal.open_sealed(bytes.fromhex(vector["sealed"]), private, info)
    assert opened == bytes.fromhex(vector["plaintext"])


@_each(AGE_HYBRID["vectors"])
def test_the_hybrid_opens_what_age_sealed(vector: dict[str, Any]) -> None:
    private = HpkePrivateKey(bytes.fromhex(vector["seed"]), _CHACHA)
    sealed = bytes.fromhex(vector["enc"] + vector["ciphertext"])
    info = bytes.fromhex(AGE_HYBRID["info"])
    if vector["expect"] == "success":
        assert seal.open_sealed(sealed, private, info).hex() == vector["file_key"]
    else:
        with pytest.raises(PeerError, match="does not open"):
            seal.open_sealed(sealed, private, info)


def test_the_hybrid_meets_the_published_hpke_vector() -> None:
    private = HpkePrivateKey(bytes.fromhex(HPKE_PQ["skRm"]), _CHACHA)
    assert private.public_key.raw.hex() == HPKE_PQ["pkRm"]
    encryption = HPKE_PQ["encryption"]
    sealed = bytes.fromhex(HPKE_PQ["enc"] + encryption["ct"])
    info, aad = bytes.fromhex(HPKE_PQ["info"]), bytes.fromhex(encryption["aad"])
    # The vector has associated data, which relto never uses: only the library's own door takes it.
    decrypt = openssl.hpke._decrypt_with_aad
    opened = decrypt(_CHACHA_HPKE, sealed, private._key, info, aad)
    assert opened.hex() == encryption["pt"]
    with pytest.raises(InvalidTag):
        decrypt(_CHACHA_HPKE, sealed, private._key, info, b"")


def _labeled_extract(suite_id: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite_id + label + ikm, "sha256")


def _labeled_expand(suite_id: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
    labeled = size.to_bytes(2, "big") + b"HPKE-v1" + suite_id + label + info
    return HKDFExpand(hashes.SHA256(), size, labeled).derive(prk)


def _key_schedule(aead_id: int, key_bytes: int, secret: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Key and base nonce of RFC 9180 §5.1 in base mode, for MLKEM768-X25519 and HKDF-SHA256."""
    suite_id = b"HPKE" + bytes.fromhex("647a0001") + aead_id.to_bytes(2, "big")
    psk_id_hash = _labeled_extract(suite_id, b"", b"psk_id_hash", b"")
    info_hash = _labeled_extract(suite_id, b"", b"info_hash", info)
    context = b"\x00" + psk_id_hash + info_hash
    prk = _labeled_extract(suite_id, secret, b"secret", b"")
    key = _labeled_expand(suite_id, prk, b"key", context, key_bytes)
    return key, _labeled_expand(suite_id, prk, b"base_nonce", context, 12)


def test_the_production_suite_opens_what_the_published_shared_secret_seals() -> None:
    # Published vectors of this KEM have ChaCha20-Poly1305. This key schedule, which gives their key
    # and nonce, gives those of AES-256-GCM too.
    secret, info = bytes.fromhex(HPKE_PQ["shared_secret"]), bytes.fromhex(HPKE_PQ["info"])
    published = (bytes.fromhex(HPKE_PQ["key"]), bytes.fromhex(HPKE_PQ["base_nonce"]))
    assert _key_schedule(3, 32, secret, info) == published
    key, nonce = _key_schedule(2, 32, secret, info)
    sealed = bytes.fromhex(HPKE_PQ["enc"]) + AESGCM(key).encrypt(nonce, b"hop", None)
    private = HpkePrivateKey(bytes.fromhex(HPKE_PQ["skRm"]))
    assert seal.open_sealed(sealed, private, info) == b"hop"
    with pytest.raises(ReltoError):
        seal.open_sealed(sealed, private, info + b"\0")
