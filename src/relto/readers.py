"""Who may read an item at an instant, and under which mark: labels changed by records.

Consents widen or narrow the readers of a source, status records recall it or give it another
mark (DESIGN §3). Records count from their `at` on; of several the highest `seq` counts.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum

from relto.labels import SELF, Consent, Source, Status
from relto.questions import Question

__all__ = ["ANY_GRANT", "EXPIRED", "Readers", "Standing"]


class Standing(IntEnum):
    """What the record of consent that counts says of a party (DESIGN §3)."""

    NONE = 0
    GRANTED = 1
    EXPIRED = 2
    EXPIRED_AFTER_REFUSAL = 3
    WITHDRAWN = 4


ANY_GRANT = frozenset([Standing.GRANTED, Standing.EXPIRED, Standing.EXPIRED_AFTER_REFUSAL])
EXPIRED = frozenset([Standing.EXPIRED, Standing.EXPIRED_AFTER_REFUSAL])


class Readers:
    """What the records of one question say, at its instant."""

    def __init__(self, question: Question, ranks: Mapping[str, int]) -> None:
        self.q = question
        self.label = question.label
        self.ranks = ranks
        self.standings: dict[tuple[str, str], Standing] = {}
        held_as = question.holding.held_as
        self.mark_as_held = self.label.mark if held_as is None else held_as
        self._marks: dict[str, str] = {}  # of sources whose mark is no longer that of the label

    def standing(self, source: Source, party: str) -> Standing:
        """What the counting record of the source's originator says of `party`."""
        if not self.q.consents:
            return Standing.NONE
        key = (source.item, party)
        found = self.standings.get(key)
        if found is None:
            ids = {self.label.id} if source.item == SELF else {self.label.id, source.item}
            found = self._counting(source.originator, ids, party)
            self.standings[key] = found
        return found

    def _counting(self, by: str, ids: set[str], party: str) -> Standing:
        at = self.q.at
        last: Consent | None = None
        refused_seq = -1
        for record in self.q.consents:
            if record.by != by or record.item not in ids or party not in record.to:
                continue
            if record.at > at:
                continue
            if last is None or record.seq > last.seq:
                last = record
            if not record.grant:
                refused_seq = max(refused_seq, record.seq)
        if last is None:
            return Standing.NONE
        if not last.grant:
            return Standing.WITHDRAWN
        if last.expires is None or last.expires > at:
            return Standing.GRANTED
        if refused_seq >= 0:
            return Standing.EXPIRED_AFTER_REFUSAL
        return Standing.EXPIRED

    def _excluded(
        self, party: str, owner: str, readers: frozenset[str], standing: Standing
    ) -> str | None:
        """The code that keeps `party` from reading, or None if it is an effective reader."""
        if party == owner or standing is Standing.GRANTED:
            return None
        if standing is Standing.WITHDRAWN:
            return "consent-withdrawn"
        if standing is Standing.EXPIRED_AFTER_REFUSAL:
            return "consent-expired"
        if party in readers:
            return None
        return "consent-expired" if standing is Standing.EXPIRED else "not-releasable"

    def source_excludes(self, source: Source, party: str) -> str | None:
        return self._excluded(
            party, source.originator, source.readers, self.standing(source, party)
        )

    def item_excludes(self, party: str) -> str | None:
        """The item's own list, changed by the maker's consents for the item's id."""
        label = self.label
        standing = (
            self._counting(label.maker, {label.id}, party) if self.q.consents else Standing.NONE
        )
        return self._excluded(party, label.maker, label.readers, standing)

    def reads(self, party: str) -> bool:
        """Whether `party` is an effective reader of every source and of the item's own list."""
        if party in self.label.listed and not self.q.consents:
            return True
        return self.item_excludes(party) is None and all(
            self.source_excludes(source, party) is None for source in self.label.sources
        )

    def mark(self, source: Source) -> str:
        """The source's mark that counts, once `take_status` has been asked."""
        return self._marks.get(source.item, source.mark)

    def take_status(self) -> bool:
        """Take the marks that count; True if one of them is not stamped yet (mark-stale)."""
        q, label = self.q, self.label
        own = self.item_status()
        if own is not None:
            if q.holder != label.maker and (
                q.holding.stamped_seq is None or own.seq > q.holding.stamped_seq
            ):
                return True
            assert own.mark is not None  # noqa: S101  # mark_status takes no other
            if q.holding.held_as is None:
                self.mark_as_held = own.mark
            self._marks[SELF if label.derived else label.id] = own.mark
        if label.derived:
            for source in label.sources:
                if source.item == SELF:
                    continue
                status = self.mark_status(source.originator, source.item)
                if status is None or status.mark is None:
                    continue
                if status.mark != source.mark and (own is None or own.at < status.at):
                    return True
                self._marks[source.item] = status.mark
        return False

    def item_status(self) -> Status | None:
        """The maker's mark status that counts. A mark below a floor is ignored."""
        label = self.label
        ranks = self.ranks
        floors = [ranks[s.held_as] for s in label.sources if s.held_as is not None]
        lowest = min(floors, default=None)
        return self.mark_status(
            label.maker,
            label.id,
            lambda mark: lowest is None or ranks[mark] <= lowest,
        )

    def mark_status(
        self, by: str, item: str, accept: Callable[[str], bool] = lambda mark: True
    ) -> Status | None:
        counting = None
        for record in self.q.status:
            if (
                record.by == by
                and record.item == item
                and record.at <= self.q.at
                and record.mark is not None
                and accept(record.mark)
                and (counting is None or record.seq > counting.seq)
            ):
                counting = record
        return counting

    def is_recalled(self) -> bool:
        owners = {(s.originator, s.item) for s in self.label.sources if s.item != SELF}
        owners.add((self.label.maker, self.label.id))
        return any(
            record.recalled and record.at <= self.q.at and (record.by, record.item) in owners
            for record in self.q.status
        )
