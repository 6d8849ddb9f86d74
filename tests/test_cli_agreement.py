"""`relto agreement`, as three parties meet it: each with its own folder, keys and copy."""

from __future__ import annotations

import io
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from regime_texts import PACT, files
from relto.apps.cli import main
from relto.keys import Passphrase, ScryptCost, create_key_folder, fingerprint

CANARY = "canary-77aa01"
CHEAP = ScryptCost(n=2, r=1, p=1)
NAMES = ("JPN", "KOR", "USA")
Out = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with each party's keys, for an exercise, and the passphrase to them all."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "passphrase").write_text(CANARY + "\n")
    (folder / "passphrase").chmod(0o600)
    now = datetime.now(UTC).replace(microsecond=0)
    validity = (datetime(2014, 1, 1, tzinfo=UTC), now.replace(year=now.year + 1, day=1))
    for name in NAMES:
        create_key_folder(
            folder / name, party=name, passphrase=Passphrase(CANARY), now=now, cost=CHEAP,
            exercise=True, validity=validity,
        )  # fmt: skip
    return folder


class Desk:
    """Where a person types: a regime folder, a file and the keys of all three parties."""

    def __init__(self, folder: Path, keys: Path, life: str) -> None:
        self.folder, self.keys = folder, keys
        self.regime = folder / "regime"
        stated = ", ".join(f'{n} = "{self._fingerprint(n)}"' for n in NAMES)
        more = f"ca = {{ {stated} }}\n[life]\n{life}\n\n[[clause]]"
        for name, data in files((PACT, "\n[[clause]]", more)).items():
            path = self.regime / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.file = folder / "pact.json"

    def _fingerprint(self, name: str) -> str:
        from relto.keys import open_key_folder

        return fingerprint(open_key_folder(self.keys / name).certificate("ca"))

    def run(self, command: str, *more: object, file: Path | None = None) -> int:
        words = command.split()
        argv = [*words, file or self.file, *more, "--regime", self.regime]
        return main(["agreement", *(str(a) for a in argv)])

    def by(self, party: str, command: str, at: str, *more: object, file: Path | None = None) -> int:
        keys = ("--keys", self.keys / party, "--passphrase-file", self.keys / "passphrase")
        return self.run(command, *more, *keys, "--at", at, file=file)

    def draft(self) -> None:
        assert main(["agreement", "draft", str(self.regime), "pact", "--out", str(self.file)]) == 0

    def opened(self) -> Desk:
        self.draft()
        assert self.by("USA", "move opened", "2014-12-22T00:00:00Z") == 0
        assert self.by("USA", "deposit", "2014-12-22T00:00:00Z") == 0
        return self

    def digest(self, out: Out) -> str:
        out.readouterr()
        assert self.run("status", "--json") == 0
        return str(json.loads(out.readouterr().out)["digest"])

    def status(self, out: Out, *more: str) -> dict[str, Any]:
        out.readouterr()
        assert self.run("status", "--json", *more) == 0
        found: dict[str, Any] = json.loads(out.readouterr().out)
        return found

    def copy(self, name: str) -> Path:
        path = self.folder / f"{name}.json"
        shutil.copy(self.file, path)
        return path


@pytest.fixture
def desk(tmp_path: Path, keys: Path) -> Desk:
    return Desk(tmp_path, keys, 'begins = "copies"')


def said(out: Out) -> str:
    """The one line on stderr of a command that was refused."""
    err = out.readouterr().err.splitlines()
    assert err[-1].startswith("relto: ")
    return err[-1]


def test_three_parties_sign_three_copies_and_the_depositary_makes_one(
    desk: Desk, capsys: Out
) -> None:
    digest = desk.opened().digest(capsys)
    copies = {name: desk.copy(name) for name in NAMES}
    for day, name in ((23, "USA"), (26, "KOR"), (26, "JPN")):
        at = f"2014-12-{day}T02:00:00Z"
        assert desk.by(name, "sign", at, "--digest", digest, file=copies[name]) == 0
    others = (copies["USA"], copies["KOR"], copies["JPN"])
    assert desk.by("USA", "deposit", "2014-12-28T15:00:00Z", *others) == 0
    status = desk.status(capsys)
    assert status["state"] == "in-force"
    assert status["begins"] == "2014-12-28T15:00:00Z"
    assert status["missing"] == []
    # A party that has its own copy alone takes the rest from the depositary's.
    assert desk.run("merge", desk.file, file=copies["KOR"]) == 0
    assert copies["KOR"].read_bytes() != copies["JPN"].read_bytes()
    capsys.readouterr()
    assert desk.run("verify", file=copies["KOR"]) == 0
    assert capsys.readouterr().out.count(": signed 2014-12-") == 3


