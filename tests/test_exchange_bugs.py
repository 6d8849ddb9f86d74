"""Every planted bug turns its check red, and without it the check is green."""

import pytest

from exchange_bugs import BUGS


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_noticed_and_its_check_is_green_without_it(name: str) -> None:
    bug = BUGS[name]
    with bug.patch(), pytest.raises((AssertionError, pytest.fail.Exception)):
        bug.check()
    bug.check()
