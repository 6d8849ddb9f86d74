"""When each agreement is in force: events, notices, and the instants at which that changes.

The rules are those of DESIGN §2. A notice takes effect after all events of its instant, so that
a suspension or withdrawal at the very instant of `effective` is in time.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from relto.instants import instant
from relto.tables import Document, Problems, Table, quoted

__all__ = ["EVENTS", "Event", "Timeline", "Turns", "decode_timeline", "stands_at"]

EVENTS_MAX = 10_000
EVENTS = (
    "in-force",
    "suspended",
    "resumed",
    "termination-notified",
    "termination-suspended",
    "termination-resumed",
    "notices-withdrawn",
    "terminated",
    "lapsed",
)
_ABOUT_NOTICES = ("termination-suspended", "termination-resumed", "notices-withdrawn")


@dataclass(frozen=True, slots=True)
class Event:
    """One event of an agreement's life. `effective` is set for a notice of termination alone."""

    agreement: str
    at: datetime
    event: str
    effective: datetime | None = None


@dataclass(slots=True)
class _Notice:
    effective: datetime
    suspended: bool = False


@dataclass(slots=True)
class _Life:
    """An agreement's state while its events are read in order."""

    in_force: bool = False
    suspended: bool = False
    notices: list[_Notice] = field(default_factory=list)
    changes: list[tuple[datetime, bool]] = field(default_factory=list)

    def note(self, at: datetime) -> None:
        self.changes.append((at, self.in_force and not self.suspended))

    def expire(self, before: datetime | None) -> None:
        """Let notices that took effect earlier than `before` (None: ever) end the agreement."""
        due = [
            n for n in self.notices if not n.suspended and (before is None or n.effective < before)
        ]
        if due:
            ends = min(n.effective for n in due)
            self.notices = [n for n in self.notices if n not in due]
            self.in_force = self.suspended = False
            self.note(ends)

    def apply(self, event: Event) -> str | None:
        """Apply one event; a text says why it is out of place."""
        name = event.event
        if name == "suspended" and (not self.in_force or self.suspended):
            return "comes while the agreement is not in force"
        if name == "resumed" and not self.suspended:
            return "comes while the agreement is not suspended"
        if name in _ABOUT_NOTICES and not self.notices:
            return "comes while no notice of termination is pending"
        if name == "in-force":
            self.in_force, self.suspended, self.notices = True, False, []
        elif name in ("suspended", "resumed"):
            self.suspended = name == "suspended"
        elif name == "termination-notified":
            assert event.effective is not None  # noqa: S101  # the decoder requires it
            self.notices.append(_Notice(max(event.effective, event.at)))
        elif name == "termination-suspended":
            for notice in self.notices:
                notice.suspended = True
        elif name == "termination-resumed":
            for notice in self.notices:
                if notice.suspended:
                    notice.suspended = False
                    notice.effective = max(notice.effective, event.at)
        elif name == "notices-withdrawn":
            self.notices = []
        else:  # terminated, lapsed
            self.in_force, self.suspended, self.notices = False, False, []
        self.note(event.at)
        return None


Turns = tuple[str, ...]  # instants: comes into force, goes out of force, comes into force, …


@dataclass(frozen=True)
class Timeline:
    """When each agreement is in force, pillars counted (`rests_on`).

    `turns` has for each agreement the instants at which that changes, in order, the first being
    when it comes into force; none for one that never does.
    """

    events: tuple[Event, ...] = ()
    turns: Mapping[str, Turns] = field(default_factory=dict, compare=False)

    def in_force(self, agreement: str, at: str) -> bool:
        """Whether the agreement is in force at the instant `at`, with all that it rests on."""
        return stands_at(self.turns[agreement], at)

    def in_force_at(self, at: str) -> frozenset[str]:
        """Ids of all agreements in force at the instant `at`, each with all it rests on."""
        return frozenset(a for a, turns in self.turns.items() if stands_at(turns, at))

    def together(self, agreements: Iterable[str]) -> Turns:
        """When all of `agreements` are in force at once."""
        return _together([self.turns[a] for a in set(agreements)])


def stands_at(turns: Turns, at: str) -> bool:
    """Whether what turns at these instants stands at `at`: it does after an odd number of them."""
    return bisect_right(turns, at) % 2 == 1


