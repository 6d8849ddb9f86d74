"""Each planted bug turns its check red, and the check is green without it."""

import pytest

from bugs import BUGS


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_noticed(name: str) -> None:
    bug = BUGS[name]
    with bug.patch(), pytest.raises(AssertionError):
        bug.check()
    bug.check()
