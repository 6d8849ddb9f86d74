"""One thread, virtual time, and processes that can be stopped: the event loop of the simulator.

Every callback belongs to the process in whose context it was asked for, or to none (the network,
the people, the supervisor). A process that was killed runs nothing more, not even its `finally`;
one that is paused runs it all later. Time jumps to the next thing to do.
"""

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

__all__ = ["PROCESS", "Died", "Handle", "Process", "SimLoop", "Stuck"]

T = TypeVar("T")
STEPS_MAX = 60_000  # of one run: thirty times the usual


class Stuck(AssertionError):
    """Nothing will ever happen again, though something is awaited."""


class Died(BaseException):
    """The process has ended itself: nothing of it goes on after this."""


class Process:
    """One life of a node's process."""

    __slots__ = (
        "asking", "context", "held_back", "is_alive", "is_paused", "is_serving", "party", "waiting",
    )  # fmt: skip

    def __init__(self, party: str) -> None:
        self.party = party
        self.is_alive = True
        self.is_paused = False
        self.is_serving = False  # peers and people
        self.held_back: list[Handle] = []
        self.asking = 0  # requests of its own that have no answer yet
        self.waiting: dict[asyncio.Future[Any], None] = {}  # of others, until it answers or dies
        self.context = Context()
        self.context.run(PROCESS.set, self)


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class Handle:
    """A callback to be; what `call_soon` and `call_at` give."""

    __slots__ = ("_when", "args", "callback", "context")

    def __init__(self, callback: Any, args: Any, context: Context, when: float) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self._when = when

    @property
    def process(self) -> Process | None:
        """Which process it belongs to."""
        return self.context.get(PROCESS)

    def cancel(self) -> None:
        self.callback = None

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self._when


class SimLoop:
    """Runs what is ready in the order in which it was asked for, then jumps to the next timer.

    It has of an event loop what asyncio and the nodes ask for.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.steps = 0
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._number = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self.nowhere = Context()  # of no process

    # what asyncio asks of a loop

    def time(self) -> float:
        return self.now_s

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        handle = Handle(callback, args, copy_context() if context is None else context, self.now_s)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        handle = Handle(callback, args, copy_context() if context is None else context, when)
        self._number += 1
        heapq.heappush(self._timers, (when, self._number, handle))
        return handle

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)  # type: ignore[arg-type]

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> Any:
        task = asyncio.Task(
            coro,
            loop=self,  # type: ignore[arg-type]
            name=name or "sim",
            context=copy_context() if context is None else context,
        )
        self._tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> Any:
        """At once, in this thread."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as e:
            future.set_exception(e)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A killed process leaves tasks and answers behind that nobody asks for any more."""

    # running

    @property
    def is_ready(self) -> bool:
        """Whether something is to be run before time goes on."""
        return bool(self._ready)

    @property
    def next_s(self) -> float:
        """When the next timer is due."""
        return min((handle.when() for handle in self._live()), default=float("inf"))

    def timers_of(self, process: Process | None) -> list[Handle]:
        """What a process will do, in the order in which it does that."""
        own = (h for h in self._live() if process is not None and h.process is process)
        numbers = {id(handle): number for _, number, handle in self._timers}
        return sorted(own, key=lambda handle: (handle.when(), numbers[id(handle)]))

    def _live(self) -> Iterator[Handle]:
        for _, _, handle in self._timers:
            if handle.callback is not None:
                yield handle

    def in_process(self, process: Process, coro: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """A task of a process."""
        task: asyncio.Task[T] = self.create_task(coro, context=process.context.copy())
        return task

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns, in the context of no process."""
        task: asyncio.Task[T] = self.create_task(coro, context=self.nowhere.copy())
        before = events._get_running_loop()
        events._set_running_loop(self)  # type: ignore[arg-type]
        try:
            while not task.done():
                self.step()
        finally:
            events._set_running_loop(before)
        return task.result()

    def step(self) -> None:
        """One callback; time jumps when there is none."""
        if not self._ready:
            if not self._timers:
                raise Stuck("nothing will ever happen again")
            when, _, handle = heapq.heappop(self._timers)
            if handle.callback is None:
                return
            self.now_s = max(self.now_s, when)
            self._ready.append(handle)
        handle = self._ready.popleft()
        if handle.callback is None:
            return
        process = handle.process
        if process is not None and (process.is_paused or not process.is_alive):
            if process.is_alive:
                process.held_back.append(handle)
            return
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise Stuck(f"{STEPS_MAX} steps, and no end")
        with suppress(Died):
            handle.context.run(handle.callback, *handle.args)

    def resume(self, process: Process) -> None:
        process.is_paused = False
        self._ready.extend(process.held_back)
        process.held_back.clear()

    def close(self) -> None:
        """End what never ended, in the order in which it began."""
        self._ready.clear()
        self._timers.clear()
        for task in self._tasks:
            if not task.done():
                coro = task.get_coro()
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                if coro is not None:
                    with suppress(Exception):  # of a process that is long dead
                        coro.close()
        self._tasks.clear()
