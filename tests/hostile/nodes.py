"""Seoul, Washington and Tokyo as real nodes, and a fourth party with good keys and no good will."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from e2e.nodes import CHEAP, PASSPHRASE, Nodes, until
from relto.apps import clock
from relto.framing import framed
from relto.keys import Passphrase, create_key_folder, open_key_folder
from relto.links import KeyFile, Request, Response, Server, TlsAddress, server_context, unix_request

ROOT = Path(__file__).resolve().parents[2]
REGIME = ROOT / "tests" / "data" / "hostile"
WATCHED = ROOT / "bench" / "watched.py"
PARTIES: dict[str, tuple[str, ...]] = {"AUS": (), "JPN": (), "KOR": (), "USA": ()}
HONEST = ("KOR", "USA", "JPN")
LINKS = [("KOR", "USA"), ("JPN", "USA"), ("AUS", "USA")]
PATIENCE_S = 60.0
PAYLOAD_BYTES = 4096


class Besieged(Nodes):
    """Three nodes that run, Tokyo's watched: it tells when it has committed an item."""

    def __init__(self, folder: Path, keys: Path) -> None:
        super().__init__(folder, REGIME, PARTIES, LINKS, keys=keys)
        self.arrivals: dict[str, int] = {}
        self._arrived = threading.Condition()

    def start_all(self) -> None:
        """The honest nodes, and a door of the hostile party: whatever it is asked, it refuses.

        A node that was never told what it has of it would take nothing of it.
        """
        threading.Thread(target=lambda: asyncio.run(self._door()), daemon=True).start()
        for party in HONEST:
            self._spawn(party)
        for party in HONEST:
            self._wait_until_ready(party)

    async def _door(self) -> None:
        folder = open_key_folder(self.keys("AUS"))
        key = KeyFile(folder.key_path("tls"), Passphrase(PASSPHRASE).reveal)
        ca = (self.keys("USA") / "ca.crt").read_bytes()
        context = server_context(folder.certificate_path("tls"), key, [ca])
        address = TlsAddress("127.0.0.1", self.ports["AUS"], context)
        await Server(_refuse, address, on_error=lambda error: None).start()
        await asyncio.Event().wait()

    def serve_command(self, party: str) -> list[str]:
        python, *relto = super().serve_command(party)
        if party != "JPN":
            return [python, *relto]
        told = self.folder / "arrivals"
        told.unlink(missing_ok=True)
        os.mkfifo(told)
        threading.Thread(target=self._listen, args=(told,), daemon=True).start()
        return [python, str(WATCHED), str(told), "1", *relto[2:]]

    def _listen(self, told: Path) -> None:
        with told.open() as lines:
            for line in lines:
                at, item = line.split()
                with self._arrived:
                    self.arrivals.setdefault(item, int(at))
                    self._arrived.notify_all()

    def carried_ms(self, precedence: str) -> float:
        """How long an item takes from its submission in Seoul until Tokyo has committed it."""
        start_ns = time.monotonic_ns()
        item = self.submit(precedence)
        with self._arrived:
            if not self._arrived.wait_for(lambda: item in self.arrivals, PATIENCE_S):
                raise TimeoutError(f"{item} did not reach Tokyo in {PATIENCE_S:g} s")
            return (self.arrivals[item] - start_ns) / 1e6

    def submit(self, precedence: str, size_bytes: int = PAYLOAD_BYTES) -> str:
        """An item that needs nobody's review; its id. Raises RuntimeError where it is not taken."""
        head = {
            "label": {"mark": "KOR:III", "releasable_to": ["JPN", "USA"], "kind": "report",
                      "topics": ["passed"], "about": ["PRK"]},
            "header": {"title": "honest", "media_type": "text/plain"},
            "to": ["JPN"], "precedence": precedence, "from": [],
        }  # fmt: skip
        response = unix_request(
            self.node("KOR") / "node.sock", "POST", "/drafts",
            framed(head, os.urandom(size_bytes)), timeout_s=PATIENCE_S,
        )  # fmt: skip
        if response.status != 200:
            raise RuntimeError(response.body.decode())
        return str(json.loads(response.body)["id"])

    def has_asked_all(self) -> bool:
        return all(peer["asked"] for peer in self.peers_of("USA").values())

    @property
    def is_calm(self) -> bool:
        """Whether the honest nodes owe each other nothing any more."""
        return not any(
            peer["waiting"]
            for party in HONEST
            for name, peer in self.peers_of(party).items()
            if name != "AUS"
        )

    def peers_of(self, party: str) -> dict[str, Any]:
        """What a node's status says of each peer."""
        status = json.loads(self.ask(party, "GET", "/status"))
        return {peer["party"]: peer for peer in status["peers"]}

    def cpu_s(self, party: str) -> float:
        """Processor time that a node's process has used."""
        stat = Path(f"/proc/{self.processes[party].pid}/stat").read_text().rsplit(")", 1)[1]
        fields = stat.split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mib(self, party: str) -> float:
        status = Path(f"/proc/{self.processes[party].pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def descriptors(self, party: str) -> int:
        return len(os.listdir(f"/proc/{self.processes[party].pid}/fd"))


async def _refuse(request: Request) -> Response:
    return Response(400, b'{"status":"refused"}')


def make_four_keys(folder: Path) -> None:
    """Exercise keys of every party, in the places that `Coalition` has them."""
    file = folder / "passphrase"
    file.write_text(PASSPHRASE + "\n")
    file.chmod(0o600)
    now = clock.now().replace(microsecond=0)
    for party in PARTIES:
        (folder / party).mkdir()
        create_key_folder(
            folder / party / "keys", party=party, passphrase=Passphrase(PASSPHRASE), now=now,
            exercise=True, cost=CHEAP,
            validity=(now - timedelta(days=5000), now + timedelta(days=3000)),
        )  # fmt: skip


@contextmanager
def besieged(folder: Path | None = None) -> Iterator[Besieged]:
    """The coalition in a folder of its own, its first items exchanged."""
    with TemporaryDirectory(prefix="relto-hostile-", dir=folder) as own:
        keys = Path(own) / "keys"
        keys.mkdir()
        make_four_keys(keys)
        (Path(own) / "nodes").mkdir()
        with Besieged(Path(own) / "nodes", keys) as nodes:
            nodes.make()
            nodes.start_all()
            until(nodes.has_asked_all, "the hub has asked all its peers")
            for _ in range(5):
                nodes.carried_ms("FLASH")
            yield nodes
