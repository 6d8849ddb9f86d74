"""What somebody sees who reads every byte between the nodes, or every file of a hub."""

import base64
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from e2e.conftest import CARRIED
from e2e.nodes import LINKS, PARTIES, PATIENCE_S, Nodes, spellings, until
from e2e.proxies import Recorder, listening
from relto.keys import read_passphrase
from relto.links import Limits, unix_request
from relto.links.http import ClientWire
from relto.payloads import bucket_size_bytes
from relto.seal import SEED_BYTES, HpkePrivateKey, seal
from relto.serving import open_node, read_config

HANDSHAKE, APPLICATION = 22, 23
SUPPORTED_VERSIONS_1_3 = bytes.fromhex("002b00020304")  # RFC 8446 §4.2.1: selected by the server
FULL_RECORD_BYTES = 16 * 1024
TLS_BYTES = 17  # RFC 8446 §5.2: the type of the content and the tag
LARGE_BYTES = 100_000


@dataclass(frozen=True)
class Item:
    """What no outsider may see of an item."""

    id: str
    topic: str
    maker: str
    to: str
    content: bytes
    title: str
    key: bytes = b""


@dataclass
class Watched:
    nodes: Nodes
    recorders: dict[tuple[str, str], Recorder]
    items: list[Item]

    def bytes_seen(self) -> Iterator[tuple[str, bytes]]:
        for (caller, callee), recorder in self.recorders.items():
            for stream in (*recorder.sent, *recorder.answered):
                yield f"{caller} and {callee}", bytes(stream)


