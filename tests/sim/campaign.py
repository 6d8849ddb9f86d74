"""Many schedules, and what they must have seen."""

import gc
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from sim.crypto import CHEAP, Crypto
from sim.lies import ADDED, LIES
from sim.play import Play, play

__all__ = ["OFTEN", "SOMETIMES", "Campaign", "Found", "never", "run_campaign"]

COLLECT_EVERY = 150

OFTEN = (
    # faults of links
    "request lost", "answer lost", "doubled", "reordered", "delayed beyond the lease", "cut",
    "flapping", "hub cut off",
    # of processes
    "killed at any time", "killed after an effect", "restarted",
    # of disks
    "disk fills up",
    # of clocks, calendars, regimes, people
    "clock off ahead", "clock off behind",
    "a week passes", "hold",
    # what was decided
    "decide: not-in-force", "decide: not-releasable", "decide: outside-topic",
    "decide: mark-not-covered",
    "blocked: not-in-force",
    "refuse: agreement-differs", "refuse: refused-by-officer", "refused: refused-by-officer",
    # how it went on
    "answered 400", "answered 409", "answered 503", "event result-rejected",
)  # fmt: skip
"""What must have struck at least once in a thousand schedules, or the campaign is void."""

SOMETIMES = (
    *OFTEN,
    "killed before commit", "paused", "commit: disk full", "clock years behind",
    "commit: failed", "commit: persisted", "decide: already-holds", "decide: third-party-rule",
    "killed before send", "killed before receive", "killed before answer", "paused under a lease",
    "clock years ahead", "blocked: on-hold",
    "blob append: full", "blob append: failed", "blob sync: full", "blob sync: failed",
    "crash: unsynced lost", "crash: torn",
    "decide: outside-kind", "blocked: no-common-path", "event review-again",
    "refuse: approval-missing", "refuse: malformed", "refuse: marks-differ",
    "refuse: third-party-rule", "refuse: not-in-force", "refuse: no-agreement",
    *(f"lie: {name}" for name in (*LIES, *ADDED)),
)  # fmt: skip
"""The same of ten thousand: every kind of fault, each lie among them."""


def never(counts: Counter[str], kinds: Iterable[str]) -> list[str]:
    """Those of `kinds` that did not strike."""
    return [kind for kind in kinds if not counts[kind]]


class Found(AssertionError):
    """A schedule broke a rule."""

    def __init__(self, seed: int, error: BaseException) -> None:
        super().__init__(
            f"schedule {seed}: {type(error).__name__}: {error}; replay: make sim SEED={seed}"
        )
        self.seed = seed
        self.error = error

    def __reduce__(self) -> tuple[type["Found"], tuple[int, BaseException]]:
        return Found, (self.seed, AssertionError(f"{type(self.error).__name__}: {self.error}"))


@dataclass
class Campaign:
    """What a campaign saw.

    Time on the wall says little on a busy machine, and CPU time is stretched there too, by caches
    that are shared: so the same small piece of work is timed now and then, and `busy` is how much
    longer it took on average than at its fastest.
    """

    schedules: int = 0
    cpu_s: float = 0.0
    paces_s: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def busy(self) -> float:
        return sum(self.paces_s) / len(self.paces_s) / min(self.paces_s)

    @property
    def own_cpu_s(self) -> float:
        """What it would have taken on a machine of its own."""
        return self.cpu_s / self.busy


def run_campaign(seeds: range, crypto: Crypto = CHEAP) -> Campaign:
    """Play the schedules of these seeds. Raises Found at the first that breaks a rule."""
    campaign = Campaign()
    began_s = time.process_time()
    gc.collect()
    gc.freeze()  # what is there already stays: only what runs leave is looked through
    gc.disable()  # a run leaves one heap of cycles: it is cheaper to look now and then
    try:
        for number, seed in enumerate(seeds):
            played: Play | None = None
            try:
                played = play(seed, crypto)
            except Exception as e:
                raise Found(seed, e) from e
            campaign.counts.update(played.coalition.counts)
            campaign.schedules += 1
            if number % COLLECT_EVERY == 0:
                gc.collect()
                campaign.paces_s.append(_pace_s())
    finally:
        gc.enable()
        gc.unfreeze()
    campaign.cpu_s = time.process_time() - began_s
    return campaign


def _pace_s() -> float:
    began_s = time.process_time()
    texts = {str(number): [number, str(number)] for number in range(200)}
    for _ in range(20):
        json.loads(json.dumps(texts))
    return time.process_time() - began_s
