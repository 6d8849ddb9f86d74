"""What a courier has in hand of one peer's outbox: no lane takes it from there a second time.

All of it is an optimisation. A process that dies forgets it, and finds every row in the outbox.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from relto.envelope import Envelope
from relto.items import Item
from relto.ports import OutboxRow
from relto.seal import HpkePublicKey

__all__ = ["HANDED_MAX", "Hands", "Owed"]

HANDED_MAX = 16  # rows that wait in hand before one of their precedence: the next message
LEASE_LEFT_MS = 2_500  # half of it: with less a row goes back, since making and sending takes time


@dataclass(frozen=True, slots=True)
class Owed:
    """A row of the outbox, and what it stands for: a result, or the release of that id."""

    row: OutboxRow
    item: Item
    release: str = ""
    result: Envelope | None = None
    past_hub: HpkePublicKey | None = None
    received_bytes: int = 0  # of a large ciphertext, by the peer
    lease_until_ms: int = 0
    part: bytes = b""  # of the hop message, once it is made

    @property
    def size_bytes(self) -> int:
        return self.item.manifest.ciphertext_bytes


class Hands:
    """Rows that wait in hand, are on their way, or were accepted by the peer.

    `has_room` may be called by any thread, all else by the loop's alone.
    """

    def __init__(self) -> None:
        self._numbers: set[int] = set()
        self._waiting: list[tuple[int, int, Owed]] = []  # a heap: as in the outbox
        self._counts = [0, 0, 0, 0]  # of those, by precedence
        self._accepted: dict[int, tuple[Owed, int]] = {}  # and when to note it

    def __contains__(self, number: object) -> bool:
        return number in self._numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def take_up(self, numbers: Iterable[int]) -> None:
        self._numbers.update(numbers)

    def put_down(self, numbers: Iterable[int]) -> None:
        """They are in no lane's hands any more; those that were accepted stay until told."""
        self._numbers.difference_update(n for n in numbers if n not in self._accepted)

    # what waits: granted by the transaction that wrote it

    def has_room(self, precedence: int) -> bool:
        """Whether one more may wait here; what is less urgent does not stand in its way."""
        return sum(self._counts[: precedence + 1]) < HANDED_MAX

    def give(self, owed: Owed) -> None:
        row = owed.row
        self._numbers.add(row.number)
        self._counts[row.precedence] += 1
        heapq.heappush(self._waiting, (row.precedence, row.number, owed))

    def first(self) -> tuple[int, int] | None:
        """Precedence and number of the one that goes first."""
        return self._waiting[0][:2] if self._waiting else None

    def take(self, rows_max: int, now_ms: int) -> list[Owed]:
        """The first, and others of its precedence. What has little left of its lease goes back to
        the outbox instead, where it is due once that has ended."""
        taken: list[Owed] = []
        precedence = self._waiting[0][0] if self._waiting else 0
        while self._waiting and self._waiting[0][0] == precedence and len(taken) < rows_max:
            _, number, owed = heapq.heappop(self._waiting)
            self._counts[precedence] -= 1
            if owed.release and owed.lease_until_ms - now_ms < LEASE_LEFT_MS:
                self._numbers.discard(number)
            else:
                taken.append(owed)
        return taken

    # what the peer has accepted: its row is put off, or removed, a little later

    def accept(self, owed: Owed, note_ms: int) -> None:
        """It is to be noted at `note_ms`, if it is not settled before."""
        self._accepted[owed.row.number] = (owed, note_ms)

    def settled(self, number: int) -> None:
        """Its row is gone: there is nothing left to note."""
        if self._accepted.pop(number, None):
            self._numbers.discard(number)

    @property
    def note_ms(self) -> int:
        """When the first is to be noted; far away if there is none."""
        return min((note_ms for _, note_ms in self._accepted.values()), default=2**62)

    def take_accepted(self, now_ms: int, *, all_of_them: bool) -> list[Owed]:
        """Those that are to be noted now. They stay in hand until they are put down."""
        found = [
            owed for owed, note_ms in self._accepted.values() if all_of_them or note_ms <= now_ms
        ]
        for owed in found:
            del self._accepted[owed.row.number]
        return found
