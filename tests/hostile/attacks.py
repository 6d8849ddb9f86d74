"""What somebody hostile does to a node: a table of attacks, each going on until its time is over.

Outsiders have a network address and nothing else. A party has its own good keys; it sends over
real sockets what no node of ours would.
"""

import asyncio
import hashlib
import json
import logging
import os
import resource
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import Any

from e2e.forge import Forged, Party
from e2e.nodes import Nodes
from hostile.nodes import PARTIES
from relto.errors import PeerError
from relto.hop import RANGE_BYTES_MAX, seal_hop
from relto.links import Client, KeyFile, LinkError, client_context
from relto.seal import HpkePublicKey

HUB = "USA"
TESTS = Path(__file__).resolve().parents[1]
NICE = 15
IP_BIND_ADDRESS_NO_PORT = 24  # <linux/in.h>: the port is chosen by connect()
FAR = "127.0.0.66"  # the attacker has an address of its own
CONNECTIONS = 12  # more than a party may have
PARTS = 32
CIPHERTEXT_BYTES = 4096
LARGE_BYTES = 1024 * 1024
TRICKLE_S = 0.2
ANSWER_S = 30.0


@dataclass
class Siege:
    """One attack under way on Washington's node: who attacks, until when, what it saw."""

    party: Party
    nodes: Nodes
    over_s: float  # monotonic
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.nodes.ports[HUB]

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.over_s

    def client(self) -> Client:
        return self.party.client(HUB, connections_max=1)

    def context(self) -> ssl.SSLContext:
        folder = self.party.folder
        key = KeyFile(folder.key_path("tls"), self.party.passphrase.reveal)
        ca = (self.nodes.keys(HUB) / "ca.crt").read_bytes()
        return client_context(folder.certificate_path("tls"), key, [ca])

    async def key(self) -> HpkePublicKey:
        """Washington's key, asked for as often as it takes: the places may all be taken."""
        while True:
            client = self.client()
            try:
                return await self.party.key_of(client, HUB)
            except (AssertionError, LinkError, PeerError):  # 503 at times
                await asyncio.sleep(0.1)
            finally:
                await client.close()


Attack = Callable[[Siege], Coroutine[Any, Any, None]]


async def _by_many(siege: Siege, one: Callable[[], Awaitable[None]], many: int) -> None:
    """`one` again and again, by many at once, until it is over; cut off then."""

    async def again() -> None:
        while True:
            try:
                await one()
            except (OSError, EOFError, LinkError, PeerError) as e:
                siege.seen[type(e).__name__] += 1
                await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(again()) for _ in range(many)]
    while not siege.is_over:
        await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# Outsiders


