"""Whose work comes next in a node's one thread: the most urgent's."""

import asyncio
import heapq

__all__ = ["Turns"]


class Turns:
    """Lets those who have much to do go on piece by piece, the most urgent first.

    Whoever is about to work for a millisecond waits for a turn. Between two turns the loop looks
    at its sockets, so that what has just come in, and is more urgent, is next.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap
        self._number = 0
        self._is_scheduled = False

    async def wait(self, precedence: int) -> None:
        """Returns when it is this one's turn; 0 (FLASH) goes first, then who has waited longest."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._number += 1
        heapq.heappush(self._waiting, (precedence, self._number, turn))
        if not self._is_scheduled:
            self._is_scheduled = True
            loop.call_soon(self._next)
        await turn

    def _next(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():  # else whoever waited has given up
                turn.set_result(None)
                break
        self._is_scheduled = bool(self._waiting)
        if self._is_scheduled:
            asyncio.get_running_loop().call_soon(self._next)
