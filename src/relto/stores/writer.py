"""Group commit: one thread writes what many ask for, many jobs to a commit.

A job's result is known only when its commit is durable. The queue has a limit: past it the
asker is told to come back (`StoreFull`), and nothing is lost.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Protocol

from relto.errors import ReltoError, StoreBroken, StoreFull
from relto.ports import Store, Transaction

__all__ = ["BATCH_MAX", "QUEUE_MAX", "Commits", "Writer"]

QUEUE_MAX = 4096
BATCH_MAX = 128

Job = Callable[[Transaction], Any]
_Entry = tuple[Job, "Future[Any]"]


class Commits(Protocol):
    """Runs jobs on a store one after the other, several in one commit.

    Obligations:
    * The future of a job has its result, or its refusal, once the commit is durable.
    * `StoreFull`: there is no place for the job; nothing was done.
    * `StoreBroken`: the store failed; the process is ending.
    """

    def submit(self, job: Job) -> "Future[Any]": ...

    def close(self) -> None: ...


class Writer:
    """Runs jobs on a store, each in its own savepoint, several in one commit.

    `on_broken` is called once, on the writer's thread, when the store can no longer be trusted:
    it should end the process (DESIGN §6, rule 8).
    """

    def __init__(self, store: Store, *, on_broken: Callable[[BaseException], None]) -> None:
        self._store = store
        self._on_broken = on_broken
        self._queue: queue.Queue[_Entry | None] = queue.Queue(QUEUE_MAX)
        self._broken = False
        self._thread = threading.Thread(target=self._run, name="relto-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> "Future[Any]":
        """The future of a job: its result, or its refusal, once the commit is durable."""
        future: Future[Any] = Future()
        if self._broken:
            future.set_exception(StoreBroken("the store is broken; the node is ending"))
            return future
        try:
            self._queue.put_nowait((job, future))
        except queue.Full:
            future.set_exception(StoreFull("too much is waiting to be written; try again"))
        return future

    def close(self) -> None:
        """Finish what waits, then stop. No job is taken afterwards."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            batch: list[_Entry] = []
            entry = self._queue.get()
            while entry is not None:
                batch.append(entry)
                if len(batch) >= BATCH_MAX:
                    break
                try:
                    entry = self._queue.get_nowait()
                except queue.Empty:
                    break
            going = entry is not None
            if batch:
                self._commit(batch)

    def _commit(self, asked: list[_Entry]) -> None:
        # From here on an asker who gives up no longer stops its job; before, nothing was done.
        batch = [entry for entry in asked if entry[1].set_running_or_notify_cancel()]
        if not batch:
            return
        try:
            results = self._store.commit([job for job, _ in batch])
        except StoreFull as e:
            # Space for receipts and FLASH; the node takes nothing else until it is back (rule 8).
            with suppress(StoreFull):
                self._store.release_ballast()
            for _, future in batch:
                future.set_exception(e)
            return
        except BaseException as e:
            self._broken = True
            for _, future in batch:
                future.set_exception(e)
            self._on_broken(e)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if isinstance(result, ReltoError):
                future.set_exception(result)
            else:
                future.set_result(result)
