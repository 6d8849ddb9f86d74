"""What a node has come to, as a digest: equal for two that go on alike.

It is all that the node's code can see: its store, but for salts, links and row numbers (the order
of the rows counts); its couriers' errors, keys, rows in hand and timers; and each lane that waits
for an answer: the functions that it is in, where in them, and their variables. A different order
of entries in a journal is not a different state: no code decides by it.
"""

import hashlib
from asyncio import Future, Timeout
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from types import CoroutineType, FrameType
from typing import Any

from relto import canonical
from relto.calls import Calls
from relto.courier import Courier
from relto.envelope import Envelope
from relto.items import Item
from relto.node import Node
from relto.ports import OutboxRow
from relto.seal import HpkePublicKey
from sim.coalition import Coalition, Place, SimLink, item_of
from sim.loop import Handle, Process, SimLoop
from sim.rules import Rules

__all__ = ["Unclear", "state_of"]

_OTHERS = (Calls, Coalition, Courier, Node, Place, Process, SimLink, SimLoop)
"""What has a state of its own, which is not that of a variable."""

_PAST = {"look_s", "numbers", "wait_s"}
"""Variables of `Courier._lane` that say nothing new: how long it slept last, its rows' numbers."""

_told_items: dict[int, tuple[Item, str]] = {}  # by identity: nobody changes what is in an item


class Unclear(Exception):
    """The process has something in hand that cannot be told."""


@dataclass(frozen=True, slots=True)
class _Lane:
    """A courier's lane, and the functions that it is in."""

    peer: str
    index: int
    task: Any
    inside: "list[CoroutineType[Any, Any, Any]]"

    @property
    def is_asking(self) -> bool:
        return bool(self.inside) and self.inside[-1].__qualname__ == "SimLink.request"

    @property
    def timer(self) -> Any:
        """That ends its asking."""
        return _frame(self.inside[-1]).f_locals["timer"]


def state_of(place: Place, rules: Rules) -> str:
    """Raises Unclear."""
    state = place.disk.state
    now_ms = place.clock.monotonic_ms()
    rows = [
        (r.peer, r.precedence, max(0, r.due_ms - now_ms), max(0, r.lease_until_ms - now_ms),
         r.attempts, r.error, r.subject, r.body)
        for _, r in sorted(state.outbox.items())
    ]  # fmt: skip
    rows.sort(key=lambda row: row[:1])  # those of one peer keep their order
    owed = {(row[0], _result_in(row[-1])) for row in rows}
    told = [key for key in rules.told if key[0] == place.party and key[1:] in owed]
    stale = [(key[2], count) for key, count in rules.stale.items() if key[0] == place.party]
    documents = [
        (kind, key, r.state, r.rank, _item_state(r.body) if kind == "item" else r.body)
        for (kind, key), r in state.documents.items()
    ]
    stored = (
        sorted(documents),
        rows,
        sorted(row.entry for row in state.journal),
        sorted(state.meta.items()),
        sorted(told),
        sorted(stale),
    )  # fmt: skip
    process = place.process
    volatile: Any = None
    if process is not None:
        lanes = [
            _Lane(peer, index, task, list(_awaited(task.get_coro())))
            for peer, courier in sorted(place.couriers.items())
            for index, task in enumerate(courier._tasks)
        ]
        asking = [lane for lane in lanes if lane.is_asking]
        if not process.is_serving or process.waiting or len(asking) != process.asking:
            raise Unclear
        volatile = (
            [_courier_state(place, c, now_ms) for _, c in sorted(place.couriers.items())],
            [(lane.peer, lane.index, list(map(_remembered, lane.inside))) for lane in asking],
            _timers(place, process, lanes),
            place.clock.booted_ms if asking else 0,
        )
    return hashlib.sha256(repr((stored, volatile)).encode()).hexdigest()


