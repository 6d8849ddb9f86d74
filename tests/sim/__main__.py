"""`make sim SEED=n`: one schedule, its story and its trace hash. `make soak SIM=n`: many.
`make soak EXPLORE=1`: every order of a few things. `python -m sim bugs` plants all bugs,
`python -m sim compare` explores small scenes and plays them whole.
"""

import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median

from sim.bugs import BUGS, search
from sim.campaign import OFTEN, SOMETIMES, Found, never, run_campaign
from sim.choices import Scene
from sim.crypto import CHEAP, remembered
from sim.explore import ONE, SCENES, Explored, Explorer, explore, play_all
from sim.play import Play

CHUNK = 500  # schedules that a process plays at a time
LINE = 5_000  # schedules of which a line is printed


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
    """A line for every `LINE` schedules, so that of a run that is cut something is left."""
    total: Counter[str] = Counter()
    done, own_cpu_s = 0, 0.0
    seeds = range(first, first + count)
    chunks = [seeds[i : i + CHUNK] for i in range(0, count, CHUNK)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        try:
            for campaign in pool.map(run_campaign, chunks):
                total += campaign.counts
                done += campaign.schedules
                own_cpu_s += campaign.own_cpu_s
                if not done % LINE or done == count:
                    print(
                        f"schedules {first} to {first + done - 1}: no rule broken, "
                        f"{own_cpu_s / done * 1000:.1f} ms of CPU each, as on a free machine; "
                        f"{sum(total.values())} faults, codes and events",
                        flush=True,
                    )
        except Found as e:
            pool.shutdown(cancel_futures=True)
            print(e)
            return 1
    for kind, number in sorted(total.items()):
        print(f"{number:9}  {kind}")
    missing = never(total, SOMETIMES if count >= 10_000 else OFTEN)
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
    """A line for each scene as it comes to its end, and now and then how far it is."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(_explored, names or SCENES))
    return 0


def _explored(name: str) -> None:
    began_s = time.process_time()

    def tell(found: Explored, words: str = "so far ") -> None:
        print(
            f"{name}: {words}{found.states} states, {found.moves} moves between them; "
            f"{found.steps} steps of nodes, in {found.schedules} schedules played, "
            f"the longest of {found.longest} choices; {found.open} states wait; "
            f"{time.process_time() - began_s:.0f} s of CPU",
            flush=True,
        )

    found = explore(SCENES[name], tell)
    tell(found, "at its end: ")
    lines = [f"{count:9}  {name}: {kind}" for kind, count in sorted(found.faults.items())]
    lines += [f"{count:9}  {name}: {end}" for end, count in sorted(found.ends.items())]
    print("\n".join(lines), flush=True)


def _compare() -> int:
    """Small scenes, explored and played whole: whether both come to the same states and ends."""
    are_equal = True
    for scene in (Scene(ONE, faults=False), Scene(ONE, answers=False)):
        explorer = Explorer(scene)
        found = explorer.run()
        states, ends = play_all(scene, merges=True)
        is_equal = explorer.states == states and found.ends == ends
        are_equal = are_equal and is_equal
        print(f"{scene}: {found.states} and {len(states)} states, equal: {is_equal}", flush=True)
    return 0 if are_equal else 1


if __name__ == "__main__":
    words = sys.argv[1:]
    if words == ["bugs"]:
        sys.exit(_bugs())
    if words == ["compare"]:
        sys.exit(_compare())
    if words[:1] == ["explore"]:
        sys.exit(_explore(words[1:]))
    if len(words) == 1:
        sys.exit(_story(int(words[0])))
    sys.exit(_many(int(words[0]), int(words[1])))