def _descriptors() -> int:
    """As many sockets as this process may have, but for some."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 50, 5_000)


async def thousands_of_connections(siege: Siege) -> None:
    """Connections of strangers that say nothing, as many as there are descriptors; half-open."""
    loop = asyncio.get_running_loop()
    held: list[socket.socket] = []
    most = _descriptors()
    try:
        while not siege.is_over:
            while len(held) >= most:
                held.pop(0).close()
            sock = socket.socket()
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((FAR, 0))
            sock.setblocking(False)
            held.append(sock)
            try:
                async with asyncio.timeout(1):
                    await loop.sock_connect(sock, siege.address)
                siege.seen["connected"] += 1
            except OSError:
                siege.seen["not connected"] += 1
            await asyncio.sleep(0)
    finally:
        for sock in held:
            sock.close()


async def trickled_handshakes(siege: Siege) -> None:
    """Strangers whose first message comes a byte at a time."""

    async def one() -> None:
        reader, writer = await asyncio.open_connection(*siege.address)
        siege.seen["connected"] += 1
        try:
            for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(TRICKLE_S)
                if reader.at_eof():
                    break
        finally:
            writer.close()

    await _by_many(siege, one, 200)


async def handshakes(siege: Siege, addresses: Sequence[str] = (FAR,)) -> None:
    """Whole handshakes of a party, one after the other, with nothing behind them."""
    context = siege.context()
    turn = cycle(addresses)

    async def one() -> None:
        _, writer = await asyncio.open_connection(
            *siege.address, ssl=context, server_hostname="", ssl_handshake_timeout=5,
            local_addr=(next(turn), 0),
        )  # fmt: skip
        siege.seen["shaken"] += 1
        writer.transport.abort()

    await _by_many(siege, one, 16)


async def handshakes_from_many_addresses(siege: Siege) -> None:
    await handshakes(siege, [f"127.{a}.{b}.66" for a in range(1, 11) for b in range(200)])


# A party


async def _connected(siege: Siege) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connection = await asyncio.open_connection(
        *siege.address, ssl=siege.context(), server_hostname="", ssl_handshake_timeout=5
    )
    siege.seen["connected"] += 1
    return connection


async def trickled_heads(siege: Siege) -> None:
    async def one() -> None:
        reader, writer = await _connected(siege)
        try:
            for byte in b"GET /relto/v1/node-key/USA HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n":
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(TRICKLE_S)
                if reader.at_eof():
                    break
        finally:
            writer.transport.abort()

    await _by_many(siege, one, CONNECTIONS)


async def trickled_bodies(siege: Siege) -> None:
    async def one() -> None:
        reader, writer = await _connected(siege)
        try:
            writer.write(
                b"POST /relto/v1/hop HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
            )
            while not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(TRICKLE_S)
        finally:
            writer.transport.abort()

    await _by_many(siege, one, CONNECTIONS)


async def unread_answers(siege: Siege) -> None:
    """Question after question on each connection, and no answer read."""

    async def one() -> None:
        reader, writer = await _connected(siege)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        try:
            while not (writer.transport.is_closing() or reader.at_eof()):
                writer.write(b"GET /relto/v1/node-key/USA HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
                await writer.drain()
                await asyncio.sleep(0)  # drain alone does not let others go on
                siege.seen["asked"] += 100
        finally:
            writer.transport.abort()

    await _by_many(siege, one, CONNECTIONS)


async def _ask_on(
    siege: Siege, ask: Callable[[Client], Awaitable[int]], many: int = CONNECTIONS
) -> None:
    """Ask as fast as answers come, on as many connections as there are places; by status."""

    async def one() -> None:
        client = siege.client()
        try:
            while True:
                siege.seen[str(await ask(client))] += 1
        finally:
            await client.close()

    await _by_many(siege, one, many)


async def node_keys(siege: Siege) -> None:
    """A third party's key, again and again."""

    async def ask(client: Client) -> int:
        answer = await client.request("GET", "/relto/v1/node-key/JPN", timeout_s=ANSWER_S)
        return answer.status

    await _ask_on(siege, ask)


async def nonsense(siege: Siege) -> None:
    """Messages of the largest size that say nothing."""
    body = os.urandom(2 * 1024 * 1024)

    async def ask(client: Client) -> int:
        answer = await client.request("POST", "/relto/v1/hop", body, timeout_s=ANSWER_S)
        return answer.status

    await _ask_on(siege, ask)


def _another(base: Forged) -> Forged:
    """An item like it, and new to everyone."""
    ciphertext = os.urandom(CIPHERTEXT_BYTES)
    digest = hashlib.sha256(ciphertext).hexdigest()
    forged = base.with_manifest(ciphertext_sha256=digest, ciphertext_bytes=len(ciphertext))
    return replace(forged, ciphertext=ciphertext)


async def _items(siege: Siege, base: Forged, *, parts: int = PARTS) -> None:
    key = await siege.key()

    async def ask(client: Client) -> int:
        hops = [_another(base).hop().encode() for _ in range(parts)]
        sealed = seal_hop(hops, sender=siege.party.code, recipient=HUB, key=key)
        answer = await client.request("POST", "/relto/v1/hop", sealed, timeout_s=ANSWER_S)
        siege.seen["parts"] += parts
        return answer.status

    await _ask_on(siege, ask)


