"""Three real nodes under load, and the many ways to end them."""

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from crash.checker import Findings, check
from e2e.nodes import LINKS, PARTIES, Nodes, make_keys, until
from relto.framing import framed
from relto.links import LinkError, unix_request

WEAK = Path(__file__).parent / "weak.py"
CARRIED = Path(__file__).parents[1] / "data" / "carried"
MARK = {"JPN": "JPN:HI", "KOR": "KOR:III"}
TOPICS = ("passed", "automatic")  # by way of a hub that reads, and of one that does not
DESTINATION = {"JPN": "KOR", "KOR": "JPN"}
QUIET_S = 120.0
ANSWER_S = 10.0
PAUSE_S_MAX = 6.0  # longer than a lease


class Victims(Nodes):
    """Nodes that get killed. `prefix` is a command under which a party's next process runs;
    `weak` the level of `synchronous` with which a store does not wait for the disk."""

    def __init__(self, folder: Path, keys: Path) -> None:
        super().__init__(folder, CARRIED, PARTIES, LINKS, keys=keys)
        self.prefix: dict[str, list[str]] = {}
        self.weak: dict[str, int] = {}
        self.acknowledged: dict[str, tuple[str, str]] = {}
        self.attempts: Counter[str] = Counter()  # items that each node was asked to take

    def serve_command(self, party: str) -> list[str]:
        python, *relto = super().serve_command(party)
        if party in self.weak:
            relto = [str(WEAK), str(self.weak[party]), *relto[2:]]
        return [*self.prefix.get(party, []), python, *relto]

    def store(self, party: str) -> Path:
        return self.node(party) / "store"

    def submit(
        self, maker: str, precedence: str = "ROUTINE", size: int = 500, topic: str = "passed"
    ) -> str:
        """An item that needs nobody's review; its id, once the node says it has it.

        Raises:
            LinkError: no answer came; whether the node has it is unknown.
            RuntimeError: it would not take it now.
        """
        body = self.draft(maker, precedence, size, topic)
        self.attempts[maker] += 1
        response = unix_request(
            self.node(maker) / "node.sock", "POST", "/drafts", body, timeout_s=ANSWER_S
        )
        if response.status != 200:
            raise RuntimeError(response.body.decode())
        item = str(json.loads(response.body)["id"])
        self.acknowledged[item] = (maker, DESTINATION[maker])
        return item

    def draft(self, maker: str, precedence: str, size: int, topic: str = "passed") -> bytes:
        """What is posted to /drafts for an item that needs nobody's review."""
        head = {
            "label": {"mark": MARK[maker], "releasable_to": sorted(set(PARTIES) - {maker}),
                      "kind": "report", "topics": [topic], "about": ["PRK"]},
            "header": {"title": "under fire", "media_type": "text/plain"},
            "to": [DESTINATION[maker]], "precedence": precedence, "from": [],
        }  # fmt: skip
        return framed(head, os.urandom(size))

    def is_up(self, party: str) -> bool:
        process = self.processes.get(party)
        return process is not None and process.poll() is None

    def bury(self, party: str) -> int | None:
        """Forget a process that has ended; how it ended."""
        process = self.processes.pop(party, None)
        if process is None:
            return None
        code = process.wait()
        if process.stdout is not None:
            process.stdout.close()
        return code

    def restart(self, party: str) -> None:
        if party in self.processes:
            self.kill(party)
        self.start(party)

    def settle(self) -> None:
        """Everyone up and unharmed; until nobody owes anybody anything."""
        for party in PARTIES:
            self.prefix.pop(party, None)
            if not self.is_up(party):
                self.bury(party)
                self.start(party)
        while owed := self.owed():  # as long as it gets less it is only much
            until(lambda owed=owed: self.owed() < owed, f"less is owed than {owed}", QUIET_S)  # type: ignore[misc]

    def verdict(self) -> Findings:
        """Stop everyone, and let the checker read."""
        for party in list(self.processes):
            self.stop(party)
        stores = {party: self.store(party) for party in PARTIES}
        cas = {party: self.keys(party) / "ca.crt" for party in PARTIES}
        return check(stores, cas, self.acknowledged, self.attempts)


@contextmanager
def victims(folder: Path | None = None) -> Iterator[Victims]:
    """Three running nodes in a folder of their own."""
    with TemporaryDirectory(prefix="relto-crash-", dir=folder) as own:
        keys = Path(own) / "keys"
        keys.mkdir()
        make_keys(keys)
        (Path(own) / "nodes").mkdir()
        with Victims(Path(own) / "nodes", keys) as nodes:
            nodes.make()
            nodes.start_all()
            yield nodes


@contextmanager
def under_load(nodes: Victims, *, pause_s: float = 0.02) -> Iterator[None]:
    """People at both ends who share one item after the other, whatever happens to the nodes."""
    over = threading.Event()

    def share(maker: str) -> None:
        chance = random.Random(maker)
        while not over.is_set():
            with suppress(LinkError, RuntimeError):
                size = 100_000 if chance.random() < 0.05 else 500
                nodes.submit(
                    maker, chance.choice(["FLASH", "ROUTINE"]), size, chance.choice(TOPICS)
                )
            over.wait(pause_s)

    people = [threading.Thread(target=share, args=(maker,)) for maker in MARK]
    for person in people:
        person.start()
    try:
        yield
    finally:
        over.set()
        for person in people:
            person.join()


def kill_at_random(nodes: Victims, kills: int, chance: random.Random) -> Counter[str]:
    """SIGKILL one node after the other at random moments, sometimes two at once, some while they
    are stopped; between, SIGSTOP lets leases and requests run out. How often what was done."""
    done = Counter[str]()
    while done["kills"] < kills:
        time.sleep(chance.uniform(0.05, 0.4))
        party = chance.choice(sorted(PARTIES))
        process = nodes.processes[party]
        if chance.random() < 0.2:
            process.send_signal(signal.SIGSTOP)
            time.sleep(chance.choice([0.05, 0.5, PAUSE_S_MAX]))
            done["pauses"] += 1
            if chance.random() < 0.5:
                process.send_signal(signal.SIGCONT)
                continue
        victims = [party]
        if chance.random() < 0.2:
            victims.append(chance.choice(sorted(set(PARTIES) - {party})))
        for victim in victims:
            nodes.kill(victim)
            done["kills"] += 1
            done[victim] += 1
        for victim in victims:
            nodes.start(victim)
    return done
