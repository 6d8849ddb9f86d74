"""Alarms: what was not handled within the time that its precedence allows (DESIGN §1).

Handled means that the destination's receipt is here, or a refusal by somebody on the path. Every
node that releases watches its own releases, so that a silent hub is heard of at the maker.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from relto import canonical
from relto.instants import instant, moment
from relto.items import Item, Outgoing
from relto.ports import Reader, Transaction

__all__ = ["HANDLING_S", "Alarm", "alarms", "is_any_due", "is_late", "raise_alarms", "watch"]

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
    were = {} if before is None else _open(before)
    are = _open(item)
    for key in were:
        if key not in are:
            tx.delete("handling", key)
    for key, outgoing in are.items():
        if key in were:
            continue
        due = moment(now) + timedelta(seconds=HANDLING_S[outgoing.precedence])
        alarm = Alarm(item.id, outgoing.proposal.to, outgoing.precedence, instant(due))
        body = canonical.encode(alarm.to_json())
        tx.put("handling", key, body, state="in-time", rank=alarm.due)


def is_any_due(reader: Reader, now: str) -> bool:
    """Whether `raise_alarms` would raise one."""
    rows = reader.listing("handling", state="in-time", limit=1)
    return bool(rows) and rows[0].rank <= now


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


def is_late(reader: Reader, item: Item, outgoing: Outgoing, now: str) -> bool:
    """Whether a way of the item should have been handled before `now`, and was not."""
    body = reader.get("handling", _key(item, outgoing))
    return body is not None and _alarm(body).due <= now


def _open(item: Item) -> dict[str, Outgoing]:
    return {_key(item, outgoing): outgoing for outgoing in item.outgoing if outgoing.is_open}


def _key(item: Item, outgoing: Outgoing) -> str:
    """To one party, for one release that asked for it or for none, one way at most is open."""
    return f"{item.id}:{outgoing.proposal.to}:{outgoing.answers or ''}"


def _alarm(body: bytes) -> Alarm:
    what: Any = canonical.decode(body, size_bytes_max=_BODY_BYTES_MAX)
    return Alarm(**what)
