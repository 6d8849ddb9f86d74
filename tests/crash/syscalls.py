"""One node under strace, that kills it or makes a call fail at the k-th call of a kind.

strace counts calls by thread: of the writer's `fdatasync` number 3 is the third commit or
checkpoint that waits for the disk, wherever in the exchange that is.
"""

import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from crash.nodes import Victims
from e2e.nodes import until
from relto.links import LinkError

CALLS = (
    "pwrite64",
    "fdatasync",
    "fsync",
    "ftruncate",
    "unlink",
    "unlinkat",
    "rename",
    "sendto",
    "write",
)
"""What makes something durable, or lets somebody else see it."""

ITEMS = 2
ENDING_S = 30.0
EXIT_STORE_BROKEN = 70


def why_not() -> str:
    """Why nothing can be traced here; empty if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed (Debian: strace)"
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "nothing may be traced here (ptrace is not permitted)"


@dataclass(frozen=True)
class Strike:
    """At which node, and what happens at which call."""

    party: str
    call: str
    number: int
    effect: str  # "signal=KILL", "error=EIO", "error=ENOSPC"

    def prefix(self, log: Path) -> list[str]:
        inject = f"inject={self.call}:{self.effect}:when={self.number}"
        return ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={self.call}", "-e", inject]


@dataclass(frozen=True)
class Outcome:
    """How a node met its strike."""

    struck: bool
    exit_code: int | None  # of the node, where it ended; negative for a signal


def struck(nodes: Victims, strike: Strike) -> Outcome:
    """A small exchange through the hub with one strike; the node restarted, all settled."""
    party = strike.party
    nodes.stop(party)
    log = nodes.folder / "strace"
    nodes.prefix[party] = strike.prefix(log)
    code: int | None = None
    try:
        nodes.start(party)
        exchange(nodes)
        until(lambda: not nodes.is_up(party) or nodes.owed() == 0, "it ends or is done")
    except (LinkError, RuntimeError):
        pass  # it died, did not start, or would not take it now
    traced = log.read_text()
    hit = "(INJECTED)" in traced or "+++ killed by SIGKILL" in traced
    if hit and party in nodes.processes and strike.effect != "error=ENOSPC":
        with suppress(subprocess.TimeoutExpired):  # it has died, or is about to
            nodes.processes[party].wait(ENDING_S)
    if nodes.processes.get(party) is not None and not nodes.is_up(party):
        code = nodes.bury(party)
    elif party in nodes.processes:
        _end(nodes, party)
    nodes.settle()
    return Outcome(hit, code)


def exchange(nodes: Victims) -> None:
    """Two items from KOR to JPN: one whose content is a file, and one in a row."""
    for number in range(ITEMS):
        nodes.submit("KOR", "FLASH", size=500 if number else 100_000)


def _end(nodes: Victims, party: str) -> None:
    """End a traced node in order: the signal is for the node, not for strace."""
    process = nodes.processes[party]
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    process.wait(ENDING_S)
    nodes.bury(party)


def counted(nodes: Victims, party: str) -> dict[str, int]:
    """The most calls of each kind that one thread of a node makes in that exchange."""
    nodes.stop(party)
    log = nodes.folder / "strace"
    trace = ",".join(CALLS)
    nodes.prefix[party] = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={trace}"]
    nodes.start(party)
    exchange(nodes)
    until(lambda: nodes.owed() == 0, "nothing is owed any more")
    _end(nodes, party)
    nodes.settle()
    calls: Counter[tuple[str, str]] = Counter(re.findall(r"(?m)^(\d+) +(\w+)\(", log.read_text()))
    most = dict.fromkeys(CALLS, 0)
    for (_, call), count in calls.items():
        most[call] = max(most[call], count)
    return most
