"""Every order of a few things, with one fault anywhere: no rule breaks, and all comes to rest.

One item only; `make soak EXPLORE=1` has two.
"""

import pytest

from sim.bugs import BUGS
from sim.choices import Scene
from sim.explore import ONE, Broken, Explorer, explore, play_all

DELIVERED = "JPN: KOR's held; KOR: KOR's to JPN delivered; USA: KOR's held to JPN delivered"


def test_one_item_comes_to_rest_whatever_goes_wrong_once() -> None:
    """It is delivered, or was never accepted, since its node died before that was committed."""
    found = explore(Scene(ONE, answers=False))
    assert found.ends.keys() == {DELIVERED, "JPN: nothing; KOR: nothing; USA: nothing"}
    assert found.faults.keys() == {
        "draft before", "draft after",
        "arrival before", "arrival after", "arrival lost", "arrival twice", "answer lost",
    }  # fmt: skip


def test_what_is_worked_out_is_what_is_played() -> None:
    """What a node does, known from its first time, leads to the same states and ends. With every
    answer chosen, and with a fault: `python -m sim compare`."""
    scene = Scene(ONE, answers=False, faults=False)
    explorer = Explorer(scene)
    found = explorer.run()
    states, ends = play_all(scene, merges=True)
    assert explorer.states == states
    assert found.ends == ends
    assert found.steps < found.moves


def test_what_came_to_a_known_state_need_not_be_played_on() -> None:
    """Without that the same states and ends are found."""
    scene = Scene(ONE, answers=False, faults=False)
    states, ends = play_all(scene, merges=True)
    whole, all_ends = play_all(scene, merges=False)
    assert states == whole
    assert ends.keys() == all_ends.keys() == {DELIVERED}
    assert ends.total() < all_ends.total()


@pytest.mark.parametrize(
    ("name", "says", "fault"),
    [
        ("an item is forgotten on the hub's 2xx", "not owed any more", "lost"),
        ("commits are not synced", "an accepted item is lost", "after"),
        ("times of another boot are believed", "a row waits for ever", "after"),
        ("a message that is put off is forgotten", "is forgotten that its peer", "after"),
        ("a repeat is applied again", "a release was applied twice", "after"),
    ],
)
def test_the_explorer_finds_a_planted_bug(name: str, says: str, fault: str) -> None:
    """Each shows only after one fault, and the last two only in some of the orders after it."""
    with BUGS[name](), pytest.raises(Broken, match=says) as broken:
        explore(Scene(ONE, answers=False))
    faults = [words for _, words in broken.value.choices if words]
    assert [words.split()[0] for words in faults] == [fault]
