"""A node dies, or its disk fails, at a durable call: a sample; `make soak CRASH=…` has all."""

import pytest

from crash.syscalls import EXIT_STORE_BROKEN, Strike, struck, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can be traced")

# By thread: the writer's first syncs are those of the start, then commits of the exchange.
KILLS = [
    Strike("KOR", "fdatasync", 3, "signal=KILL"),
    Strike("KOR", "pwrite64", 9, "signal=KILL"),
    Strike("USA", "fdatasync", 4, "signal=KILL"),
    Strike("USA", "sendto", 6, "signal=KILL"),
    Strike("JPN", "fdatasync", 3, "signal=KILL"),
]


@pytest.mark.parametrize("strike", KILLS, ids=str)
def test_killed_at_a_call_nothing_is_lost_repeated_or_unexpected(strike: Strike) -> None:
    outcome = struck(strike)
    assert outcome.struck
    assert outcome.findings.is_clean, outcome.findings


@pytest.mark.parametrize("party", ["KOR", "USA"])
def test_a_sync_that_fails_ends_the_process_and_loses_nothing(party: str) -> None:
    outcome = struck(Strike(party, "fdatasync", 3, "error=EIO"))
    assert outcome.struck
    assert outcome.exit_code == EXIT_STORE_BROKEN
    assert outcome.findings.is_clean, outcome.findings


def test_a_disk_that_is_full_for_one_write_is_survived() -> None:
    outcome = struck(Strike("USA", "pwrite64", 9, "error=ENOSPC"))
    assert outcome.struck
    assert outcome.exit_code is None
    assert outcome.findings.is_clean, outcome.findings
