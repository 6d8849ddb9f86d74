"""Every order of a few things, with one fault anywhere: no rule breaks, and all comes to rest.

One item only; `make soak EXPLORE=1` has two.
"""

import pytest

from sim.bugs import BUGS
from sim.explore import ONE, Broken, Scene, explore


def test_one_item_comes_to_rest_whatever_goes_wrong_once() -> None:
    """It is delivered, or was never accepted, since its node died before that was committed."""
    found = explore(Scene(ONE, answers=False))
    assert found.ends.keys() == {
        "JPN: KOR's held; KOR: KOR's to JPN delivered; USA: KOR's held to JPN delivered",
        "JPN: nothing; KOR: nothing; USA: nothing",
    }
    assert found.faults.keys() == {
        "draft before", "draft after",
        "arrival before", "arrival after", "arrival lost", "arrival twice", "arrival unanswered",
    }  # fmt: skip


def test_what_came_to_a_known_state_need_not_be_played_on() -> None:
    """Without that the same ends are found."""
    scene = Scene(ONE, answers=False, faults=False)
    short, whole = explore(scene), explore(scene, merges=False)
    assert short.ends.keys() == whole.ends.keys()
    assert short.known > whole.known == 0


@pytest.mark.parametrize(
    "name",
    [
        "an item is forgotten on the hub's 2xx",
        "commits are not synced",
    ],
)
def test_the_explorer_finds_a_planted_bug(name: str) -> None:
    with BUGS[name](), pytest.raises(Broken, match="after"):
        explore(Scene(ONE, answers=False))
