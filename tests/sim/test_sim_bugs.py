"""Planted bugs are found by schedules themselves: by their rules, in an order that no bug knows."""

import pytest

from sim.bugs import BUGS, search

SOON = (
    "an item is forgotten on the hub's 2xx",
    "an item is forgotten on the hub's receipt",
    "the hub may sign the destination's receipt",
    "an approval of another path counts",
    "an approval of an earlier review counts",
    "the same officer counts twice",
    "the receiver trusts the sender's decision",
    "a hold is ignored at dispatch",
    "the receipt goes before the content is here",
    "an approval is not journaled",
    "a release is not journaled",
)
"""A sample of those that are found within a hundred schedules; `python -m sim bugs` plants all."""


@pytest.mark.parametrize("name", SOON)
def test_schedules_find_a_planted_bug(name: str) -> None:
    assert search(name).words


def test_there_are_enough_of_them() -> None:
    assert len(BUGS) >= 40
