"""Decoders of single values in what others signed or sent.

What is not exactly right is the other side's fault: each raises PeerError with the value that is
wrong, and what it should be.
"""

import re
from typing import Any

from relto.errors import PeerError
from relto.instants import is_instant
from relto.marks import is_party_code
from relto.tables import quoted

__all__ = [
    "as_hex",
    "as_instant",
    "as_list",
    "as_number",
    "as_object",
    "as_party",
    "as_text",
    "require_keys",
]

NUMBER_MAX = 2**53 - 1  # that JSON carries exactly everywhere
TEXT_CHARS_MAX = 512
_HEX = re.compile(r"[0-9a-f]{64}\Z")


def as_object(value: object, what: str) -> dict[str, Any]:
    """The object that it is."""
    if not isinstance(value, dict):
        raise PeerError(f"{what} is {quoted(value)}, not an object")
    return value


def require_keys(data: dict[str, Any], what: str, *names: str) -> None:
    """It has these keys, and no others."""
    if data.keys() != set(names):
        odd = sorted(data.keys() ^ set(names))[0]
        raise PeerError(f"{what} has keys other than {', '.join(names)}: {quoted(odd)}")


def as_list(value: object, what: str, size_max: int) -> list[Any]:
    """The list that it is, of at most `size_max` entries."""
    if not isinstance(value, list) or len(value) > size_max:
        raise PeerError(f"{what} is not a list of at most {size_max}")
    return value


def as_hex(value: object, what: str) -> str:
    """A SHA-256 as 64 hexadecimal digits, in small letters."""
    if not isinstance(value, str) or not _HEX.match(value):
        raise PeerError(f"{what} is {quoted(value)}, not 64 hexadecimal digits")
    return value


def as_text(value: object, what: str) -> str:
    """A text of 1 to `TEXT_CHARS_MAX` characters."""
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_CHARS_MAX:
        raise PeerError(f"{what} is {quoted(value)}, not a text")
    return value


def as_party(value: object, what: str) -> str:
    """A party's code."""
    if not isinstance(value, str) or not is_party_code(value):
        raise PeerError(f"{what} is {quoted(value)}, not a party's code")
    return value


def as_number(value: object, what: str) -> int:
    """A whole number from 0 to `NUMBER_MAX`."""
    if type(value) is not int or not 0 <= value <= NUMBER_MAX:
        raise PeerError(f"{what} is {quoted(value)}, not a whole number")
    return value


def as_instant(value: object) -> str:
    """An instant in UTC, to the second."""
    if not isinstance(value, str) or not is_instant(value):
        raise PeerError(f"{quoted(value)} is not an instant such as 2015-01-05T00:00:00Z")
    return value
