"""How a store of an earlier layout becomes one of this: a step for each version, in one commit."""

from collections.abc import Callable, Iterator

from relto.holdings import note_class
from relto.items import Item
from relto.ports import Transaction
from relto.shared import note_item

__all__ = ["MIGRATIONS", "PAGE_ROWS", "SCHEMA_VERSION"]

SCHEMA_VERSION = 3
PAGE_ROWS = 200


def _list_peers_records(tx: Transaction) -> None:
    """1 → 2: for each peer the list of its own records here, which it asks for (`relto.shared`)."""
    for item in _items(tx):
        note_item(tx, item)


def _keep_classes(tx: Transaction) -> None:
    """2 → 3: the class of each item held, by which a change of regime is looked at."""
    for item in _items(tx):
        note_class(tx, None, item)


def _items(tx: Transaction) -> Iterator[Item]:
    """Every item, a page in memory at a time."""
    after = ""
    while rows := tx.listing("item", after=after, limit=PAGE_ROWS):
        after = rows[-1].cursor
        for row in rows:
            yield Item.decode(row.body)


MIGRATIONS: dict[int, Callable[[Transaction], None]] = {1: _list_peers_records, 2: _keep_classes}
"""From a version to the next. The tables are those of version 1 until a step changes them."""
