"""Payloads: header and body, padding, and encryption in chunks."""

import itertools
import math
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from relto import payloads, streams
from relto.canonical import Json
from relto.errors import CallerError, PeerError
from relto.payloads import Payload

KEY = bytes(range(32))
COMMITMENT = streams.commitment(KEY)
CHUNK = streams.CHUNK_BYTES
SEALED = CHUNK + streams.TAG_BYTES
HEADER: dict[str, Json] = {"title": "t", "media_type": "text/plain"}


def _decrypt(ciphertext: bytes) -> bytes:
    return streams.decrypt(KEY, ciphertext, commitment=COMMITMENT)


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


# The plaintext.


@given(st.binary(max_size=100))
def test_a_payload_survives_encoding(body: bytes) -> None:
    header: dict[str, Json] = {
        "title": "북한 미사일",
        "media_type": "image/png",
        "name": "発射 1.png",
        "relations": [{"relation": "reply-to", "item": "ab" * 32}],
        "fields": {"lat_udeg": 39_660_000},
    }
    payload = Payload(header, body)
    assert Payload.decode(payload.encode()) == payload
    assert Payload.decode(payload.encode()).body == body


@given(st.binary(max_size=120))
def test_a_payload_that_decodes_encodes_to_the_same_bytes(data: bytes) -> None:
    try:
        payload = Payload.decode(data)
    except PeerError:
        return
    assert payload.encode() == data


def test_a_payload_s_header_cannot_be_changed_from_outside() -> None:
    relations: list[Json] = []
    header: dict[str, Json] = {**HEADER, "relations": relations}
    payload = Payload(header, b"")
    before = payload.encode()
    header["title"] = "other"
    relations.append("other")
    assert payload.encode() == before


def test_the_header_limit_is_met_on_both_sides() -> None:
    room = payloads.HEADER_BYTES_MAX - len(Payload({**HEADER, "fields": {"k": ""}}, b"").encode())
    room += 4  # the length field is no part of the header
    full = Payload({**HEADER, "fields": {"k": "x" * room}}, b"body")
    assert len(full.encode()) == 4 + payloads.HEADER_BYTES_MAX + 4
    assert Payload.decode(full.encode()) == full
    with pytest.raises(CallerError, match="at most 65536"):
        Payload({**HEADER, "fields": {"k": "x" * (room + 1)}}, b"")
    with pytest.raises(PeerError, match="at most 65536"):
        Payload.decode((payloads.HEADER_BYTES_MAX + 1).to_bytes(4, "big") + bytes(70_000))


@pytest.mark.parametrize(
    ("key", "fits", "beyond"),
    [
        ("title", "x" * 500, "x" * 501),
        ("name", "x" * 255, "x" * 256),
        ("name", "가" * 85, "가" * 85 + "x"),
        ("relations", [{"relation": "a", "item": "0" * 64}] * 256, [{}] * 257),
        ("relations", [{"relation": "a" * 64, "item": "0" * 64}], [{"relation": "a" * 65}]),
        ("media_type", "a/" + "b" * 127, "a/" + "b" * 128),
    ],
)
def test_the_limits_of_header_keys_are_met_on_both_sides(
    key: str, fits: Json, beyond: Json
) -> None:
    assert Payload({**HEADER, key: fits}, b"").header[key] == fits
    with pytest.raises(CallerError, match=key):
        Payload({**HEADER, key: beyond}, b"")


# Padding.


@given(st.binary(max_size=2000))
def test_padding_is_reversible_and_has_the_size_of_its_bucket(plaintext: bytes) -> None:
    padded = payloads.pad(plaintext)
    assert payloads.unpad(padded) == plaintext
    assert len(padded) == payloads.bucket_size_bytes(len(plaintext) + 8)


@given(st.integers(0, 2**50))
def test_padding_costs_at_most_12_percent_above_the_least_bucket(size: int) -> None:
    bucket = payloads.bucket_size_bytes(size)
    assert bucket >= size
    assert bucket == payloads.bucket_size_bytes(bucket)
    if size >= payloads.BUCKET_BYTES_MIN:
        assert bucket - size <= 0.12 * size
    else:
        assert bucket == payloads.BUCKET_BYTES_MIN


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_larger_payload_never_has_a_smaller_bucket(first: int, second: int) -> None:
    small, large = sorted((first, second))
    assert payloads.bucket_size_bytes(small) <= payloads.bucket_size_bytes(large)


