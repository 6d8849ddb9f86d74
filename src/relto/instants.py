"""Instants as relto writes them: `YYYY-MM-DDTHH:MM:SSZ`, whole seconds, always UTC.

Of fixed width, so that comparing the strings compares the instants.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

__all__ = ["instant", "is_instant", "moment"]

_FORM = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z\Z", re.ASCII)


@lru_cache(maxsize=4096)
def is_instant(text: str) -> bool:
    """Whether `text` is a real instant in the one accepted form.

    >>> is_instant("2014-12-29T00:00:00Z"), is_instant("2014-02-30T00:00:00Z")
    (True, False)
    """
    if not _FORM.match(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def instant(moment: datetime) -> str:
    """The first whole second at or after `moment`, so that "counts when `at` ≤ t" stays exact."""
    utc = moment.astimezone(UTC)
    if utc.microsecond:
        utc = utc.replace(microsecond=0) + timedelta(seconds=1)
    return f"{utc.replace(tzinfo=None).isoformat()}Z"


def moment(text: str) -> datetime:
    """The aware UTC datetime of an instant."""
    return datetime.fromisoformat(text)
