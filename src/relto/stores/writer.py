"""Group commit: one thread writes what many ask for, the most urgent first, many jobs to a commit.

A job's result is known only when its commit is durable. The queue has a limit: past it the
asker is told to come back (`StoreFull`), and nothing is lost.
"""

import heapq
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from relto.errors import ReltoError, StoreBroken, StoreFull
from relto.ports import Store, Transaction

__all__ = ["BATCH_MAX", "QUEUE_MAX", "QUEUE_URGENT_MAX", "Commits", "Observer", "Writer"]

log = logging.getLogger("relto.stores.writer")

QUEUE_MAX = 4096  # jobs that wait
QUEUE_URGENT_MAX = 4352  # with those of precedence 0 (FLASH), for which there is always some place
BATCH_MAX = 8  # jobs of one commit: what is urgent waits for one commit, so that it is kept short

Job = Callable[[Transaction], Any]
Results = list[Any]  # for each job what it gave, or the ReltoError that it refused with


class Commits(Protocol):
    """Runs jobs on a store one after the other, several in one commit.

    Obligations:
    * The future of a job has its result, or its refusal, once the commit is durable.
    * Of what waits the least `precedence` goes first (0 is FLASH), then what was asked for first.
      FLASH does not wait for jobs of others that have not begun, in whatever commit they are.
    * `StoreFull`: there is no place for the job; nothing was done.
    * `StoreBroken`: the store failed; the process is ending.
    """

    def submit(self, job: Job, precedence: int = 1) -> "Future[Any]":
        """The job's result; it raises what the job refused with."""
        ...

    def submit_all(self, jobs: Sequence[Job], precedence: int) -> "Future[Results]":
        """Several jobs in one commit, or more where FLASH goes in between: for each its result, or
        the ReltoError as a value, once all are durable."""
        ...

    def hold_back(self, is_held: bool) -> None:
        """Until it is called again with False, no job begins but those of FLASH."""
        ...

    @property
    def jobs_waiting(self) -> int:
        """Jobs that were submitted, and that no commit has taken up yet."""
        ...

    def close(self) -> None: ...


class _Later(ReltoError):
    """A job that has not begun, since FLASH came: it goes into another commit."""


@dataclass(order=True, slots=True)
class _Asked:
    """Jobs that go into one commit together. They compare by who goes first."""

    precedence: int
    number: int
    jobs: Sequence[Job] = field(compare=False)
    future: "Future[Any]" = field(compare=False)
    is_one: bool = field(compare=False)
    has_begun: bool = field(compare=False, default=False)
    done: Results = field(compare=False, default_factory=list)  # of the jobs before `jobs`

    def begin(self) -> bool:
        """Whether its asker still waits. From then on it cannot give up."""
        self.has_begun = self.has_begun or self.future.set_running_or_notify_cancel()
        return self.has_begun

    def committed(self, results: Results) -> bool:
        """Take results of its jobs; whether all have one now, and the asker was answered."""
        later = [job for job, r in zip(self.jobs, results, strict=True) if isinstance(r, _Later)]
        self.done += results[: len(results) - len(later)]
        self.jobs = later
        if later:
            return False
        self._answer(self.done)
        return True

    def shed(self, error: StoreFull) -> None:
        """There was no room. What is durable already is told all the same."""
        if self.done:
            self._answer([*self.done, *[error] * len(self.jobs)])
        else:
            self.future.set_exception(error)

    def _answer(self, results: Results) -> None:
        if not self.is_one:
            self.future.set_result(results)
        elif isinstance(results[0], ReltoError):
            self.future.set_exception(results[0])
        else:
            self.future.set_result(results[0])


class Observer(Protocol):
    """Hears of commits, on the writer's thread, before whoever asked for them does."""

    def job_begins(self) -> None:
        """The next job of a commit runs."""
        ...

    def committed(self, kept: Sequence[bool], seconds: float) -> None:
        """A commit is durable, with the work of the jobs that are kept; it took so long."""
        ...

    def shed(self) -> None:
        """A full or busy disk undid the commit."""
        ...


