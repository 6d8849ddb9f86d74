"""Sealing piece by piece gives what sealing at once does, in a row or in a blob."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relto import streams
from relto.errors import CallerError, PeerError, StoreBroken
from relto.framing import framed, take_head
from relto.links.http import Stream
from relto.payloads import Payload, pad, read_header, unpad
from relto.sealing import Sealing
from relto.stores.memory import MemoryStore
from world import World, in_world

KEY = bytes(range(32))
NAME = "ab" * 16
HEADER = {"title": "a report", "media_type": "text/plain"}


def _sealed(body: bytes, piece_bytes: int) -> tuple[Sealing, bytes]:
    store = MemoryStore()
    sealing = Sealing(store, NAME, KEY, Payload(HEADER, b"").encode_header(), len(body))
    for start in range(0, len(body), piece_bytes):
        sealing.add(body[start : start + piece_bytes])
    sealing.finish()
    if sealing.stored == "row":
        assert store.blob_names() == []
        return sealing, sealing.inline
    assert sealing.stored == NAME
    size = store.blob_size(NAME)
    ranges = (store.blob_read(NAME, at, min(65_536, size - at)) for at in range(0, size, 65_536))
    return sealing, b"".join(ranges)


@pytest.mark.parametrize("size", [0, 1, 65_000, 65_536, 300_000, 3_000_001])
def test_pieces_give_the_same_ciphertext_as_the_whole(size: int) -> None:
    body = bytes(i * 7 % 251 for i in range(size))
    sealing, ciphertext = _sealed(body, 50_001)
    assert ciphertext == streams.encrypt(KEY, pad(Payload(HEADER, body).encode()))
    assert sealing.digest == hashlib.sha256(ciphertext).hexdigest()
    assert sealing.size_bytes == len(ciphertext)


def test_what_is_short_becomes_a_row_and_what_is_long_a_blob() -> None:
    assert _sealed(bytes(1000), 100)[0].stored == "row"
    assert _sealed(bytes(100_000), 100_000)[0].stored == NAME


@pytest.mark.parametrize(("announced", "given"), [(10, 9), (10, 11), (0, 1), (200_000, 100_000)])
def test_a_body_of_another_size_than_announced_is_refused(announced: int, given: int) -> None:
    sealing = Sealing(MemoryStore(), NAME, KEY, b"", announced)

    def whole() -> None:
        sealing.add(bytes(given))
        sealing.finish()

    with pytest.raises(CallerError, match=r"announced|cut off"):
        whole()


@given(st.binary(max_size=300), st.integers(1, 40))
def test_a_header_is_read_off_a_plaintext_in_pieces(body: bytes, size: int) -> None:
    data = Payload(HEADER, body).encode()
    payload, rest = read_header(data[i : i + size] for i in range(0, len(data), size))
    assert (payload.header, b"".join(rest)) == (HEADER, body)
    padded = pad(data)
    assert Payload.decode(unpad(padded)) == Payload(HEADER, body)


@pytest.mark.parametrize("size", [0, 3, 4, 20])
def test_a_plaintext_that_ends_in_its_header_is_none(size: int) -> None:
    data = Payload(HEADER, b"").encode()[:size]
    with pytest.raises(PeerError, match="before its header does"):
        read_header([data[:2], data[2:]])


@given(st.binary(max_size=50), st.integers(1, 9))
def test_a_framed_head_is_read_off_pieces(body: bytes, size: int) -> None:
    data = framed({"a": 1}, body)
    head, rest = take_head(data[i : i + size] for i in range(0, len(data), size))
    assert (head, b"".join(rest)) == ({"a": 1}, body)


@in_world("carried", payload_bytes_max=4 * 1024 * 1024)
async def test_a_byte_that_changes_between_the_two_passes_of_a_reading_is_found(
    world: World,
) -> None:
    """The first pass held, so it is the store that is broken, and not the maker's payload."""
    body = bytes(3_000_000)
    place = world["KOR"]
    item = place.item(await world.share("KOR", "KOR:III", "JPN", topics=("passed",), body=body))
    for at, whole in ((10, 0), (-10, 2)):  # of pieces of about 1 MiB
        _, stream = await place.node.read_payload(item, "kim")
        place.store._blobs[item.stored].data[at] ^= 1
        pieces, fault = await _pieces(stream)
        assert len(pieces) == whole
        assert "was damaged in the store while it was read" in str(fault)
        place.store._blobs[item.stored].data[at] ^= 1
    _, stream = await place.node.read_payload(item, "kim")
    pieces, fault = await _pieces(stream)
    assert (b"".join(pieces), fault) == (body, None)


async def _pieces(stream: Stream) -> tuple[list[bytes], StoreBroken | None]:
    """What came, and what ended it."""
    pieces = []
    try:
        async for piece in stream.pieces:
            pieces.append(piece)
    except StoreBroken as e:
        return pieces, e
    return pieces, None
