"""A server that answers whole requests, and grants each peer no more than its limits say."""

import asyncio
import math
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass, field

from relto.errors import CallerError, PeerError
from relto.links.addresses import LoopbackAddress, TlsAddress, UnixAddress
from relto.links.greetings import Greetings
from relto.links.http import (
    Head,
    Limits,
    Peer,
    Refused,
    Request,
    Response,
    ServerWire,
    Stream,
    refusal,
)
from relto.links.streams import READ_BYTES, hang_up, pull, push

__all__ = ["Handler", "Server"]

Handler = Callable[[Request], Awaitable[Response]]

ACCEPT_RETRY_S = 1.0  # after the host ran out of descriptors
TOLD_MS = 600_000  # a crowd that goes on is told of once in this time
LINGER_BYTES_MAX = 256 * 1024  # what a refused peer may still send before it reads the refusal


@dataclass(eq=False, slots=True)
class _Connection:
    accepted: socket.socket | None  # None once a transport owns it
    host: str  # the address of the other end; empty for people of this host
    greeting: bool = True  # nobody knows yet who it is
    busy: bool = False  # a handler works, or its answer is on the way
    task: asyncio.Task[None] = field(init=False)


class Server:
    """Answers requests with `handler`, each connection in its turn, within `limits`.

    What is malformed gets a fixed refusal and the connection ends. A handler that raises gets its
    peer a fixed 500, and `on_error` the exception. `identify` names whom a connection counts
    against (for TLS better the party than the certificate, of which it can have many), and may
    raise PeerError: then the connection ends without an answer. The handler still checks the peer
    of every request, since a certificate can be revoked while a connection lives. `streams` says of
    which requests the handler takes the body as a stream, in flat memory; one that it does not take
    to the end, or an answer's stream that breaks off, ends the connection. `busy` is what a
    connection beyond the limits is answered, whatever it asks; without it, it ends without a word.
    One beyond the TLS handshakes that are granted ends before any; `on_crowd` hears from which
    address, once in ten minutes.
    """

    def __init__(
        self,
        handler: Handler,
        address: LoopbackAddress | TlsAddress | UnixAddress,
        *,
        on_error: Callable[[Exception], None],
        limits: Limits | None = None,
        identify: Callable[[Peer], Hashable] = lambda peer: peer,
        streams: Callable[[Head], bool] = lambda head: False,
        busy: Response | None = None,
        on_crowd: Callable[[str], None] = lambda host: None,
    ) -> None:
        self._handler = handler
        self._address = address
        self._on_error = on_error
        self._limits = limits or Limits()
        self._identify = identify
        self._streams = streams
        self._busy = busy
        self._on_crowd = on_crowd
        self._greetings = Greetings(self._limits)
        self._crowd_told_ms = -math.inf
        self._listener: socket.socket | None = None
        self._connections: dict[_Connection, None] = {}  # in order of arrival
        self._per_peer: Counter[Hashable] = Counter()
        self._closing = False

    @property
    def port(self) -> int:
        """The TCP port at which it listens."""
        if self._listener is None or isinstance(self._address, UnixAddress):
            raise CallerError("the server does not listen at a port")
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def handshakes_refused(self) -> int:
        """Connections that were hung up on before a TLS handshake, since the start."""
        return self._greetings.refused

    async def start(self) -> None:
        """Listen. A server is started once.

        Raises:
            CallerError: the address is taken or cannot be used.
        """
        if self._listener is not None or self._closing:
            raise CallerError("a server is started once")
        self._listener = self._address.listen()
        self._listener.setblocking(False)
        self._resume()

    async def close(self) -> None:
        """Stop listening, end idle connections, and let requests at work finish for a while.

        A handler that is still at work after `close_timeout_s` is cancelled.
        """
        self._closing = True
        if self._listener is None:
            return
        asyncio.get_running_loop().remove_reader(self._listener)
        self._address.leave(self._listener)
        self._listener = None
        for connection in self._connections:
            if not connection.busy:
                connection.task.cancel()
        for _ in range(2):  # who has not ended by then is cancelled, and waited for as long again
            if tasks := [connection.task for connection in self._connections]:
                _, late = await asyncio.wait(tasks, timeout=self._limits.close_timeout_s)
                for task in late:
                    task.cancel()
        await asyncio.sleep(0)  # a transport closes its socket one turn later

    # A connection's life: accepted, greeted (TLS handshake), admitted, served, hung up.

    def _resume(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            accepted, address = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as exc:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listener)
            loop.call_later(ACCEPT_RETRY_S, self._resume)
            self._on_error(exc)
            return
        host = "" if self._address.context is None else address[0]
        if host and not self._greets(host):
            accepted.close()
            return
        accepted.setblocking(False)
        greeting = [connection for connection in self._connections if connection.greeting]
        if len(greeting) >= self._limits.handshakes_max:
            # Strangers who hoard connections lose their own: who means well needs milliseconds.
            greeting[0].greeting = False
            greeting[0].task.cancel()
        connection = _Connection(accepted, host)
        self._connections[connection] = None
        connection.task = asyncio.get_running_loop().create_task(self._connected(connection))
        connection.task.add_done_callback(lambda _: self._ended(connection))

    def _greets(self, host: str) -> bool:
        """Whether there is a handshake left for that address."""
        now_ms = _now_ms()
        granted = self._greetings.grants(host, now_ms)
        if not granted and now_ms - self._crowd_told_ms >= TOLD_MS:
            self._crowd_told_ms = now_ms
            self._on_crowd(host)
        return granted

    def _ended(self, connection: _Connection) -> None:
        del self._connections[connection]
        if connection.accepted is not None:  # cancelled before its first step
            connection.accepted.close()
        if not connection.task.cancelled():
            error = connection.task.exception()
            if isinstance(error, Exception):
                self._on_error(error)

    async def _connected(self, connection: _Connection) -> None:
        try:
            reader, writer = await self._greet(connection)
        except OSError:  # ssl.SSLError and TimeoutError are some
            return
        try:
            peer = self._address.peer_of(writer.transport)
            name = self._identify(peer)
            connection.greeting = False
            if connection.host:
                self._greetings.came(name, connection.host, _now_ms())
            if not self._admits(name):
                if self._busy is not None:
                    answer = ServerWire(self._limits).answer(self._busy, close=True)
                    await self._answer(writer, answer)
                    await self._linger(reader)
                return
            self._per_peer[name] += 1
            try:
                await self._serve(connection, reader, writer, peer)
                await hang_up(writer, timeout_s=self._limits.write_timeout_s)
            finally:
                self._dismiss(name)
        except (OSError, EOFError, PeerError):
            pass  # gone, too slow, or not welcome: no answer would reach it or be owed to it
        finally:
            writer.transport.abort()

    async def _greet(
        self, connection: _Connection
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        accepted, connection.accepted = connection.accepted, None
        if accepted is None:
            raise ConnectionAbortedError
        context = self._address.context
        reader = asyncio.StreamReader(limit=READ_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            accepted,
            ssl=context,
            ssl_handshake_timeout=self._limits.handshake_timeout_s if context else None,
            ssl_shutdown_timeout=self._limits.write_timeout_s if context else None,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    def _admits(self, name: Hashable) -> bool:
        """Whether one more connection of a peer is within the limits."""
        return (
            self._per_peer.total() < self._limits.connections_max
            and self._per_peer[name] < self._limits.connections_per_peer_max
        )

    def _dismiss(self, name: Hashable) -> None:
        self._per_peer[name] -= 1
        self._per_peer += Counter()  # drops the names at zero

    async def _serve(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: Peer,
    ) -> None:
        wire = ServerWire(self._limits)
        for count in range(1, self._limits.requests_per_connection_max + 1):
            try:
                request = await self._receive(reader, wire, peer, first=count == 1)
            except Refused as refused:
                # A wire that has seen no request: the answer to a HEAD could have no body.
                answer = ServerWire(self._limits).answer(refusal(refused.status), close=True)
                await self._answer(writer, answer)
                await self._linger(reader)
                return
            connection.busy = True
            response = await self._handle(request)
            left = request.stream is not None and wire.left_bytes > 0
            close = left or self._closing or count == self._limits.requests_per_connection_max
            if response.stream is None:
                await self._answer(writer, wire.answer(response, close=close))
            else:
                await self._answer(writer, wire.start(response, close=close))
                async for piece in response.stream.pieces:
                    await self._answer(writer, wire.send_piece(piece))
                await self._answer(writer, wire.send_piece(b""))
            if left:
                await self._linger(reader)
            connection.busy = False
            if close or self._closing or not wire.next_message():
                return

    async def _receive(
        self, reader: asyncio.StreamReader, wire: ServerWire, peer: Peer, *, first: bool
    ) -> Request:
        limits = self._limits
        if not first and not wire.pending:
            async with asyncio.timeout(limits.idle_timeout_s):
                await pull(reader, wire, lambda: wire.pending or None)
        async with asyncio.timeout(limits.head_timeout_s):
            head = await pull(reader, wire, wire.head)
        if self._streams(head):
            stream = Stream(wire.left_bytes, self._pieces(reader, wire))
            return Request(head.method, head.path, head.query, b"", peer, stream)
        async with asyncio.timeout(limits.body_timeout_s):
            body = await pull(reader, wire, wire.body)
        return Request(head.method, head.path, head.query, body, peer)

    async def _pieces(self, reader: asyncio.StreamReader, wire: ServerWire) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(self._limits.body_timeout_s):
                    piece = await pull(reader, wire, wire.piece)
            except (OSError, EOFError) as exc:
                raise PeerError("the request's body broke off") from exc
            if not piece:
                return
            yield piece

    async def _handle(self, request: Request) -> Response:
        try:
            return await self._handler(request)
        except Exception as exc:
            self._on_error(exc)
            return refusal(500)

    async def _answer(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        async with asyncio.timeout(self._limits.write_timeout_s):
            await push(writer, data)

    async def _linger(self, reader: asyncio.StreamReader) -> None:
        """Read on: to close over unread bytes would reset the connection, refusal and all."""
        left = LINGER_BYTES_MAX
        async with asyncio.timeout(self._limits.linger_timeout_s):
            while left > 0 and (data := await reader.read(READ_BYTES)):
                left -= len(data)


def _now_ms() -> float:
    return asyncio.get_running_loop().time() * 1000
