"""Long campaigns: `make soak CRASH=N` kills N times at random, cuts the power N / 10 times, and
strikes every durable call.

Results are for evidence/: what ran, how often each thing struck, and what the checker found.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from typing import Any

from commits import present_commit
from crash import power, syscalls
from crash.checker import Findings
from crash.nodes import kill_at_random, under_load, victims
from e2e.nodes import PARTIES

KILLS_A_RUN = 50
CUTS_A_RUN = 10
EFFECTS = ("signal=KILL", "error=EIO", "error=ENOSPC")
FAILING = ("pwrite64", "fdatasync", "fsync", "ftruncate")  # calls of a disk, which may fail


def main() -> int:
    parser = argparse.ArgumentParser(prog="crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="only every n-th call (1: all)")
    parser.add_argument("--only", choices=["kills", "power", "syscalls"])
    args = parser.parse_args()
    commit = present_commit()
    result: dict[str, Any] = {"commit": commit, "seed": args.seed}
    if args.only in (None, "kills"):
        result["kills"] = killed(args.kills, args.seed)
    if args.only in (None, "power"):
        result["power"] = power.why_not() or cut(args.kills // 10, args.seed)
    if args.only in (None, "syscalls"):
        result["syscalls"] = syscalls.why_not() or struck(args.every)
    print(json.dumps(result, indent=1))
    parts = [part for part in result.values() if isinstance(part, dict)]
    return 1 if any(part["findings"] for part in parts) else 0


def killed(kills: int, seed: int) -> dict[str, object]:
    """Random kills of all three under load, in runs of `KILLS_A_RUN`, each checked at its end."""
    done, seen, found, items = Counter[str](), Counter[str](), 0, 0
    start = time.monotonic()
    for run in range(-(-kills // KILLS_A_RUN)):
        count = min(KILLS_A_RUN, kills - run * KILLS_A_RUN)
        with victims() as nodes:
            with under_load(nodes):
                done.update(kill_at_random(nodes, count, random.Random(seed + run)))
            nodes.settle()
            findings = nodes.verdict()
        items += len(nodes.acknowledged)
        seen.update(findings.seen)
        found += _tell(f"run {run}", findings)
        print(f"kills {done['kills']}, acknowledged {items}, findings {found}", file=sys.stderr)
    return {
        **done, "acknowledged": items,
        "seen": dict(seen), "findings": found, "seconds": round(time.monotonic() - start),
    }  # fmt: skip


def struck(every: int) -> dict[str, object]:
    """Every durable call of every node in a small exchange, with each effect that it can meet.

    The checker reads after all strikes at one kind of call of one node.
    """
    seen, found, start = Counter[str](), 0, time.monotonic()
    for party in PARTIES:
        with victims() as nodes:
            counts = syscalls.counted(nodes, party)
        for call, count in counts.items():
            effects = EFFECTS if call in FAILING else EFFECTS[:1]
            with victims() as nodes:
                for number in range(1, count + 1, every):
                    for effect in effects:
                        strike = syscalls.Strike(party, call, number, effect)
                        outcome = syscalls.struck(nodes, strike)
                        ended = "went on" if outcome.exit_code is None else outcome.exit_code
                        seen[f"{effect} {call}: {ended if outcome.struck else 'missed'}"] += 1
                found += _tell(f"{party} {call} 1 to {count}", nodes.verdict())
            print(f"{party} {call} {count}, findings {found}", file=sys.stderr)
    return {
        "strikes": dict(seen), "findings": found, "seconds": round(time.monotonic() - start),
    }  # fmt: skip


def cut(cuts: int, seed: int) -> dict[str, object]:
    """Power cuts under load, in runs of `CUTS_A_RUN`, each checked at its end."""
    seen, found, items, start = Counter[str](), 0, 0, time.monotonic()
    for run in range(-(-cuts // CUTS_A_RUN)):
        findings, count = power.cut(None, min(CUTS_A_RUN, cuts - run * CUTS_A_RUN), seed + run)
        seen.update(findings.seen)
        items += count
        found += _tell(f"run {run}", findings)
        print(f"power cuts, run {run}, findings {found}", file=sys.stderr)
    return {
        "cuts": cuts, "acknowledged": items, "seen": dict(seen), "findings": found,
        "seconds": round(time.monotonic() - start),
    }  # fmt: skip


def _tell(where: str, findings: Findings) -> int:
    wrong = [*findings.lost, *findings.repeated, *findings.unexpected]
    for line in wrong:
        print(f"{where}: {line}", file=sys.stderr)
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
