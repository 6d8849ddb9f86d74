"""A JSON head with bytes behind it: how contents travel between a node and its own people."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import chain
from typing import Any, NoReturn

from relto.errors import CallerError

__all__ = ["HEAD_BYTES_MAX", "framed", "read_head", "read_object", "take_head", "unframed"]

HEAD_BYTES_MAX = 256 * 1024

Json = dict[str, Any]


def framed(head: Json, body: bytes) -> bytes:
    """A JSON head and bytes behind it: a 4-byte length, the head, the bytes."""
    data = json.dumps(head, ensure_ascii=False).encode()
    return len(data).to_bytes(4, "big") + data + body


def unframed(data: bytes) -> tuple[Json, bytes]:
    """The head and the bytes of what `framed` made. Raises CallerError."""
    head, body = take_head((data,))
    return head, b"".join(body)


def take_head(pieces: Iterable[bytes]) -> tuple[Json, Iterator[bytes]]:
    """`unframed` for a body that comes in pieces. Raises CallerError."""
    source = iter(pieces)
    held = b""
    while (end := _end(held)) is None or len(held) < end:
        piece = next(source, None)
        held += _cut_off() if piece is None else piece
    return read_object(held[4:end]), chain((held[end:],), source)


async def read_head(pieces: AsyncIterator[bytes]) -> tuple[Json, int, AsyncIterator[bytes]]:
    """The head, the bytes that it took, and the pieces behind it. Raises CallerError."""
    held = b""
    while (end := _end(held)) is None or len(held) < end:
        piece = await anext(pieces, None)
        held += _cut_off() if piece is None else piece

    async def rest() -> AsyncIterator[bytes]:
        yield held[end:]
        async for piece in pieces:
            yield piece

    return read_object(held[4:end]), end, rest()


def _end(held: bytes) -> int | None:
    """Where the head ends; None before its length is known."""
    if len(held) < 4:
        return None
    size = int.from_bytes(held[:4], "big")
    return 4 + size if 0 < size <= HEAD_BYTES_MAX else _cut_off()


def _cut_off() -> NoReturn:
    raise CallerError("the request is cut off, or its head is too large")


def read_object(data: bytes) -> Json:
    """A JSON object. Raises CallerError."""
    try:
        value = json.loads(data)
    except ValueError:
        raise CallerError("the request is not JSON") from None
    if not isinstance(value, dict):
        raise CallerError("the request is not a JSON object")
    return value
