"""A coalition of real nodes on one machine, for the demo and for end-to-end tests.

Every party has its own folder, keys, store and process; nodes meet over mutual TLS on loopback
only. Everything is done by the commands that people use.
"""

import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from relto.keys import fingerprint, open_key_folder

__all__ = ["Coalition", "Outcome", "with_cas"]

READY_TIMEOUT_S = 30.0
COMMAND_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.05
PORTS = (20_000, 32_000)  # below those that Linux gives to outgoing connections
VALIDITY = ("2014-01-01", "2036-01-01")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def with_cas(agreement: str, cas: Mapping[str, str]) -> str:
    """An agreement's text with the fingerprints of its parties' CAs filled in."""
    table = ", ".join(f'{party} = "{value}"' for party, value in sorted(cas.items()))
    return f"ca = {{ {table} }}\n{agreement}"


class Coalition:
    """Parties with their nodes. Use as a context manager: it ends every process it started."""

    def __init__(
        self,
        folder: Path,
        regime: Path,
        parties: Mapping[str, tuple[str, ...]],
        links: Collection[tuple[str, str]],
        *,
        keys: Path | None = None,
    ) -> None:
        """`parties` maps each party to its disclosure officers; `links` says who is connected.

        `keys` is a folder of another coalition with the same parties, whose keys are used again.
        """
        self.links = {frozenset(link) for link in links}
        self.folder = folder
        self.source = regime
        self.parties = dict(parties)
        self.regime = folder / "regime"
        self.key_folder = folder if keys is None else keys
        self.ports = {party: _free_port() for party in parties}
        self.routes: dict[tuple[str, str], int] = {}
        """By caller and callee: a port to call instead of the callee's, for whoever listens in."""
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.passphrase_file = self.key_folder / "passphrase"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for party in list(self.processes):
            self.stop(party)

    # making it

    def make(self) -> None:
        """Keys for every party, the regime with their fingerprints, and a folder for each node."""
        self.make_keys()
        self.make_nodes()

    def make_keys(self) -> None:
        """Keys for every party, and the regime with their fingerprints, still to be signed."""
        for party in self.parties:
            (self.folder / party).mkdir(parents=True, exist_ok=True)
        if self.key_folder == self.folder:
            self._make_keys()
        self._fill_regime()

    def make_nodes(self) -> None:
        """A folder for each node, which decides by its party's own regime folder if it has one."""
        for party in self.parties:
            self._make_node(party)

    def _make_keys(self) -> None:
        with open(self.passphrase_file, "w", opener=_private) as file:
            file.write(secrets.token_hex(16) + "\n")
        making = [
            self._start_command(
                "keys", "init", "--party", party, "--out", str(self.keys(party)),
                *(f"--officer={name}" for name in officers), "--exercise",
                "--valid-from", VALIDITY[0], "--valid-to", VALIDITY[1],
                "--passphrase-file", str(self.passphrase_file),
            )
            for party, officers in self.parties.items()
        ]  # fmt: skip
        for process in making:
            _finished(process)

    def _make_node(self, party: str) -> None:
        peers = []
        for other in self.parties:
            ca = self.keys(other) / "ca.crt"
            if frozenset([party, other]) in self.links:
                port = self.routes.get((party, other), self.ports[other])
                peers.append(f"--peer={other}=127.0.0.1:{port}={ca}")
            elif other != party:
                peers.append(f"--party-ca={other}={ca}")
        self.run(
            "node", "init", str(self.node(party)), "--party", party,
            "--regime", str(self.regime_of(party)), "--keys", str(self.keys(party)),
            "--listen", f"127.0.0.1:{self.ports[party]}", "--exercise", *peers, check=True,
        )  # fmt: skip

    def _fill_regime(self) -> None:
        cas = {
            party: fingerprint(open_key_folder(self.keys(party)).certificate("ca"))
            for party in self.parties
        }
        for file in sorted(self.source.rglob("*.toml")):
            target = self.regime / file.relative_to(self.source)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = file.read_text(encoding="utf-8")
            if file.parent.name == "agreements":
                named = {p: value for p, value in cas.items() if f'"{p}"' in text}
                text = with_cas(text, named)
            target.write_text(text, encoding="utf-8")

    def regime_of(self, party: str) -> Path:
        """What the party's node decides by: what was signed, or else the draft that all share."""
        own = self.folder / party / "regime"
        return own if own.is_dir() else self.regime

    def keys(self, party: str) -> Path:
        return self.key_folder / party / "keys"

    def node(self, party: str) -> Path:
        return self.folder / party / "node"

    def officer(self, party: str, name: str) -> Path:
        return self.keys(party) / "officers" / name

    # running it

    def start(self, party: str) -> None:
        """Start a node's process and wait until it answers."""
        self._spawn(party)
        self._wait_until_ready(party)

    def start_all(self) -> None:
        for party in self.parties:
            self._spawn(party)
        for party in self.parties:
            self._wait_until_ready(party)

    def serve_command(self, party: str) -> list[str]:
        """The command that runs a party's node, for whoever watches or disturbs it to add to."""
        return [
            sys.executable, "-m", "relto", "node", "serve", str(self.node(party)),
            "--passphrase-file", str(self.passphrase_file),
        ]  # fmt: skip

    def _spawn(self, party: str) -> None:
        with (self.folder / party / "node.log").open("a") as log:
            self.processes[party] = subprocess.Popen(  # noqa: S603  # our own command
                self.serve_command(party),
                stdout=subprocess.PIPE, stderr=log, text=True, env=_environment(),
            )  # fmt: skip

    def _wait_until_ready(self, party: str) -> None:
        output = self.processes[party].stdout
        assert output is not None  # noqa: S101  # a pipe was asked for
        readable, _, _ = select.select([output], [], [], READY_TIMEOUT_S)
        if not readable or output.readline().strip() != "ready":
            self.kill(party)
            raise RuntimeError(f"the node of {party} did not start:\n{self.log(party)}")

    def stop(self, party: str) -> None:
        """End a node's process in order."""
        process = self.processes.pop(party)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def kill(self, party: str) -> None:
        """End it as a crash would: without a word."""
        process = self.processes.pop(party)
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def log(self, party: str) -> str:
        return (self.folder / party / "node.log").read_text(encoding="utf-8")

    # asking it

    def run(self, *command: str, check: bool = False) -> Outcome:
        """Run a `relto` command as its user would."""
        outcome = _outcome(self._start_command(*command))
        if check and outcome.code != 0:
            raise RuntimeError(f"relto {' '.join(command)}: {outcome.err or outcome.out}")
        return outcome

    def at(self, party: str, *command: str, check: bool = True) -> Outcome:
        """Run a command at a party's node."""
        return self.run(*command, "--node", str(self.node(party)), check=check)

    def approve(self, party: str, item: str, to: str, officer: str) -> Outcome:
        return self.at(
            party, "review", "approve", item, "--to", to,
            "--officer", str(self.officer(party, officer)),
            "--passphrase-file", str(self.passphrase_file),
        )  # fmt: skip

    def set_clock(self, at: str) -> None:
        for party in self.processes:
            self.at(party, "node", "clock", at)

    def wait_for(self, party: str, item: str, to: str, *states: str, timeout_s: float = 30) -> Any:
        """The item at `party` once its way to `to` is in one of `states`. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while True:
            shown = self.at(party, "item", "show", item, "--json").json
            for way in shown["to"]:
                if way["to"] == to and way["state"] in states:
                    return shown
            if time.monotonic() > deadline:
                raise TimeoutError(f"{item[:12]} at {party} to {to}: {shown['to']}")
            time.sleep(POLL_S)

    def wait_for_review(self, party: str, item: str, to: str, timeout_s: float = 30) -> None:
        """Until an officer of `party` can review the item for `to`. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while True:
            reviews = self.at(party, "review", "list", "--json").json["reviews"]
            if any(r["id"] == item and r["review_to"] == to for r in reviews):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{item[:12]} never came to review at {party}")
            time.sleep(POLL_S)

    def _start_command(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603  # our own command
            [sys.executable, "-m", "relto", *command],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment(),
        )  # fmt: skip


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL, 0o600)


def _outcome(process: subprocess.Popen[str]) -> Outcome:
    try:
        out, err = process.communicate(timeout=COMMAND_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return Outcome(process.returncode, out, err)


def _finished(process: subprocess.Popen[str]) -> None:
    outcome = _outcome(process)
    if outcome.code != 0:
        raise RuntimeError(outcome.err or outcome.out)


def _free_port() -> int:
    """A port that nobody has, and that no outgoing connection will take while a node is down."""
    while True:
        port = PORTS[0] + secrets.randbelow(PORTS[1] - PORTS[0])
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
