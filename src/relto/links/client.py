"""Clients: a node's to one peer over TLS, and the command line's to the node of its own host."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from relto.links.http import ClientWire, Limits, LinkError, Refused, Response
from relto.links.streams import READ_BYTES, hang_up, pull, push
from relto.links.tls import is_strict

__all__ = ["Client", "UnixExchange", "unix_request"]

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    wire: ClientWire
    used: bool = False
    idle_since_s: float = 0.0  # the loop's clock

    @property
    def der(self) -> bytes:
        tls = self.writer.get_extra_info("ssl_object")
        shown: bytes | None = tls.getpeercert(binary_form=True) if tls else None
        return shown or b""


class Client:
    """Asks one peer, over at most `connections_max` connections that are kept for the next request.

    `check_peer` gets the DER of the peer's certificate before every request, on old connections
    too, and raises PeerError: then nothing is sent. It must check which CA vouches for which party.

    A request that fails on a kept connection before a byte of the answer came is sent once more on
    a new one. The peer may so see it twice, which is safe: every request between nodes is
    idempotent (DESIGN §6, rule 2).
    """

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        *,
        check_peer: Callable[[bytes], None],
        limits: Limits | None = None,
        connections_max: int = 4,
    ) -> None:
        if not is_strict(context):
            raise ValueError("the context must be one of client_context()")
        self._host = host
        self._port = port
        self._context = context
        self._check_peer = check_peer
        self._limits = limits or Limits()
        self._places = asyncio.Semaphore(connections_max)
        self._kept: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._closed = False

    async def request(
        self, method: str, path: str, body: bytes = b"", *, timeout_s: float, query: str = ""
    ) -> Response:
        """The peer's answer. `timeout_s` covers waiting for a place and connecting too.

        When time is up, what was not sent yet is thrown away. What the kernel holds may still go.

        Raises:
            LinkError: no whole answer came; whether the peer acted on the request is unknown.
            PeerError: `check_peer` refused the peer; nothing was sent.
            ValueError: a server of ours would refuse method, path, query or body.
        """
        target = f"{path}?{query}" if query else path
        ClientWire(self._limits).ask(method, target, body)
        try:
            async with asyncio.timeout(timeout_s), self._places:
                return await self._ask(method, target, body)
        except TimeoutError as exc:
            raise self._error(f"no answer within {timeout_s:g} s") from exc
        except ssl.SSLCertVerificationError as exc:
            raise self._error(f"certificate refused: {exc.verify_message}") from exc
        except ssl.SSLError as exc:
            raise self._error(f"tls: {(exc.reason or 'failed').lower().replace('_', ' ')}") from exc
        except ConnectionRefusedError as exc:
            raise self._error("connection refused") from exc
        except OSError as exc:
            # asyncio's own text repeats the address; the errno says what happened to it.
            reason = os.strerror(exc.errno) if exc.errno else "connection lost"
            raise self._error(reason.lower()) from exc
        except EOFError as exc:
            raise self._error("closed before its answer was whole") from exc
        except Refused as exc:
            raise self._error(f"bad answer: {exc}") from exc

    async def close(self) -> None:
        """End all connections. Requests under way fail with LinkError."""
        self._closed = True
        for connection in tuple(self._open):
            if connection in self._kept:
                self._leave(connection)
            else:
                self._abort(connection)
        self._kept.clear()
        if self._leaving:
            await asyncio.wait(self._leaving)
        await asyncio.sleep(0)  # a transport closes its socket one turn later

    async def _ask(self, method: str, target: str, body: bytes) -> Response:
        connection = self._take_kept() or await self._connect()
        try:
            return await self._exchange(connection, method, target, body)
        except (OSError, EOFError):
            if not connection.used or connection.wire.answering or self._closed:
                raise
        return await self._exchange(await self._connect(), method, target, body)

    def _take_kept(self) -> _Connection | None:
        """The connection used last, unless it has ended or may end at any moment."""
        now_s = asyncio.get_running_loop().time()
        while self._kept:
            connection = self._kept.pop()
            idle_s = now_s - connection.idle_since_s
            ended = connection.reader.at_eof() or connection.writer.is_closing()
            if not ended and idle_s < self._limits.idle_timeout_s / 2:
                return connection
            self._leave(connection)
        return None

    async def _connect(self) -> _Connection:
        if self._closed:
            raise self._error("this client is closed")
        reader, writer = await asyncio.open_connection(
            self._host,
            self._port,
            limit=READ_BYTES,
            ssl=self._context,
            server_hostname="",  # no SNI: it would name the peer in clear, and nothing reads it
            ssl_handshake_timeout=self._limits.handshake_timeout_s,
            ssl_shutdown_timeout=self._limits.write_timeout_s,
        )
        connection = _Connection(reader, writer, ClientWire(self._limits))
        self._open.add(connection)
        return connection

    async def _exchange(
        self, connection: _Connection, method: str, target: str, body: bytes
    ) -> Response:
        wire = connection.wire
        try:
            self._check_peer(connection.der)  # before a byte is sent
            if self._closed:
                raise self._error("this client is closed")
            await push(connection.writer, wire.ask(method, target, body))
            response = await pull(connection.reader, wire, wire.response)
        except BaseException:
            self._abort(connection)
            raise
        if wire.next_message() and not wire.pending and not self._closed:
            connection.used = True
            connection.idle_since_s = asyncio.get_running_loop().time()
            self._kept.append(connection)
        else:
            self._leave(connection)
        return response

    def _abort(self, connection: _Connection) -> None:
        self._open.discard(connection)
        connection.writer.transport.abort()

    def _leave(self, connection: _Connection) -> None:
        """Close in the background: nobody's answer waits for a peer to say goodbye."""
        self._open.discard(connection)
        task = asyncio.create_task(
            hang_up(connection.writer, timeout_s=self._limits.write_timeout_s)
        )
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _error(self, reason: str) -> LinkError:
        return LinkError(f'peer "{self._host}" port {self._port}: {reason}')


