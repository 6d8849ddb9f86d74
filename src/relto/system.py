"""What a node takes from its machine: time, randomness, and its own end."""

import logging
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from relto.errors import CallerError
from relto.instants import instant
from relto.ports import Clock, Randomness
from relto.seal import HYBRID, Suite

__all__ = ["Surroundings", "SystemClock", "end_process", "system_random"]

log = logging.getLogger("relto.system")

_EXIT_STORE_BROKEN = 70  # EX_SOFTWARE: what a supervisor restarts


class SystemClock:
    """The machine's time. Only a node with EXERCISE certificates may be given another."""

    def __init__(self, *, exercise: bool) -> None:
        self.exercise = exercise
        self.offset_s = 0.0

    def now(self) -> datetime:
        return self.system_now() + timedelta(seconds=self.offset_s)

    def system_now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251  # the edge: here `now` comes from nowhere else

    def instant(self) -> str:
        """The present whole second: the past one, so that what is made now is not in the future."""
        return instant(self.now().replace(microsecond=0))

    def set(self, at: datetime) -> None:
        """Raises CallerError on a real node."""
        if not self.exercise:
            raise CallerError("only a node with EXERCISE certificates may be given another clock")
        self.offset_s = (at - self.system_now()).total_seconds()

    def monotonic_ms(self) -> int:
        """For leases and time-outs, which no clock that people set may move."""
        return time.monotonic_ns() // 1_000_000


def system_random(what: str, size_bytes: int) -> bytes:
    """Bytes of the operating system's generator, whatever they are for."""
    return secrets.token_bytes(size_bytes)


def end_process(error: BaseException) -> None:
    """A store that failed is not trusted again: what the last commit did is unknown (rule 8)."""
    log.critical("store-failed", extra={"why": str(error)})
    os._exit(_EXIT_STORE_BROKEN)


@dataclass(frozen=True)
class Surroundings:
    """Everything around a node that a simulation replaces, beside its store and its links.

    `on_broken` ends the process when the store can no longer be trusted.
    """

    clock: Clock
    random_bytes: Randomness = system_random
    suite: Suite = HYBRID
    on_broken: Callable[[BaseException], None] = end_process
