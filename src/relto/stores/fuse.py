"""What an error of the disk means: shed and go on, or end the process."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from relto.errors import StoreBroken, StoreError, StoreFull

__all__ = ["Fuse"]

# Nothing was done, and something can be: space is freed, or a descriptor.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})


class Fuse:
    """Sorts the errors of one store, and lets nothing through once the outcome is unknown.

    SQLite itself carries on after a failed fsync, and the kernel reports one only once: the pages
    are then marked clean without being on the disk. So the first such error must be the last.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._pid = os.getpid()
        self._blown = ""

    @property
    def blown(self) -> bool:
        return bool(self._blown)

    def require_whole(self) -> None:
        """Nothing, or `StoreBroken` if an earlier error left the outcome unknown."""
        if self._blown:
            raise StoreBroken(self._blown)

    def check(self) -> None:
        """The same, and that this is still the process that opened the store."""
        self.require_whole()
        # howtocorrupt §2.6: a connection carried across a fork corrupts its file.
        if os.getpid() != self._pid:
            raise StoreBroken(f"the process forked after it opened {self._place}: open it after")

    def blow(self, why: str) -> StoreBroken:
        """Remember the first reason, and return the exception to raise."""
        self._blown = self._blown or (
            f"{why}: restart the node; if it does not start, restore {self._place} from a backup"
        )
        return StoreBroken(self._blown)

    def end(self) -> None:
        """The store is closed; an earlier reason stays."""
        self._blown = self._blown or "the store is closed"

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Inside, errors of SQLite and of the system come out as `StoreFull` or `StoreBroken`."""
        try:
            yield
        except (apsw.Error, OSError) as error:
            raise self.sorted(error) from error

    def sorted(self, error: apsw.Error | OSError) -> StoreError:
        """What such an error means; once the outcome is unknown, nothing goes through any more."""
        match error:
            case apsw.FullError():
                return StoreFull(f"the disk of {self._place} is full: free some space")
            case apsw.BusyError() | apsw.ProtocolError():
                # PROTOCOL: a snapshot lost the race for its place in the log too often.
                return StoreFull(f"{self._place} is busy: try again later")
            case apsw.Error():
                return self.blow(f"the database failed ({_code(error)})")
            case _ if error.errno in FULL:
                return StoreFull(f"no room for {self._place}: {error.strerror}")
        return self.blow(f"the disk failed ({error.strerror})")


def _code(error: apsw.Error) -> str:
    """SQLite's name for an error. Its text is not shown: it can quote what is stored."""
    extended = apsw.mapping_extended_result_codes.get(getattr(error, "extendedresult", -1))
    plain = apsw.mapping_result_codes.get(getattr(error, "result", -1))
    return str(extended or plain or "misused")
