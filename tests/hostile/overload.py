"""Ten times what three nodes can carry, for five minutes: `make soak OVERLOAD=1`, for evidence/.

First what they can carry is measured, and how long FLASH takes when they have nothing to do. Then
people at Seoul and Tokyo offer ten times as much. What is not taken is refused in words; what is
taken is lost nowhere, by the checker that shares no code with the nodes. Afterwards nobody helps.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from commits import present_commit
from crash.nodes import MARK, Victims, victims
from e2e.nodes import PARTIES
from hostile.__main__ import percentile
from relto.links import LinkError

T = TypeVar("T")

TIMES = 10
NICE = 10
PEOPLE = 48  # at each end: more than a node lets in at once
FLASH_EVERY_S = 0.6
BACK_S = 60.0  # in which they are back to normal
DRAIN_S_MAX = 240.0  # after that minute; what is owed then stays owed
ASK_S = 0.5
ARRIVAL_S = 120.0


class Offered:
    """What people offered, and what they were told; by many threads."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()
        self.answer_ms: list[float] = []
        self._lock = threading.Lock()

    def share(self, nodes: Victims, maker: str) -> None:
        start = time.monotonic()
        try:
            nodes.submit(maker, size=4096)
            word = "taken"
        except RuntimeError as e:
            word = f"refused: {e}"
        except LinkError as e:
            word = f"no answer: {str(e).partition(': ')[2]}"
        with self._lock:
            self.told[word] += 1
            self.answer_ms.append((time.monotonic() - start) * 1000)


def offer(nodes: Victims, rate_per_s: float, seconds: float, offered: Offered) -> None:
    """Offer ROUTINE items at a rate, half at each end, whatever becomes of them."""
    end = time.monotonic() + seconds
    each_s = 2 * PEOPLE / rate_per_s

    def person(maker: str, number: int) -> None:
        # In truth they have machines of their own.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        due = time.monotonic() + each_s * number / PEOPLE
        while (now := time.monotonic()) < end:
            if now < due:
                time.sleep(min(due - now, end - now))
                continue
            due = max(due + each_s, now - 1)  # who waits for an answer does not catch up for ever
            offered.share(nodes, maker)

    people = [threading.Thread(target=person, args=(m, n)) for m in MARK for n in range(PEOPLE)]
    for each in people:
        each.start()
    for each in people:
        each.join()


def insisted(ask: Callable[[], T]) -> T:
    """What is answered in the end: whoever finds all places taken asks again."""
    while True:
        try:
            return ask()
        except (AssertionError, LinkError, RuntimeError):
            time.sleep(0.005)


def flash_ms(nodes: Victims) -> float:
    """From Seoul's first attempt to submit it until Seoul has Tokyo's receipt."""
    start = time.monotonic()
    item = insisted(lambda: nodes.submit("KOR", "FLASH", 500))
    while time.monotonic() < start + ARRIVAL_S:
        shown = json.loads(insisted(lambda: nodes.ask("KOR", "GET", f"/items/{item}")))
        if any(way["state"] == "delivered" for way in shown["to"]):
            return (time.monotonic() - start) * 1000
        time.sleep(0.01)
    raise TimeoutError(f"{item} was not receipted in {ARRIVAL_S:g} s")


def flashes(nodes: Victims, over: Callable[[], bool]) -> list[float]:
    found = []
    while not over():
        found.append(flash_ms(nodes))
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
            nodes.submit(maker, size=4096)

    people = [threading.Thread(target=person, args=(m,)) for m in MARK for _ in range(3)]
    for each in people:
        each.start()
    for each in people:
        each.join()
    while any(owed(nodes).values()):
        time.sleep(0.1)
    return items / (time.monotonic() - start)


def run(nodes: Victims, seconds: float, times: float) -> dict[str, Any]:
    flashes(nodes, for_s(3))
    idle = flashes(nodes, for_s(min(30, seconds)))
    capacity = capacity_per_s(nodes, 400)
    offered = Offered()
    loaded: list[float] = []
    worst: Counter[str] = Counter()
    load = threading.Thread(target=offer, args=(nodes, times * capacity, seconds, offered))
    start = time.monotonic()
    load.start()
    while load.is_alive():
        loaded.append(flash_ms(nodes))
        worst |= Counter(owed(nodes))
        time.sleep(FLASH_EVERY_S)
    load.join()
    took_s = time.monotonic() - start
    print(f"told: {dict(offered.told)}", file=sys.stderr)
    left = owed(nodes)
    ended = time.monotonic()
    normal_s = back_to_normal(nodes, 3 * percentile(idle, 0.99))
    after = flashes(nodes, for_s(max(1.0, BACK_S - (time.monotonic() - ended))))
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
        "flash_idle": summary(idle),
        "flash_loaded": summary(loaded) if loaded else None,
        "flash_after": summary(after),
        "owed_most": dict(worst),
        "owed_at_end": left,
        "owed_a_minute_later": left_then,
        "flash_normal_after_s": normal_s,
        "drained_after_s": drained_s,
    }


def back_to_normal(nodes: Victims, limit_ms: float) -> float | None:
    """Seconds until five FLASH in a row took no longer than that; None if it takes too long."""
    start = time.monotonic()
    good = 0
    while time.monotonic() < start + BACK_S:
        good = good + 1 if flash_ms(nodes) <= limit_ms else 0
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
    return 1 if wrong or result["flash_normal_after_s"] is None else 0


if __name__ == "__main__":
    sys.exit(main())
