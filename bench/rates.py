"""How often a second something can be done: the best run of several, as the machine is shared."""

import gc
import time
from collections.abc import Callable, Iterable

__all__ = ["drain", "rate"]


def rate(count: int, work: Callable[[], object], runs: int = 3) -> float:
    """The best of `runs` runs of `work`, which does `count` things: in things a second."""
    best = 0.0
    for _ in range(runs):
        gc.collect()
        start = time.perf_counter()
        work()
        best = max(best, count / (time.perf_counter() - start))
    return best


def drain(values: Iterable[object]) -> None:
    """Take every value of `values`, keeping none."""
    for _ in values:
        pass
