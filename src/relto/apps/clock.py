"""The system clock, read in this one place of the apps; everything below takes `now`."""

from datetime import UTC, datetime

__all__ = ["now"]


def now() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - the edge itself: here `now` comes from nowhere else