def make_timeline(
    events: Iterable[Event], rests_on: Mapping[str, tuple[str, ...]]
) -> tuple[Timeline, list[tuple[int, str]]]:
    """The timeline of `events`, and (index, why) for each that is out of place.

    `rests_on` names every agreement; without events it is not in force. No cycles.
    """
    ordered = sorted(enumerate(events), key=lambda entry: entry[1].at)  # stable: file order
    lives = {agreement: _Life() for agreement in rests_on}
    faults = []
    for index, event in ordered:
        life = lives[event.agreement]
        life.expire(event.at)
        fault = life.apply(event)
        if fault:
            faults.append((index, fault))
    for life in lives.values():
        life.expire(None)
    turns = _with_pillars({a: _turns(life.changes) for a, life in lives.items()}, rests_on)
    return Timeline(tuple(e for _, e in ordered), turns), faults


def _turns(changes: Iterable[tuple[datetime, bool]]) -> Turns:
    """Of changes within one instant the last counts."""
    by_instant = {instant(at): state for at, state in sorted(changes, key=lambda change: change[0])}
    turns: list[str] = []
    for at, state in by_instant.items():
        if state != bool(len(turns) % 2):
            turns.append(at)
    return tuple(turns)


def _together(all_turns: list[Turns]) -> Turns:
    if len(all_turns) == 1:
        return all_turns[0]
    turns: list[str] = []
    for at in sorted({at for each in all_turns for at in each}):
        if all(stands_at(each, at) for each in all_turns) != bool(len(turns) % 2):
            turns.append(at)
    return tuple(turns)


def _with_pillars(
    own: Mapping[str, Turns], rests_on: Mapping[str, tuple[str, ...]]
) -> dict[str, Turns]:
    """An agreement stands while it and all that it rests on, at whatever depth, do."""
    found = {}
    for agreement in own:
        needed = {agreement}
        waiting = [agreement]
        while waiting:
            pillars = set(rests_on[waiting.pop()]) - needed
            needed |= pillars
            waiting += pillars
        found[agreement] = _together([own[a] for a in needed])
    return found


def decode_timeline(
    document: Document | None,
    rests_on: Mapping[str, tuple[str, ...]],
    broken: frozenset[str],
    problems: Problems,
) -> Timeline | None:
    """The timeline in `timeline.toml` (None: there is no such file), or None with its errors."""
    if document is None:
        return make_timeline((), rests_on)[0]
    errors_before = len(problems.errors)
    top = Table(document, (), document.data, problems)
    top.only("event")
    tables = top.tables("event", required=False, what="[[event]] tables")
    if len(tables) > EVENTS_MAX:
        top.error("event", f"more than {EVENTS_MAX} events; leave out what no longer matters")
    events: list[Event] = []
    places: list[Table] = []
    for table in tables[:EVENTS_MAX]:
        event = _decode_event(table, rests_on, broken)
        if event is not None:
            events.append(event)
            places.append(table)
    timeline, faults = make_timeline(events, rests_on)
    for index, fault in faults:
        event = events[index]
        at = event.at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        places[index].error(
            "event",
            f"{quoted(event.event)} of {event.agreement} at {at} {fault}; correct the order",
        )
    return None if len(problems.errors) > errors_before else timeline


def _decode_event(
    table: Table, rests_on: Mapping[str, tuple[str, ...]], broken: frozenset[str]
) -> Event | None:
    table.only("agreement", "at", "event", "effective")
    agreement = table.take_text("agreement", "the id of an agreement")
    at = table.take_instant("at")
    name = table.take_choice("event", EVENTS)
    is_notice = name == "termination-notified"
    effective = table.take_instant("effective", required=is_notice)
    if name is not None and not is_notice and "effective" in table.data:
        table.error("effective", f"effective stands beside {quoted(name)}; only a notice has it")
    if agreement is None or at is None or name is None or (is_notice and effective is None):
        return None
    if agreement in broken:
        return None
    if agreement not in rests_on:
        known = ", ".join(sorted(rests_on))
        table.error("agreement", f"unknown agreement {quoted(agreement)}; there are {known}")
        return None
    if is_notice and effective is not None and effective < at:
        table.warn("effective", "the notice takes effect before it is given, so it ends at once")
    return Event(agreement, at, name, effective if is_notice else None)
