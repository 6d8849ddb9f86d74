"""How the memory of the three nodes grows while items pass."""

import os
from typing import Any

from bench.coalition import coalition

ITEMS = int(os.environ.get("BENCH_MEMORY_ITEMS", "100000"))
WARM = int(os.environ.get("BENCH_MEMORY_WARM", str(max(1, ITEMS // 20))))


def run() -> dict[str, Any]:
    """KiB resident after `warm` items, when caches are full, and after `items` more."""
    with coalition() as nodes:
        nodes.submit_many("KOR", "JPN", WARM)
        nodes.wait_until_idle()
        before = {party: nodes.rss_kib(party) for party in nodes.processes}
        nodes.submit_many("KOR", "JPN", ITEMS)
        nodes.wait_until_idle()
        after = {party: nodes.rss_kib(party) for party in nodes.processes}
    growth = {party: after[party] / before[party] - 1 for party in before}
    return {
        "warm": WARM,
        "items": ITEMS,
        "before_kib": before,
        "after_kib": after,
        "growth": growth,
        "growth_max": max(growth.values()),
    }


def table(figures: dict[str, Any]) -> str:
    lines = [f"{figures['items']:,} items after {figures['warm']:,}"]
    for party, before in figures["before_kib"].items():
        after = figures["after_kib"][party]
        lines.append(
            f"  {party}  {before:>9,} KiB  {after:>9,} KiB  {figures['growth'][party]:+.1%}"
        )
    return "\n".join(lines)
