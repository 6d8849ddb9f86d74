"""What a node has committed of each peer's own records, in order: what it tells a peer that asks.

One row for every release that a peer sent and every receipt or refusal of its own, numbered for
each peer apart (rule 6). A peer whose store is behind finds in it what it has forgotten.

A place in a list is told with a digest of what lies before it. Where ours was lost and grew again
in another order, the digest is another, and the peer reads that list anew; no other list shows it.
"""

import hashlib
from dataclasses import dataclass

from relto.events import Arrive, Recover, Result
from relto.items import Item
from relto.ports import Reader, Transaction
from relto.records import Receipt, Refusal, decode_record

__all__ = [
    "PAGE_ROWS",
    "START",
    "Position",
    "SharedRecord",
    "note_event",
    "note_item",
    "page",
    "position",
]

KIND = "shared"
PAGE_ROWS = 500
_LAST = "~"  # behind every key of the same rank: keys begin with a party's code


@dataclass(frozen=True, slots=True)
class SharedRecord:
    """A record of a peer's that we have: `release` is the release that it is or that it answers."""

    record: str
    item: str
    release: str


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a peer's list: how many records lie before it, and a digest of them, 32 hex."""

    number: int
    link: str

    def past(self, record: str) -> "Position":
        link = hashlib.sha256(f"{self.link}:{record}".encode()).hexdigest()
        return Position(self.number + 1, link[: len(self.link)])


START = Position(0, "0" * 32)


def position(reader: Reader, peer: str, number: int, known: Position) -> Position | None:
    """The place with `number` records before it, found from one that lies at most a page before.

    None where it does not, or where there are fewer records.
    """
    count = number - known.number
    if not 0 <= count <= PAGE_ROWS:
        return None
    for record in _records(reader, peer, known, count):
        known = known.past(record.record)
    return known if known.number == number else None


def page(reader: Reader, peer: str, after: Position) -> tuple[list[SharedRecord], Position, bool]:
    """Records of a peer behind a place, the place behind them, and whether there may be more."""
    records = _records(reader, peer, after, PAGE_ROWS)
    for record in records:
        after = after.past(record.record)
    return records, after, len(records) == PAGE_ROWS


def _records(reader: Reader, peer: str, after: Position, limit: int) -> list[SharedRecord]:
    if not limit:
        return []
    cursor = f"16:{after.number:016d}{_LAST}" if after.number else ""
    records = []
    for row in reader.listing(KIND, state=peer, after=cursor, limit=limit):
        item, _, release = row.body.decode("ascii").partition(":")
        records.append(SharedRecord(row.key.partition(":")[2], item, release))
    return records


def note_event(tx: Transaction, event: Arrive | Result | Recover, item: Item) -> None:
    """What an event has brought of its sender's own records."""
    if isinstance(event, Arrive):
        release = event.consignment.release_envelope.record_id
        _note(tx, event.sender, release, item.id, release)
    elif isinstance(event, Result):
        if event.record.party == event.sender:
            _note_result(tx, event.sender, event.envelope.record_id, item, event.record)
    else:
        release = event.consignment.release_envelope.record_id
        if event.consignment.release.sender == event.giver:
            _note(tx, event.giver, release, item.id, release)
        for envelope, record in event.results:
            if record.party == event.giver:
                _note(tx, event.giver, envelope.record_id, item.id, release)


def note_item(tx: Transaction, item: Item) -> None:
    """All that an item has of its peers' own records: for a store that never noted them."""
    for incoming in item.incoming:
        _note(tx, incoming.record.sender, incoming.id, item.id, incoming.id)
    for outgoing in item.outgoing:
        peer = outgoing.proposal.path[1]
        for envelope in outgoing.results:
            is_receipt = envelope.payload_type == Receipt.type()
            kind: type[Receipt] | type[Refusal] = Receipt if is_receipt else Refusal
            record: Receipt | Refusal = decode_record(envelope, kind)
            if record.party == peer:
                _note_result(tx, peer, envelope.record_id, item, record)


def _note_result(
    tx: Transaction, peer: str, result: str, item: Item, record: Receipt | Refusal
) -> None:
    for outgoing in item.outgoing:
        if outgoing.release is not None and outgoing.release.record_id in record.releases:
            _note(tx, peer, result, item.id, outgoing.release.record_id)


def _note(tx: Transaction, peer: str, record: str, item: str, release: str) -> None:
    key = f"{peer}:{record}"
    if tx.get(KIND, key) is not None:
        return
    number = _count(tx, peer) + 1
    tx.set_meta(f"{KIND}:{peer}", str(number).encode())
    tx.put(KIND, key, f"{item}:{release}".encode(), state=peer, rank=f"{number:016d}")


def _count(reader: Reader, peer: str) -> int:
    return int(reader.meta(f"{KIND}:{peer}") or b"0")
