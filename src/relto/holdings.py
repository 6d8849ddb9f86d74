"""What a node holds, by classes: items about which every decision is the same.

A node decides about an item it holds by the label, by what it came on (basis) and by the mark as
held. The class of an item is a digest of all three, whole, with places in the stead of items' ids;
so nothing that a decision reads can be missing, and items that differ in content alone are of one
class. It is written when an item comes to be held, or is held on something more, since to read a
million items again takes minutes.

A node keeps no consents and no status records yet: what a decision would read of them belongs here.
"""

import hashlib
from typing import Any

from relto import canonical
from relto.items import Item
from relto.labels import SELF, Holding, Label, Words, decode_holding
from relto.ports import Transaction

__all__ = ["KIND", "class_of", "holding_of", "is_held", "note_class"]

KIND = "held"
HELD = ("made", "review", "received", "passing")  # states of an item that is here, whole
_FORM = "relto-class/1"  # with another one every row is to be made anew: a new layout


def holding_of(item: Item, label: Label, words: Words, party: str) -> Holding:
    """How `party`, whose node this is, came by the item. Raises QuestionError."""
    holding: dict[str, Any] = {"basis": dict(item.basis)}
    if item.held_as is not None:
        holding["held_as"] = item.held_as
    return decode_holding(holding, words, label, party)


def is_held(item: Item) -> bool:
    """Whether the item is here: made here, come whole, or passing through unread."""
    return item.state in HELD


def class_of(item: Item) -> str:
    """The item's class, 64 hex: equal for items that nothing but names tells apart.

    Sources go by their place, the item itself by 0. Their order stays: of several clauses that
    would do, a decision takes the first for the first source.
    """
    label = dict(item.manifest.label)
    places: dict[Any, int | str] = {item.id: 0, SELF: SELF}
    if "sources" in label:
        for source in label["sources"]:
            places.setdefault(source.get("item"), len(places) - 1)
        label["sources"] = [s | {"item": places[s.get("item")]} for s in label["sources"]]
    basis = [[places.get(source, source), receipts] for source, receipts in item.basis.items()]
    whole: dict[str, Any] = {
        "format": _FORM,
        "label": label,
        "basis": sorted(basis, key=lambda entry: str(entry[0])),
    }
    if item.held_as is not None:
        whole["held_as"] = item.held_as
    return hashlib.sha256(canonical.encode(whole)).hexdigest()


def note_class(tx: Transaction, before: Item | None, item: Item) -> None:
    """Keep the class of an item that was `before`, in the transaction that writes it."""
    was_held = before is not None and is_held(before)
    if not is_held(item):
        if was_held:
            tx.delete(KIND, item.id)
        return
    is_as_before = was_held and before is not None and _changing(before) == _changing(item)
    if not is_as_before:
        tx.put(KIND, item.id, b"", state=class_of(item))


def _changing(item: Item) -> tuple[object, object]:
    """What of a class may change: an item's label is fixed by its id."""
    return item.basis, item.held_as
