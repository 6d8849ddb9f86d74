"""The life of an agreement's version, from draft to end: a table of legal moves, folded over time.

`moved(life, move, at)` is the life after a party's move that the depositary received at `at`;
what is out of place raises, and changes nothing. `life_at(life, at)` lets time pass: a date comes,
a term runs out, a notice takes effect. Pure; signatures are for `relto.instruments`.
"""

from calendar import monthrange
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from relto.clauses import Agreement
from relto.errors import PeerError
from relto.instants import instant, moment
from relto.moves import Move
from relto.timeline import Event

__all__ = ["LEGAL", "Life", "Notice", "events_of", "life_at", "may_move", "moved"]

TERM_DAY_H = 24  # a notice for the end of a term names an instant at most so far from it
TERMS_MAX = 2_000  # renewals that are looked at: more than a hundred years of terms of a month

LEGAL: Mapping[str, tuple[str, str]] = {
    "opened": ("draft", "by the depositary"),
    "signed": ("open", "by each party, once"),
    "withdrawn": ("open", "by any party, before the last signature"),
    "notified": ("signed", "by each party, once, where the agreement begins so"),
    "suspended": ("in-force", "by any party that has not suspended it"),
    "resumed": ("in-force", "by a party that suspended it"),
    "termination-notified": ("in-force", "by a party without a notice pending, in time"),
    "termination-suspended": ("in-force", "by a party whose notice is pending"),
    "termination-resumed": ("in-force", "by a party that suspended its notice"),
    "notice-withdrawn": ("in-force", "by a party whose notice is pending"),
}
"""Each move: the phase in which alone it is legal, and by whom. Suspended is a state of `in-force`,
and what is `withdrawn` or `ended` moves no more."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A party's notice that it ends the agreement, and whether it has suspended that notice."""

    effective: str
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class Life:
    """Where a version stands after its latest move, and what it was before; a draft before any."""

    agreement: Agreement
    phase: str = "draft"  # open, signed, in-force; for good: withdrawn, ended
    signed: Mapping[str, str] = field(default_factory=dict)  # party -> when it signed
    notified: frozenset[str] = frozenset()
    suspended_by: frozenset[str] = frozenset()
    notices: Mapping[str, Notice] = field(default_factory=dict)  # by the party that gave it
    begins: str = ""  # once it is known
    ended: str = ""
    why: str = ""  # it ended: terminated, lapsed
    last_at: str = ""  # of the latest move
    seqs: Mapping[str, int] = field(default_factory=dict)  # party -> of its latest move
    changes: tuple[tuple[str, str], ...] = ()  # from when it was in force, suspended, ended

    @property
    def missing(self) -> tuple[str, ...]:
        """The parties that have not signed yet."""
        return tuple(sorted(self.agreement.parties - self.signed.keys()))

    @property
    def is_in_force(self) -> bool:
        return self.phase == "in-force" and not self.suspended_by

    @property
    def state(self) -> str:
        """The phase; `suspended` in the place of `in-force` while it is."""
        return "suspended" if self.phase == "in-force" and self.suspended_by else self.phase

    @property
    def next_end(self) -> str:
        """When it ends if nobody moves any more; empty if it does not, or has not begun."""
        return min((at for at, _ in _ends(self)), default="")


def moved(life: Life, move: Move, at: str) -> Life:
    """The life after `move`, which the depositary received at the instant `at`.

    Raises PeerError for what is out of place, with what would be in place.
    """
    agreement = life.agreement
    if move.party not in agreement.parties:
        raise PeerError(f"{move.party} is no party of {agreement.id}, so it moves nothing in it")
    if at < life.last_at:
        raise PeerError(f"received at {at}, which is before the move before it, {life.last_at}")
    if move.at > at:
        raise PeerError(f"{move.move} of {move.party} is made at {move.at}, after its receipt {at}")
    if move.seq <= life.seqs.get(move.party, -1):
        raise PeerError(f"{move.party} moved already under seq {life.seqs[move.party]} or later")
    life = _passed(life, at, inclusive=False)
    fault = _fault(life, move, at)
    if fault:
        raise PeerError(f"{move.move} of {move.party} is out of place: {fault}")
    life = replace(life, last_at=at, seqs={**life.seqs, move.party: move.seq})
    return _made(life, move, at)


def may_move(life: Life, party: str, at: str) -> tuple[str, ...]:
    """The moves that `party` may make at `at`; of a notice only whether there may be one."""
    life = _passed(life, at, inclusive=False)
    found = []
    for name in LEGAL:
        effective = next(_effectives(life, at), "") if name == "termination-notified" else ""
        move = Move(party, life.agreement.id, "", name, 0, at, effective)
        if party in life.agreement.parties and not _fault(life, move, at):
            found.append(name)
    return tuple(found)


def life_at(life: Life, at: str) -> Life:
    """The life at an instant at or after its latest move, if nobody has moved since."""
    return _passed(life, at, inclusive=True)


def events_of(life: Life) -> Iterator[Event]:
    """The life as events of a regime's timeline, to its end as far as it is known."""
    settled = _passed(life, _FAR, inclusive=True)
    for at, event in settled.changes:
        yield Event(life.agreement.id, moment(at), event)


_FAR = "9999-12-31T23:59:59Z"