def test_a_signer_sees_clauses_effects_proofs_and_digest_before_anything_is_signed(
    desk: Desk, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = desk.opened().digest(capsys)
    before = desk.file.read_bytes()
    monkeypatch.setattr("sys.stdin", io.StringIO("00000000\n"))
    at = "2014-12-23T00:00:00Z"
    assert desk.by("KOR", "sign", at, "--lang", "ko") == 2
    shown = capsys.readouterr().err
    for words in ("약정", "  4  허브를 통하여.", "now possible: ", f"digest: {digest}"):
        assert words in shown
    assert shown.index("허브") < shown.index("now possible") < shown.index(digest)
    assert "nothing was signed" in shown
    assert desk.file.read_bytes() == before
    monkeypatch.setattr("sys.stdin", io.StringIO(digest[:8].upper() + "\n"))
    assert desk.by("KOR", "sign", at) == 0
    assert desk.file.read_bytes() != before


def test_seven_digits_are_too_few(desk: Desk, capsys: Out) -> None:
    digest = desk.opened().digest(capsys)
    assert desk.by("KOR", "sign", "2014-12-23T00:00:00Z", "--digest", digest[:7]) == 2
    assert "nothing was signed" in said(capsys)
    assert desk.by("KOR", "sign", "2014-12-23T00:00:00Z", "--digest", digest[:8]) == 0


def test_since_shows_what_changed_since_the_version_seen_before(desk: Desk, capsys: Out) -> None:
    desk.opened()
    earlier = desk.copy("earlier")
    pact = desk.regime / PACT
    pact.write_text(pact.read_text().replace('kinds = ["report"]', 'kinds = ["warning"]'))
    desk.file.unlink()
    digest = desk.opened().digest(capsys)
    more = ("--digest", digest, "--since", earlier)
    assert desk.by("KOR", "sign", "2014-12-23T00:00:00Z", *more) == 0
    shown = capsys.readouterr().err
    assert "since the file seen last:" in shown
    assert "pact/4 share:" in shown
    assert "kinds report" in shown
    assert "kinds warning" in shown


def test_a_tampered_copy_is_refused_and_changes_nothing(desk: Desk, capsys: Out) -> None:
    desk.opened()
    wrong = desk.copy("wrong")
    wrong.write_bytes(wrong.read_bytes().replace(b"Through the hub.", b"Without a hub.  "))
    assert desk.run("verify", file=wrong) == 1
    assert "opened of USA is about other terms than these" in said(capsys)
    before = desk.file.read_bytes()
    assert desk.by("USA", "deposit", "2014-12-23T00:00:00Z", wrong) == 2
    assert "different terms" in said(capsys)
    assert desk.file.read_bytes() == before


def test_a_pact_is_called_off_in_the_last_hour_and_nobody_signs_it_any_more(
    desk: Desk, capsys: Out
) -> None:
    digest = desk.opened().digest(capsys)
    assert desk.by("JPN", "sign", "2014-12-26T06:00:00Z", "--digest", digest) == 0
    assert desk.by("KOR", "move withdrawn", "2014-12-26T06:10:00Z") == 0
    assert desk.by("USA", "deposit", "2014-12-26T06:20:00Z") == 0
    assert desk.status(capsys)["state"] == "withdrawn"
    assert desk.by("USA", "sign", "2014-12-26T07:00:00Z", "--digest", digest) == 2
    assert "USA cannot sign now: the agreement is withdrawn" in said(capsys)


def test_the_depositary_says_what_it_did_not_deposit_and_why(desk: Desk, capsys: Out) -> None:
    digest = desk.opened().digest(capsys)
    signed, called_off = desk.copy("signed"), desk.copy("called-off")
    for party in ("USA", "JPN"):
        assert desk.by(party, "sign", "2014-12-23T00:00:00Z", "--digest", digest, file=signed) == 0
    assert desk.by("KOR", "move withdrawn", "2014-12-23T00:00:00Z", file=called_off) == 0
    assert desk.by("USA", "deposit", "2014-12-24T00:00:00Z", called_off, signed) == 1
    done = capsys.readouterr()
    assert "deposited: withdrawn of KOR" in done.out
    assert "not deposited: signed of USA: signed of USA is out of place" in done.err


def test_a_party_moves_only_what_is_its_own_to_move(desk: Desk, capsys: Out) -> None:
    desk.draft()
    assert desk.by("KOR", "move opened", "2014-12-22T00:00:00Z") == 2
    assert "by the depositary" in said(capsys)
    assert desk.by("KOR", "deposit", "2014-12-22T00:00:00Z") == 2
    assert "KOR is not the depositary; USA is" in said(capsys)
    assert desk.by("USA", "move suspended", "2014-12-22T00:00:00Z") == 2
    assert "while it is in-force" in said(capsys)


def test_a_notice_is_given_suspended_and_withdrawn_and_status_says_so(
    tmp_path: Path, keys: Path, capsys: Out
) -> None:
    life = 'begins = "signature"\nnotice_days = 90\nterm_months = 12\nrenews = true'
    desk = Desk(tmp_path, keys, life)
    digest = desk.opened().digest(capsys)
    for name in NAMES:
        assert desk.by(name, "sign", "2016-11-23T01:00:00Z", "--digest", digest) == 0
    assert desk.by("USA", "deposit", "2016-11-23T01:00:00Z") == 0
    move, at = "move termination-notified", "2019-08-23T06:00:00Z"
    assert desk.by("KOR", move, at) == 2
    assert "--effective INSTANT stands beside termination-notified" in said(capsys)
    assert desk.by("KOR", move, at, "--effective", "2019-11-22T15:00:00Z") == 0
    assert desk.by("USA", "deposit", at) == 0
    assert desk.status(capsys, "--at", "2019-11-22T15:00:00Z")["state"] == "ended"
    assert desk.by("KOR", "move termination-suspended", "2019-11-22T09:00:00Z") == 0
    assert desk.by("USA", "deposit", "2019-11-22T09:00:00Z") == 0
    status = desk.status(capsys, "--at", "2020-01-01T00:00:00Z")
    assert (status["state"], status["ends"]) == ("in-force", "")
    assert status["notices"] == {"KOR": {"effective": "2019-11-22T15:00:00Z", "suspended": True}}
    assert "notice-withdrawn" in status["may"]["KOR"]
    assert "notice-withdrawn" not in status["may"]["JPN"]


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ("state: open for signature", "KOR: has not signed", "waits for the depositary")),
        ("ko", ("상태: 서명을 위하여 개방", "KOR: 미서명", "기탁처 접수 대기: 서명 (JPN")),
        ("ja", ("状態: 署名のため開放", "KOR: 未署名", "寄託者の受理待ち: 署名 (JPN")),
    ],
)
def test_status_speaks_three_languages(
    desk: Desk, capsys: Out, language: str, words: tuple[str, ...]
) -> None:
    digest = desk.opened().digest(capsys)
    assert desk.by("JPN", "sign", "2014-12-26T06:00:00Z", "--digest", digest) == 0
    capsys.readouterr()
    assert desk.run("status", "--lang", language) == 0
    shown = capsys.readouterr().out
    for word in words:
        assert word in shown


