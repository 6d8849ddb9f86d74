"""`make sim SEED=n`: one schedule, its story and its trace hash. `make soak SIM=n`: many.
`make soak EXPLORE=1`: every order of a few things. `python -m sim bugs` plants all bugs.
"""

import sys
import time
import traceback
from statistics import median

from sim.bugs import BUGS, search
from sim.campaign import OFTEN, SOMETIMES, never, run_campaign
from sim.crypto import CHEAP, remembered
from sim.explore import SCENES, explore
from sim.play import Play


def _story(seed: int) -> int:
    played = Play(seed, CHEAP)
    status = 0
    try:
        with remembered():
            played.run()
    except Exception:
        traceback.print_exc()
        status = 1
    print("\n".join(played.coalition.trace))
    print(f"trace {played.coalition.trace_hash}")
    return status


def _many(first: int, count: int) -> int:
    campaign = run_campaign(range(first, first + count))
    print(
        f"schedules {first} to {first + count - 1}: no rule broken, "
        f"{campaign.own_cpu_s / campaign.schedules * 1000:.1f} ms of CPU each, as on a free machine"
    )
    for kind, number in sorted(campaign.counts.items()):
        print(f"{number:9}  {kind}")
    missing = never(campaign.counts, SOMETIMES if count >= 10_000 else OFTEN)
    print("never: " + (", ".join(missing) or "nothing of what must be seen"))
    return 1 if missing else 0


def _bugs() -> int:
    """A table, as `evidence/` keeps it: schedules, bug, what found it."""
    counts = []
    for name in BUGS:
        found = search(name)
        print(
            f"| {found.schedules if found.words else 'none'} | {name} | {found.words} |", flush=True
        )
        if found.words:
            counts.append(found.schedules)
    counts.sort()
    print(
        f"{len(counts)} of {len(BUGS)} found, schedules: median {median(counts):.0f}, "
        f"p90 {counts[int(len(counts) * 0.9)]}, most {counts[-1]}"
    )
    return 0 if len(counts) == len(BUGS) else 1


def _explore(names: list[str]) -> int:
    for name in names or SCENES:
        began_s = time.process_time()
        found = explore(SCENES[name])
        print(
            f"{name}: {found.schedules} schedules of at most {found.longest} choices, "
            f"{found.choices} states with a choice, {time.process_time() - began_s:.0f} s of CPU"
        )
        for kind, count in sorted(found.faults.items()):
            print(f"{count:9}  {kind}")
        for end, count in sorted(found.ends.items()):
            print(f"{count:9}  {end}", flush=True)
    return 0


if __name__ == "__main__":
    words = sys.argv[1:]
    if words == ["bugs"]:
        sys.exit(_bugs())
    if words[:1] == ["explore"]:
        sys.exit(_explore(words[1:]))
    if len(words) == 1:
        sys.exit(_story(int(words[0])))
    sys.exit(_many(int(words[0]), int(words[1])))
