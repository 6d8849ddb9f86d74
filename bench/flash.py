"""How long a FLASH warning takes from submission in Seoul until Tokyo has committed it.

Released automatically by way of Washington, one after the other; beside the floor, measured in the
same run between them. Then the same while ROUTINE drains at every node.
"""

import os
import time
from typing import Any

from bench.coalition import Nodes, coalition, percentile, wait_until
from bench.floor import OPERATIONS, floor

ITEMS = int(os.environ.get("BENCH_FLASH_ITEMS", "300"))
QUEUED = int(os.environ.get("BENCH_QUEUED", "10000"))
SHARE = 0.8  # of the time, in which the nodes carry ROUTINE
PAUSE_S = 0.5  # two a second are within what a node takes of one maker as FLASH (quota)


def run() -> dict[str, Any]:
    """Milliseconds. `loaded_p99_ms` is from as many warnings as went while the queues drained.

    `floor_p50_ms` has a commit for each dispatch, `least_p50_ms` three commits in all, as a warning
    now passes where nothing waits.
    """
    with coalition(share=SHARE) as nodes, floor() as bare:
        for _ in range(20):
            flash_ms(nodes)
            bare.run()
        idle, apart, least = [], [], []
        for _ in range(ITEMS):
            idle.append(flash_ms(nodes))
            apart.append(bare.run())
            least.append(bare.run(dispatch_apart=False))
            time.sleep(PAUSE_S)
        queue_everywhere(nodes)
        queued = {party: nodes.owed(party) for party in nodes.processes}
        began_s, loaded = time.monotonic(), [flash_ms(nodes)]
        while nodes.owed() > sum(queued.values()) // 10 and len(loaded) < 10 * ITEMS:
            loaded.append(flash_ms(nodes))
            time.sleep(PAUSE_S)
        drained = sum(queued.values()) - nodes.owed()
        drained_per_s = drained / (time.monotonic() - began_s)
    return {
        "items": ITEMS,
        "p50_ms": percentile(idle, 0.50),
        "p99_ms": percentile(idle, 0.99),
        "floor_p50_ms": percentile(apart, 0.50),
        "floor_p99_ms": percentile(apart, 0.99),
        "least_p50_ms": percentile(least, 0.50),
        "least_p99_ms": percentile(least, 0.99),
        "loaded_items": len(loaded),
        "loaded_p50_ms": percentile(loaded, 0.50),
        "loaded_p99_ms": percentile(loaded, 0.99),
        "queued": queued,
        "drained_per_s": drained_per_s,
    }


def flash_ms(nodes: Nodes) -> float:
    start_ns = time.monotonic_ns()
    item = nodes.submit("KOR", "JPN", "FLASH")
    return (nodes.arrival_ns(item) - start_ns) / 1e6


def queue_everywhere(nodes: Nodes) -> None:
    """Fill every node's outbox with `QUEUED` ROUTINE releases, while the next one is down."""
    nodes.stop("JPN")
    nodes.submit_many("KOR", "JPN", QUEUED)
    wait_until(lambda: nodes.owed("USA") >= QUEUED)
    nodes.stop("USA")
    nodes.submit_many("KOR", "JPN", QUEUED)
    nodes.start("JPN")
    nodes.submit_many("JPN", "KOR", QUEUED)
    nodes.start("USA")
    nodes.wait_until_linked()


def table(figures: dict[str, Any]) -> str:
    ratio = figures["p50_ms"] / figures["floor_p50_ms"]
    load = figures["loaded_p99_ms"] / figures["p99_ms"]
    queued = ", ".join(f"{party} {count:,}" for party, count in figures["queued"].items())
    steps = [f"    {place}: {what}" for place, what in OPERATIONS.items()]
    return "\n".join(
        [
            f"{figures['items']} warnings of 4 KiB, Seoul - Washington - Tokyo, one at a time, ms",
            f"  {'':<28}{'p50':>8}{'p99':>8}",
            f"  {'relto':<28}{figures['p50_ms']:>8.1f}{figures['p99_ms']:>8.1f}",
            f"  {'floor':<28}{figures['floor_p50_ms']:>8.1f}{figures['floor_p99_ms']:>8.1f}",
            f"  {'with three commits':<28}{figures['least_p50_ms']:>8.1f}"
            f"{figures['least_p99_ms']:>8.1f}",
            f"  {'while ROUTINE drains':<28}{figures['loaded_p50_ms']:>8.1f}"
            f"{figures['loaded_p99_ms']:>8.1f}",
            f"  {ratio:.1f} x floor at p50; loaded p99 {load:.1f} x idle p99,"
            f" {figures['loaded_items']} warnings, owed at the start: {queued};"
            f" {figures['drained_per_s']:,.0f} rows a second went meanwhile",
            "  the floor, done bare and in sequence:",
            *steps,
        ]
    )
