"""Honest parties under attack: `make soak HOSTILE=1`, figures for evidence/.

For each attack, one after the other in the same run: honest items one by one, without the attack
and with it. The attacker is another process, at a lower priority than the nodes, since in truth
it has a machine of its own.
"""

import argparse
import json
import sys
import time
from typing import Any

from commits import present_commit
from e2e.nodes import until
from hostile.attacks import ATTACKS, attacker
from hostile.nodes import HONEST, Besieged, besieged

PRECEDENCES = ("FLASH", "ROUTINE")
PAUSE_S = 0.02
FLASH_PER_S = 1.8
WARM_S = 2.0  # that an attack lasts longer than its measurement


def main() -> int:
    parser = argparse.ArgumentParser(prog="hostile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement")
    parser.add_argument("--only", action="append", choices=sorted(ATTACKS))
    args = parser.parse_args()
    commit = present_commit()
    result: dict[str, Any] = {"commit": commit, "seconds": args.seconds, "attacks": {}}
    with besieged() as nodes:
        for name in args.only or ATTACKS:
            result["attacks"][name] = row = under(nodes, name, args.seconds)
            print(f"{name}: {json.dumps(row)}", file=sys.stderr)
        result["limits"] = {
            party: {key: peer[key] for key in ("kept", "half_sent", "limits")}
            for party, peer in nodes.peers_of("USA").items()
        }
    result["worst"] = {
        f"{p}_p99_ratio": max(row[p]["p99_ratio"] for row in result["attacks"].values())
        for p in PRECEDENCES
    }
    print(json.dumps(result, indent=1))
    return 0


def under(nodes: Besieged, name: str, seconds: float) -> dict[str, Any]:
    """One attack: honest latency without and with it, and what the attacker got."""
    until(lambda: nodes.is_calm, "what the last attack left is carried")
    calm = carried(nodes, seconds)
    enemy = attacker(nodes, name, seconds + WARM_S)
    assert enemy.stdout is not None
    enemy.stdout.readline()  # it has begun
    used = {party: nodes.cpu_s(party) for party in HONEST}
    start = time.monotonic()
    stormy = carried(nodes, seconds)
    took_s = time.monotonic() - start
    cpu = {party: (nodes.cpu_s(party) - used[party]) / took_s for party in HONEST}
    seen = json.loads(enemy.communicate(timeout=120)[0])
    return {
        **{p: compared(calm[p], stormy[p]) for p in PRECEDENCES},
        "attacker": seen,
        "cpu_share": {party: round(share, 2) for party, share in cpu.items()},
        "hub_rss_mib": round(nodes.rss_mib("USA")),
        "hub_descriptors": nodes.descriptors("USA"),
    }


def carried(nodes: Besieged, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of honest items, one after the other, for so long."""
    found: dict[str, list[float]] = {p: [] for p in PRECEDENCES}
    start = time.monotonic()
    while (now := time.monotonic()) < start + seconds:
        # FLASH within its own budget, or it would be measured as something else.
        is_flash = len(found["FLASH"]) < (now - start) * FLASH_PER_S
        precedence = "FLASH" if is_flash else "ROUTINE"
        found[precedence].append(nodes.carried_ms(precedence))
        time.sleep(PAUSE_S)
    return found


def compared(calm: list[float], stormy: list[float]) -> dict[str, Any]:
    row: dict[str, Any] = {"items": [len(calm), len(stormy)]}
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        without, with_ = percentile(calm, share), percentile(stormy, share)
        row[f"{name}_ms"] = [round(without, 1), round(with_, 1)]
        row[f"{name}_ratio"] = round(with_ / without, 2)
    return row


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


if __name__ == "__main__":
    sys.exit(main())
