"""The connections that snapshots use, handed out in the order in which they were asked for."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from relto.errors import StoreFull

__all__ = ["Snapshots"]


class Snapshots:
    """A fixed set of connections. Whoever has one has a snapshot; who has all, knows of none.

    The order is what makes it work: SQLite cannot empty its log while any snapshot reads from it,
    and snapshots that overlap without a pause would never let it. Here those that are asked for
    later wait behind a `pause`.
    """

    def __init__(self, connections: list[apsw.Connection], *, wait_s: float) -> None:
        self._free = list(connections)
        self._size = len(connections)
        self._wait_s = wait_s
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def one(self) -> Iterator[apsw.Connection]:
        """A connection, inside; StoreFull if none comes free in time."""
        [connection] = self._take(1, f"all {self._size} snapshots are in use: try again later")
        try:
            yield connection
        finally:
            self._give([connection])

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Inside, no snapshot is open; StoreFull if those that are do not end in time."""
        taken = self._take(self._size, "a snapshot is open for too long: try again after its end")
        try:
            yield
        finally:
            self._give(taken)

    def _take(self, count: int, refusal: str) -> list[apsw.Connection]:
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                if not self._changed.wait_for(
                    lambda: self._waiting[0] is ticket and len(self._free) >= count, self._wait_s
                ):
                    raise StoreFull(refusal)
                return [self._free.pop() for _ in range(count)]
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def _give(self, connections: list[apsw.Connection]) -> None:
        with self._changed:
            self._free += connections
            self._changed.notify_all()
