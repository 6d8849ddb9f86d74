"""Seoul, Washington and Tokyo as real processes on loopback, under `bench/regime`.

What is released there goes through Washington, which reads it, and nobody reviews: the shortest
way that a warning can take between two parties without a pact of their own.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from relto.apps import clock
from relto.apps.demo.coalition import Coalition
from relto.framing import framed
from relto.keys import Passphrase, ScryptCost, create_key_folder
from relto.links import Limits, unix_request

REGIME = Path(__file__).resolve().parent / "regime"
WATCHED = Path(__file__).resolve().parent / "watched.py"
PARTIES = {"JPN": ("sato",), "KOR": ("kim",), "USA": ("smith",)}
LINKS = [("KOR", "USA"), ("JPN", "USA")]
PAYLOAD_BYTES = 4096
MARK = {"JPN": "JPN:HI", "KOR": "KOR:III"}
PASSPHRASE = "measured, not kept"
PATIENCE_S = 60.0
BUSY_S = 0.05
LIMITS = Limits(body_bytes_max=16 * 1024 * 1024)


class Busy(Exception):
    """The node takes nothing now."""


class Nodes(Coalition):
    """Three nodes. `arrivals` maps an item to the nanosecond at which Tokyo had committed it.

    `share` is the part of the time in which they may carry ROUTINE.
    """

    def __init__(self, folder: Path, *, share: float = 1.0) -> None:
        super().__init__(folder, REGIME, PARTIES, LINKS)
        self.share = share
        self.arrivals: dict[str, int] = {}
        self._arrived = threading.Condition()

    def make(self) -> None:
        self.passphrase_file.write_text(PASSPHRASE + "\n")
        self.passphrase_file.chmod(0o600)
        super().make()

    def _make_keys(self) -> None:
        now = clock.now().replace(microsecond=0)
        for party, officers in self.parties.items():
            create_key_folder(
                self.keys(party), party=party, officers=officers,
                passphrase=Passphrase(PASSPHRASE), now=now, exercise=True,
                cost=ScryptCost(n=2, r=1, p=1),
                validity=(now - timedelta(days=1), now + timedelta(days=1000)),
            )  # fmt: skip

    def serve_command(self, party: str) -> list[str]:
        """Tokyo's node is watched: it tells of each item that it has committed."""
        python, *relto = super().serve_command(party)
        told = "-"
        if party == "JPN":
            pipe = self.folder / "arrivals"
            pipe.unlink(missing_ok=True)
            os.mkfifo(pipe)
            threading.Thread(target=self._listen, args=(pipe,), daemon=True).start()
            told = str(pipe)
        return [python, str(WATCHED), told, str(self.share), *relto[2:]]

    def _listen(self, told: Path) -> None:
        with told.open() as lines:
            for line in lines:
                at, item = line.split()
                with self._arrived:
                    self.arrivals.setdefault(item, int(at))
                    self._arrived.notify_all()

    def arrival_ns(self, item: str) -> int:
        """When Tokyo had committed the item, in monotonic nanoseconds; waits for it."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: item in self.arrivals, PATIENCE_S):
                raise TimeoutError(f"{item} did not reach Tokyo in {PATIENCE_S:g} s")
            return self.arrivals[item]

    def ask(self, party: str, method: str, target: str, body: bytes = b"") -> Any:
        """What a node answers on its socket."""
        response = unix_request(
            self.node(party) / "node.sock", method, target, body, timeout_s=PATIENCE_S,
            limits=LIMITS,
        )  # fmt: skip
        if response.status == 503:
            raise Busy(response.body.decode())
        if response.status != 200:
            raise RuntimeError(f"{party} answered {response.status}: {response.body[:200]!r}")
        return json.loads(response.body)

    def submit(self, party: str, to: str, precedence: str) -> str:
        """An item of 4 KiB, as `relto share` submits it; its id."""
        others = sorted(set(PARTIES) - {party})
        head = {
            "label": {"mark": MARK[party], "releasable_to": others, "kind": "warning",
                      "topics": ["launch"], "about": []},
            "header": {"title": "measured", "media_type": "text/plain"},
            "to": [to],
            "precedence": precedence,
            "from": [],
        }  # fmt: skip
        return str(
            self.ask(party, "POST", "/drafts", framed(head, os.urandom(PAYLOAD_BYTES)))["id"]
        )

    def submit_many(self, party: str, to: str, count: int, *, clients: int = 4) -> None:
        """ROUTINE items, by several people at once."""
        numbers = iter(range(count))
        lock = threading.Lock()
        faults: list[Exception] = []

        def work() -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None or faults:
                    return
                try:
                    self._insist(party, to)
                except Exception as e:
                    faults.append(e)

        people = [threading.Thread(target=work) for _ in range(clients)]
        for each in people:
            each.start()
        for each in people:
            each.join()
        if faults:
            raise faults[0]

    def _insist(self, party: str, to: str) -> None:
        """Come back later, as long as the node asks for that."""
        while True:
            try:
                self.submit(party, to, "ROUTINE")
            except Busy:
                time.sleep(BUSY_S)
            else:
                return

    def owed(self, *parties: str) -> int:
        """Messages that these nodes owe their peers."""
        return sum(
            peer["waiting"]
            for party in parties or tuple(self.processes)
            for peer in self.ask(party, "GET", "/status")["peers"]
        )

    def wait_until_idle(self) -> None:
        wait_until(lambda: self.owed() == 0)

    def wait_until_linked(self) -> None:
        """Until every node has asked its peers what they have of its own, and sends to them."""

        def linked() -> bool:
            peers = [
                p for party in self.processes for p in self.ask(party, "GET", "/status")["peers"]
            ]
            return all(peer["asked"] and peer["link"] == "ok" for peer in peers)

        wait_until(linked)

    def rss_kib(self, party: str) -> int:
        """Resident memory of a node's process."""
        status = Path(f"/proc/{self.processes[party].pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def cpu_s(self, party: str) -> float:
        """Processor time that a node's process has used."""
        fields = (
            Path(f"/proc/{self.processes[party].pid}/stat").read_text().rsplit(")", 1)[1].split()
        )
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until(state: Callable[[], bool], poll_s: float = 0.2) -> None:
    """Until it is so. A measurement that never ends is ended by whoever started it."""
    while not state():
        time.sleep(poll_s)


@contextmanager
def coalition(*, share: float = 1.0) -> Iterator[Nodes]:
    """Three nodes that run and have exchanged their first items."""
    with (
        TemporaryDirectory(prefix="relto-bench-") as folder,
        Nodes(Path(folder), share=share) as nodes,
    ):
        nodes.make()
        nodes.start_all()
        for party, to in (("KOR", "JPN"), ("JPN", "KOR")):
            nodes.submit(party, to, "FLASH")
        nodes.wait_until_idle()
        yield nodes


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of all lie; the largest for 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
