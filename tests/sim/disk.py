"""A disk that fails as disks do: what was not synced may be lost, whole or in part."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from relto.errors import ReltoError, StoreBroken, StoreFull
from relto.ports import Transaction
from relto.stores import MemoryStore
from relto.stores.memory import Blob, Fault, State

__all__ = ["Disk", "DiskFaults"]

T = TypeVar("T")
SECTOR_BYTES = 512


@dataclass
class DiskFaults:
    """What a disk does wrong. Each is asked for by the run, and counted when it strikes."""

    commit: Callable[[], Fault | None] = lambda: None
    blob: Callable[[], Fault | None] = lambda: None
    struck: Callable[[str], None] = lambda kind: None


class Disk(MemoryStore):
    """A store whose commits are durable, unless one fails; then it goes on, as SQLite does.

    After a failed commit this process still sees what it wrote, and so what it commits later; the
    next one sees what was there before. That is why the process must end (DESIGN §6, rule 8).
    """

    def __init__(self, faults: DiskFaults, *, bytes_max: int | None, ballast_bytes: int) -> None:
        super().__init__(bytes_max=bytes_max, ballast_bytes=ballast_bytes)
        self.plan = faults
        self.failed = False
        self.commits_since_failure = 0
        self._durable: State | None = None
        self.previous_state = self._state  # before the last commit, for a bug that is planted

    @property
    def state(self) -> State:
        return self._state

    @property
    def durable_state(self) -> State:
        return self._state if self._durable is None else self._durable

    @property
    def used_bytes(self) -> int:
        return self._state.size_bytes + self._blob_bytes()

    def resize(self, bytes_max: int | None) -> None:
        self._bytes_max = bytes_max

    def commit(self, jobs: Sequence[Callable[[Transaction], T]]) -> list[T | ReltoError]:
        fault = self.plan.commit()
        if fault is Fault.FULL:
            self._check()
            self.plan.struck("commit: disk full")
            raise StoreFull("the disk is full: free some space")
        before = self._state
        results = super().commit(jobs)
        self.previous_state = before
        self.commits_since_failure += self.failed
        if fault is None:
            return results
        self.failed = True
        if fault is Fault.FAILED and self._durable is None:
            self._durable = before
        self.plan.struck(f"commit: {fault.name.lower()}")
        raise StoreBroken("the disk failed: restart the node")

    def blob_append(self, name: str, offset: int, data: bytes) -> None:
        self._blob_fault("append")
        super().blob_append(name, offset, data)

    def blob_sync(self, name: str) -> None:
        self._blob_fault("sync")
        super().blob_sync(name)

    def _blob_fault(self, what: str) -> None:
        fault = self.plan.blob()
        if fault is None:
            return
        self.plan.struck(f"blob {what}: {'full' if fault is Fault.FULL else 'failed'}")
        if fault is Fault.FULL:
            raise StoreFull("the disk is full: free some space")
        self.failed = True
        self._broken = "the disk failed: restart the node"
        raise StoreBroken(self._broken)

    def after_crash(self, random_: random.Random) -> "Disk":
        """What the next process finds; this one is broken from now on."""
        after = Disk(self.plan, bytes_max=self._bytes_max, ballast_bytes=self._ballast_bytes)
        after._ballast_held = self._ballast_held
        after._state = self.durable_state
        after.previous_state = after._state
        for name, blob in self._blobs.items():
            left = self._left_of(blob, random_)
            if left is not None:
                after._blobs[name] = Blob(bytearray(left), left)
        self._broken = self._broken or "this process has crashed"
        return after

    def _left_of(self, blob: Blob, random_: random.Random) -> bytes | None:
        """A blob after a crash: of each sector that was not synced, what it was or what it became.

        A file whose name was not synced may be gone.
        """
        data, synced = bytes(blob.data), blob.synced
        if data == synced:
            return synced
        fate = random_.randrange(4)
        if fate == 0:
            self.plan.struck("crash: unsynced lost")
            return synced
        if fate == 1:
            return data
        self.plan.struck("crash: torn")
        old = (synced or b"").ljust(len(data), b"\0")
        cut = random_.randint(len(synced or b""), len(data))
        torn = b"".join(
            (data if random_.random() < 0.5 else old)[at : at + SECTOR_BYTES]
            for at in range(0, cut, SECTOR_BYTES)
        )
        return torn
