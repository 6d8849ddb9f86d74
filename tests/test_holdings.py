"""Classes of items held: alike for what a decision tells alike, apart for what it tells apart."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest

from exchange_bugs import saying
from holding_laws import classes_decide_alike, names_do_not_count
from relto.exchange import step
from relto.holdings import KIND, class_of, is_held, note_class
from relto.items import Incoming, Item
from relto.node import Node
from relto.ports import Row
from relto.stores import MemoryStore
from steps import NOW, arrive, sender_states, view
from world import OFFICERS, World, in_world

LABEL = "label = dict(item.manifest.label)"
SOURCE = 's | {"item": places[s.get("item")]}'


def label_without(key: str) -> Callable[[], AbstractContextManager[None]]:
    kept = f"{{k: v for k, v in item.manifest.label.items() if k != {key!r}}}"
    return saying(class_of, LABEL, f"label = {kept}")


def source_without(key: str) -> Callable[[], AbstractContextManager[None]]:
    kept = f"{{k: v for k, v in ({SOURCE}).items() if k != {key!r}}}"
    return saying(class_of, SOURCE, kept)


# All that a decision reads. An originator is not among it: its mark says whose it is.
FORGOTTEN = {
    **{
        f"the label's {key}": label_without(key)
        for key in ("mark", "releasable_to", "kind", "topics", "about", "sources")
    },
    **{
        f"a source's {key}": source_without(key)
        for key in ("mark", "releasable_to", "topics", "about", "held_as")
    },
    "the basis": saying(class_of, '"basis": sorted(basis,', '"basis": sorted((),'),
    "all receipts but the first": saying(
        class_of, "receipts] for source, receipts", "receipts[:1]] for source, receipts"
    ),
    "which source a receipt is of": saying(
        class_of, "[places.get(source, source), receipts]", "[0, receipts]"
    ),
    "the mark as held": saying(class_of, "if item.held_as is not None:", "if False:"),
    "the order of sources": saying(
        class_of, 'for s in label["sources"]]', 'for s in sorted(label["sources"], key=repr)]'
    ),
}


def test_items_of_one_class_decide_alike() -> None:
    classes_decide_alike(range(120))


def test_names_of_items_and_contents_make_no_class() -> None:
    names_do_not_count(range(120))


@pytest.mark.parametrize("what", FORGOTTEN)
def test_a_class_that_forgets_something_is_found(what: str) -> None:
    with FORGOTTEN[what](), pytest.raises(AssertionError, match="seed"):
        classes_decide_alike(range(120))


@pytest.mark.parametrize(("old", "new"), [(SOURCE, "s"), ("places.get(source, source)", "source")])
def test_a_class_that_keeps_names_is_found(old: str, new: str) -> None:
    with saying(class_of, old, new)(), pytest.raises(AssertionError, match="seed"):
        names_do_not_count(range(120))


# which items are held, and what is kept of them


def at_hub() -> Item:
    """The item at Washington, whole, receipted."""
    item = step(view("USA", None), arrive(), NOW).item
    assert item is not None
    return item


def incoming(state: str) -> Item:
    """The same with its way here in another state."""
    [came] = at_hub().incoming
    way = Incoming(came.release, state, came.since)
    return replace(at_hub(), incoming=(way,), outgoing=(), basis={}, held_as=None)


def noted(*states: Item | None) -> list[Row]:
    """The rows after an item went through these states, each in a commit of its own."""
    store = MemoryStore()
    for before, item in zip((None, *states), states, strict=False):
        if item is not None:
            store.commit([lambda tx, b=before, i=item: note_class(tx, b, i)])  # type: ignore[misc]
    with store.read() as reader:
        return reader.listing(KIND, limit=9)


@pytest.mark.parametrize("state", [s for s in sender_states() if s != "nothing"])
def test_what_was_made_here_is_held_wherever_it_goes(state: str) -> None:
    item = sender_states()[state]
    assert item is not None
    assert is_held(item)
    assert noted(item) == [Row(item.id, class_of(item), "", b"")]


def test_what_came_whole_is_held_read_or_not() -> None:
    assert is_held(at_hub())
    assert is_held(replace(at_hub(), key=None))


@pytest.mark.parametrize("state", ["receiving", "refused"])
def test_what_has_not_come_or_was_refused_is_not_held(state: str) -> None:
    assert not is_held(incoming(state))
    assert noted(incoming(state)) == []
    assert noted(incoming(state), at_hub()) == noted(at_hub())
    assert noted(at_hub(), incoming(state)) == []


def test_another_receipt_or_mark_makes_another_class() -> None:
    item = at_hub()
    more = [{"agreement": "gsomia-kor-usa-1987", "article": "1"}]
    wider = replace(item, basis={item.id: [*item.basis[item.id], *more]})
    lower = replace(item, held_as="USA:C")
    assert len({class_of(item), class_of(wider), class_of(lower)}) == 3
    assert noted(item, wider) == [Row(item.id, class_of(wider), "", b"")]
    assert noted(item, lower) == [Row(item.id, class_of(lower), "", b"")]


def test_the_class_is_written_once_as_long_as_it_stays() -> None:
    """The document of an item is written again at every step of its way, its class is not."""
    review, *later = [item for item in sender_states().values() if item is not None]
    store = MemoryStore()
    store.commit([lambda tx: note_class(tx, None, review)])
    store.commit([lambda tx: tx.delete(KIND, review.id)])  # whoever writes it again is seen
    for before, item in zip((review, *later), later, strict=False):
        store.commit([lambda tx, b=before, i=item: note_class(tx, b, i)])  # type: ignore[misc]
    with store.read() as reader:
        assert reader.listing(KIND, limit=9) == []


# at nodes


def wrong_classes(world: World) -> list[str]:
    """Nodes that do not keep exactly the class of every item held."""
    wrong = []
    for party in OFFICERS:
        items = {item.id: class_of(item) for item in world[party].items() if is_held(item)}
        with world[party].store.read() as reader:
            if {row.key: row.state for row in reader.listing(KIND, limit=999)} != items:
                wrong.append(party)
    return wrong


async def exchanged(world: World) -> None:
    """An item from Seoul is in Tokyo, one waits there for officers, one is built on the first."""
    first = await world.share("KOR", "KOR:III", "JPN")
    await world.approve("KOR", first, "JPN")
    await world.settle()
    await world.approve("USA", first, "JPN")
    await world.settle()
    await world.share("KOR", "KOR:III", "JPN", body=b"and another")
    await world.share(
        "JPN", "JPN:GOKUHI", "KOR", kind="assessment", readers=("KOR", "USA"), sources=(first,)
    )
    await world.settle()


@in_world()
async def test_every_node_keeps_the_class_of_every_item_held(world: World) -> None:
    await exchanged(world)
    assert [len(list(world[party].items())) for party in ("JPN", "KOR", "USA")] == [2, 2, 1]
    assert wrong_classes(world) == []


@in_world()
async def test_a_node_that_keeps_no_class_is_found(world: World) -> None:
    with saying(Node._write, "note_class(tx, before, item)", "pass")():
        await exchanged(world)
    assert wrong_classes(world) == ["JPN", "KOR", "USA"]
