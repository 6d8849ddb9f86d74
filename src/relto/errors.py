"""Errors, sorted by who must act. Only the edge turns them into status codes and exit codes."""

__all__ = [
    "CallerError",
    "PeerError",
    "QuestionError",
    "RegimeError",
    "ReltoError",
    "StoreBroken",
    "StoreError",
    "StoreFull",
    "why",
]


class ReltoError(Exception):
    """Anything that relto refuses; its text is one line that names what is wrong and the fix."""


def why(error: BaseException) -> str:
    """What is told of an error: our own words, of a fault in the program only its kind."""
    return str(error) if isinstance(error, ReltoError) else type(error).__name__


class CallerError(ReltoError):
    """What a person or program on this side asked for cannot be done. Say it and change nothing."""


class QuestionError(CallerError):
    """A question of `decide` is malformed: an error, not a decision (DESIGN §4 (1))."""


class RegimeError(CallerError):
    """A regime folder has errors. `problems` holds every one of them."""

    def __init__(self, problems: tuple[object, ...]) -> None:
        super().__init__("\n".join(str(p) for p in problems))
        self.problems = problems


class PeerError(ReltoError):
    """The other side broke the protocol, or bytes are not what they claim. Drop the message."""


class StoreError(ReltoError):
    """The store could not do what was asked."""


class StoreFull(StoreError):
    """Disk full or busy: the transaction was rolled back; shed and try again later."""


class StoreBroken(StoreError):
    """I/O error, corruption or a failed fsync: what was committed is unknown. End the process."""
