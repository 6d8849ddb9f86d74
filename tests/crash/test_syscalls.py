"""A node dies, or its disk fails, at a durable call: a sample; `make soak CRASH=…` has all."""

import signal
from collections.abc import Iterator

import pytest

from crash.nodes import Victims, victims
from crash.syscalls import EXIT_STORE_BROKEN, Outcome, Strike, struck, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can be traced")

# By thread: the writer's first syncs are those of the start, then commits of the exchange.
KILLS = [
    Strike("KOR", "fdatasync", 3, "signal=KILL"),
    Strike("KOR", "pwrite64", 9, "signal=KILL"),
    Strike("USA", "fdatasync", 4, "signal=KILL"),
    Strike("USA", "sendto", 6, "signal=KILL"),
    Strike("JPN", "fdatasync", 3, "signal=KILL"),
]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Victims]:
    """Nodes that are struck one time after the other; at the end, what they left is checked."""
    with victims() as nodes:
        yield nodes
        findings = nodes.verdict()
        assert findings.is_clean, findings
        assert findings.seen["delivered"] == len(nodes.acknowledged) > 0


@pytest.mark.parametrize("strike", KILLS, ids=str)
def test_killed_at_a_call_a_node_comes_back_and_owes_nothing(
    nodes: Victims, strike: Strike
) -> None:
    assert struck(nodes, strike) == Outcome(True, -signal.SIGKILL)


@pytest.mark.parametrize("party", ["KOR", "USA"])
def test_a_sync_that_fails_ends_the_process(nodes: Victims, party: str) -> None:
    strike = Strike(party, "fdatasync", 3, "error=EIO")
    assert struck(nodes, strike) == Outcome(True, EXIT_STORE_BROKEN)


def test_a_disk_that_is_full_for_one_write_is_survived(nodes: Victims) -> None:
    strike = Strike("USA", "pwrite64", 9, "error=ENOSPC")
    assert struck(nodes, strike) == Outcome(True, None)
