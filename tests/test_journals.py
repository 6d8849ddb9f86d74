"""Exported journals: what verifies, and that nothing changed, cut, added or reordered does."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from relto import canonical
from relto import envelope as dsse
from relto.apps.cli import main
from relto.errors import PeerError
from relto.journals import first_line, last_line, row_line, verify_journal
from relto.keys import FileSigner, issue, make_ca
from relto.ports import JOURNAL_START, JournalRow, journal_link
from relto.records import JournalHead

AT = "2026-01-05T00:00:00Z"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
VALIDITY = (NOW - timedelta(days=400), NOW + timedelta(days=400))


class Party:
    """A CA, and a certified key for whoever signs."""

    def __init__(self, code: str = "KOR", role: str = "node") -> None:
        ca_key = ec.generate_private_key(ec.SECP256R1())
        self.ca = make_ca(code, key=ca_key, now=NOW, exercise=True, validity=VALIDITY)
        key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
        key = ed25519.Ed25519PrivateKey.generate() if role == "node" else ca_key
        if role != "node":
            key = ec.generate_private_key(ec.SECP256R1())
        name = "kim" if role == "officer" else None
        leaf = issue(
            ca=self.ca, ca_key=ca_key, public_key=key.public_key(), role=role, name=name, now=NOW,
            validity=VALIDITY,
        )  # fmt: skip
        self.signer = FileSigner(key)
        self.certificate = leaf.public_bytes(Encoding.DER)
        self.ca_der = self.ca.public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def kor() -> Party:
    return Party()


def rows(count: int, word: str = "") -> Iterator[JournalRow]:
    link = JOURNAL_START
    for number in range(1, count + 1):
        entry = canonical.encode({"at": AT, "event": "show", "items": [f"{word}{number:064d}"]})
        salt = number.to_bytes(32, "big")
        link = journal_link(link, salt=salt, entry=entry)
        yield JournalRow(number, entry, salt, link)


def exported(party: Party, count: int, word: str = "", code: str = "KOR") -> list[bytes]:
    made = list(rows(count, word))
    link = made[-1].link if made else JOURNAL_START
    record = JournalHead(code, count, link.hex(), AT)
    head = dsse.sign(JournalHead.type(), record.encode(), [party.signer])
    return [first_line(code), *map(row_line, made), last_line(head, party.certificate)]


def test_a_journal_shows_whose_it_is_its_length_and_its_signed_head(kor: Party) -> None:
    shown = verify_journal(exported(kor, 3), ca=kor.ca_der, mark=2)
    *_, second, third = rows(3)
    assert (shown.party, shown.entries, shown.at, shown.vouched) == ("KOR", 3, AT, True)
    assert (shown.link, shown.marked) == (third.link, second.link)
    assert shown.keyid == kor.signer.keyid


def test_without_a_ca_nobody_vouches_for_the_signer(kor: Party) -> None:
    assert not verify_journal(exported(kor, 1)).vouched


def test_a_journal_without_entries_is_one(kor: Party) -> None:
    shown = verify_journal(exported(kor, 0), ca=kor.ca_der, mark=0)
    assert (shown.entries, shown.link, shown.marked) == (0, JOURNAL_START, JOURNAL_START)


def edited(line: bytes, edit: Callable[[dict[str, Any]], None]) -> bytes:
    value = json.loads(line)
    edit(value)
    return canonical.encode(value) + b"\n"


def drop(number: int) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: lines[:number] + lines[number + 1 :]


def change(number: int, /, **fields: Any) -> Callable[[list[bytes]], list[bytes]]:
    def changed(lines: list[bytes]) -> list[bytes]:
        line = edited(lines[number], lambda value: value.update(fields))
        return [*lines[:number], line, *lines[number + 1 :]]

    return changed


ATTACKS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "nothing at all": lambda lines: [],
    "another format": change(0, format="relto-journal/2"),
    "another party": change(0, party="JPN"),
    "no party": change(0, party="kor"),
    "a word more": change(0, more="x"),
    "no first line": drop(0),
    "the first entry left out": drop(1),
    "an entry left out": drop(2),
    "the last entry left out": drop(3),
    "no head": drop(4),
    "an entry changed": change(2, entry={"event": "read"}),
    "a salt changed": change(2, salt="00" * 32),
    "a short salt": change(2, salt="00"),
    "a salt in capitals": change(2, salt="AB" * 32),
    "a link changed": change(2, link="00" * 32),
    "a number changed": change(2, number=9),
    "a number that is true": change(1, number=True),
    "an entry that says more": change(2, note="x"),
    "two entries swapped": lambda x: [x[0], x[2], x[1], *x[3:]],
    "an entry twice": lambda x: [*x[:2], *x[1:]],
    "something behind the head": lambda x: [*x, x[1]],
    "two heads": lambda x: [*x, x[-1]],
    "spaces": lambda x: [x[0], x[1].replace(b":", b": ", 1), *x[2:]],
    "a line that is cut": lambda x: [*x[:-1], x[-1][:-1]],
    "a line that is no JSON": lambda x: [x[0], b"entry\n", *x[2:]],
    "a line that is a list": lambda x: [x[0], b"[]\n", *x[2:]],
    "no certificate": change(4, certificate=""),
    "a certificate that is none": change(4, certificate="AAAA"),
    "a certificate that is no base64": change(4, certificate="!"),
    "a word beside the head": change(4, more="x"),
    "a head that is none": change(4, head={}),
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("with_ca", [True, False])
def test_nothing_that_was_changed_verifies(kor: Party, name: str, with_ca: bool) -> None:
    lines = ATTACKS[name](exported(kor, 3))
    with pytest.raises(PeerError):
        verify_journal(lines, ca=kor.ca_der if with_ca else None)


def test_a_head_of_another_chain_or_time_is_refused(kor: Party) -> None:
    mine, other = exported(kor, 3), exported(kor, 3, "other")
    with pytest.raises(PeerError, match="not the head of this chain"):
        verify_journal([*mine[:-1], other[-1]], ca=kor.ca_der)
    payload = edited(
        mine[-1], lambda v: v["head"].update(payload=json.loads(other[-1])["head"]["payload"])
    )
    with pytest.raises(PeerError):
        verify_journal([*other[:-1], payload], ca=kor.ca_der)


@pytest.mark.parametrize("signer", [Party("JPN"), Party("KOR"), Party("KOR", "officer")])
def test_a_head_that_the_partys_node_did_not_sign_is_refused(kor: Party, signer: Party) -> None:
    with pytest.raises(PeerError):
        verify_journal(exported(signer, 2), ca=kor.ca_der)


def test_a_long_journal_is_checked_in_little_memory(kor: Party) -> None:
    count = 20_000
    tail = exported(kor, count)[-1]

    def lines() -> Iterator[bytes]:
        yield first_line("KOR")
        yield from map(row_line, rows(count))
        yield tail

    tracemalloc.start()
    try:
        assert verify_journal(lines(), ca=kor.ca_der).entries == count
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


# The command


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(("journal", "verify", *words))
    done = capsys.readouterr()
    return code, done.out, done.err


@pytest.fixture
def files(kor: Party, tmp_path: Path) -> dict[str, str]:
    written = {
        "three": exported(kor, 3),
        "five": exported(kor, 5),
        "other": exported(kor, 5, "other"),
        "japan": exported(kor, 5, code="JPN"),
    }
    for name, lines in written.items():
        (tmp_path / name).write_bytes(b"".join(lines))
    (tmp_path / "ca").write_bytes(kor.ca.public_bytes(Encoding.PEM))
    return {name: str(tmp_path / name) for name in (*written, "ca")}


def test_a_later_export_continues_an_earlier_one(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = (files["five"], "--since", files["three"], "--ca", files["ca"])
    code, out, err = run(capsys, *words)
    assert (code, err) == (0, "")
    assert "5 entries, an unbroken chain" in out
    assert "its 3 entries stand unchanged" in out
    assert "signed at 2026-01-05T00:00:00Z by the node of KOR" in out
    shown = json.loads(run(capsys, *words, "--json")[1])
    assert (shown["entries"], shown["continues"], shown["vouched"]) == (5, 3, True)
    assert "nobody vouches" in run(capsys, files["five"])[1]


@pytest.mark.parametrize(
    ("later", "earlier", "words"),
    [
        ("other", "three", "some were changed"),
        ("three", "five", "had 5: the node wrote another journal"),
        ("japan", "three", "is a journal of KOR, not of JPN"),
        ("three", "ca", "ca: line 1: "),
    ],
)
def test_what_was_written_anew_is_found(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], later: str, earlier: str, words: str
) -> None:
    code, out, err = run(capsys, files[later], "--since", files[earlier])
    assert (code, out) == (1, "")
    assert words in err
    assert err.count("\n") == 1


def test_what_cannot_be_checked_is_said_in_one_line(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ((files["three"] + "x",), (files["three"], "--ca", files["three"])):
        code, out, err = run(capsys, *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