class Writer:
    """Runs jobs on a store, each in its own savepoint, several in one commit.

    `on_broken` is called once, on the writer's thread, when the store can no longer be trusted:
    it should end the process (DESIGN §6, rule 8). `observer` hears of each commit.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_broken: Callable[[BaseException], None],
        observer: Observer | None = None,
    ) -> None:
        self._store = store
        self._on_broken = on_broken
        self._observer = observer
        self._broken = False
        self._closing = False
        self._is_held = False
        self._waiting: list[_Asked] = []  # a heap
        self._jobs_waiting = 0
        self._number = 0
        self._changed = threading.Condition()
        self._thread = self._started()

    def _started(self) -> threading.Thread | None:
        """The thread that commits; None where something else runs what waits."""
        thread = threading.Thread(target=self._run, name="relto-writer", daemon=True)
        thread.start()
        return thread

    def submit(self, job: Job, precedence: int = 1) -> "Future[Any]":
        return self._ask([job], precedence, is_one=True)

    def submit_all(self, jobs: Sequence[Job], precedence: int) -> "Future[Results]":
        """As the port says. More than `BATCH_MAX` jobs are a commit of their own."""
        return self._ask(jobs, precedence, is_one=False)

    def hold_back(self, is_held: bool) -> None:
        with self._changed:
            self._is_held = is_held and not self._closing
            self._changed.notify()

    def close(self) -> None:
        """Commit what was submitted, and stop."""
        with self._changed:
            self._closing, self._is_held = True, False
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    @property
    def jobs_waiting(self) -> int:
        return self._jobs_waiting

    def _ask(self, jobs: Sequence[Job], precedence: int, *, is_one: bool) -> "Future[Any]":
        future: Future[Any] = Future()
        with self._changed:
            waiting_max = QUEUE_MAX if precedence else QUEUE_URGENT_MAX
            if self._broken or self._closing:
                future.set_exception(StoreBroken("the store is broken; the node is ending"))
            elif self._jobs_waiting + len(jobs) > waiting_max:
                future.set_exception(
                    StoreFull("too much is waiting to be written; come back later")
                )
            else:
                self._number += 1
                asked = _Asked(precedence, self._number, jobs, future, is_one)
                heapq.heappush(self._waiting, asked)
                self._jobs_waiting += len(jobs)
                self._changed.notify()
        return future

    def _run(self) -> None:
        while batch := self._next():
            # From here on an asker who gives up no longer stops its jobs; before, nothing was done.
            asked = [each for each in batch if each.begin()]
            if asked:
                self._commit(asked)

    def _next(self) -> list[_Asked]:
        """What goes into the next commit, the most urgent first; nothing once all is done."""
        with self._changed:
            while not self._may_commit() and not self._closing:
                self._changed.wait()
            batch: list[_Asked] = []
            jobs = 0
            while self._waiting and (not batch or self._fits(batch[0], jobs)):
                batch.append(heapq.heappop(self._waiting))
                jobs += len(batch[-1].jobs)
            self._jobs_waiting -= jobs
            return batch

    def _may_commit(self) -> bool:
        return bool(self._waiting) and not (self._is_held and self._waiting[0].precedence)

    def _fits(self, first: _Asked, jobs: int) -> bool:
        """Whether what goes next may share a commit that `jobs` jobs are in: none with FLASH."""
        following = self._waiting[0]
        is_as_urgent = bool(first.precedence) or not following.precedence
        return is_as_urgent and jobs + len(following.jobs) <= BATCH_MAX

    def _commit(self, batch: Sequence[_Asked]) -> None:
        jobs = [self._wrapped(job, asked.precedence) for asked in batch for job in asked.jobs]
        began_s = time.monotonic()
        try:
            results = self._store.commit(jobs)
        except StoreFull as e:
            if self._observer is not None:
                self._observer.shed()
            if self._store.ballast_held:
                log.error("disk-full", extra={"why": str(e)})
            # Space for receipts and FLASH; the node takes nothing else until it is back (rule 8).
            with suppress(StoreFull):
                self._store.release_ballast()
            for asked in batch:
                asked.shed(e)
            return
        except BaseException as e:
            self._broken = True
            for asked in batch:
                asked.future.set_exception(e)
            self._on_broken(e)
            return
        if self._observer is not None:
            kept = [not isinstance(result, ReltoError) for result in results]
            self._observer.committed(kept, time.monotonic() - began_s)
        done = 0
        left: list[_Asked] = []
        for asked in batch:
            count = len(asked.jobs)
            if not asked.committed(results[done : done + count]):
                left.append(asked)
            done += count
        if left:
            with self._changed:
                for asked in left:
                    heapq.heappush(self._waiting, asked)
                    self._jobs_waiting += len(asked.jobs)

    def _wrapped(self, job: Job, precedence: int) -> Job:
        """The job, that the observer hears of. It does not begin while FLASH waits or works."""

        def run(tx: Transaction) -> Any:
            if self._observer is not None:
                self._observer.job_begins()
            if precedence and self._is_urgent():
                raise _Later
            return job(tx)

        return run

    def _is_urgent(self) -> bool:
        with self._changed:
            return self._is_held or (bool(self._waiting) and not self._waiting[0].precedence)
