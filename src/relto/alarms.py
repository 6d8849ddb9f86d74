"""Alarms: what was not handled within the time that its precedence allows (DESIGN §1).

Handled means that the destination's receipt is here, or a refusal by somebody on the path. Every
node that releases watches its own releases, so that a silent hub is heard of at the maker.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from relto import canonical
from relto.instants import instant, moment
from relto.items import Item
from relto.ports import Reader, Transaction

__all__ = ["HANDLING_S", "Alarm", "alarms", "is_late", "raise_alarms", "watch"]

HANDLING_S = {"FLASH": 600, "IMMEDIATE": 1_800, "PRIORITY": 10_800, "ROUTINE": 21_600}
"""How long handling may take by precedence (DESIGN §1), in seconds."""

RAISED_MAX = 200  # alarms that one transaction raises, and that one listing shows
_BODY_BYTES_MAX = 1024


@dataclass(frozen=True, slots=True)
class Alarm:
    """A way of an item to one party that is late. `due` is when it should have been handled."""

    item: str
    to: str
    precedence: str
    due: str

    def to_json(self) -> dict[str, str]:
        return {"item": self.item, "to": self.to, "precedence": self.precedence, "due": self.due}


def watch(tx: Transaction, before: Item | None, item: Item, now: str) -> None:
    """Keep the list of what is not handled yet: called with every change of an item."""
    were = () if before is None else before.outgoing
    for number, outgoing in enumerate(item.outgoing):
        was_open = number < len(were) and were[number].is_open
        if outgoing.is_open and not was_open:
            due = moment(now) + timedelta(seconds=HANDLING_S[outgoing.precedence])
            alarm = Alarm(item.id, outgoing.proposal.to, outgoing.precedence, instant(due))
            body = canonical.encode(alarm.to_json())
            tx.put("handling", _key(item.id, number), body, state="in-time", rank=alarm.due)
        elif was_open and not outgoing.is_open:
            tx.delete("handling", _key(item.id, number))


def raise_alarms(tx: Transaction, now: str) -> list[Alarm]:
    """Those whose time has run out since the last call, the earliest first; each is told once."""
    raised = []
    for row in tx.listing("handling", state="in-time", limit=RAISED_MAX):
        if row.rank > now:
            break
        tx.put("handling", row.key, row.body, state="late", rank=row.rank)
        raised.append(_alarm(row.body))
    return raised


def alarms(reader: Reader) -> list[Alarm]:
    """What is late and still not handled, the earliest first, at most `RAISED_MAX`."""
    rows = reader.listing("handling", state="late", limit=RAISED_MAX)
    return [_alarm(row.body) for row in rows]


def is_late(reader: Reader, item: str, number: int, now: str) -> bool:
    """Whether the item's way of that number should have been handled before `now`, and was not."""
    body = reader.get("handling", _key(item, number))
    return body is not None and _alarm(body).due <= now


def _key(item: str, number: int) -> str:
    return f"{item}:{number:03d}"


def _alarm(body: bytes) -> Alarm:
    what: Any = canonical.decode(body, size_bytes_max=_BODY_BYTES_MAX)
    return Alarm(**what)
