"""What a change of regime does to the items a node holds: which may go to whom, or no longer.

Decided once for each class of items (`relto.holdings`) and recipient, under either regime, as the
node itself would decide: by what it holds the item on, knowing its own closure of the regime.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from relto.decisions import Allow, Engine, Reason
from relto.errors import CallerError, QuestionError, StoreBroken
from relto.holdings import KIND, class_of, holding_of
from relto.items import Item
from relto.ports import ROWS_MAX, Reader
from relto.questions import Question
from relto.regime import Regime, closure

__all__ = ["CLASSES_MAX", "Affected", "Consequences", "Shift", "Verdict", "consequences"]

CLASSES_MAX = 1_000_000  # of one store: some eight minutes
CLASSES_PAGE = 100  # in one snapshot of the store: less than half a second for a million items
# The regime lacks a word of the label, or of what the item is held on; or it lacks the recipient.
MALFORMED = (Reason("malformed"),)
NO_PARTY = (Reason("no-agreement"),)

Snapshot = Callable[[], AbstractContextManager[Reader]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One decision, told without the names of items: by which clauses, or for which reasons not.

    `path` and `cites` are empty in a refusal, `reasons` in a permission.
    """

    path: tuple[str, ...] = ()
    cites: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Shift:
    """Items become (`gained`), or cease to be, releasable to a party."""

    to: str
    gained: bool
    before: Verdict
    after: Verdict


@dataclass(slots=True)
class Affected:
    """The items to which a shift happens. `why` says of the example what words a regime lacks."""

    example: str
    why: str
    items: int = 0
    classes: int = 0


@dataclass(frozen=True, slots=True)
class Consequences:
    """All shifts between two regimes at an instant, of so many items in so many classes."""

    items: int
    classes: int
    shifts: Mapping[Shift, Affected]


@dataclass(frozen=True, slots=True)
class _Class:
    digest: str
    items: int
    example: Item


def consequences(
    read: Snapshot,
    party: str,
    before: Regime,
    after: Regime,
    at: str,
    *,
    progress: Callable[[int], None] = lambda items: None,
    tell: Callable[[Sequence[str], Sequence[str], Sequence[str]], None] | None = None,
    classes_max: int = CLASSES_MAX,
) -> Consequences:
    """What is other under `after` than under `before`, of the items that `party`'s node holds.

    `read` gives snapshots of its store, each held briefly. `progress` hears how many more items
    were looked at; `tell` of all items that shift, some at a time, with the parties to whom these
    newly may go, and those to whom they no longer may. An item that comes, or comes to be held on
    more, while this runs, may be counted by what it was or what it is.

    Raises:
        CallerError: `party` is in neither regime, or there are more than `classes_max` classes.
        StoreBroken: the store is damaged.
    """
    parties = before.parties | after.parties
    if party not in parties:
        raise CallerError(f'"{party}" is a party of neither regime')
    engines = (Engine(closure(before, party)), Engine(closure(after, party)))
    recipients = sorted(parties - {party})
    items = classes = 0
    shifts: dict[Shift, Affected] = {}
    for held in _classes(read):
        classes += 1
        if classes > classes_max:
            raise CallerError(
                f"the items held are of more than {classes_max} classes: nearly every one has a "
                "label of its own, and what was found is left out"
            )
        found, why = _shifts(engines, party, recipients, held.example, at)
        for shift in found:
            affected = shifts.setdefault(shift, Affected(held.example.id, why))
            affected.items += held.items
            affected.classes += 1
        if found and tell is not None:
            gained = tuple(shift.to for shift in found if shift.gained)
            lost = tuple(shift.to for shift in found if not shift.gained)
            for page in _pages(read, held.digest):
                tell(page, gained, lost)
        items += held.items
        progress(held.items)
    return Consequences(items, classes, shifts)


def _classes(read: Snapshot) -> Iterator[_Class]:
    """Every class of items held, with one of them."""
    after: str | None = None
    while True:
        with read() as reader:
            page = reader.tallies(KIND, after=after, limit=CLASSES_PAGE)
            found = [_Class(t.state, t.count, _example(reader, t.state, t.first)) for t in page]
        yield from found
        if len(page) < CLASSES_PAGE:
            return
        after = page[-1].state


def _example(reader: Reader, digest: str, key: str) -> Item:
    body = reader.get("item", key)
    if body is None:
        raise StoreBroken(f"the store is damaged: item {key} has a class and is not there")
    item = Item.decode(body)
    if class_of(item) != digest:
        raise StoreBroken(f"the store is damaged: item {key} is not of the class that is kept")
    return item


def _pages(read: Snapshot, digest: str) -> Iterator[list[str]]:
    """The ids of a class, in their order, a page at a time."""
    after = ""
    while True:
        with read() as reader:
            page = reader.places(KIND, digest, after=after, limit=ROWS_MAX)
        if page:
            yield [place.key for place in page]
        if len(page) < ROWS_MAX:
            return
        after = page[-1].cursor


def _shifts(
    engines: tuple[Engine, Engine], party: str, recipients: Iterable[str], item: Item, at: str
) -> tuple[list[Shift], str]:
    """What differs for one item, by recipient, and what words either regime lacks for it."""
    (old, lacks_before), (new, lacks_after) = (
        _verdicts(engine, party, recipients, item, at) for engine in engines
    )
    found = [
        Shift(to, bool(new[to].cites), old[to], new[to])
        for to in recipients
        if bool(old[to].cites) != bool(new[to].cites)
    ]
    return found, lacks_before or lacks_after


def _verdicts(
    engine: Engine, party: str, recipients: Iterable[str], item: Item, at: str
) -> tuple[dict[str, Verdict], str]:
    """May the item go to each of them? And what words the regime lacks, if it lacks any."""
    words = engine.regime
    try:
        label = item.label(words)
        holding = holding_of(item, label, words, party)
    except QuestionError as e:
        return dict.fromkeys(recipients, Verdict(reasons=MALFORMED)), str(e)
    return {
        to: _verdict(engine, Question(at, party, to, label, holding))
        if to in words.parties
        else Verdict(reasons=NO_PARTY)
        for to in recipients
    }, ""


def _verdict(engine: Engine, question: Question) -> Verdict:
    decision = engine.decide(question)
    if isinstance(decision, Allow):
        return Verdict(decision.path, tuple(sorted(set(decision.by_source))))
    named = dict.fromkeys((reason.code, reason.cites) for reason in decision.reasons)
    return Verdict(reasons=tuple(Reason(code, cites) for code, cites in named))