def _courier_state(place: Place, courier: Courier, now_ms: int) -> Any:
    calls = courier.calls
    hands = courier.hands
    rows = place.disk.state.outbox

    def what(number: int) -> bytes:  # not which row it is, but what it is about
        return rows[number].body if number in rows else b""

    return (
        calls.error,
        courier._calls_failed,
        sorted((party, key.key_id) for party, key in calls._keys.items()),
        calls._renew_at_ms - now_ms,
        sorted(map(what, hands._numbers)),
        [(precedence, what(number)) for precedence, number, _ in sorted(hands._waiting)],
        sorted((what(number), ms - now_ms) for number, (_, ms) in hands._accepted.items()),
        [max(0, ms - now_ms) for ms in courier._look_ms],
        courier._found,
        [max(0, ms - now_ms) for ms in courier._later_ms],
        [awake.is_set() for awake in courier._awake],
    )


def _timers(place: Place, process: Process, lanes: list[_Lane]) -> list[Any]:
    """What will wake which lane, in that order, and after how long."""
    loop = place.coalition.loop
    sleeping = {lane.task: (lane.peer, lane.index) for lane in lanes}
    asking = {lane.timer: (lane.peer, lane.index) for lane in lanes if lane.is_asking}
    found = []
    for handle in loop.timers_of(process):
        timeout: Any = getattr(handle.callback, "__self__", None)
        is_sleep = isinstance(timeout, Timeout)
        lane = sleeping[timeout._task] if is_sleep else asking[handle]
        found.append((lane, round(handle.when() - loop.now_s, 6)))
    return found


def _awaited(coro: Any) -> "Iterator[CoroutineType[Any, Any, Any]]":
    """A coroutine, and those that wait in it for one another."""
    while isinstance(coro, CoroutineType):
        yield coro
        coro = coro.cr_await


def _remembered(coro: "CoroutineType[Any, Any, Any]") -> Any:
    """Which function it is in, where, and its variables."""
    name, frame = coro.__qualname__, _frame(coro)
    values = frame.f_locals
    if name == "Courier._deliver" and len(values["granted"]) != len(values["message"]):
        raise Unclear("which messages are still to come is in no variable")
    past = _PAST if name == "Courier._lane" else set()
    told = [(key, _told(value)) for key, value in sorted(values.items()) if key not in past]
    return name, frame.f_lasti, told


def _frame(coro: "CoroutineType[Any, Any, Any]") -> FrameType:
    assert coro.cr_frame is not None, "it is done"
    return coro.cr_frame


def _told(value: Any) -> Any:
    """A variable, without what differs though it makes no difference."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if isinstance(value, _OTHERS):
        return type(value).__name__
    if isinstance(value, OutboxRow):
        return [getattr(value, f.name) for f in fields(value) if f.name != "number"]
    if isinstance(value, Item):
        if id(value) not in _told_items:
            if len(_told_items) > 4096:
                _told_items.clear()
            _told_items[id(value)] = value, _item_state(value.encode())
        return _told_items[id(value)][1]
    if isinstance(value, HpkePublicKey):
        return value.key_id
    if isinstance(value, Future):
        return "an answer"
    if isinstance(value, Handle):
        return value.when()
    if isinstance(value, list | tuple):
        return [_told(each) for each in value]
    if isinstance(value, dict):  # of rows, by their numbers
        return [_told(each) for each in value.values()]
    if is_dataclass(value):
        return [type(value).__name__, *(_told(getattr(value, f.name)) for f in fields(value))]
    raise Unclear(f"a variable of type {type(value).__name__}")


@lru_cache(maxsize=1024)
def _result_in(body: bytes) -> str:
    """The id of the result that a row of the outbox has; "" if it has none."""
    owed: Any = canonical.decode(body, size_bytes_max=len(body))
    return Envelope.from_json(owed["result"]).record_id if "result" in owed else ""


@lru_cache(maxsize=16384)
def _item_state(body: bytes) -> str:
    item = item_of(body)
    return repr(
        (
            item.manifest_payload,
            sorted(s.keyid for s in item.manifest_signatures),
            (item.precedence, item.at, item.made_here, item.key, item.stored, item.held_as),
            sorted(item.basis.items()),
            sorted(item.sealed_keys.items()),
            sorted(item.certificates.by_keyid),
            item.incoming,
            [replace(o, outbox=None if o.outbox is None else 0) for o in item.outgoing],
        )
    )