async def items(siege: Siege) -> None:
    """Items that are in order, for a party whose node is not there: all of them stay at the hub."""
    await _items(siege, siege.party.item(to="JPN"))


async def refused_items(siege: Siege) -> None:
    """Items that Washington's own decision refuses, each with a signed refusal."""
    base = siege.party.item(to="JPN")
    await _items(siege, base.with_manifest(label={**base.manifest.label, "releasable_to": []}))


async def flash(siege: Siege) -> None:
    """Everything is FLASH, one in each message."""
    await _items(siege, siege.party.item(to="JPN").with_release(precedence="FLASH"), parts=1)


async def half_sent(siege: Siege) -> None:
    """Large items, of each of which the first range comes, and another begins."""
    base = siege.party.item(to="JPN")
    key = await siege.key()
    data = os.urandom(min(LARGE_BYTES, RANGE_BYTES_MAX))

    async def ask(client: Client) -> int:
        forged = base.with_manifest(
            ciphertext_sha256=os.urandom(32).hex(), ciphertext_bytes=32 * LARGE_BYTES
        )
        sealed = seal_hop(
            [forged.hop(inline=False).encode()], sender=siege.party.code, recipient=HUB, key=key
        )
        answer = await client.request("POST", "/relto/v1/hop", sealed, timeout_s=ANSWER_S)
        if answer.status == 200:
            path = f"/relto/v1/ciphertext/{forged.release}"
            await client.request("POST", path, data, query="offset=0", timeout_s=ANSWER_S)
            siege.seen["begun"] += 1
        return answer.status

    await _ask_on(siege, ask)


ATTACKS: dict[str, Attack] = {
    "thousands of connections": thousands_of_connections,
    "trickled handshakes": trickled_handshakes,
    "handshakes": handshakes,
    "handshakes from 2000 addresses": handshakes_from_many_addresses,
    "trickled heads": trickled_heads,
    "trickled bodies": trickled_bodies,
    "unread answers": unread_answers,
    "node keys": node_keys,
    "nonsense": nonsense,
    "refused items": refused_items,
    "half-sent": half_sent,
    "flash": flash,
    "items": items,
}


def attacker(nodes: Nodes, name: str, seconds: float) -> "subprocess.Popen[str]":
    """Another process that attacks. It says `begun` once it has done something, and at its end, as
    JSON, what it saw and how often. It is less important than the nodes: in truth it has a machine
    of its own.
    """
    return subprocess.Popen(  # our own command
        ["nice", "-n", str(NICE), sys.executable, "-m", "hostile.attacks",
         str(nodes.folder), str(nodes.key_folder), str(nodes.ports[HUB]), name, str(seconds)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(TESTS)},
    )  # fmt: skip


class _FarLoop(asyncio.SelectorEventLoop):
    """Whose connections come from an address that no honest node has."""

    async def create_connection(self, *args: Any, **options: Any) -> Any:
        return await super().create_connection(*args, **{"local_addr": (FAR, 0), **options})


async def _go(siege: Siege, name: str) -> None:
    attack = asyncio.create_task(ATTACKS[name](siege))
    while not siege.seen and not attack.done():
        await asyncio.sleep(0.01)
    print("begun", flush=True)
    await attack


def main(folder: str, keys: str, port: str, name: str, seconds: str) -> None:
    """What `attacker` starts."""
    logging.disable()  # asyncio's complaints about connections that were cut
    nodes = Nodes(Path(folder), Path(folder) / "regime", dict(PARTIES), [], keys=Path(keys))
    nodes.ports[HUB] = int(port)
    siege = Siege(Party(nodes, "AUS"), nodes, time.monotonic() + float(seconds))
    with asyncio.Runner(loop_factory=_FarLoop) as runner:
        runner.run(_go(siege, name))
    print(json.dumps(siege.seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