def test_a_timeline_is_told_and_drawn_and_a_picture_is_never_written_over(
    desk: Desk, capsys: Out
) -> None:
    digest = desk.opened().digest(capsys)
    assert desk.by("KOR", "sign", "2014-12-26T02:00:00Z", "--digest", digest) == 0
    assert desk.by("USA", "deposit", "2014-12-27T00:00:00Z") == 0
    capsys.readouterr()
    drawn = desk.folder / "pact.svg"
    assert desk.run("timeline", "--lang", "ko", "--picture", drawn) == 0
    assert capsys.readouterr().out == (
        "2014-12-22T00:00:00Z  USA: 서명 개방  [서명을 위하여 개방]\n"
        "2014-12-27T00:00:00Z  KOR: 서명 (작성일시 2014-12-26T02:00:00Z)  [서명을 위하여 개방]\n"
    )
    assert drawn.read_text().startswith("<svg ")
    assert desk.run("timeline", "--picture", drawn) == 2
    assert "exists already" in said(capsys)


def test_diff_says_what_differs_between_two_drafts_and_what_that_does(
    desk: Desk, capsys: Out
) -> None:
    desk.draft()
    earlier = desk.copy("earlier")
    pact = desk.regime / PACT
    pact.write_text(pact.read_text().replace('topics = ["missile"]', 'topics = ["cyber"]'))
    desk.file.unlink()
    desk.draft()
    capsys.readouterr()
    assert desk.run("diff", desk.file, file=earlier) == 0
    told = capsys.readouterr().out
    assert "pact/4 share:" in told
    assert "now possible: KOR → USA → JPN by pact/4; such as KOR's report, KOR:II, cyber" in told
    assert "no longer possible: KOR → USA → JPN by pact/4; such as" in told


def test_time_is_given_in_exercises_alone(tmp_path: Path, desk: Desk, capsys: Out) -> None:
    desk.draft()
    real = create_key_folder(
        tmp_path / "real", party="USA", passphrase=Passphrase(CANARY),
        now=datetime.now(UTC), cost=CHEAP,
    )  # fmt: skip
    argv = ["--keys", real.path, "--passphrase-file", desk.keys / "passphrase"]
    assert desk.run("move opened", *argv, "--at", "2014-12-22T00:00:00Z") == 2
    assert "--at is for exercises" in said(capsys)


def test_a_draft_is_never_written_over_and_needs_fingerprints(desk: Desk, capsys: Out) -> None:
    desk.draft()
    assert main(["agreement", "draft", str(desk.regime), "pact", "--out", str(desk.file)]) == 2
    assert "exists already" in said(capsys)
    other = str(desk.folder / "other.json")
    assert main(["agreement", "draft", str(desk.regime), "ko-us", "--out", other]) == 2
    assert "states no fingerprints" in said(capsys)
    assert main(["agreement", "draft", str(desk.regime), "act", "--out", other]) == 2
    assert 'no draft of "act" in this regime; there are au-us' in said(capsys)


def test_a_file_that_is_none_gets_one_line(desk: Desk, capsys: Out) -> None:
    desk.file.write_bytes(b'{"format":"relto-instrument/1"}')
    assert desk.run("status") == 2
    assert "is no file of an agreement" in said(capsys)
    assert desk.run("status", file=desk.folder / "absent") == 2
    assert "cannot read" in said(capsys)
