"""What a party got to see, line by line, and where two such transcripts differ."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from relto.envelope import payload_type

__all__ = ["Difference", "Told", "compared", "digest"]

AROUND_BYTES = 200  # shown of a line, before and after the first byte that differs


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that a party got to see: what it is, from whom, and its bytes."""

    what: str
    peer: str
    data: bytes
    path: str = field(default="", compare=False)  # of the request that is asked or answered
    inside: bytes = field(default=b"", compare=False)  # a hop message, opened: for people

    @property
    def line(self) -> str:
        """Which kind of line it is, without ids."""
        *_, start = self.path.partition("/relto/v1/")
        path = f"/{start.partition('/')[0]}" if start else self.path
        return " ".join(filter(None, (self.what, self.peer, path)))

    def beside(self, other: "Told") -> str:
        """The bytes around the first that differs from another's."""
        mine, theirs = self.data, other.data
        if self.inside != other.inside:
            mine, theirs = self.inside, other.inside
        start = next((n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), 0)
        around = mine[max(0, start - AROUND_BYTES) : start + AROUND_BYTES]
        return f"{self.what} {self.peer} {self.path}, {len(mine)} bytes, at {start}: {around!r}"


@dataclass(frozen=True, slots=True)
class Difference:
    """The first line by which two worlds can be told apart; None where one has no such line."""

    number: int
    left: Told | None
    right: Told | None

    @property
    def places(self) -> tuple[str, ...]:
        """Where it shows: which line, and each field of it that is not the same.

        `is answered by USA /ciphertext: status`, for instance, or `is asked by USA /hop:
        release.seq`; `another line` where the lines are not of one kind.
        """
        if self.left is None or self.right is None or self.left.line != self.right.line:
            lines = sorted({told.line for told in (self.left, self.right) if told is not None})
            return tuple(f"{line}: another line" for line in lines)
        fields = sorted(set(_fields(self.left, self.right)))
        return tuple(f"{self.left.line}: {name}" for name in fields)

    def __str__(self) -> str:
        left, right = self.left, self.right
        if left is None or right is None:
            odd = left or right
            return f"entry {self.number}, in one world only: {odd and odd.beside(odd)}"
        sides = f"left {left.beside(right)}\n  right {right.beside(left)}"
        return f"entry {self.number}, {', '.join(self.places)}:\n  {sides}"


def compared(left: Sequence[Told], right: Sequence[Told]) -> Difference | None:
    """Where two transcripts begin to differ; None if they never do."""
    for number, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return Difference(number, one, other)
    number = min(len(left), len(right))
    if len(left) == len(right):
        return None
    return Difference(
        number, *(side[number] if number < len(side) else None for side in (left, right))
    )


def digest(transcript: Sequence[Told]) -> str:
    """SHA-256, in hex, of all that was told, in its order."""
    whole = hashlib.sha256()
    for told in transcript:
        for part in (told.what.encode(), told.peer.encode(), told.data):
            whole.update(len(part).to_bytes(8, "big") + part)
    return whole.hexdigest()


def _fields(left: Told, right: Told) -> Iterator[str]:
    """Which fields of two lines of one kind differ."""
    if left.path == "":
        yield left.peer if left.what == "reads" else "row"
        return
    if left.inside and right.inside and left.inside != right.inside:
        yield from _inside(json.loads(left.inside), json.loads(right.inside))
        return
    (head, _, body), (other_head, _, other_body) = (
        told.data.partition(b"\r\n\r\n") for told in (left, right)
    )
    (first, *headers), (other_first, *other_headers) = (
        [h for h in part.split(b"\r\n") if not h.lower().startswith(b"content-length")]
        for part in (head, other_head)
    )
    if first != other_first:
        yield "status" if left.what == "is answered by" else "target"
    if headers != other_headers:
        yield "headers"
    if body != other_body:
        yield "body"


def _inside(left: list[Any], right: list[Any]) -> Iterator[str]:
    """Which fields of two opened hop messages differ."""
    if len(left) != len(right):
        yield "number of parts"
        return
    for one, other in zip(left, right, strict=True):
        names, other_names = ([_name(r) for _, r in part["records"]] for part in (one, other))
        if names != other_names:
            odd = (Counter(names) - Counter(other_names)) + (Counter(other_names) - Counter(names))
            yield f"which records: {' '.join(sorted(odd)) or 'their order'}"
            return
        for (text, envelope), (other_text, other_envelope) in zip(
            one["records"], other["records"], strict=True
        ):
            yield from _record(_name(envelope), json.loads(text), json.loads(other_text))
            if text == other_text and envelope != other_envelope:
                yield f"{_name(envelope)} signatures"
        for key in sorted((one.keys() | other.keys()) - {"records"}):
            mine, theirs = one.get(key), other.get(key)
            if mine != theirs:
                ordered = key == "certificates" and sorted(mine) == sorted(theirs)
                yield f"order of {key}" if ordered else key


def _name(envelope: dict[str, Any]) -> str:
    """A record's name by its type."""
    before, after = payload_type("name", 1).split("name")
    return str(envelope["payloadType"]).removeprefix(before).removesuffix(after)


def _record(name: str, left: dict[str, Any], right: dict[str, Any]) -> Iterator[str]:
    for key in sorted(left.keys() | right.keys()):
        mine, theirs = left.get(key), right.get(key)
        if isinstance(mine, dict) and isinstance(theirs, dict) and mine.keys() == theirs.keys():
            yield from _record(f"{name}.{key}", mine, theirs)
        elif mine != theirs:
            yield f"{name}.{key}"
