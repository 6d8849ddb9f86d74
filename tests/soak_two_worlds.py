"""Many pairs of worlds: `make soak TWO=N` plays N for each party, then counts pairs to each leak.

Results are for evidence/: what was played, what differed, and how soon each planted leak is found
in its place. A run is the same bytes in every process: `transcripts` is a digest of them all.
"""

import argparse
import hashlib
import json
import logging
import statistics
import sys
import time
from collections import Counter
from typing import Any

from commits import present_commit
from leaks import LEAKS, Leak
from transcripts import compared, digest
from two_worlds import VIEWERS, difference, pair_of, transcripts

PAIRS_MAX = 300  # for each leak


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak_two_worlds", description=__doc__)
    parser.add_argument("pairs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    commit = present_commit()
    played = {viewer: play(viewer, args.seed, args.pairs) for viewer in VIEWERS}
    leaks = {name: pairs_to_find(leak) for name, leak in LEAKS.items()}
    found = [leak["pairs"] for leak in leaks.values() if leak["is_in_its_place"]]
    result = {
        "commit": commit, "seeds": [args.seed, args.seed + args.pairs - 1], "played": played,
        "leaks": leaks, "leaks_found": len(found), "median_pairs": statistics.median(found),
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    return int(len(found) < len(leaks) or any(p["different"] for p in played.values()))


def play(viewer: str, first: int, pairs: int) -> dict[str, Any]:
    """What happened in the pairs of one party, and the seeds of those that it can tell apart."""
    acts: Counter[str] = Counter()
    same_acts = 0
    different: list[int] = []
    whole = hashlib.sha256()
    start = time.monotonic()
    for seed in range(first, first + pairs):
        pair = pair_of(seed, viewer)
        only = {act.name for act in pair.left} ^ {act.name for act in pair.right}
        acts.update(
            f"{type(act).__name__.lower()} in one world only" if act.name in only else "in both"
            for act in (*pair.left, *pair.right)
        )
        same_acts += pair.left == pair.right
        told = transcripts(pair)
        whole.update("".join(map(digest, told)).encode())
        if found := compared(*told):
            different.append(seed)
            print(f"{viewer} {seed}: {found}", file=sys.stderr)
    seconds = round(time.monotonic() - start)
    return {
        "pairs": pairs, "different": different, "acts": dict(sorted(acts.items())),
        "pairs_of_one_history": same_acts, "transcripts": whole.hexdigest(), "seconds": seconds,
    }  # fmt: skip


def pairs_to_find(leak: Leak) -> dict[str, Any]:
    """How many pairs it takes from seed 0 on until it shows, and where it does."""
    for number in range(PAIRS_MAX):
        with leak.patch():
            found = difference(pair_of(number, leak.viewer))
        if found is not None:
            is_there = bool(set(found.places) & set(leak.shows))
            return {"pairs": number + 1, "is_in_its_place": is_there, "places": found.places}
    return {"pairs": PAIRS_MAX, "is_in_its_place": False, "places": ()}


if __name__ == "__main__":
    raise SystemExit(main())
