"""Canonical JSON: one value, one sequence of bytes (RFC 8785, and what DESIGN §6 "Bytes" allows).

Allowed are objects, arrays, strings, booleans and integers of at most 53 bits. Null, fractions,
text that is not NFC and characters that steer a display are not. `decode` accepts bytes only if
`encode` would give exactly these bytes back, so that a signature, a digest and what a person reads
never speak of different values.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Never, TypeAlias

import rfc8785

from relto.errors import CallerError, PeerError, ReltoError

__all__ = ["DEPTH_MAX", "INTEGER_MAX", "Json", "decode", "digest", "encode"]

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | bool"

DEPTH_MAX = 32
"""Arrays and objects inside each other, at most; a scalar has depth 0, `[]` has depth 1."""

INTEGER_MAX = 2**53 - 1
"""RFC 8785 §3.2.2.3, RFC 7493 §2.2: beyond it, readers that use doubles disagree."""

# C0 but \t and \n, DEL and C1; then U+061C and the other characters that reorder text on a screen
# (Unicode UAX #9 §2: "Trojan Source", CVE-2021-42574); then surrogates, which UTF-8 cannot carry.
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

# A whole string (its brackets do not count), or one bracket. Possessive: no backtracking.
_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{\]}]', re.DOTALL)

_INTEGER_DIGITS_MAX = len(str(INTEGER_MAX))

# JSON of which nothing needs a closer look: printable ASCII without escapes, true, false, integers
# of at most 15 digits. Nearly all that nodes exchange is of this kind. Possessive: no backtracking.
_PLAIN = re.compile(
    r'(?:"[ !#-\[\]-~]*+"|[\[\]{}:,]|true|false|-?(?:0|[1-9][0-9]{0,14})(?![0-9.eE]))*+'
)
_STRING = re.compile(rb'"[^"]*+"')
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# For plain JSON the standard library's encoder writes what RFC 8785 says, and it is written in C:
# keys in ASCII sort by code point as by UTF-16 unit, and nothing is escaped.
_PLAIN_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def encode(value: Json) -> bytes:
    """The canonical bytes of `value`: RFC 8785, UTF-8, keys sorted by UTF-16 code units.

    >>> encode({"b": [1, True], "a": "日本"})
    b'{"a":"\\xe6\\x97\\xa5\\xe6\\x9c\\xac","b":[1,true]}'

    Raises:
        CallerError: the value holds what canonical JSON does not allow.
    """
    if _has_plain_shape(value, DEPTH_MAX):
        text = _PLAIN_ENCODER.encode(value)
        if _PLAIN.fullmatch(text):
            return text.encode("ascii")
    _check(value, error=CallerError, path="", depth_left=DEPTH_MAX)
    return rfc8785.dumps(value)


def decode(data: bytes, *, size_bytes_max: int, depth_max: int = DEPTH_MAX) -> Json:
    """The value that `data` says, if `data` is exactly its canonical form.

    Steps, the cheap and bounding ones first:
    (1) size; (2) depth, before anything is parsed; (3) UTF-8; (4) JSON without repeated keys,
    fractions or big integers; (5) only allowed values; (6) encoding it again gives `data`.

    Raises:
        PeerError: one line that says which of these fails, and where if that is known.
        CallerError: `depth_max` is above `DEPTH_MAX`.
    """
    if depth_max > DEPTH_MAX:
        raise CallerError(f"depth_max is {depth_max}; at most {DEPTH_MAX} is ever allowed")
    # (1) Size.
    if len(data) > size_bytes_max:
        raise PeerError(f"{len(data)} bytes of JSON; at most {size_bytes_max} are allowed here")
    plain = _decode_plain(data, depth_max)
    return _decode_any(data, depth_max) if plain is None else plain


def _decode_any(data: bytes, depth_max: int) -> Json:
    """Steps (2) to (6) for whatever bytes."""
    # (2) Depth.
    if _depth(data) > depth_max:
        raise PeerError(f"JSON is nested too deep; at most {depth_max} levels are allowed here")
    # (3) UTF-8, and no byte order mark (RFC 8259 §8.1).
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PeerError(f"not UTF-8 at byte {error.start}") from error
    if text.startswith("\ufeff"):
        raise PeerError("JSON begins with a byte order mark; leave it out")
    # (4) JSON.
    try:
        value: Json = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise PeerError(f"not JSON: {error.msg.lower()} at character {error.pos}") from error
    # (5) Allowed values.
    _check(value, error=PeerError, path="", depth_left=depth_max)
    # (6) RFC 8785: the same bytes again. What is left to differ is spacing, order and escapes.
    canonical = rfc8785.dumps(value)
    if canonical != data:
        raise PeerError(
            f"not canonical JSON (RFC 8785): differs at byte {_differ(canonical, data)}"
        )
    return value


def _decode_plain(data: bytes, depth_max: int) -> "Json | None":
    """Steps (2) to (6) for plain JSON, in C. None: look again the long way, which says why."""
    if not data.isascii() or not _PLAIN.fullmatch(text := data.decode("ascii")):
        return None
    if _plain_depth(data) > depth_max:
        return None
    try:
        value: Json = json.loads(text)
    except json.JSONDecodeError:
        return None
    return value if _PLAIN_ENCODER.encode(value) == text else None


def digest(value: Json) -> str:
    """SHA-256 of the canonical bytes of `value`, in lower-case hex.

    >>> digest({})
    '44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a'
    """
    return hashlib.sha256(encode(value)).hexdigest()


def _has_plain_shape(value: object, depth_left: int) -> bool:
    """Whether arrays and objects are built of what JSON has, with text as keys, not too deep.

    The leaves are told by what the encoder writes for them.
    """
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                return False
        inner = value.values()
    elif type(value) is list or type(value) is tuple:
        inner = value  # type: ignore[assignment]
    else:
        return type(value) in _LEAVES
    if depth_left < 1:
        return False
    for each in inner:
        if type(each) not in _LEAVES and not _has_plain_shape(each, depth_left - 1):
            return False
    return True


_LEAVES = frozenset({str, int, bool})


def _check(value: object, *, error: type[ReltoError], path: str, depth_left: int) -> None:
    """Raise `error` at the first thing in `value` that is not allowed, and say where it is."""
    if isinstance(value, bool):
        return
    if isinstance(value, str):
        _check_text(value, error=error, path=path)
    elif isinstance(value, int):
        if abs(value) > INTEGER_MAX:
            raise error(f"integer{_at(path)} is beyond 53 bits; write it as text")
    elif isinstance(value, dict):
        _check_depth(depth_left, error=error, path=path)
        for key, inner in value.items():
            if not isinstance(key, str):
                raise error(f"key of type {type(key).__name__}{_at(path)}; keys are text")
            _check_text(key, error=error, path=f"{path}/{key}")
            _check(inner, error=error, path=f"{path}/{key}", depth_left=depth_left - 1)
    elif isinstance(value, list | tuple):
        _check_depth(depth_left, error=error, path=path)
        for index, inner in enumerate(value):
            _check(inner, error=error, path=f"{path}/{index}", depth_left=depth_left - 1)
    elif value is None:
        raise error(f"null{_at(path)}; what is absent is left out")
    elif isinstance(value, float):
        raise error(f"number with a fraction or exponent{_at(path)}; only integers are allowed")
    else:
        raise error(f"value of type {type(value).__name__}{_at(path)}; JSON has no such thing")


def _check_depth(depth_left: int, *, error: type[ReltoError], path: str) -> None:
    if depth_left < 1:
        raise error(f"JSON is nested too deep{_at(path)}")


def _check_text(text: str, *, error: type[ReltoError], path: str) -> None:
    if text.isascii() and text.isprintable():
        return
    if found := _FORBIDDEN.search(text):
        raise error(f"character U+{ord(found[0]):04X}{_at(path)} is not allowed in text")
    # BUG: two Pythons whose Unicode tables differ can judge a character that the older one does
    # not know differently. Every character that Unicode 14 (Python 3.11) assigns is judged alike
    # for ever (Unicode normalization stability policy).
    if not unicodedata.is_normalized("NFC", text):
        raise error(f"text{_at(path)} is not in Unicode normal form C")


def _at(path: str) -> str:
    """Where, as a JSON pointer in printable ASCII: what a peer chose never steers our terminal."""
    if not path:
        return ""
    shown = path if len(path) <= 80 else f"{path[:77]}..."
    return f" at {json.dumps(shown)}"


def _depth(data: bytes) -> int:
    """How deep brackets outside strings nest. Bytes that are not JSON get some number, quickly."""
    depth = deepest = 0
    for found in _STRING_OR_BRACKET.finditer(data):
        bracket = found[0]
        if bracket in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif bracket in b"]}":
            depth -= 1
    return deepest


def _plain_depth(data: bytes) -> int:
    """How deep brackets nest in plain JSON, where no string has an escape."""
    depth = deepest = 0
    for bracket in _STRING.sub(b"", data).translate(None, _ALL_BUT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _differ(first: bytes, second: bytes) -> int:
    """The first offset at which two different sequences differ."""
    pairs = zip(first, second, strict=False)
    shorter = min(len(first), len(second))
    return next((i for i, (a, b) in enumerate(pairs) if a != b), shorter)


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):  # RFC 8259 §4: what a reader makes of it is unpredictable.
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise PeerError(f"key {json.dumps(key[:80])} stands twice in one object")
            seen.add(key)
    return members


def _integer(digits: str) -> int:
    if digits == "-0":
        raise PeerError("-0 is not canonical JSON; write 0")
    # Before `int`, whose cost grows with the square of the length.
    if len(digits.removeprefix("-")) > _INTEGER_DIGITS_MAX:
        raise PeerError(f"integer of {len(digits)} digits is beyond 53 bits; write it as text")
    return int(digits)


def _fraction(digits: str) -> Never:
    raise PeerError(
        f"number {json.dumps(digits[:40])} is not an integer; only integers are allowed"
    )


def _constant(name: str) -> Never:
    raise PeerError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_fraction,
    parse_constant=_constant,
)
