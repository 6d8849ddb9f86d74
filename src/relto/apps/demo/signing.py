"""The demo's first part: three capitals sign, each at home, and nodes decide by what was signed.

Each party has a desk of its own, with its own copies; a copy "sent" is a file copied from desk to
desk. Every step is a command that people use.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from relto.apps.demo.coalition import Coalition, Outcome

__all__ = ["Desks"]


class Desks:
    """The desks of all parties, where agreements are signed."""

    def __init__(self, nodes: Coalition) -> None:
        self.nodes = nodes
        self._digests: dict[str, str] = {}
        for party in nodes.parties:
            self.desk(party).mkdir(parents=True)

    def desk(self, party: str) -> Path:
        return self.nodes.folder / party / "desk"

    def copy(self, party: str, agreement: str) -> Path:
        """A party's own copy of an agreement's file."""
        return self.desk(party) / f"{agreement}.json"

    def draft(self, depositary: str, agreement: str, at: str) -> None:
        """The depositary makes the file and opens it for signature."""
        self.nodes.run(
            "agreement", "draft", str(self.nodes.regime), agreement,
            "--out", str(self.copy(depositary, agreement)), check=True,
        )  # fmt: skip
        self.by(depositary, agreement, at, "move", "opened")
        self.by(depositary, agreement, at, "deposit")

    def send(self, agreement: str, sender: str, to: Sequence[str]) -> None:
        """Copies go out; each takes the place of an older one on that desk."""
        for party in to:
            shutil.copy(self.copy(sender, agreement), self.copy(party, agreement))

    def digest(self, party: str, agreement: str, at: str) -> str:
        """The digest that a party sees on its own copy."""
        return str(self.status(party, agreement, at)["digest"])

    def status(self, party: str, agreement: str, at: str) -> dict[str, object]:
        """Where a party's own copy stands at an instant."""
        found: dict[str, object] = self.ask(
            party, agreement, "status", "--at", at, "--json", check=True
        ).json
        return found

    def sign(self, party: str, agreement: str, at: str, *, check: bool = True) -> Outcome:
        """A party signs its own copy, by the digest that the first signer saw on its own."""
        if agreement not in self._digests:
            self._digests[agreement] = self.digest(party, agreement, at)
        digest = self._digests[agreement]
        return self.by(party, agreement, at, "sign", "--digest", digest, check=check)

    def deposit(self, depositary: str, agreement: str, at: str, received: Sequence[str]) -> None:
        """The depositary takes in the copies of others, in the order given."""
        copies = []
        for party in received:
            copies.append(self.desk(depositary) / f"{agreement}-of-{party}.json")
            shutil.copy(self.copy(party, agreement), copies[-1])
        self.by(depositary, agreement, at, "deposit", *(str(path) for path in copies))

    def by(
        self, party: str, agreement: str, at: str, command: str, *more: str, check: bool = True
    ) -> Outcome:
        """A command with the party's own signing key, at an instant of the exercise."""
        words, more = ([command, more[0]], more[1:]) if command == "move" else ([command], more)
        return self.nodes.run(
            "agreement", *words, str(self.copy(party, agreement)), *more,
            "--regime", str(self.nodes.regime), "--keys", str(self.nodes.keys(party)),
            "--passphrase-file", str(self.nodes.passphrase_file), "--at", at, check=check,
        )  # fmt: skip

    def ask(self, party: str, agreement: str, command: str, *more: str, check: bool) -> Outcome:
        """A command that needs no key."""
        return self.nodes.run(
            "agreement", command, str(self.copy(party, agreement)), *more,
            "--regime", str(self.nodes.regime), check=check,
        )  # fmt: skip

    # what the nodes decide by

    def give_to_node(self, party: str, whole: Sequence[str], pillars: Sequence[str] = ()) -> None:
        """Put a party's copies into its regime folder, and extracts of what it is not in."""
        folder = self.nodes.folder / party / "regime"
        (folder / "signed").mkdir(parents=True, exist_ok=True)
        shutil.copy(self.nodes.regime / "vocabulary.toml", folder)
        shutil.copytree(self.nodes.regime / "schemes", folder / "schemes", dirs_exist_ok=True)
        for agreement in whole:
            shutil.copy(self.copy(party, agreement), folder / "signed")
        for agreement in pillars:
            shutil.copy(self.desk(party) / f"{agreement}-extract.json",
                        folder / "signed" / f"{agreement}.json")  # fmt: skip

    def extract(self, owner: str, agreement: str, to: str) -> None:
        """A party to an agreement gives another, whose agreements stand on it, its extract."""
        out = self.desk(to) / f"{agreement}-extract.json"
        self.ask(owner, agreement, "extract", "--out", str(out), check=True)
