"""A large payload costs no process more memory than a small one, and a cut loses nothing.

The size is RELTO_LARGE_MIB MiB, 96 without it; `make soak LARGE=1` takes the largest, 1 GiB.
"""

import hashlib
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import CARRIED
from e2e.nodes import LINKS, PARTIES, Nodes, until
from relto.framing import framed
from relto.links.http import ClientWire, Limits

MIB = 1024 * 1024
SIZE_BYTES = int(os.environ.get("RELTO_LARGE_MIB", "96")) * MIB
ABOVE_IDLE_BYTES_MAX = 64 * MIB
PATIENCE_S = 1_200.0
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
    sharing, out = _peak_bytes(
        large, "KOR", "share", str(file), "--title", "large", "--topic", "passed", "--about", "PRK",
        "--mark", "KOR:III", "--rel-to", "JPN,USA", "--to", "JPN",
    )  # fmt: skip
    item = out.split()[1]
    until(lambda: large.is_here("JPN", item), "the large item", PATIENCE_S)
    until(lambda: large.show("JPN", item)["state"] == "received", "all of it", PATIENCE_S)
    until(lambda: large.way("KOR", item, "JPN")["state"] == "delivered", "its receipt")
    copy = large.folder / "copy.bin"
    reading, _ = _peak_bytes(large, "JPN", "item", "get", item, "--out", str(copy))
    with copy.open("rb") as written:
        assert hashlib.file_digest(written, "sha256").hexdigest() == digest
    copy.unlink()
    above = {party: _memory(pid, "VmHWM") - before[party] for party, pid in pids.items()}
    above |= {"share": sharing - idle, "get": reading - idle}
    print({who: f"{size / MIB:.1f} MiB above idle" for who, size in above.items()})
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


def test_a_transfer_goes_on_where_it_stopped(large: Nodes) -> None:
    content = random.Random(5).randbytes(24 * MIB)
    with large.down("USA"):
        item = large.shared("KOR", content, to="JPN", topic="passed")
    until(lambda: large.way("KOR", item, "JPN").get("sent_bytes", 0) >= 2 * MIB, "a part of it")
    with large.down("USA"):
        sent = large.way("KOR", item, "JPN").get("sent_bytes", 0)
        blobs = (large.node("USA") / "store" / "blobs").iterdir()
        assert sent <= max(blob.stat().st_size for blob in blobs)
    first = large.way("KOR", item, "JPN").get("sent_bytes", sent)
    assert first >= sent
    until(lambda: large.is_here("JPN", item), "the item", PATIENCE_S)
    until(lambda: large.show("JPN", item)["state"] == "received", "all of it", PATIENCE_S)
    assert large.content("JPN", item) == content