@pytest.mark.parametrize("exponent", [8, 9, 12, 16, 20])
def test_the_size_shows_log_log_many_bits(exponent: int) -> None:
    # Up to each power of two from the one before, at most 2 * exponent sizes: O(log log L) bits.
    low, high = 2**exponent, 2 ** (exponent + 1)
    buckets, size = set(), low + 1
    while size <= high:
        size = payloads.bucket_size_bytes(size)
        buckets.add(size)
        size += 1
    assert len(buckets) <= 2 * exponent
    assert math.log2(len(buckets)) <= 1 + math.log2(exponent)


def test_every_changed_bit_of_padding_is_refused_or_is_another_plaintext() -> None:
    padded = payloads.pad(b"hello")
    for bit in range(len(padded) * 8):
        flipped = bytearray(padded)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            plaintext = payloads.unpad(bytes(flipped))
        except PeerError:
            continue
        assert plaintext != b"hello"
        assert payloads.pad(plaintext) == bytes(flipped)


@given(st.binary(max_size=300))
def test_what_unpads_pads_to_the_same_bytes(data: bytes) -> None:
    for padded in (data, data.ljust(256, b"\0"), bytes(7) + data[:1] + data + bytes(256)):
        try:
            plaintext = payloads.unpad(padded)
        except PeerError:
            continue
        assert payloads.pad(plaintext) == padded


@given(st.binary(max_size=700), st.integers(1, 300))
def test_padding_in_pieces_is_padding_at_once(plaintext: bytes, size: int) -> None:
    at_once = payloads.pad(plaintext)
    pieces = payloads.pad_stream(_pieces(plaintext, size), size_bytes=len(plaintext))
    assert b"".join(pieces) == at_once
    assert b"".join(payloads.unpad_stream(_pieces(at_once, size))) == plaintext


def test_padding_without_end_is_refused_at_the_end_of_its_bucket() -> None:
    with pytest.raises(PeerError, match="more than the 256 bytes of its bucket"):
        list(
            payloads.unpad_stream(
                itertools.chain([payloads.pad(b"hello")], itertools.repeat(b"\0"))
            )
        )


@pytest.mark.parametrize("wrong", [4, 6, 0, 1000])
def test_padding_another_size_than_announced_is_the_caller_s_error(wrong: int) -> None:
    with pytest.raises(CallerError, match="bytes announced"):
        b"".join(payloads.pad_stream([b"he", b"llo"], size_bytes=wrong))


# Encryption in chunks.

SIZES = [0, 1, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK]


@pytest.mark.parametrize("size", SIZES)
def test_a_ciphertext_decrypts_to_its_plaintext(size: int) -> None:
    plaintext = bytes(i % 251 for i in range(size))
    ciphertext = streams.encrypt(KEY, plaintext)
    assert len(ciphertext) == streams.ciphertext_size_bytes(size)
    assert _decrypt(ciphertext) == plaintext


@pytest.mark.parametrize("piece", [1000, CHUNK, SEALED, SEALED + 1, 5 * CHUNK])
@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_the_pieces_it_arrives_in_do_not_matter(size: int, piece: int) -> None:
    plaintext = bytes(i % 251 for i in range(size))
    at_once = streams.encrypt(KEY, plaintext)
    assert b"".join(streams.encrypt_stream(KEY, _pieces(plaintext, piece))) == at_once
    decrypted = streams.decrypt_stream(KEY, _pieces(at_once, piece), commitment=COMMITMENT)
    assert b"".join(decrypted) == plaintext


@settings(max_examples=30)
@given(st.binary(max_size=400), st.integers(1, 50), st.integers(1, 50))
def test_a_payload_survives_the_whole_way(body: bytes, out: int, back: int) -> None:
    plaintext = Payload(HEADER, body).encode()
    padded = payloads.pad_stream(_pieces(plaintext, out), size_bytes=len(plaintext))
    ciphertext = b"".join(streams.encrypt_stream(KEY, padded))
    chunks = streams.decrypt_stream(KEY, _pieces(ciphertext, back), commitment=COMMITMENT)
    assert Payload.decode(b"".join(payloads.unpad_stream(chunks))).body == body


def test_memory_stays_flat() -> None:
    # Lazy in both directions: the first chunk is out before the third piece is read.
    read = 0

    def source() -> Iterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield bytes(CHUNK)

    stream = streams.decrypt_stream(
        KEY, streams.encrypt_stream(KEY, source()), commitment=COMMITMENT
    )
    assert next(stream) == bytes(CHUNK)
    assert read <= 4
    assert sum(map(len, stream)) == 99 * CHUNK


