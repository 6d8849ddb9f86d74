"""The arguments a store accepts, checked in one place so that every store refuses the same."""

import re

from relto.errors import CallerError
from relto.ports import (
    BLOB_BYTES_MAX,
    BODY_BYTES_MAX,
    CHUNK_BYTES_MAX,
    ENTRY_BYTES_MAX,
    ERROR_CHARS_MAX,
    JOBS_MAX,
    NAME_CHARS_MAX,
    ROWS_MAX,
    SALT_BYTES,
)

__all__ = [
    "blob_name",
    "blob_part",
    "blob_range",
    "body",
    "cursor",
    "entry",
    "error_text",
    "jobs",
    "limit",
    "moment",
    "name",
    "precedence",
    "salt",
    "text",
]

INTEGER_MAX = 2**63 - 1
BLOB_NAME = re.compile(r"[0-9a-f][0-9a-f-]{0,127}")


def text(what: str, value: str) -> str:
    """A string that every store compares and returns alike; it may be empty."""
    if len(value) > NAME_CHARS_MAX:
        raise CallerError(f"a {what} has at most {NAME_CHARS_MAX} characters, got {len(value)}")
    # A NUL ends a string for some of SQLite's functions, and a lone surrogate has no UTF-8.
    if "\0" in value or (not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value)):
        raise CallerError(f"a {what} has a character that cannot be stored: {value[:40]!a}")
    return value


def _has_utf8(value: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in value)


def name(what: str, value: str) -> str:
    """A string that names something, so it is not empty."""
    if not value:
        raise CallerError(f"a {what} may not be empty")
    return text(what, value)


def body(value: bytes) -> bytes:
    return _sized("body", value, BODY_BYTES_MAX)


def entry(value: bytes) -> bytes:
    return _sized("journal entry", value, ENTRY_BYTES_MAX)


def salt(value: bytes) -> bytes:
    if len(value) != SALT_BYTES:
        raise CallerError(f"a salt has {SALT_BYTES} bytes, got {len(value)}")
    return value


def limit(value: int) -> int:
    if not 1 <= value <= ROWS_MAX:
        raise CallerError(f"a page has from 1 to {ROWS_MAX} rows, got a limit of {value}")
    return value


def jobs(count: int) -> None:
    if count > JOBS_MAX:
        raise CallerError(f"a commit has at most {JOBS_MAX} jobs, got {count}")


def moment(what: str, value: int) -> int:
    """A count that is kept in 63 bits: milliseconds, attempts, a row's number."""
    if not 0 <= value <= INTEGER_MAX:
        raise CallerError(f"{what} is from 0 to {INTEGER_MAX}, got {value}")
    return value


def precedence(value: int) -> int:
    if not 0 <= value <= 3:
        raise CallerError(f"precedence is from 0 (FLASH) to 3 (ROUTINE), got {value}")
    return value


def error_text(value: str) -> str:
    """A text to show beside a row. It is cut and mended, since it comes from anywhere."""
    return value[:ERROR_CHARS_MAX].replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def cursor(after: str) -> tuple[str, str]:
    """Rank and key of the row with that cursor; two empty strings, before all rows, for none."""
    if not after:
        return "", ""
    length, colon, rest = after.partition(":")
    if not (colon and length.isascii() and length.isdecimal() and len(length) <= 4):
        raise CallerError(f"not a cursor of a listing: {after[:40]!a}")
    size = int(length)
    return text("rank", rest[:size]), name("key", rest[size:])


def blob_name(value: str) -> str:
    # These become file names: no separator, no dot, no upper case that some disks fold.
    if not BLOB_NAME.fullmatch(value):
        raise CallerError(f"a blob's name is lower-case hex with dashes, got {value[:40]!a}")
    return value


def blob_part(offset: int, data: bytes, *, size: int) -> None:
    """A part to write, for a blob of `size` bytes."""
    _sized("part of a blob", data, CHUNK_BYTES_MAX)
    if not 0 <= offset <= size:
        raise CallerError(f"a part at {offset} would leave a gap: the blob has {size} bytes")
    if offset + len(data) > BLOB_BYTES_MAX:
        raise CallerError(f"a blob has at most {BLOB_BYTES_MAX} bytes")


def blob_range(offset: int, length: int) -> None:
    """A part to read."""
    if not 0 <= offset <= BLOB_BYTES_MAX or not 0 <= length <= CHUNK_BYTES_MAX:
        raise CallerError(
            f"a read of a blob is at most {CHUNK_BYTES_MAX} bytes, got {length} from {offset}"
        )


def _sized(what: str, value: bytes, bytes_max: int) -> bytes:
    if len(value) > bytes_max:
        raise CallerError(f"a {what} has at most {bytes_max} bytes, got {len(value)}")
    return value
