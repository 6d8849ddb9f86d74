"""How often a second something can be done: the best run of several, as the machine is shared."""

import gc
import time
from collections.abc import Callable, Iterable, Mapping

__all__ = ["Work", "drain", "rate", "rates"]

Work = tuple[int, Callable[[], object]]  # how many things it does, and what does them
ROUNDS = 5


def rate(
    count: int, work: Callable[[], object], clock: Callable[[], float] = time.perf_counter
) -> float:
    """The best of three runs of `work`, which does `count` things: in things a second.

    With `time.process_time` as `clock`, of processor time, which leaves out what the machine
    did for others meanwhile; for work that waits for nothing and starts no process.
    """
    best = 0.0
    for _ in range(3):
        gc.collect()
        start = clock()
        work()
        best = max(best, count / (clock() - start))
    return best


def rates(
    works: Mapping[str, Work], clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """The best of several rounds for each, in things a second: all in turn in every round.

    For comparing on a shared machine: what slows one round down slows all of them.
    """
    best = dict.fromkeys(works, 0.0)
    for _ in range(ROUNDS):
        for name, (count, work) in works.items():
            gc.collect()
            start = clock()
            work()
            best[name] = max(best[name], count / (clock() - start))
    return best


def drain(values: Iterable[object]) -> None:
    """Take every value of `values`, keeping none."""
    for _ in values:
        pass
