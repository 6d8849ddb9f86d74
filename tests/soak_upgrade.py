"""A rolling upgrade from an earlier version of this repository: `make soak UPGRADE=COMMIT`.

The earlier version runs from a worktree of its commit, with a virtual environment from its own lock
file. Three nodes begin with it, and are upgraded one after the other under load, once the hub first
and once last; at every stage items go both ways by every kind of path, and at the end a checker
that shares no code with the nodes reads their stores. Results are for evidence/.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from commits import present_commit
from crash.nodes import DESTINATION, Victims, under_load
from e2e.nodes import PARTIES, make_keys, until
from relto.apps.demo.coalition import Outcome

ROOT = Path(__file__).parent.parent
ORDERS = (("USA", "KOR", "JPN"), ("KOR", "JPN", "USA"))
LOAD_S = 3.0  # before a node is stopped, and after it came back
LARGE_BYTES = 3_000_000
WAYS = ("reviewed", "blind", "automatic", "passed")  # clauses of tests/data/carried


class Earlier:
    """A commit of this repository, ready to run."""

    def __init__(self, folder: Path, commit: str) -> None:
        self.commit = commit
        self.source = folder / "source"
        self.python = folder / "venv" / "bin" / "python"
        _run("git", "-C", str(ROOT), "worktree", "add", "--detach", str(self.source), commit)
        _run(sys.executable, "-m", "venv", str(folder / "venv"))
        _run(
            str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--only-binary", ":all:", "--require-hashes",
            "-r", str(self.source / "requirements" / "run.txt"),
        )  # fmt: skip

    def command(self, *relto: str) -> list[str]:
        path = f"PYTHONPATH={self.source / 'src'}"
        return ["env", path, str(self.python), "-m", "relto", *relto]

    def remove(self) -> None:
        _run("git", "-C", str(ROOT), "worktree", "remove", "--force", str(self.source))


class Mixed(Victims):
    """Nodes some of which run the earlier version; their people do too."""

    def __init__(self, folder: Path, keys: Path, earlier: Earlier) -> None:
        super().__init__(folder, keys)
        self.earlier = earlier
        self.old = set(PARTIES)

    def serve_command(self, party: str) -> list[str]:
        python, *relto = super().serve_command(party)
        return self.earlier.command(*relto[2:]) if party in self.old else [python, *relto]

    def run(self, *command: str, check: bool = False) -> Outcome:
        """The folders of the nodes are made by the earlier version."""
        if command[:2] == ("node", "init"):
            return self._by_earlier(*command, check=check)
        return super().run(*command, check=check)

    def at(self, party: str, *command: str, check: bool = True) -> Outcome:
        if party not in self.old:
            return super().at(party, *command, check=check)
        return self._by_earlier(*command, "--node", str(self.node(party)), check=check)

    def _by_earlier(self, *command: str, check: bool) -> Outcome:
        asked = self.earlier.command(*command)
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise RuntimeError(f"relto {' '.join(command)}: {done.stderr or done.stdout}")
        return Outcome(done.returncode, done.stdout, done.stderr)

    def upgrade(self, party: str) -> None:
        self.stop(party)
        self.old.discard(party)
        self.start(party)

    def exchange(self) -> int:
        """One item each way by every kind of path, and a large one; how many arrived."""
        count = 0
        for maker, to in DESTINATION.items():
            for topic in WAYS:
                count += self._goes(maker, to, topic, random.randbytes(700))
            count += self._goes(maker, to, "passed", random.randbytes(LARGE_BYTES))
        return count

    def _goes(self, maker: str, to: str, topic: str, content: bytes) -> int:
        self.attempts[maker] += 1
        item = self.shared(maker, content, to=to, topic=topic)
        self.acknowledged[item] = (maker, to)
        if topic in ("reviewed", "blind"):
            self.approve(maker, item, to, PARTIES[maker][0])
        if topic == "reviewed":
            self.wait_for_review("USA", item, to)
            self.approve("USA", item, to, "smith")
        until(lambda: self.way(maker, item, to)["state"] == "delivered", f"{topic} by {maker}")
        assert self.content(to, item) == content
        return 1


@contextmanager
def mixed(earlier: Earlier) -> Iterator[Mixed]:
    with TemporaryDirectory(prefix="relto-upgrade-") as own:
        keys = Path(own) / "keys"
        keys.mkdir()
        make_keys(keys)
        with Mixed(Path(own) / "nodes", keys, earlier) as nodes:
            nodes.make()
            nodes.start_all()
            yield nodes


def upgraded(earlier: Earlier, order: tuple[str, ...]) -> dict[str, Any]:
    """What went at every stage of one rolling upgrade, and what the checker found at its end."""
    stages = []
    with mixed(earlier) as nodes:
        for party in (None, *order):
            with under_load(nodes):
                time.sleep(LOAD_S)
                if party is not None:
                    nodes.upgrade(party)
                time.sleep(LOAD_S)
            nodes.settle()
            stages.append({"earlier": sorted(nodes.old), "exchanged": nodes.exchange()})
            print(order, stages[-1], file=sys.stderr)
        findings = nodes.verdict()
        back = _back(nodes, order[0])
    return {
        "order": order, "stages": stages, "acknowledged": len(nodes.acknowledged),
        "seen": dict(findings.seen), "lost": findings.lost, "repeated": findings.repeated,
        "unexpected": findings.unexpected, "earlier version on the new store": back,
    }  # fmt: skip


def _back(nodes: Mixed, party: str) -> str:
    """What the earlier version says to a store that the present one has had."""
    nodes.old.add(party)
    try:
        nodes.start(party)
    except RuntimeError:
        return nodes.log(party).splitlines()[-1].replace(str(nodes.folder), "…")
    return "starts"


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak_upgrade", description=__doc__)
    parser.add_argument("commit")
    args = parser.parse_args()
    start = time.monotonic()
    with TemporaryDirectory(prefix="relto-earlier-") as folder:
        earlier = Earlier(Path(folder), args.commit)
        try:
            runs = [upgraded(earlier, order) for order in ORDERS]
        finally:
            earlier.remove()
    wrong = sum(len(run[kind]) for run in runs for kind in ("lost", "repeated", "unexpected"))
    result = {
        "from": args.commit, "to": present_commit(), "runs": runs, "findings": wrong,
        "seconds": round(time.monotonic() - start),
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    return int(wrong > 0)


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
