"""Whole messages over asyncio streams."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

from relto.links.http import ClientWire, ServerWire

__all__ = ["READ_BYTES", "hang_up", "pull", "push"]

READ_BYTES = 64 * 1024
_T = TypeVar("_T")


async def pull(
    reader: asyncio.StreamReader, wire: ClientWire | ServerWire, take: Callable[[], _T | None]
) -> _T:
    """What `take` gives once enough bytes have been fed to `wire`.

    Raises:
        EOFError: the other end closed before that.
    """
    while (taken := take()) is None:
        data = await reader.read(READ_BYTES)
        if not data:
            raise EOFError
        wire.feed(data)
    return taken


async def push(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send `data` as fast as the other end reads; up to about 128 KiB may still be on the way.

    In pieces, because a TLS transport takes a large write whole and then says that it is drained.
    """
    for start in range(0, len(data), READ_BYTES):
        writer.write(data[start : start + READ_BYTES])
        await writer.drain()


async def hang_up(writer: asyncio.StreamWriter, *, timeout_s: float) -> None:
    """Close after what is on the way has been sent, or after `timeout_s` in any case."""
    writer.close()
    try:
        with contextlib.suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(timeout_s):
                await writer.wait_closed()
    finally:
        writer.transport.abort()
