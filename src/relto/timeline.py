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

__all__ = ["EVENTS", "Event", "Timeline", "decode_timeline"]

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


@dataclass(frozen=True)
class Timeline:
    """Which agreements are in force at any instant, pillars counted (`rests_on`)."""

    events: tuple[Event, ...] = ()
    _epochs: list[str] = field(default_factory=list, repr=False, compare=False)
    _in_force: list[frozenset[str]] = field(default_factory=list, repr=False, compare=False)

    def in_force_at(self, at: str) -> frozenset[str]:
        """Ids of the agreements in force at the instant `at`, each with all it rests on."""
        epoch = bisect_right(self._epochs, at)
        return self._in_force[epoch - 1] if epoch else frozenset()

    @property
    def changes(self) -> tuple[tuple[str, frozenset[str]], ...]:
        """Every instant at which something may change, with what is in force from then on."""
        return tuple(zip(self._epochs, self._in_force, strict=True))


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
    by_instant: dict[str, dict[str, bool]] = {}
    for agreement, life in lives.items():
        for at, state in sorted(life.changes, key=lambda change: change[0]):
            by_instant.setdefault(instant(at), {})[agreement] = state
    epochs: list[str] = []
    in_force: list[frozenset[str]] = []
    own: set[str] = set()
    for at_text in sorted(by_instant):
        for agreement, state in by_instant[at_text].items():
            (own.add if state else own.discard)(agreement)
        epochs.append(at_text)
        in_force.append(_with_pillars(own, rests_on))
    return Timeline(tuple(e for _, e in ordered), epochs, in_force), faults


def _with_pillars(own: set[str], rests_on: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    standing = set(own)
    while True:
        fallen = {a for a in standing if not standing.issuperset(rests_on[a])}
        if not fallen:
            return frozenset(standing)
        standing -= fallen


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