class UnixExchange:
    """One request to the server at a Unix socket, and its answer in pieces; without asyncio.

    `body` are pieces that together have `size_bytes`. `target` is path and query. `timeout_s` is
    for each step, from one piece to the next. A context manager; `status` is known within it.

    Raises, on entering and while pieces are taken:
        LinkError: nobody listens, or no whole answer came in time.
        ValueError: the server would refuse method, target or body.
    """

    def __init__(
        self,
        path: Path,
        method: str,
        target: str,
        body: Iterable[bytes] = (),
        size_bytes: int = 0,
        *,
        timeout_s: float,
        limits: Limits | None = None,
    ) -> None:
        self.status = 0
        self.content_type = ""
        self._path = path
        self._timeout_s = timeout_s
        self._wire = ClientWire(limits or Limits())
        self._head = self._wire.start(method, target, size_bytes)
        self._body = body
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> "UnixExchange":
        try:
            with self._reasons():
                self._socket.settimeout(self._timeout_s)
                self._socket.connect(str(self._path))
                self._send()
                answer = self._take(self._wire.answer_head)
                self.status, self.content_type = answer.status, answer.content_type
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def pieces(self) -> Iterator[bytes]:
        """The answer's body: whole only if the iteration ends without an error."""
        with self._reasons():
            while piece := self._take(self._wire.piece):
                yield piece

    def _send(self) -> None:
        # Where it is refused midway, the refusal is there to read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(self._head)
            for piece in self._body:
                if piece:
                    self._socket.sendall(self._wire.send_piece(piece))
            self._socket.sendall(self._wire.send_piece(b""))

    def _take(self, take: Callable[[], T | None]) -> T:
        while (taken := take()) is None:
            data = self._socket.recv(READ_BYTES)
            if not data:
                raise LinkError(f'"{self._path}": closed before its answer was whole')
            self._wire.feed(data)
        return taken

    @contextlib.contextmanager
    def _reasons(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as exc:
            raise LinkError(f'"{self._path}": no answer within {self._timeout_s:g} s') from exc
        except (FileNotFoundError, ConnectionRefusedError) as exc:
            raise LinkError(
                f'no node listens at "{self._path}"; start it with relto node serve'
            ) from exc
        except OSError as exc:
            raise LinkError(f'"{self._path}": {(exc.strerror or str(exc)).lower()}') from exc
        except Refused as exc:
            raise LinkError(f'"{self._path}": bad answer: {exc}') from exc


def unix_request(
    path: Path,
    method: str,
    target: str,
    body: bytes = b"",
    *,
    timeout_s: float,
    limits: Limits | None = None,
) -> Response:
    """The whole answer of the server at a Unix socket. Arguments and errors of `UnixExchange`."""
    exchange = UnixExchange(
        path, method, target, (body,), len(body), timeout_s=timeout_s, limits=limits
    )
    with exchange as answer:
        return Response(answer.status, b"".join(answer.pieces()), answer.content_type)
