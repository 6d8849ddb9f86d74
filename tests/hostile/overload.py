"""Ten times what three nodes can carry, for five minutes: `make soak OVERLOAD=1`, for evidence/.

First what they can carry is measured, and how long FLASH and ROUTINE take when they have nothing
to do. Then people at Seoul and Tokyo offer ten times as much. What is not taken is refused in
words; what is taken is lost nowhere, by the checker that shares no code with the nodes. Afterwards
nobody helps.
"""

import argparse
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from commits import present_commit
from crash.nodes import DESTINATION, MARK, Victims, victims
from e2e.nodes import PARTIES
from hostile.__main__ import percentile
from hostile.crowd import Crowd, Offered
from relto.links import LinkError

T = TypeVar("T")

TIMES = 10
FLASH_EVERY_S = 0.6
BACK_S = 60.0  # in which they are back to normal
DRAIN_S_MAX = 240.0  # after that minute; what is owed then stays owed
ASK_S = 0.5
ARRIVAL_S = 120.0


def offer(nodes: Victims, rate_per_s: float, seconds: float) -> Crowd:
    """A crowd at both ends, half of it at each."""
    requests = {
        maker: (nodes.node(maker) / "node.sock", nodes.draft(maker, "ROUTINE", 4096))
        for maker in MARK
    }
    return Crowd(requests, rate_per_s, seconds)


def taken(nodes: Victims, crowd: Crowd) -> Offered:
    """What the crowd was told, once all have gone; the checker hears of it."""
    offered = crowd.offered()
    nodes.attempts += offered.attempts
    for item, maker in offered.taken:
        nodes.acknowledged[item] = (maker, DESTINATION[maker])
    return offered


def insisted(ask: Callable[[], T]) -> T:
    """What is answered in the end: whoever finds all places taken asks again."""
    while True:
        try:
            return ask()
        except (AssertionError, LinkError, RuntimeError):
            time.sleep(0.005)


def receipted_ms(nodes: Victims, precedence: str) -> float:
    """From Seoul's first attempt to submit it until Seoul has Tokyo's receipt."""
    start = time.monotonic()
    item = insisted(lambda: nodes.submit("KOR", precedence, 500))
    while time.monotonic() < start + ARRIVAL_S:
        shown = json.loads(insisted(lambda: nodes.ask("KOR", "GET", f"/items/{item}")))
        if any(way["state"] == "delivered" for way in shown["to"]):
            return (time.monotonic() - start) * 1000
        time.sleep(0.01)
    raise TimeoutError(f"{item} was not receipted in {ARRIVAL_S:g} s")


def receipted(nodes: Victims, over: Callable[[], bool]) -> dict[str, list[float]]:
    """One FLASH and one ROUTINE after the other."""
    found: dict[str, list[float]] = {"FLASH": [], "ROUTINE": []}
    while not over():
        for precedence, took_ms in found.items():
            took_ms.append(receipted_ms(nodes, precedence))
        time.sleep(FLASH_EVERY_S)
    return found


def owed(nodes: Victims) -> dict[str, int]:
    def status(party: str) -> bytes:
        return insisted(lambda: nodes.ask(party, "GET", "/status"))

    return {p: sum(each["waiting"] for each in json.loads(status(p))["peers"]) for p in PARTIES}


def summary(values: list[float]) -> dict[str, Any]:
    return {
        "items": len(values),
        "p50_ms": round(percentile(values, 0.5), 1),
        "p99_ms": round(percentile(values, 0.99), 1),
    }


def for_s(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def capacity_per_s(nodes: Victims, items: int) -> float:
    """Items a second, offered as fast as they are taken, until all are receipted."""
    numbers = iter(range(items))
    lock = threading.Lock()
    start = time.monotonic()

    def person(maker: str) -> None:
        while True:
            with lock:
                if next(numbers, None) is None:
                    return
            insisted(lambda: nodes.submit(maker, size=4096))

    people = [threading.Thread(target=person, args=(m,)) for m in MARK for _ in range(3)]
    for each in people:
        each.start()
    for each in people:
        each.join()
    while any(owed(nodes).values()):
        time.sleep(0.1)
    return items / (time.monotonic() - start)


def run(nodes: Victims, seconds: float, times: float) -> dict[str, Any]:
    receipted(nodes, for_s(3))
    idle = receipted(nodes, for_s(min(30, seconds)))
    capacity = capacity_per_s(nodes, 400)
    loaded: list[float] = []
    worst: Counter[str] = Counter()
    start = time.monotonic()
    crowd = offer(nodes, times * capacity, seconds)
    while crowd.is_there:
        loaded.append(receipted_ms(nodes, "FLASH"))
        worst |= Counter(owed(nodes))
        time.sleep(FLASH_EVERY_S)
    offered = taken(nodes, crowd)
    took_s = time.monotonic() - start
    print(f"told: {dict(offered.told)}", file=sys.stderr)
    left = owed(nodes)
    ended = time.monotonic()
    normal_s = back_to_normal(nodes, {p: 3 * percentile(idle[p], 0.99) for p in idle})
    after = receipted(nodes, for_s(max(1.0, BACK_S - (time.monotonic() - ended))))
    left_then = owed(nodes)
    over = for_s(DRAIN_S_MAX)
    while any(owed(nodes).values()) and not over():
        time.sleep(ASK_S)
    drained_s = None if any(owed(nodes).values()) else round(time.monotonic() - ended, 1)
    return {
        "capacity_per_s": round(capacity, 1),
        "offered": offered.told.total(),
        "offered_per_s": round(sum(offered.told.values()) / took_s, 1),
        "told": dict(offered.told),
        "answer_ms": summary(offered.answer_ms),
        "idle": {p: summary(took_ms) for p, took_ms in idle.items()},
        "flash_loaded": summary(loaded) if loaded else None,
        "after": {p: summary(took_ms) for p, took_ms in after.items()},
        "owed_most": dict(worst),
        "owed_at_end": left,
        "owed_a_minute_later": left_then,
        "normal_after_s": normal_s,
        "drained_after_s": drained_s,
    }


def back_to_normal(nodes: Victims, limit_ms: dict[str, float]) -> float | None:
    """Seconds until five of each in a row took no longer than that; None if it takes too long."""
    start = time.monotonic()
    good = 0
    while time.monotonic() < start + BACK_S:
        took_ms = {precedence: receipted_ms(nodes, precedence) for precedence in limit_ms}
        is_good = all(took_ms[precedence] <= limit_ms[precedence] for precedence in limit_ms)
        good = good + 1 if is_good else 0
        if good == 5:
            return round(time.monotonic() - start, 1)
        time.sleep(0.1)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--times", type=float, default=TIMES)
    args = parser.parse_args()
    commit = present_commit()
    with victims() as nodes:
        result = {"commit": commit, "seconds": args.seconds, "times": args.times}
        result |= run(nodes, args.seconds, args.times)
        findings = nodes.verdict()
    wrong = [*findings.lost, *findings.repeated, *findings.unexpected]
    result |= {"acknowledged": len(nodes.acknowledged), "findings": len(wrong)}
    for line in wrong:
        print(line, file=sys.stderr)
    print(json.dumps(result, indent=1))
    return 1 if wrong or result["normal_after_s"] is None else 0


if __name__ == "__main__":
    sys.exit(main())
