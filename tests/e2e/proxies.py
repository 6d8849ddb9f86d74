"""Proxies between nodes: what goes over a link is kept, or counted and held back."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

from e2e.nodes import PATIENCE_S, Nodes

__all__ = ["Gate", "Proxy", "Recorder", "listening"]

READ_BYTES = 64 * 1024
Passing = Callable[[bytes], Awaitable[None]]


class Proxy:
    """Before a node, at a port of its own; it passes on what comes, both ways."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.own_port = 0
        self._writers: list[asyncio.StreamWriter] = []

    def connection(self) -> tuple[Passing, Passing]:
        """What is called with the bytes of a new connection before they go on: of the caller, and
        of the node."""
        raise NotImplementedError

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.own_port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self.server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self.server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        sent, answered = self.connection()
        try:
            its_reader, its_writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.close()
            return
        self._writers.append(its_writer)
        await asyncio.gather(
            self._pump(reader, its_writer, sent), self._pump(its_reader, writer, answered)
        )

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: Passing
    ) -> None:
        try:
            while data := await reader.read(READ_BYTES):
                await passing(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


class Recorder(Proxy):
    """It keeps every byte, by connection, in the order in which each end sent it."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.sent: list[bytearray] = []
        self.answered: list[bytearray] = []

    def connection(self) -> tuple[Passing, Passing]:
        for kept in (self.sent, self.answered):
            kept.append(bytearray())
        return self._into(self.sent[-1]), self._into(self.answered[-1])

    @staticmethod
    def _into(kept: bytearray) -> Passing:
        async def passing(data: bytes) -> None:
            kept.extend(data)

        return passing


class Gate(Proxy):
    """It counts what the callers send, and holds it back from `shut_at_bytes` on until opened."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.sent_bytes = 0
        self.shut_at_bytes: int | None = None
        self.holds = False
        self._opened = asyncio.Event()

    def connection(self) -> tuple[Passing, Passing]:
        return self._count, self._pass

    def shut_after(self, more_bytes: int) -> None:
        """Let this much more through, then nothing."""
        self._opened.clear()
        self.shut_at_bytes = self.sent_bytes + more_bytes

    def open(self) -> None:
        async def opened() -> None:
            self.shut_at_bytes = None
            self.holds = False
            self._opened.set()

        asyncio.run_coroutine_threadsafe(opened(), self.server.get_loop()).result(PATIENCE_S)

    async def _count(self, data: bytes) -> None:
        if self.shut_at_bytes is not None and self.sent_bytes + len(data) > self.shut_at_bytes:
            self.holds = True
            await self._opened.wait()
        self.sent_bytes += len(data)

    async def _pass(self, data: bytes) -> None:
        pass


@contextmanager
def listening(nodes: Nodes, proxies: Mapping[tuple[str, str], Proxy]) -> Iterator[None]:
    """The proxies at work, by caller and callee, in a thread of their own.

    The nodes are to be made within; they are stopped before the proxies are.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        for link, proxy in proxies.items():
            asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(PATIENCE_S)
            nodes.routes[link] = proxy.own_port
        yield
    finally:
        for party in list(nodes.processes):
            nodes.stop(party)
        asyncio.run_coroutine_threadsafe(_wind_up(proxies), loop).result(PATIENCE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _wind_up(proxies: Mapping[tuple[str, str], Proxy]) -> None:
    for proxy in proxies.values():
        await proxy.stop()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0)  # a transport closes its socket one turn later
