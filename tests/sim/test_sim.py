"""Whatever is lost, doubled, late, cut, killed, torn, full, paused, wrong or a lie: no rule breaks.

A schedule that fails is played again by `make sim SEED=n`, which tells its story.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sim.campaign import run_campaign
from sim.crypto import REAL

TESTS = Path(__file__).parent.parent
SCHEDULES = 10_000
CHUNK = 1_000
REAL_SCHEDULES = 500
CPU_S_MAX = 300.0  # two minutes on two cores are 240; a quarter more for an uneven machine


@pytest.mark.parametrize("first", range(0, SCHEDULES, CHUNK))
def test_no_schedule_breaks_a_rule_and_every_fault_has_struck(first: int) -> None:
    campaign = run_campaign(range(first, first + CHUNK))
    assert not campaign.never, "the campaign is void: these never struck"
    assert campaign.own_cpu_s <= CPU_S_MAX * CHUNK / SCHEDULES


@pytest.mark.parametrize("first", range(0, REAL_SCHEDULES, 125))
def test_no_schedule_breaks_a_rule_with_real_keys(first: int) -> None:
    """Signed, verified and sealed as in production, and all that is written is read again."""
    run_campaign(range(1_000_000 + first, 1_000_000 + first + 125), REAL)


@pytest.mark.parametrize("seed", [7, 46, 182])
def test_a_schedule_is_the_same_in_every_process(seed: int) -> None:
    """Byte for byte: also where sets and dicts of texts have another order."""

    def story(hash_seed: str) -> str:
        answer = subprocess.run(
            [sys.executable, "-m", "sim", str(seed)],
            cwd=TESTS,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        return answer.stdout

    first = story("1")
    assert first == story("2")
    assert "trace " in first
