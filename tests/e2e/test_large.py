"""A large payload costs no process more memory than a small one, and a cut loses nothing.

The size is RELTO_LARGE_MIB MiB, 96 without it; `make soak LARGE=1` takes the largest, 1 GiB.
"""

import hashlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import CARRIED
from e2e.nodes import LINKS, PARTIES, Nodes, until
from e2e.proxies import Gate, listening
from relto.framing import framed
from relto.links.http import ClientWire, Limits

MIB = 1024 * 1024
SIZE_BYTES = int(os.environ.get("RELTO_LARGE_MIB", "96")) * MIB
ABOVE_IDLE_BYTES_MAX = 64 * MIB
PATIENCE_S = 1_200.0
RESUMED_BYTES = 24 * MIB
CUT_BYTES = 10 * MIB
# What one range and its padding, TLS, the records and other calls add to the rest of a transfer.
AGAIN_BYTES_MAX = 2 * MIB
PARTS = 7  # random MiB that repeat, so that a large file is made in no time


@pytest.fixture(scope="module")
def large(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Three nodes that take the largest payloads."""
    with Nodes(tmp_path_factory.mktemp("large"), CARRIED, PARTIES, LINKS, keys=keys) as nodes:
        nodes.make()
        for party in PARTIES:
            nodes.limit(party, 1024 * MIB)
        nodes.start_all()
        yield nodes


def _file(nodes: Nodes) -> tuple[Path, str]:
    """A file of `SIZE_BYTES`, and its SHA-256."""
    path = nodes.folder / "large.bin"
    digest = hashlib.sha256()
    parts = [random.Random(n).randbytes(MIB) for n in range(PARTS)]
    with path.open("wb") as file:
        for n in range(SIZE_BYTES // MIB):
            file.write(parts[n % PARTS])
            digest.update(parts[n % PARTS])
    return path, digest.hexdigest()


def _memory(pid: int, what: str) -> int:
    """VmRSS or VmHWM of a process, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return (
        int(next(line for line in status.splitlines() if line.startswith(what)).split()[1]) * 1024
    )


def _peak_bytes(nodes: Nodes, party: str, *command: str) -> tuple[int, str]:
    """The most memory that one command took, in a process of its own, and what it said."""
    node = ("--node", str(nodes.node(party)))
    process = subprocess.Popen(
        [sys.executable, "-m", "relto", *command, *node], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    assert process.returncode == 0, out
    return usage.ru_maxrss * 1024, out


def test_a_large_payload_goes_through_all_processes_in_flat_memory(large: Nodes) -> None:
    small = large.shared("KOR", b"small", to="JPN", topic="passed")
    until(lambda: large.is_here("JPN", small), "the small item")
    idle, _ = _peak_bytes(large, "JPN", "item", "show", small)
    pids = {party: process.pid for party, process in large.processes.items()}
    before = {}
    for party, pid in pids.items():
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # VmHWM starts anew
        before[party] = _memory(pid, "VmRSS")
    file, digest = _file(large)
    start = time.monotonic()
    sharing, out = _peak_bytes(
        large, "KOR", "share", str(file), "--title", "large", "--topic", "passed", "--about", "PRK",
        "--mark", "KOR:III", "--rel-to", "JPN,USA", "--to", "JPN",
    )  # fmt: skip
    item = out.split()[1]
    until(lambda: large.is_here("JPN", item), "the large item", PATIENCE_S)
    until(lambda: large.show("JPN", item)["state"] == "received", "all of it", PATIENCE_S)
    until(lambda: large.way("KOR", item, "JPN")["state"] == "delivered", "its receipt")
    carried = time.monotonic()
    copy = large.folder / "copy.bin"
    reading, _ = _peak_bytes(large, "JPN", "item", "get", item, "--out", str(copy))
    with copy.open("rb") as written:
        assert hashlib.file_digest(written, "sha256").hexdigest() == digest
    read = time.monotonic()
    copy.unlink()
    above = {party: _memory(pid, "VmHWM") - before[party] for party, pid in pids.items()}
    above |= {"share": sharing - idle, "get": reading - idle}
    print({who: f"{size / MIB:.1f} MiB above idle" for who, size in above.items()})
    seconds = f"{carried - start:.0f} s until receipted, {read - carried:.0f} s to read"
    print(f"{SIZE_BYTES // MIB} MiB: {seconds}, SHA-256 equal: {digest}")
    assert {who: size for who, size in above.items() if size > ABOVE_IDLE_BYTES_MAX} == {}


def test_an_upload_that_is_cut_off_leaves_nothing_behind(large: Nodes) -> None:
    head = {
        "label": {"mark": "KOR:III", "releasable_to": ["JPN", "USA"], "kind": "report",
                  "topics": ["passed"], "about": ["PRK"]},
        "header": {"title": "cut", "media_type": "text/plain"},
        "to": ["JPN"],
        "precedence": "ROUTINE",
    }  # fmt: skip
    blobs = large.node("KOR") / "store" / "blobs"
    kept = set(blobs.iterdir())
    wire = ClientWire(Limits(body_bytes_max=1024 * MIB))
    before = framed(head, b"")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(str(large.node("KOR") / "node.sock"))
        sock.sendall(wire.start("POST", "/drafts", len(before) + 20 * MIB))
        sock.sendall(wire.send_piece(before))
        for _ in range(5):
            sock.sendall(wire.send_piece(bytes(MIB)))
        until(lambda: set(blobs.iterdir()) != kept, "a blob of what has come")
    until(lambda: set(blobs.iterdir()) == kept, "nothing of it")
    assert [i for i in large.inbox("KOR", "--all") if i.get("title") == "cut"] == []


@pytest.fixture(scope="module")
def gated(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nodes, Gate]]:
    """Three nodes, and a gate where Seoul calls Washington."""
    with Nodes(tmp_path_factory.mktemp("gated"), CARRIED, PARTIES, LINKS, keys=keys) as nodes:
        gate = Gate(nodes.ports["USA"])
        with listening(nodes, {("KOR", "USA"): gate}):
            nodes.make()
            for party in PARTIES:
                nodes.limit(party, 1024 * MIB)
            nodes.start_all()
            yield nodes, gate


@pytest.mark.parametrize("struck", ["USA", "KOR"])  # who receives, who sends
def test_after_a_crash_only_the_rest_of_a_transfer_is_sent(
    gated: tuple[Nodes, Gate], struck: str
) -> None:
    nodes, gate = gated
    content = random.Random(struck).randbytes(RESUMED_BYTES)
    gate.shut_after(CUT_BYTES)
    before_bytes = gate.sent_bytes
    item = nodes.shared("KOR", content, to="JPN", topic="passed")
    until(lambda: gate.holds, "that the gate has shut", PATIENCE_S)
    received = max((nodes.node("USA") / "store" / "blobs").iterdir(), key=_made_at).stat().st_size
    assert CUT_BYTES - 2 * MIB <= received <= CUT_BYTES
    nodes.kill(struck)
    nodes.start(struck)
    gate.open()
    cut_at_bytes = gate.sent_bytes
    until(lambda: nodes.is_here("JPN", item), "the item", PATIENCE_S)
    until(lambda: nodes.show("JPN", item)["state"] == "received", "all of it", PATIENCE_S)
    assert nodes.content("JPN", item) == content
    until(lambda: nodes.way("KOR", item, "JPN")["state"] == "delivered", "its receipt")
    assert "sent_bytes" not in nodes.way("KOR", item, "JPN")  # all of it, whatever was noted last
    rest_bytes = RESUMED_BYTES - received
    sent_bytes = gate.sent_bytes - cut_at_bytes
    print(f"{struck} killed at {received} of {RESUMED_BYTES} bytes, {sent_bytes} sent afterwards")
    assert rest_bytes <= sent_bytes <= rest_bytes + AGAIN_BYTES_MAX
    assert gate.sent_bytes - before_bytes <= RESUMED_BYTES + AGAIN_BYTES_MAX + MIB


def test_a_content_that_is_damaged_on_its_way_out_is_refused_once_and_nowhere_kept(
    gated: tuple[Nodes, Gate],
) -> None:
    """Between the sealing and the sending: what was signed is not what is read."""
    nodes, gate = gated
    kept = set((nodes.node("USA") / "store" / "blobs").iterdir())
    content = random.Random("damaged").randbytes(RESUMED_BYTES)
    gate.shut_after(CUT_BYTES)
    item = nodes.shared("KOR", content, to="JPN", topic="passed")
    until(lambda: gate.holds, "that the gate has shut", PATIENCE_S)
    blob = max((nodes.node("KOR") / "store" / "blobs").iterdir(), key=_made_at)
    _flip(blob, RESUMED_BYTES - MIB)
    gate.open()
    until(lambda: nodes.processes["KOR"].poll() is not None, "the end of the sender", PATIENCE_S)
    assert nodes.processes["KOR"].returncode == 70
    assert nodes.log("KOR").count(f"the ciphertext of {item} is damaged in the store") == 1
    assert nodes.log("USA").count("the ciphertext is not the one that the manifest states") == 1
    assert not nodes.is_here("JPN", item)
    assert nodes.show("USA", item)["state"] != "received"
    assert set((nodes.node("USA") / "store" / "blobs").iterdir()) == kept
    _flip(blob, RESUMED_BYTES - MIB)  # what a restored copy would do
    nodes.stop("KOR")
    nodes.start("KOR")
    until(lambda: nodes.is_here("JPN", item), "the item", PATIENCE_S)
    until(lambda: nodes.show("JPN", item)["state"] == "received", "all of it", PATIENCE_S)
    assert nodes.content("JPN", item) == content


def _flip(path: Path, offset: int) -> None:
    """One bit of a file is another."""
    with path.open("r+b") as file:
        file.seek(offset)
        [byte] = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def _made_at(path: Path) -> int:
    return path.stat().st_ctime_ns
