"""A coalition as the end-to-end tests use it: real nodes, and commands run in this process.

The nodes are processes of their own; only the commands that ask them are called here, since
starting Python anew for each of some hundreds would be most of the time.
"""

import base64
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from relto.apps import clock
from relto.apps.cli import main
from relto.apps.cli.asking import LIMITS
from relto.apps.demo.coalition import POLL_S, Coalition, Outcome
from relto.keys import Passphrase, ScryptCost, create_key_folder
from relto.links import unix_request

T = TypeVar("T")

PARTIES = {"JPN": ("sato", "abe"), "KOR": ("kim", "lee"), "USA": ("smith", "jones")}
LINKS = [("KOR", "USA"), ("JPN", "USA")]
PATIENCE_S = 60.0  # a test that waits this long for a state has failed
PAYLOAD_BYTES_MAX = 4 * 1024 * 1024


PASSPHRASE = "correct horse battery staple"
CHEAP = ScryptCost(n=2, r=1, p=1)


def make_keys(folder: Path) -> None:
    """Exercise keys of every party, in the places that `Coalition` has them."""
    file = folder / "passphrase"
    file.write_text(PASSPHRASE + "\n")
    file.chmod(0o600)
    now = clock.now().replace(microsecond=0)
    for party, officers in PARTIES.items():
        (folder / party).mkdir()
        create_key_folder(
            folder / party / "keys", party=party, officers=officers,
            passphrase=Passphrase(PASSPHRASE), now=now, exercise=True, cost=CHEAP,
            validity=(now - timedelta(days=5000), now + timedelta(days=3000)),
        )  # fmt: skip


class Nodes(Coalition):
    """A coalition whose items are short to write about."""

    def run(self, *command: str, check: bool = False) -> Outcome:
        """A `relto` command, called as the program does."""
        out, err = io.BytesIO(), io.BytesIO()
        stdout = io.TextIOWrapper(out, "utf-8", write_through=True)
        stderr = io.TextIOWrapper(err, "utf-8", write_through=True)
        with redirect_stdout(stdout), redirect_stderr(stderr):
            try:
                code = main(command)
            except SystemExit as e:
                code = int(e.code or 0)
        outcome = Outcome(code, out.getvalue().decode(), err.getvalue().decode())
        if check and code != 0:
            raise RuntimeError(f"relto {' '.join(command)}: {outcome.err or outcome.out}")
        return outcome

    def limit(self, party: str, payload_bytes_max: int) -> None:
        """Set the largest payload in a node's configuration, as an operator would."""
        file = self.node(party) / "node.toml"
        text = re.sub(r"(?m)^payload_bytes_max = \d+$",
                      f"payload_bytes_max = {payload_bytes_max}", file.read_text())  # fmt: skip
        file.write_text(text)

    # items

    def file(self, name: str, content: bytes) -> Path:
        file = self.folder / name
        file.write_bytes(content)
        return file

    def share(
        self,
        party: str,
        content: bytes,
        *,
        to: str,
        topic: str = "missile.launch",
        mark: str = "",
        title: str = "a report",
        precedence: str = "ROUTINE",
        more: tuple[str, ...] = (),
        check: bool = True,
    ) -> Outcome:
        """`relto share` of a report about PRK that the other two may read."""
        file = self.file(f"{party}.bin", content)
        readers = ",".join(sorted(set(PARTIES) - {party}))
        mark = mark or {"KOR": "KOR:III", "JPN": "JPN:HI", "USA": "USA:C"}[party]
        return self.at(
            party, "share", str(file), "--title", title, "--topic", topic, "--about", "PRK",
            "--mark", mark, "--rel-to", readers, "--to", to, "--precedence", precedence, "--json",
            *more, check=check,
        )  # fmt: skip

    def shared(self, party: str, content: bytes, *, to: str, **options: Any) -> str:
        """The id of an item that was shared."""
        return str(self.share(party, content, to=to, **options).json["id"])

    def show(self, party: str, item: str) -> Any:
        return self.at(party, "item", "show", item, "--json").json

    def is_here(self, party: str, item: str) -> bool:
        return self.at(party, "item", "show", item, check=False).code == 0

    def way(self, party: str, item: str, to: str) -> Any:
        """The last way of an item from `party` to `to`."""
        return [way for way in self.show(party, item)["to"] if way["to"] == to][-1]

    def content(self, party: str, item: str) -> bytes:
        """The payload that a party reads, as its node gives it."""
        response = self.ask(party, "GET", f"/items/{item}/payload")
        head_bytes = int.from_bytes(response[:4], "big")
        return response[4 + head_bytes :]

    def inbox(self, party: str, *more: str) -> list[Any]:
        items: list[Any] = self.at(party, "inbox", "--limit", "500", "--json", *more).json["items"]
        return items

    def journal(self, party: str) -> list[Any]:
        """Every entry of a node's journal, whose chain the node checks as it reads it."""
        entries: list[Any] = []
        while page := json.loads(self.ask(party, "GET", f"/journal?after={len(entries)}"))[
            "entries"
        ]:
            entries += page
        return entries

    def ask(self, party: str, method: str, target: str, body: bytes = b"") -> bytes:
        """What a node answers on its socket."""
        response = unix_request(
            self.node(party) / "node.sock", method, target, body, timeout_s=PATIENCE_S,
            limits=LIMITS,
        )  # fmt: skip
        assert response.status == 200, response.body
        return response.body

    def owed(self) -> int:
        """How many messages the nodes that run owe each other."""
        return sum(
            peer["waiting"]
            for party in self.processes
            for peer in self.at(party, "node", "status", "--json").json["peers"]
        )

    @contextmanager
    def down(self, party: str) -> Iterator[None]:
        """The node is stopped for as long."""
        self.stop(party)
        try:
            yield
        finally:
            self.start(party)

    def files_of(self, party: str) -> Iterator[tuple[Path, bytes]]:
        """Everything that a party's node wrote: store, write-ahead log, blobs, logs."""
        for file in sorted((self.folder / party).rglob("*")):
            if file.is_file():
                yield file, file.read_bytes()


def until(state: Callable[[], T], what: str, timeout_s: float = PATIENCE_S) -> T:
    """What `state` gives once it is true. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = state()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(POLL_S)


def spellings(secret: bytes) -> set[bytes]:
    """A secret as it is, in hexadecimal and in base64 at each of its three alignments."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + secret)
        start = (shift * 8 + 5) // 6
        end = len(encoded) - (4 if (shift + len(secret)) % 3 else 0)
        found |= {encoded[start:end], encoded[start:end].translate(bytes.maketrans(b"+/", b"-_"))}
    return {s for s in found if len(s) >= 5}
