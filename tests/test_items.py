"""An item as a node keeps it: what is written is read back, and what it is called in lists."""

from dataclasses import replace

import pytest

from relto import canonical
from relto.envelope import Signature
from relto.errors import StoreBroken
from relto.exchange import step
from relto.items import Item
from steps import NOW, apply, approve, arrive, consignment_hop, sender_states, view

STATES = [state for state in sender_states() if state != "nothing"]


def here(state: str) -> Item:
    item = sender_states()[state]
    assert item is not None
    return item


def received(*, whole: bool = True) -> Item:
    item = step(view("USA", None), arrive(consignment_hop(ciphertext=whole)), NOW).item
    assert item is not None
    return item


def passed_on() -> Item:
    item = received()
    return apply("USA", item, approve(item, "USA", "smith"))


@pytest.mark.parametrize("state", STATES)
def test_an_item_in_any_state_is_read_back_as_it_was(state: str) -> None:
    item = here(state)
    assert Item.decode(item.encode()) == item
    assert Item.decode(item.encode()).encode() == item.encode()


def test_an_item_that_came_is_read_back_as_it_was() -> None:
    for item in (received(), received(whole=False), passed_on()):
        assert Item.decode(item.encode()) == item
        carried = replace(item, key=None, sealed_keys={"JPN": bytes(range(200))})
        assert Item.decode(carried.encode()) == carried


def test_what_is_listed_says_where_an_item_stands() -> None:
    assert here("review").state == "review"
    assert here("ready").state == "made"
    assert here("delivered").state == "made"
    assert here("declined").state == "review"
    assert received().state == "received"
    assert received(whole=False).state == "receiving"
    assert replace(received(), key=None).state == "passing"
    [incoming] = received().incoming
    refused = replace(received(), incoming=(replace(incoming, state="refused"),))
    assert refused.state == "refused"
    both = replace(refused, incoming=(*refused.incoming, incoming))
    assert both.state == "received"


@pytest.mark.parametrize(
    ("state", "is_open"),
    [
        ("review", True), ("ready", True), ("sent", True), ("with-hub", True), ("blocked", True),
        ("delivered", False), ("refused", False), ("declined", False),
    ],
)  # fmt: skip
def test_a_way_is_open_until_it_is_delivered_or_refused(state: str, is_open: bool) -> None:
    assert here(state).outgoing[0].is_open == is_open


def test_an_unsigned_manifest_has_no_envelope() -> None:
    item = replace(here("review"), manifest_signatures=())
    with pytest.raises(Exception, match="0 signatures"):
        _ = item.manifest_envelope
    signed = replace(item, manifest_signatures=(Signature("0" * 64, b"x"),))
    assert signed.manifest_envelope.record_id == item.id


DAMAGE = [b"", b"{}", b"[]", b"null", b'{"format":"relto-item/1"}', b"\xff"]


@pytest.mark.parametrize("data", DAMAGE)
def test_a_damaged_item_is_a_broken_store(data: bytes) -> None:
    with pytest.raises(StoreBroken, match="cannot be read"):
        Item.decode(data)


KEYS = [
    "id", "manifest", "signatures", "precedence", "at", "made_here", "stored", "basis",
    "sealed_keys", "certificates", "incoming", "outgoing",
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_an_item_that_lacks_a_part_is_a_broken_store(key: str) -> None:
    value = canonical.decode(passed_on().encode(), size_bytes_max=10**7)
    assert isinstance(value, dict)
    del value[key]
    with pytest.raises(StoreBroken):
        Item.decode(canonical.encode(value))
