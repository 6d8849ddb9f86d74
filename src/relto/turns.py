"""Whose work comes next in a node: the most urgent's; while FLASH is at work all else rests."""

import asyncio
import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["REST_MS_MAX", "Turns"]

REST_MS_MAX = 200
"""How long the others may rest in a row. A millisecond of it is earned by each in which they could
work, so that they have at least half of any long time, however much FLASH there is."""


class Turns:
    """Lets those who have much to do go on piece by piece, the most urgent first.

    Whoever is about to work for a millisecond waits for a turn. Between two turns the loop looks
    at its sockets, so that what has just come in, and is more urgent, is next. While FLASH is at
    work, nobody else gets a turn, and the writer begins no job of theirs (`hold_back`): one
    thread at a time runs Python, and a commit that has begun goes to its end.
    """

    def __init__(
        self,
        monotonic_ms: Callable[[], int],
        hold_back: Callable[[bool], None] = lambda is_held: None,
    ) -> None:
        self._now_ms = monotonic_ms
        self._hold_back = hold_back
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap
        self._number = 0
        self._is_scheduled = False
        self._flash = 0  # pieces of work that are at work
        self._rest: asyncio.TimerHandle | None = None  # ends it
        self._began_ms = 0  # the rest
        self._saved_ms = REST_MS_MAX  # of rest, when the last one ended
        self._ended_ms = 0

    @contextmanager
    def at_work(self, precedence: int) -> Iterator[None]:
        """While something so urgent is at work here, or what it asked a peer for is not answered.

        For FLASH (0) all else rests meanwhile; with anything else nothing changes.
        """
        if precedence:
            yield
            return
        self._flash += 1
        self._begin_rest()
        try:
            yield
        finally:
            self._flash -= 1
            # Not at once: whoever does the next thing with it has been woken, and begins first.
            asyncio.get_running_loop().call_soon(self._done)

    async def wait(self, precedence: int) -> None:
        """Returns when it is this one's turn; 0 (FLASH) goes first, then who has waited longest."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._number += 1
        heapq.heappush(self._waiting, (precedence, self._number, turn))
        self._schedule()
        await turn

    def _schedule(self) -> None:
        """See to it that whoever is next gets a turn, if anybody may have one now."""
        while self._waiting and self._waiting[0][2].done():
            heapq.heappop(self._waiting)  # whoever waited has given up
        may_go = bool(self._waiting) and (self._rest is None or not self._waiting[0][0])
        if may_go and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._is_scheduled = False
        while self._waiting and (self._rest is None or not self._waiting[0][0]):
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                break
        self._schedule()

    # the rest of all that is not FLASH

    def _begin_rest(self) -> None:
        if self._rest is not None:
            return
        now_ms = self._now_ms()
        self._saved_ms = min(REST_MS_MAX, self._saved_ms + now_ms - self._ended_ms)
        if self._saved_ms > 0:
            self._began_ms = now_ms
            loop = asyncio.get_running_loop()
            self._rest = loop.call_later(self._saved_ms / 1000, self._end_rest)
            self._hold_back(True)

    def _done(self) -> None:
        if not self._flash:
            self._end_rest()

    def _end_rest(self) -> None:
        if self._rest is None:
            return
        self._rest.cancel()
        self._rest = None
        self._ended_ms = self._now_ms()
        self._saved_ms = max(0, self._saved_ms - (self._ended_ms - self._began_ms))
        self._hold_back(False)
        self._schedule()