def _fault(life: Life, move: Move, at: str) -> str:
    """Why a move is not legal now; empty if it is."""
    phase, who = LEGAL[move.move]
    if life.phase != phase:
        return f"the agreement is {life.phase}, and only one that is {phase} is {move.move}"
    agreement, party = life.agreement, move.party
    notice = life.notices.get(party)
    legal = {
        "opened": party == agreement.depositary,
        "signed": party not in life.signed,
        "withdrawn": True,
        "notified": agreement.lasting.begins == "notifications" and party not in life.notified,
        "suspended": party not in life.suspended_by,
        "resumed": party in life.suspended_by,
        "termination-notified": notice is None,
        "termination-suspended": notice is not None and not notice.suspended,
        "termination-resumed": notice is not None and notice.suspended,
        "notice-withdrawn": notice is not None,
    }
    if not legal[move.move]:
        return f"it is made {who}"
    if move.move == "termination-notified":
        return _notice_fault(life, move.effective, at)
    return ""


def _notice_fault(life: Life, effective: str, at: str) -> str:
    lasting = life.agreement.lasting
    earliest = _after(at, timedelta(days=lasting.notice_days))
    if effective < earliest:
        return f"notice is given {lasting.notice_days} days before; {earliest} is the earliest"
    if not lasting.renews:
        return ""
    day = timedelta(hours=TERM_DAY_H)
    for end in _term_ends(life):
        if _after(end, -day) <= effective <= _after(end, day):
            return ""
        if end > effective:
            first = next(_effectives(life, at), _FAR)
            return f"it ends with a term; of those {first} is the earliest"
    return "it ends with a term"


def _effectives(life: Life, at: str) -> Iterator[str]:
    """The instants that a notice given at `at` may name, the earliest first."""
    earliest = _after(at, timedelta(days=life.agreement.lasting.notice_days))
    if not life.agreement.lasting.renews:
        yield earliest
        return
    for end in _term_ends(life) if life.begins else ():
        if end >= earliest:
            yield end


def _made(life: Life, move: Move, at: str) -> Life:
    """The life after a legal move."""
    party, lasting = move.party, life.agreement.lasting
    if move.move == "opened":
        return replace(life, phase="open")
    if move.move == "signed":
        life = replace(life, signed={**life.signed, party: move.at})
        if life.missing:
            return life
        begins = {
            "signature": max(life.signed.values()),
            "copies": at,
            "notifications": "",
            "date": max(lasting.begins_at, at),
        }
        life = replace(life, phase="signed", begins=begins[lasting.begins])
        return _passed(life, at, inclusive=False)
    if move.move == "withdrawn":
        return replace(life, phase="withdrawn", ended=at, why="withdrawn")
    if move.move == "notified":
        life = replace(life, notified=life.notified | {party})
        if life.notified == life.agreement.parties:
            life = _passed(replace(life, begins=at), at, inclusive=False)
        return life
    if move.move == "suspended":
        return _noted(replace(life, suspended_by=life.suspended_by | {party}), life, at)
    if move.move == "resumed":
        return _noted(replace(life, suspended_by=life.suspended_by - {party}), life, at)
    notices = dict(life.notices)
    if move.move == "notice-withdrawn":
        del notices[party]
    elif move.move == "termination-notified":
        notices[party] = Notice(move.effective)
    elif move.move == "termination-suspended":
        notices[party] = replace(notices[party], suspended=True)
    else:  # resumed: effective at once if its date has passed
        notices[party] = Notice(max(notices[party].effective, at))
    return replace(life, notices=notices)


def _noted(life: Life, before: Life, at: str) -> Life:
    """With the change between in force and suspended, if there was one."""
    if life.is_in_force == before.is_in_force:
        return life
    return replace(
        life, changes=(*life.changes, (at, "resumed" if life.is_in_force else "suspended"))
    )


def _passed(life: Life, at: str, *, inclusive: bool) -> Life:
    """The life once time has come to `at`; what ends at that very instant counts if inclusive.

    A beginning always counts at its own instant, and an end only after all moves of it.
    """
    if life.phase == "signed" and life.begins and life.begins <= at:
        changes = (*life.changes, (life.begins, "in-force"))
        life = replace(life, phase="in-force", changes=changes)
    if life.phase != "in-force":
        return life
    due = [(end, why) for end, why in _ends(life) if end < at or (inclusive and end == at)]
    if not due:
        return life
    end, why = min(due)
    changes = (*life.changes, (end, why))
    return replace(life, phase="ended", ended=end, why=why, changes=changes, notices={})


def _ends(life: Life) -> Iterator[tuple[str, str]]:
    """Every instant at which it ends if nobody moves, and why."""
    if life.phase in ("withdrawn", "ended") or not life.begins:
        return
    for notice in life.notices.values():
        if not notice.suspended:
            yield notice.effective, "terminated"
    lasting = life.agreement.lasting
    if lasting.term_months is not None and not lasting.renews:
        yield next(_term_ends(life), _FAR), "lapsed"


def _term_ends(life: Life) -> Iterator[str]:
    """The ends of its terms, one after the other."""
    months = life.agreement.lasting.term_months
    assert months is not None  # noqa: S101  # only one with terms is asked
    begins = moment(life.begins)
    for number in range(1, TERMS_MAX + 1):
        end = _months_after(begins, months * number)
        if end is None:
            return
        yield instant(end)


def _months_after(start: datetime, months: int) -> datetime | None:
    """The same day so many months later, or the month's last; None past the year 9999."""
    year, month = divmod(start.month - 1 + months, 12)
    if start.year + year > 9999:
        return None
    last = monthrange(start.year + year, month + 1)[1]
    return start.replace(year=start.year + year, month=month + 1, day=min(start.day, last))


def _after(at: str, wait: timedelta) -> str:
    try:
        return instant(moment(at) + wait)
    except OverflowError:
        return _FAR
