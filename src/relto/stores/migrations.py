"""How a store of an earlier layout becomes one of this: a step for each version, in one commit."""

from collections.abc import Callable

from relto.items import Item
from relto.ports import Transaction
from relto.shared import note_item

__all__ = ["MIGRATIONS", "PAGE_ROWS", "SCHEMA_VERSION"]

SCHEMA_VERSION = 2
PAGE_ROWS = 200


def _list_peers_records(tx: Transaction) -> None:
    """1 → 2: for each peer the list of its own records here, which it asks for (`relto.shared`)."""
    after = ""
    while rows := tx.listing("item", after=after, limit=PAGE_ROWS):
        after = rows[-1].cursor
        for row in rows:
            note_item(tx, Item.decode(row.body))


MIGRATIONS: dict[int, Callable[[Transaction], None]] = {1: _list_peers_records}
"""From a version to the next. The tables are those of version 1 until a step changes them."""
