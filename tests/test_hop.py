"""Hop messages: sealed for one reader, decoded strictly, of few sizes."""

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relto import canonical
from relto.envelope import Envelope, Signature
from relto.errors import PeerError
from relto.hop import (
    SEALED_BYTES_MAX,
    Hop,
    key_id_of,
    open_hop,
    open_key,
    seal_hop,
    seal_key,
)
from relto.records import Receipt
from relto.seal import HpkePrivateKey
from relto.trust import Certificates
from world import keys_of

KEY = HpkePrivateKey(bytes(31) + b"\1")
OTHER_KEY = HpkePrivateKey(bytes(31) + b"\2")
ITEM = "a" * 64
RECORD = Envelope(
    Receipt.type(),
    Receipt(ITEM, "JPN", ("1" * 64,), "2015-01-05T00:00:00Z").encode(),
    (Signature("0" * 64, b"x"),),
)
BARE = Hop((RECORD,))


def full() -> Hop:
    return Hop(
        (RECORD, RECORD),
        Certificates.of([keys_of("KOR").node.certificate, keys_of("USA").node.certificate]),
        {ITEM: bytes(32)},
        {ITEM: bytes(1200)},
        {ITEM: bytes(range(256))},
    )


def test_a_hop_message_comes_back_as_it_was() -> None:
    for hop in (BARE, full()):
        assert Hop.decode(hop.encode()) == hop
        assert Hop.decode(hop.encode()).encode() == hop.encode()


def changed(**values: Any) -> bytes:
    return canonical.encode({**_json(full()), **values})


def _json(hop: Hop) -> dict[str, Any]:
    value = canonical.decode(hop.encode(), size_bytes_max=10**7, depth_max=9)
    assert isinstance(value, dict)
    return dict(value)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


