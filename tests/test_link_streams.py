"""Bodies that nobody holds whole: what a server and a client do with them, over Unix sockets."""

import asyncio
import contextlib
import hashlib
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relto.errors import PeerError
from relto.links import Limits, LinkError, Request, Response, Server, UnixAddress, UnixExchange
from relto.links.http import ClientWire, Stream
from relto.links.streams import READ_BYTES
from test_links import PATIENCE_S, run

MIB = 1024 * 1024
SHORT_S = 0.15  # for the time-outs under test
LIMIT_BYTES = 512 * 1024
HELD_BYTES_MAX = 4 * MIB  # by both ends and the kernel, of what one end does not read
FLAT_BYTES_MAX = 8 * MIB
Handler = Callable[[Request], Awaitable[Response]]


class Node:
    """A handler that takes in a body piece by piece, and gives back its size and digest."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.broken: list[str] = []
        self.ended = asyncio.Event()
        self.errors: list[Exception] = []

    async def handle(self, request: Request) -> Response:
        assert request.stream is not None
        assert request.body == b""
        digest, size = hashlib.sha256(), 0
        try:
            async for piece in request.stream.pieces:
                digest.update(piece)
                size += len(piece)
        except PeerError as e:
            self.broken.append(str(e))
            raise
        finally:
            self.sizes.append(size)
            self.ended.set()
        return Response(200, f"{request.stream.size_bytes} {size} {digest.hexdigest()}".encode())


@contextlib.asynccontextmanager
async def serving(
    folder: Path, node: Node, handler: Handler | None = None, **limits: Any
) -> AsyncIterator[Path]:
    path = folder / "socket"
    server = Server(
        handler or node.handle,
        UnixAddress(path),
        on_error=node.errors.append,
        streams=lambda head: head.method == "POST",
        limits=Limits(**{"linger_timeout_s": SHORT_S, **limits}),
    )
    await server.start()
    try:
        yield path
    finally:
        await server.close()


async def asked(
    path: Path, body: Iterator[bytes] | tuple[bytes, ...], size: int, method: str = "POST"
) -> tuple[int, bytes]:
    """One request as the command line makes it, in a thread."""

    def ask() -> tuple[int, bytes]:
        limits = Limits(body_bytes_max=1024 * MIB)
        exchange = UnixExchange(
            path, method, "/drafts", body, size, timeout_s=PATIENCE_S, limits=limits
        )
        with exchange as answer:
            return answer.status, b"".join(answer.pieces())

    return await asyncio.to_thread(ask)


@contextlib.asynccontextmanager
async def connected(
    path: Path,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def head(size: int) -> bytes:
    return ClientWire(Limits(body_bytes_max=1024 * MIB)).start("POST", "/drafts", size)


def streaming(pieces: Callable[[], AsyncIterator[bytes]], size: int) -> Handler:
    """A handler that answers with a stream."""

    async def handle(request: Request) -> Response:
        return Response(200, b"", "application/octet-stream", Stream(size, pieces()))

    return handle


async def zeros(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(READ_BYTES)


# What comes in


@pytest.mark.parametrize(
    "size", [0, 1, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1, LIMIT_BYTES - 1, LIMIT_BYTES]
)
def test_a_body_comes_whole_in_pieces(tmp_path: Path, size: int) -> None:
    body = bytes(i * 7 % 251 for i in range(size))

    async def test() -> None:
        async with serving(tmp_path, Node(), body_bytes_max=LIMIT_BYTES) as path:
            parts = tuple(body[at : at + 50_001] for at in range(0, size, 50_001))
            status, answer = await asked(path, parts, size)
        assert status == 200
        assert answer.decode() == f"{size} {size} {hashlib.sha256(body).hexdigest()}"

    run(test())


def test_a_body_above_the_limit_is_refused_before_it_is_asked_for(tmp_path: Path) -> None:
    async def test() -> None:
        node = Node()
        async with serving(tmp_path, node, body_bytes_max=LIMIT_BYTES) as path:
            size = LIMIT_BYTES + 1
            assert await asked(path, (bytes(size),), size) == (413, b'{"error":"body-too-large"}')
        assert node.sizes == []

    run(test())


def test_what_is_sent_behind_the_announced_body_is_no_part_of_it(tmp_path: Path) -> None:
    async def test() -> None:
        node = Node()
        async with serving(tmp_path, node) as path, connected(path) as (reader, writer):
            writer.write(head(5) + b"hello, and more\r\n\r\n")
            answers = await reader.read()
        assert node.sizes == [5]
        assert f"5 5 {hashlib.sha256(b'hello').hexdigest()}".encode() in answers
        assert answers.count(b"HTTP/1.1 ") == 2
        assert b"HTTP/1.1 400" in answers  # ", and more" is no request

    run(test())


@pytest.mark.parametrize("sent", [0, 1, READ_BYTES, 3 * READ_BYTES - 1])
def test_a_body_that_is_cut_off_is_an_error_to_who_reads_it(tmp_path: Path, sent: int) -> None:
    async def test() -> None:
        node = Node()
        async with serving(tmp_path, node) as path:
            async with connected(path) as (_, writer):
                writer.write(head(3 * READ_BYTES) + bytes(sent))
                await writer.drain()
                writer.write_eof()
                await node.ended.wait()
            status, _ = await asked(path, (b"x",), 1)  # the next one is served
            assert status == 200
        assert node.sizes == [sent, 1]
        assert node.broken == ["the request's body broke off"]

    run(test())


def test_a_body_that_stops_coming_is_given_up_in_time(tmp_path: Path) -> None:
    async def test() -> None:
        node = Node()
        async with (
            serving(tmp_path, node, body_timeout_s=SHORT_S) as path,
            connected(path) as (_, writer),
        ):
            writer.write(head(10) + b"hello")
            await node.ended.wait()  # and the connection stays open
        assert node.sizes == [5]
        assert node.broken == ["the request's body broke off"]

    run(test())


def test_who_sends_waits_for_who_does_not_read(tmp_path: Path) -> None:
    """Back-pressure: neither end nor the kernel piles up what the handler has not asked for."""

    async def test() -> None:
        read_on, sent = asyncio.Event(), 0
        node = Node()

        async def late(request: Request) -> Response:
            await read_on.wait()
            return await node.handle(request)

        async with serving(tmp_path, node, late, body_bytes_max=64 * MIB) as path:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.connect(str(path))
                sock.sendall(head(64 * MIB))
                sock.settimeout(SHORT_S)
                with contextlib.suppress(TimeoutError):
                    while sent < 64 * MIB:
                        sent += await asyncio.to_thread(sock.send, bytes(READ_BYTES))
                assert sent < HELD_BYTES_MAX
                read_on.set()
                sock.settimeout(PATIENCE_S)
                while sent < 64 * MIB:
                    sent += await asyncio.to_thread(sock.send, bytes(READ_BYTES))
                assert b"HTTP/1.1 200" in await asyncio.to_thread(sock.recv, READ_BYTES)
        assert node.sizes == [64 * MIB]

    run(test())


def test_an_answer_before_the_body_was_read_is_heard_and_ends_the_connection(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        async def refuse(request: Request) -> Response:
            return Response(409, b'{"error":"no"}')

        async with serving(tmp_path, Node(), refuse) as path:
            body = (bytes(READ_BYTES) for _ in range(16))
            assert await asked(path, body, 16 * READ_BYTES) == (409, b'{"error":"no"}')

    run(test())


# What goes out


@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_an_answer_goes_whole_in_pieces(tmp_path: Path, count: int) -> None:
    async def test() -> None:
        handler = streaming(lambda: zeros(count), count * READ_BYTES)
        async with serving(tmp_path, Node(), handler) as path:
            assert await asked(path, (), 0, "GET") == (200, bytes(count * READ_BYTES))

    run(test())


@pytest.mark.parametrize("wrong", [-1, 1], ids=["shorter", "longer"])
def test_an_answer_of_another_size_than_it_says_is_no_answer(tmp_path: Path, wrong: int) -> None:
    async def test() -> None:
        node = Node()
        handler = streaming(lambda: zeros(4), 4 * READ_BYTES - wrong)
        async with serving(tmp_path, node, handler) as path:
            with pytest.raises(LinkError, match=r"closed before its answer was whole|reset"):
                await asked(path, (), 0, "GET")
        assert len(node.errors) == 1

    run(test())


def test_a_fault_in_the_middle_of_an_answer_is_no_answer(tmp_path: Path) -> None:
    async def test() -> None:
        node = Node()

        async def breaking() -> AsyncIterator[bytes]:
            yield bytes(READ_BYTES)
            raise ValueError("a disk that fails")

        handler = streaming(breaking, 2 * READ_BYTES)
        async with serving(tmp_path, node, handler) as path:
            with pytest.raises(LinkError, match="closed before its answer was whole"):
                await asked(path, (), 0, "GET")
        assert [str(e) for e in node.errors] == ["a disk that fails"]

    run(test())


def test_who_does_not_read_an_answer_is_waited_for_and_then_left(tmp_path: Path) -> None:
    async def test() -> None:
        made, closed = 0, asyncio.Event()

        async def counted() -> AsyncIterator[bytes]:
            nonlocal made
            try:
                async for piece in zeros(1024):
                    made += len(piece)
                    yield piece
            finally:
                closed.set()

        handler = streaming(counted, 1024 * READ_BYTES)
        async with (
            serving(tmp_path, Node(), handler, write_timeout_s=SHORT_S) as path,
            connected(path) as (reader, writer),
        ):
            reader._limit = 1  # type: ignore[attr-defined]  # else the reader itself piles up
            writer.write(b"GET /drafts HTTP/1.1\r\nHost: relto\r\n\r\n")
            await closed.wait()
        assert 0 < made < HELD_BYTES_MAX

    run(test())


# Both


def test_memory_stays_flat_both_ways(tmp_path: Path) -> None:
    count = 64 * MIB // READ_BYTES

    async def test() -> int:
        async def back(request: Request) -> Response:
            assert request.stream is not None
            async for _ in request.stream.pieces:
                pass
            return Response(200, b"", "application/octet-stream", Stream(64 * MIB, zeros(count)))

        def ask(path: Path) -> int:
            body = (bytes(READ_BYTES) for _ in range(count))
            limits = Limits(body_bytes_max=1024 * MIB)
            exchange = UnixExchange(
                path, "POST", "/drafts", body, 64 * MIB, timeout_s=PATIENCE_S, limits=limits
            )
            with exchange as answer:
                return sum(map(len, answer.pieces()))

        async with serving(tmp_path, Node(), back, body_bytes_max=64 * MIB) as path:
            return await asyncio.to_thread(ask, path)

    tracemalloc.start()
    try:
        assert run(test()) == 64 * MIB
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < FLAT_BYTES_MAX