@pytest.mark.parametrize("size", [0, 1, 40])
def test_every_changed_bit_is_refused(size: int) -> None:
    ciphertext = streams.encrypt(KEY, bytes(size))
    for bit in range(len(ciphertext) * 8):
        flipped = bytearray(ciphertext)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PeerError, match="cut off or altered in chunk 0"):
            _decrypt(bytes(flipped))


@pytest.mark.parametrize("size", [0, 40])
def test_every_truncation_is_refused(size: int) -> None:
    ciphertext = streams.encrypt(KEY, bytes(size))
    for length in range(len(ciphertext)):
        with pytest.raises(PeerError, match="cut off"):
            _decrypt(ciphertext[:length])


def _three_chunks() -> list[bytes]:
    ciphertext = streams.encrypt(KEY, bytes(2 * CHUNK) + b"end")
    return [ciphertext[:SEALED], ciphertext[SEALED : 2 * SEALED], ciphertext[2 * SEALED :]]


def test_chunks_in_any_other_number_or_order_are_refused() -> None:
    chunks = _three_chunks()
    assert _decrypt(b"".join(chunks)) == bytes(2 * CHUNK) + b"end"
    for count in range(5):
        for order in itertools.product(range(3), repeat=count):
            if order == (0, 1, 2):
                continue
            with pytest.raises(PeerError):
                _decrypt(b"".join(chunks[index] for index in order))


@pytest.mark.parametrize("cut", [1, 15, 16, 17, 19, 20, SEALED, SEALED + 19, 2 * SEALED])
def test_the_end_cannot_be_cut_off(cut: int) -> None:
    with pytest.raises(PeerError):
        _decrypt(b"".join(_three_chunks())[:-cut])


@pytest.mark.parametrize("extra", [1, 15, 16, 17, SEALED])
@pytest.mark.parametrize("size", [0, 3, CHUNK])
def test_nothing_can_be_added(size: int, extra: int) -> None:
    ciphertext = streams.encrypt(KEY, bytes(size))
    with pytest.raises(PeerError):
        _decrypt(ciphertext + bytes(extra))


def test_only_an_empty_payload_has_an_empty_chunk() -> None:
    # Made by a writer who holds the key and breaks the rule.
    aead = AESGCM(KEY)
    full = aead.encrypt(bytes(12), bytes(CHUNK), None)
    empty = aead.encrypt(bytes(10) + b"\x01\x01", b"", None)
    with pytest.raises(PeerError, match="empty chunk 1"):
        b"".join(streams.decrypt_chunks(aead, [full + empty]))
    only = aead.encrypt(bytes(11) + b"\x01", b"", None)
    assert b"".join(streams.decrypt_chunks(aead, [only])) == b""


def test_the_chunk_limit_is_met_on_both_sides() -> None:
    aead = AESGCM(KEY)
    plaintext = bytes(2 * CHUNK)
    chunks = list(streams.encrypt_chunks(aead, [plaintext], chunks_max=2))
    assert b"".join(streams.decrypt_chunks(aead, chunks, chunks_max=2)) == plaintext
    with pytest.raises(CallerError, match="above 2 chunks"):
        list(streams.encrypt_chunks(aead, [plaintext + b"x"], chunks_max=2))
    with pytest.raises(PeerError, match="above 1 chunks"):
        list(streams.decrypt_chunks(aead, chunks, chunks_max=1))


def test_another_key_is_refused_before_anything_is_opened() -> None:
    untouched = (_pieces(piece, 1).__next__() for piece in [b"", b""])  # fails when it is read

    for key, commitment in ((bytes(32), COMMITMENT), (KEY, bytes(32)), (KEY, COMMITMENT[:-1])):
        with pytest.raises(PeerError, match="not the one that the manifest commits to"):
            streams.decrypt_stream(key, untouched, commitment=commitment)


def test_the_commitment_and_the_aead_key_are_derived_apart() -> None:
    # The ciphertext does not open under the payload key itself, nor under the commitment.
    ciphertext = streams.encrypt(KEY, b"secret")
    for key in (KEY, COMMITMENT):
        with pytest.raises(PeerError):
            b"".join(streams.decrypt_chunks(AESGCM(key), [ciphertext]))


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_payload_key_has_32_bytes(size: int) -> None:
    key = bytes(size)
    with pytest.raises(CallerError, match="it has 32"):
        streams.commitment(key)
    with pytest.raises(CallerError, match="it has 32"):
        streams.encrypt(key, b"")
    with pytest.raises(CallerError, match="it has 32"):
        streams.decrypt(key, b"", commitment=COMMITMENT)