FAULTS: dict[str, Callable[[], bytes]] = {
    "no records": lambda: changed(records=[]),
    "too many records": lambda: changed(records=[RECORD.to_json()] * 65),
    "records that are no list": lambda: changed(records={}),
    "a record that is none": lambda: changed(records=[{}]),
    "a record without a signature": lambda: changed(
        records=[{**RECORD.to_json(), "signatures": []}]
    ),
    "a record with a key too many": lambda: changed(records=[{**RECORD.to_json(), "x": 1}]),
    "certificates that are no list": lambda: changed(certificates={}),
    "a certificate that is none": lambda: changed(certificates=[b64(b"hello")]),
    "a certificate that is no text": lambda: changed(certificates=[1]),
    "a certificate that is too long": lambda: changed(certificates=[b64(bytes(4097))]),
    "too many certificates": lambda: changed(
        certificates=[b64(keys_of("KOR").node.certificate)] * 65
    ),
    "keys that are no object": lambda: changed(keys=[]),
    "a key that is too long": lambda: changed(keys={ITEM: b64(bytes(33))}),
    "a key that is no text": lambda: changed(keys={ITEM: 7}),
    "too many keys": lambda: changed(keys={f"{i:064x}": b64(bytes(32)) for i in range(65)}),
    "a sealed key that is too long": lambda: changed(sealed_keys={ITEM: b64(bytes(8193))}),
    "base64 without its padding": lambda: changed(keys={ITEM: "AA"}),
    "base64 with a line end": lambda: changed(keys={ITEM: b64(bytes(32)) + "\n"}),
    "base64 in another form": lambda: changed(keys={ITEM: "AB=="}),
    "base64 of the address alphabet": lambda: changed(keys={ITEM: "-_8="}),
    "no base64": lambda: changed(ciphertexts={ITEM: "hello!"}),
    "a list for a hop": lambda: b"[]",
    "nothing": lambda: b"",
    "a text": lambda: b'"hop"',
    "a space more": lambda: full().encode() + b" ",
    "one byte less": lambda: full().encode()[:-1],
    "a key of the message twice": lambda: full().encode()[:-1] + b',"keys":{}}',
    "too deep": lambda: changed(keys={ITEM: [[[[[[[]]]]]]]}),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_nearly_a_hop_message_is_refused(case: str) -> None:
    with pytest.raises(PeerError) as caught:
        Hop.decode(FAULTS[case]())
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("key", ["records", "certificates", "keys", "sealed_keys", "ciphertexts"])
def test_no_part_may_be_missing_and_none_be_added(key: str) -> None:
    data = _json(full())
    del data[key]
    with pytest.raises(PeerError):
        Hop.decode(canonical.encode(data))
    with pytest.raises(PeerError):
        Hop.decode(changed(**{key + "s": []}))


def test_each_limit_is_taken() -> None:
    assert len(Hop.decode(changed(records=[RECORD.to_json()] * 64)).records) == 64
    many = {f"{i:064x}": b64(bytes(32)) for i in range(64)}
    assert len(Hop.decode(changed(keys=many)).keys) == 64
    assert Hop.decode(changed(sealed_keys={ITEM: b64(bytes(8192))})).sealed_keys[ITEM]


def test_too_many_certificates_are_refused_wherever_they_come_from() -> None:
    one = keys_of("KOR").node.certificate
    assert len(Certificates.of([one] * 100).by_keyid) == 1  # one key


# Sealing


def sealed(hop: Hop = BARE) -> bytes:
    return seal_hop([hop.encode()], sender="KOR", recipient="USA", key=KEY.public_key)


def test_only_the_recipient_opens_what_is_sealed_for_it() -> None:
    data = sealed(full())
    assert key_id_of(data) == KEY.public_key.key_id
    assert open_hop(data, sender="KOR", recipient="USA", key=KEY) == (full(),)
    for sender, recipient, key in (
        ("JPN", "USA", KEY),
        ("KOR", "JPN", KEY),
        ("USA", "KOR", KEY),
        ("KOR", "USA", OTHER_KEY),
    ):
        with pytest.raises(PeerError):
            open_hop(data, sender=sender, recipient=recipient, key=key)


def test_a_sealed_message_is_never_the_same_twice_and_never_shows_what_is_inside() -> None:
    first, second = sealed(full()), sealed(full())
    assert first != second
    assert len(first) == len(second)
    assert RECORD.payload not in first
    assert ITEM.encode() not in first


@given(st.integers(0, 2_000), st.integers(0, 255))
def test_any_changed_byte_is_noticed(position: int, change: int) -> None:
    data = bytearray(SEALED)
    position %= len(data)
    if data[position] == change:
        return
    data[position] = change
    with pytest.raises(PeerError):
        open_hop(bytes(data), sender="KOR", recipient="USA", key=KEY) if position >= 32 else (
            _open_by_its_key_id(bytes(data))
        )


def _open_by_its_key_id(data: bytes) -> tuple[Hop, ...]:
    """A node looks for the key that a message names."""
    if key_id_of(data) != KEY.public_key.key_id:
        raise PeerError("no such key")
    return open_hop(data, sender="KOR", recipient="USA", key=KEY)


SEALED = seal_hop([BARE.encode()], sender="KOR", recipient="USA", key=KEY.public_key)


@pytest.mark.parametrize("size", [0, 1, 31, 32])
def test_a_message_of_a_few_bytes_is_refused(size: int) -> None:
    with pytest.raises(PeerError):
        key_id_of(SEALED[:size])
    with pytest.raises(PeerError):
        open_hop(SEALED[: size + 1], sender="KOR", recipient="USA", key=KEY)


def test_sizes_on_the_wire_are_few() -> None:
    """What differs by a few bytes inside has one size outside."""
    sizes = {
        len(sealed(replace(BARE, ciphertexts={ITEM: bytes(size)}))) for size in range(1000, 1016)
    }
    assert len(sizes) == 1
    assert max(sizes) < SEALED_BYTES_MAX


def test_a_key_sealed_past_a_hub_is_for_one_item_of_one_sender() -> None:
    data = seal_key(bytes(32), sender="KOR", recipient="JPN", item=ITEM, key=KEY.public_key)
    assert key_id_of(data) == KEY.public_key.key_id
    assert open_key(data, sender="KOR", recipient="JPN", item=ITEM, key=KEY) == bytes(32)
    for sender, recipient, item, key in (
        ("USA", "JPN", ITEM, KEY),
        ("KOR", "USA", ITEM, KEY),
        ("KOR", "JPN", "b" * 64, KEY),
        ("KOR", "JPN", ITEM, OTHER_KEY),
    ):
        with pytest.raises(PeerError):
            open_key(data, sender=sender, recipient=recipient, item=item, key=key)
    with pytest.raises(PeerError):  # nor is it taken for a hop message
        open_hop(data, sender="KOR", recipient="JPN", key=KEY)
    with pytest.raises(PeerError):
        open_key(SEALED, sender="KOR", recipient="USA", item=ITEM, key=KEY)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_encode_back(data: bytes) -> None:
    try:
        assert Hop.decode(data).encode() == data
    except PeerError as e:
        line = str(e)
        assert line.isprintable()