@pytest.fixture(scope="module")
def watched(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Nodes that talk through recorders, after items went each way that there is."""
    with Nodes(tmp_path_factory.mktemp("wire"), CARRIED, PARTIES, LINKS, keys=keys) as nodes:
        links = [*LINKS, *((b, a) for a, b in LINKS)]
        recorders = {(a, b): Recorder(nodes.ports[b]) for a, b in links}
        with listening(nodes, recorders):
            nodes.make()
            nodes.start_all()
            items = send(nodes)
            yield Watched(nodes, recorders, with_keys(nodes, items))


def send(nodes: Nodes) -> list[Item]:
    """Items of many sizes, by way of a hub that reads and of one that does not."""
    items = []
    ways = [
        (topic, maker, to)
        for topic in ("reviewed", "blind", "automatic", "passed")
        for maker, to in (("KOR", "JPN"), ("JPN", "KOR"))
    ]
    for n, (topic, maker, to) in enumerate(ways):
        content = secrets.token_hex(8 + 4 * n).encode()
        title = f"Canary {secrets.token_hex(4 + n)}"
        items.append(share(nodes, topic, maker, to, content, title))
    large = secrets.token_hex(LARGE_BYTES // 2).encode()
    items.append(share(nodes, "automatic", "KOR", "JPN", large, "Canary of some size"))
    for item in items:
        until(lambda item=item: nodes.way(item.maker, item.id, item.to)["state"] == "delivered",  # type: ignore[misc]
              item.topic)  # fmt: skip
    until(lambda: nodes.owed() == 0, "that nobody owes anything")
    return items


def share(nodes: Nodes, topic: str, maker: str, to: str, content: bytes, title: str) -> Item:
    item = nodes.shared(maker, content, to=to, topic=topic, title=title)
    if topic in ("reviewed", "blind"):
        nodes.approve(maker, item, to, PARTIES[maker][0])
    if topic == "reviewed":
        nodes.wait_for_review("USA", item, to)
        nodes.approve("USA", item, to, "smith")
    return Item(item, topic, maker, to, content, title)


def with_keys(nodes: Nodes, items: list[Item]) -> list[Item]:
    """The payload keys as well, which only the stores of their makers have."""
    found = []
    passphrase = read_passphrase(nodes.passphrase_file)
    for maker in ("KOR", "JPN"):
        with nodes.down(maker):
            node, _ = open_node(read_config(nodes.node(maker)), passphrase)
            for item in items:
                if item.maker == maker:
                    key = node.payload_key(node.item(item.id))
                    assert key is not None
                    found.append(replace(item, key=key))
            node.close()
    return found


def records(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """The TLS records of a stream: type and what is in it."""
    at = 0
    while at + 5 <= len(stream):
        size = int.from_bytes(stream[at + 3 : at + 5], "big")
        yield stream[at], stream[at + 5 : at + 5 + size]
        at += 5 + size


WORDS = [
    *("reviewed", "automatic", "passed", "report", "ROUTINE", "releasable_to", "originator"),
    *("KOR:III", "JPN:GOKUHI", "carried/1", "pair-kor-usa", "GUNSA III", "CONFIDENTIAL"),
    *("payload", "manifest", "approval", "/relto/v1", "Content-Length", "node-key", "EXERCISE"),
]


def test_nothing_that_an_item_says_is_readable_between_the_nodes(watched: Watched) -> None:
    secret: dict[bytes, str] = {}
    for item in watched.items:
        for part in (item.content[:60], item.title.encode(), item.key, bytes.fromhex(item.id)):
            secret.update(dict.fromkeys(spellings(part), f"{item.topic} {item.title}"))
        secret[item.id.encode()] = item.title
    for word in WORDS:
        secret.update({s: word for s in spellings(word.encode()) if len(s) >= 6})
    size = 0
    for between, stream in watched.bytes_seen():
        size += len(stream)
        for spelling, what in secret.items():
            assert spelling not in stream, f"{what} is on the wire between {between}: {spelling!r}"
    assert size > 2 * LARGE_BYTES  # the large item went over both links: the recorders heard it


@pytest.mark.parametrize("before", [b"", b"1", b"12", b"123"])
@pytest.mark.parametrize("after", [b"", b"1", b"12", b"123"])
def test_a_secret_is_found_in_whatever_it_is_encoded_with(before: bytes, after: bytes) -> None:
    """Else the tests beside this one would find nothing."""
    found = spellings(b"Canary 1234")
    whole = before + b"Canary 1234" + after
    for encoded in (whole, base64.b64encode(whole), whole.hex().encode()):
        assert any(spelling in encoded for spelling in found)
    assert not any(spelling in base64.b64encode(b"Another 5678 and more") for spelling in found)


def test_all_that_is_spoken_is_tls_1_3(watched: Watched) -> None:
    connections = 0
    for recorder in watched.recorders.values():
        for sent, answered in zip(recorder.sent, recorder.answered, strict=True):
            if not answered:
                continue  # the node was being started again
            connections += 1
            hellos = list(records(bytes(answered)))
            assert hellos[0][0] == HANDSHAKE
            assert SUPPORTED_VERSIONS_1_3 in hellos[0][1]
            assert [kind for kind, _ in hellos].count(HANDSHAKE) == 1  # the rest is encrypted
            assert [kind for kind, _ in records(bytes(sent))].count(HANDSHAKE) == 1
            assert b"relto" not in bytes(sent[:1000])  # no name of a server in clear
    assert connections >= len(watched.recorders)


def test_every_message_has_the_size_of_a_bucket(watched: Watched) -> None:
    """Nine items with titles and contents of nine lengths, on two links, with their answers."""
    around = len(ClientWire(Limits()).ask("POST", "/relto/v1/hop", bytes(5_000))) - 5_000
    key = HpkePrivateKey(bytes(SEED_BYTES)).public_key
    around += len(seal(b"", key, b"")) + len(bytes.fromhex(key.key_id)) + TLS_BYTES
    sizes = []
    for recorder in watched.recorders.values():
        for stream in recorder.sent:
            before = 0
            for kind, data in records(bytes(stream)):
                is_whole = before < FULL_RECORD_BYTES  # else it is the end of a longer message
                if kind == APPLICATION and is_whole and 1_000 < len(data) < 10_000:
                    sizes.append(len(data) - around)
                before = len(data)
    assert [size for size in sizes if bucket_size_bytes(size) != size] == []
    assert len(sizes) >= 2 * len(watched.items)  # several may have gone in one message
    assert len(set(sizes)) <= 16, sorted(set(sizes))  # of one part, or of several


def test_the_hub_that_reads_is_heard_reading(watched: Watched) -> None:
    """What the next test looks for is there to be found where it may be."""
    [item, *_] = [i for i in watched.items if i.topic == "reviewed"]
    assert item.title in watched.nodes.at("USA", "inbox", "--all").out
    assert watched.nodes.content("USA", item.id) == item.content


def test_a_hub_that_does_not_read_has_nothing_to_read(watched: Watched) -> None:
    nodes = watched.nodes
    blind = [i for i in watched.items if i.topic in ("blind", "automatic")]
    assert len(blind) == 5
    answers = [
        nodes.ask("USA", "GET", target)
        for target in ("/status", "/items?limit=500", "/reviews", "/journal?limit=500",
                       *(f"/items/{item.id}" for item in blind))
    ]  # fmt: skip
    for item in blind:
        response = unix_request(
            nodes.node("USA") / "node.sock", "GET", f"/items/{item.id}/payload",
            timeout_s=PATIENCE_S,
        )  # fmt: skip
        assert response.status == 409
        answers.append(response.body)
        assert json.loads(answers[1])["items"]
        assert nodes.show("USA", item.id)["state"] == "passing"
        assert nodes.content(item.to, item.id) == item.content
    seen = [(str(path), data) for path, data in nodes.files_of("USA")]
    assert any(item.id.encode() in data for item in blind for _, data in seen)
    assert {"relto.db", "relto.db-wal", "node.log"} <= {Path(path).name for path, _ in seen}
    seen += [("an answer", data) for data in answers]
    for item in blind:
        for part in (item.content[:60], item.content[-60:], item.title.encode(), item.key):
            for spelling in spellings(part):
                for where, data in seen:
                    assert spelling not in data, f"{item.topic}: {spelling!r} is in {where}"
