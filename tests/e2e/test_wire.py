"""What somebody sees who listens between the nodes, or who opens the files of a blind hub."""

import asyncio
import base64
import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from e2e.nodes import LINKS, PARTIES, Nodes, spellings, until
from relto.items import Item
from relto.keys import open_key_folder, read_passphrase
from relto.links import unix_request
from relto.seal import unwrap

CONTENT = b"The quick brown fox was seen near Hwangju at dawn. " * 8
TITLE = "Plover over Masikryong"
SECRETS = (CONTENT[:51], TITLE.encode(), "군사III급비밀".encode(), b"GUNSA III-KUP", b"KOR:III")
WORDS = (b"releasable_to", b"automatic", b"manifest", b"payload")


class Tap:
    """Forwards one direction of calls to a node, and keeps every byte that passes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: int) -> None:
        self.target = port
        self.to_node = bytearray()
        self.from_node = bytearray()
        self.port: int = asyncio.run_coroutine_threadsafe(self._listen(), loop).result(10)

    async def _listen(self) -> int:
        self.server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return int(self.server.sockets[0].getsockname()[1])

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            self._pump(reader, far_writer, self.to_node),
            self._pump(far_reader, writer, self.from_node),
        )

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray
    ) -> None:
        try:
            while data := await reader.read(65536):
                seen += data
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    @property
    def seen(self) -> bytes:
        return bytes(self.to_node + self.from_node)


@contextmanager
def loop_in_a_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(_end_tasks(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(scope="module")
def tapped(
    keys: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Nodes, dict[tuple[str, str], Tap]]]:
    """Three nodes that call each other through taps."""
    regime = Path(__file__).parents[1] / "data" / "carried"
    folder = tmp_path_factory.mktemp("tapped")
    with loop_in_a_thread() as loop, Nodes(folder, regime, PARTIES, LINKS, keys=keys) as nodes:
        taps = {}
        for a, b in LINKS:
            for caller, callee in ((a, b), (b, a)):
                taps[caller, callee] = Tap(loop, nodes.ports[callee])
                nodes.routes[caller, callee] = taps[caller, callee].port
        nodes.make()
        nodes.start_all()
        yield nodes, taps
        for tap in taps.values():
            loop.call_soon_threadsafe(tap.server.close)


def sent(nodes: Nodes, topic: str, content: bytes = CONTENT) -> str:
    """An item that has gone from KOR to JPN, its receipt back."""
    item = nodes.shared("KOR", content, to="JPN", topic=topic, title=TITLE)
    if topic == "blind":
        nodes.approve("KOR", item, "JPN", "kim")
    until(lambda: nodes.way("KOR", item, "JPN")["state"] == "delivered", "delivered")
    assert nodes.content("JPN", item) == content
    return item


def test_on_the_wire_there_is_no_content_label_title_or_id(
    tapped: tuple[Nodes, dict[tuple[str, str], Tap]],
) -> None:
    nodes, taps = tapped
    items = [sent(nodes, "passed"), sent(nodes, "automatic"), sent(nodes, "blind")]
    wire = b"".join(tap.seen for tap in taps.values())
    assert len(wire) > 20_000  # the taps did listen
    for secret in (*SECRETS, *WORDS, *(i.encode() for i in items), *map(bytes.fromhex, items)):
        for spelling in spellings(secret):
            assert spelling not in wire, secret


def test_the_lines_speak_tls_1_3_and_nothing_else(
    tapped: tuple[Nodes, dict[tuple[str, str], Tap]],
) -> None:
    nodes, taps = tapped
    sent(nodes, "passed")
    for tap in taps.values():
        for stream in (bytes(tap.to_node), bytes(tap.from_node)):
            assert stream[:1] in (b"", b"\x16"), "a connection that does not begin with TLS"
        # RFC 8446 §4.2.1: the server's supported_versions extension (43) chooses 0x0304.
        hello = bytes(tap.from_node)
        assert not hello or struct.pack("!HHH", 43, 2, 0x0304) in hello[:2048]


def test_contents_of_nearly_one_size_look_the_same_on_the_wire(
    tapped: tuple[Nodes, dict[tuple[str, str], Tap]],
) -> None:
    nodes, _ = tapped
    sizes = {
        nodes.show("KOR", sent(nodes, "passed", b"x" * n))["ciphertext"]["bytes"]
        for n in (1, 40, 90, 120)
    }
    assert sizes == {272}  # one bucket of 256 bytes and a tag


def test_a_hub_that_does_not_read_has_no_content_title_or_key_in_its_files(
    tapped: tuple[Nodes, dict[tuple[str, str], Tap]],
) -> None:
    nodes, _ = tapped
    large = CONTENT + bytes(range(256)) * 1024
    items = [sent(nodes, "blind"), sent(nodes, "automatic"), sent(nodes, "blind", large)]
    found = list(nodes.files_of("USA"))
    assert any(item.encode() in data for item in items for _, data in found)  # it did carry them
    keys = [payload_key(nodes, "KOR", item) for item in items]
    assert keys == [payload_key(nodes, "JPN", item) for item in items]
    for secret in (CONTENT[:51], TITLE.encode(), bytes(range(256)), *keys):
        for spelling in spellings(secret):
            for file, data in found:
                assert spelling not in data, f"{secret!r} in {file}"
    for item in items:
        shown = nodes.show("USA", item)
        assert shown["state"] == "passing"
        assert "title" not in shown
        status, answer = unix(nodes, "USA", f"/items/{item}/payload")
        assert status == 409
        assert "without being able to read it" in json.loads(answer)["error"]


def payload_key(nodes: Nodes, party: str, item: str) -> bytes:
    """The key of an item's content, taken out of a reader's store with its storage key."""
    path = nodes.node(party) / "store" / "relto.db"
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        [(body,)] = connection.execute(
            "SELECT body FROM documents WHERE kind = 'item' AND key = ?", (item,)
        )
    finally:
        connection.close()
    wrapped = Item.decode(body).key
    assert wrapped is not None
    storage_key = open_key_folder(nodes.keys(party)).storage_key(
        read_passphrase(nodes.passphrase_file)
    )
    return unwrap(storage_key, wrapped, f"payload/{item}".encode())


def unix(nodes: Nodes, party: str, target: str) -> tuple[int, bytes]:
    path = nodes.node(party) / "node.sock"
    response = unix_request(path, "GET", target, timeout_s=30)
    return response.status, response.body


def test_the_spellings_of_a_secret_would_be_found() -> None:
    """The checks above would notice: a secret inside other bytes, however it is encoded."""
    for coded in (base64.b64encode(b"??" + CONTENT), CONTENT.hex().encode(), CONTENT):
        assert any(s in b"noise" + coded + b"noise" for s in spellings(CONTENT[:51]))
