"""A JSON head with bytes behind it: how contents travel between a node and its own people."""

import json
from typing import Any

from relto.errors import CallerError

__all__ = ["HEAD_BYTES_MAX", "framed", "read_object", "unframed"]

HEAD_BYTES_MAX = 256 * 1024

Json = dict[str, Any]


def framed(head: Json, body: bytes) -> bytes:
    """A JSON head and bytes behind it: a 4-byte length, the head, the bytes."""
    data = json.dumps(head, ensure_ascii=False).encode()
    return len(data).to_bytes(4, "big") + data + body


def unframed(data: bytes) -> tuple[Json, bytes]:
    """The head and the bytes of what `framed` made. Raises CallerError."""
    size = int.from_bytes(data[:4], "big")
    if not 0 < size <= HEAD_BYTES_MAX or len(data) < 4 + size:
        raise CallerError("the request is cut off, or its head is too large")
    return read_object(data[4 : 4 + size]), data[4 + size :]


def read_object(data: bytes) -> Json:
    """A JSON object. Raises CallerError."""
    try:
        value = json.loads(data)
    except ValueError:
        raise CallerError("the request is not JSON") from None
    if not isinstance(value, dict):
        raise CallerError("the request is not a JSON object")
    return value
