"""What waits to be sent to a peer, measured by how long it takes at the pace of late."""

from collections import deque
from collections.abc import Callable

__all__ = ["LATELY_MS", "WAITING_MIN", "Backlog"]

LATELY_MS = 20_000  # what waits should go in so long
WAITING_MIN = 200  # rows that may always wait: at first nothing has gone, and the pace is unknown


class Backlog:
    """Rows of one peer's outbox that wait for their first way, and how many went lately.

    Of releases that are PRIORITY or ROUTINE; of this process alone. What was accepted by the peer
    waits for a receipt, and what is blocked, refused or cannot be made waits for something else:
    neither gets shorter by taking less.
    """

    def __init__(self, monotonic_ms: Callable[[], int]) -> None:
        self._now_ms = monotonic_ms
        self._waiting: set[int] = set()
        self._went_ms: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, number: int) -> None:
        """A new row, that no lane took in hand at once."""
        self._waiting.add(number)

    def went(self, number: int) -> None:
        """The peer has it."""
        self._waiting.discard(number)
        self._went_ms.append(self._now_ms())
        self._forget()

    def drop(self, number: int) -> None:
        """It does not wait for its turn any more."""
        self._waiting.discard(number)

    @property
    def is_long(self) -> bool:
        """Whether more waits than went in the last `LATELY_MS`."""
        self._forget()
        return len(self._waiting) > max(WAITING_MIN, len(self._went_ms))

    def _forget(self) -> None:
        since_ms = self._now_ms() - LATELY_MS
        while self._went_ms and self._went_ms[0] < since_ms:
            self._went_ms.popleft()
