"""`relto document`, as parties meet it: made from the terms, signed after them, checked whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from relto.apps.cli import main
from test_cli_agreement import NAMES, Desk, Out, keys, said

pytest.importorskip("typst", reason="needs requirements/documents.txt")
pytest.importorskip("pyhanko", reason="needs requirements/documents.txt")

__all__ = ["keys"]  # the fixture

AT = "2014-12-26T06:00:00Z"


class Paper(Desk):
    """A desk with the document beside the file."""

    def __init__(self, folder: Path, keys: Path) -> None:
        super().__init__(folder, keys, 'begins = "copies"')
        self.pdf = folder / "pact.pdf"

    def make(self, out: Path) -> int:
        regime = ("--regime", str(self.regime))
        return main(["document", "make", str(self.file), *regime, "--out", str(out)])

    def sign_it(self, party: str, at: str = AT) -> int:
        return main([
            "document", "sign", str(self.file), str(self.pdf), "--regime", str(self.regime),
            "--keys", str(self.keys / party),
            "--passphrase-file", str(self.keys / "passphrase"), "--at", at,
        ])  # fmt: skip

    def verify(self) -> int:
        files = (str(self.file), str(self.pdf))
        return main(["document", "verify", *files, "--regime", str(self.regime)])


@pytest.fixture
def paper(tmp_path: Path, keys: Path, capsys: Out) -> Paper:
    """Terms that all three have signed, and their document."""
    paper = Paper(tmp_path, keys)
    digest = paper.opened().digest(capsys)
    for name in NAMES:
        assert paper.by(name, "sign", AT, "--digest", digest) == 0
    assert paper.make(paper.pdf) == 0
    capsys.readouterr()
    return paper


def test_the_document_goes_from_party_to_party_and_holds(paper: Paper, capsys: Out) -> None:
    assert paper.verify() == 0
    assert capsys.readouterr().out.count(": has not signed") == 3
    for party in ("USA", "KOR", "JPN"):
        assert paper.sign_it(party) == 0
    capsys.readouterr()
    assert paper.verify() == 0
    assert capsys.readouterr().out.count(f": signed {AT}") == 3


def test_the_same_terms_give_the_same_bytes(paper: Paper, capsys: Out) -> None:
    again = paper.folder / "again.pdf"
    assert paper.make(again) == 0
    assert again.read_bytes() == paper.pdf.read_bytes()
    assert paper.make(again) == 2
    assert "exists already" in said(capsys)


def test_who_has_not_signed_the_terms_does_not_sign_their_document(
    tmp_path: Path, keys: Path, capsys: Out
) -> None:
    paper = Paper(tmp_path, keys)
    paper.opened()
    assert paper.make(paper.pdf) == 0
    before = paper.pdf.read_bytes()
    capsys.readouterr()
    assert paper.sign_it("KOR") == 2
    assert "KOR has not signed the terms with this key; sign them first" in said(capsys)
    assert paper.pdf.read_bytes() == before


def test_a_document_that_was_changed_is_neither_signed_nor_believed(
    paper: Paper, capsys: Out
) -> None:
    assert paper.sign_it("USA") == 0
    good = paper.pdf.read_bytes()
    paper.pdf.write_bytes(good + b"\n")
    assert paper.sign_it("KOR") == 2
    assert paper.verify() == 2
    assert paper.pdf.read_bytes() == good + b"\n"
    paper.pdf.write_bytes(good)
    assert paper.verify() == 0


def test_a_document_of_other_terms_is_refused(paper: Paper, capsys: Out) -> None:
    other = paper.folder / "other"
    shutil.copytree(paper.regime, other)
    pact = other / "agreements" / "pact.toml"
    pact.write_text(pact.read_text().replace("Through the hub.", "Past the hub."))
    draft = paper.folder / "other.json"
    assert main(["agreement", "draft", str(other), "pact", "--out", str(draft)]) == 0
    paper.pdf.unlink()
    words = ("--regime", str(other), "--out", str(paper.pdf))
    assert main(["document", "make", str(draft), *words]) == 0
    capsys.readouterr()
    assert paper.verify() == 2
    assert paper.sign_it("USA") == 2
