"""`relto keys init` and `show`, as a person meets them."""

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from relto.apps import clock
from relto.apps.cli import main
from relto.keys import (
    KeyFolder,
    Passphrase,
    ScryptCost,
    create_key_folder,
    fingerprint,
    identity_of,
    spoken,
    verify_leaf,
)

CANARY = "canary-51c0ffee"
CHEAP = ScryptCost(n=2, r=1, p=1)


@pytest.fixture
def passphrase_file(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_text(CANARY + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> KeyFolder:
    path = tmp_path_factory.mktemp("made") / "KOR"
    return make(path, now=clock.now(), officers=["kim", "lee"])


def make(path: Path, *, now: datetime, **more: Any) -> KeyFolder:
    return create_key_folder(
        path, party="KOR", passphrase=Passphrase(CANARY), now=now, cost=CHEAP, **more
    )


def refused(capsys: pytest.CaptureFixture[str], argv: Sequence[object]) -> str:
    """The one line on stderr of a command that ends with 2."""
    assert main([str(a) for a in argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert CANARY not in err
    return err


# --- init ----------------------------------------------------------------------------------------


def test_init_makes_a_folder_and_says_what_to_confirm_by_voice(
    tmp_path: Path, passphrase_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "KOR"
    officers = ["--officer", "kim", "lee", "--officer", "choi"]
    argv = ["keys", "init", "--party", "KOR", "--out", out, *officers]
    assert main([str(a) for a in [*argv, "--passphrase-file", passphrase_file]]) == 0
    folder = KeyFolder(out)
    assert folder.officers == ("choi", "kim", "lee")
    ca = folder.certificate("ca")
    text, err = capsys.readouterr()
    assert err == ""
    assert text.startswith(
        f"made {out}: KOR ca, KOR node, KOR tls, KOR signing, "
        "KOR officer choi, KOR officer kim, KOR officer lee\n"
    )
    assert fingerprint(ca) in text
    assert spoken(fingerprint(ca)) in " ".join(text.split())
    assert f"{out}/ca.key: keep it offline" in text
    assert CANARY not in text
    node = folder.certificate("node").public_bytes(Encoding.DER)
    issuer = ca.public_bytes(Encoding.DER)
    verify_leaf(node, ca=issuer, party="KOR", role="node", at=clock.now())
    load_pem_private_key((out / "node.key").read_bytes(), CANARY.encode())
    capsys.readouterr()

    argv = ["keys", "init", "--party", "KOR", "--out", out, "--passphrase-file", passphrase_file]
    assert "exists already, and is never overwritten" in refused(capsys, argv)


def test_init_makes_exercise_certificates_from_first_to_last_day(
    tmp_path: Path, passphrase_file: Path
) -> None:
    argv: list[object] = ["keys", "init", "--party", "JPN", "--out", tmp_path / "JPN", "--exercise"]
    argv += ["--valid-from", "2014-01-01", "--valid-to", "2099-12-31"]
    assert main([str(a) for a in [*argv, "--passphrase-file", passphrase_file]]) == 0
    for role in ("ca", "node", "tls", "signing"):
        certificate = KeyFolder(tmp_path / "JPN").certificate(role)
        assert identity_of(certificate).exercise
        assert certificate.not_valid_before_utc == datetime(2014, 1, 1, tzinfo=UTC)
        assert certificate.not_valid_after_utc == datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--party", "kor"], 'party "kor": want 1 to 16 capital letters, digits and _, like KOR'),
        (["--party", "KOR\n"], r'party "KOR\x0a"'),
        (["--officer", "Kim"], 'officer "Kim": want at most 32 small letters and digits'),
        (["--officer", "kim", "../x"], 'officer "../x": want'),
        (["--valid-from", "2014-01-01"], "--valid-from and --valid-to go together"),
        (["--valid-to", "2099-01-01", "--exercise"], "--valid-from and --valid-to go together"),
        (["--valid-from", "2014-01-01", "--valid-to", "2099-01-01"], "and with --exercise"),
        (
            ["--exercise", "--valid-from", "2014-13-01", "--valid-to", "2099-01-01"],
            '--valid-from "2014-13-01": want a date like 2014-01-01',
        ),
        (
            ["--exercise", "--valid-from", "2014-01-01", "--valid-to", "soon"],
            '--valid-to "soon": want a date like 2014-01-01',
        ),
        (
            ["--exercise", "--valid-from", "2014-01-01", "--valid-to", "2015-01-01"],
            "2014-01-01 to 2015-01-01 does not cover the present",
        ),
        (
            ["--exercise", "--valid-from", "2099-01-01", "--valid-to", "2014-01-01"],
            "does not cover the present",
        ),
        (["--passphrase-file", "/nowhere/passphrase"], "cannot read '/nowhere/passphrase'"),
        (["--out", "/nowhere/KOR"], "no folder '/nowhere'; mkdir -p it first"),
    ],
)
def test_init_refuses_in_one_line_and_makes_nothing(
    options: list[str],
    why: str,
    tmp_path: Path,
    passphrase_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["keys", "init", "--party", "KOR", "--out", tmp_path / "KOR"]
    assert why in refused(capsys, [*argv, "--passphrase-file", passphrase_file, *options])
    assert list(tmp_path.iterdir()) == [passphrase_file]


def test_init_refuses_a_passphrase_that_others_can_read(
    tmp_path: Path, passphrase_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passphrase_file.chmod(0o644)
    argv = ["keys", "init", "--party", "KOR", "--out", tmp_path / "KOR"]
    line = refused(capsys, [*argv, "--passphrase-file", passphrase_file])
    assert f"chmod 600 '{passphrase_file}'" in line


@pytest.mark.parametrize("argument", [["--passphrase", CANARY], [f"--passphrase={CANARY}"]])
def test_a_passphrase_as_an_argument_is_refused_and_not_repeated(
    argument: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["keys", "init", "--party", "KOR", "--out", tmp_path / "KOR", *argument]
    assert "a passphrase on the command line is seen by others" in refused(capsys, argv)
    assert list(tmp_path.iterdir()) == []


def test_init_without_file_or_terminal_says_so(tmp_path: Path) -> None:
    code = "import sys; from relto.apps.cli import main; sys.exit(main(sys.argv[1:]))"
    argv = ["keys", "init", "--party", "KOR", "--out", str(tmp_path / "KOR")]
    done = subprocess.run(
        [sys.executable, "-c", code, *argv],
        input=CANARY + "\n" + CANARY + "\n",
        capture_output=True,
        text=True,
        timeout=30,
        start_new_session=True,  # with no terminal to ask
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("relto: no terminal to ask for a passphrase; use --passphrase-file\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["init"],
        ["init", "--party", "KOR"],
        ["init", "--out", "KOR"],
        ["init", "--party", "KOR", "--out", "KOR", "--pass", "x"],
        ["show"],
        ["destroy"],
    ],
)
def test_a_command_that_is_no_command_ends_with_2(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["keys", *argv])
    assert ended.value.code == 2


# --- show ----------------------------------------------------------------------------------------


def shown(capsys: pytest.CaptureFixture[str], path: Path) -> list[dict[str, Any]]:
    assert main(["keys", "show", str(path), "--json"]) == 0
    document: dict[str, list[dict[str, Any]]] = json.loads(capsys.readouterr().out)
    assert list(document) == ["certificates"]
    return document["certificates"]


def test_show_as_json_says_everything_without_a_passphrase(
    made: KeyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = shown(capsys, made.path)
    who = [(row["party"], row["role"], row.get("name"), row["algorithm"]) for row in rows]
    assert who == [
        ("KOR", "ca", None, "P-256"),
        ("KOR", "node", None, "Ed25519"),
        ("KOR", "tls", None, "P-256"),
        ("KOR", "signing", None, "P-256"),
        ("KOR", "officer", "kim", "P-256"),
        ("KOR", "officer", "lee", "P-256"),
    ]
    node = made.certificate("node")
    assert rows[1] == {
        "party": "KOR",
        "role": "node",
        "exercise": False,
        "algorithm": "Ed25519",
        "keyid": made.signer("node", Passphrase(CANARY)).keyid,
        "not_before": node.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "not_after": node.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "fingerprint": fingerprint(node),
        "spoken": spoken(fingerprint(node)),
    }


def test_show_is_readable_and_groups_fingerprints_for_reading_out(
    made: KeyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "show", str(made.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = lines.index(next(line for line in lines if line.startswith("KOR officer kim: P-256")))
    kim = made.certificate("officer", "kim")
    assert lines[first + 1].startswith(f"    valid {kim.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}")
    groups = [line.split() for line in lines[first + 2 : first + 6]]
    assert [len(g) for g in groups] == [4, 4, 4, 4]
    assert " ".join(word for g in groups for word in g) == spoken(fingerprint(kim))
    assert not any("problem" in line for line in lines)


def test_show_names_what_has_expired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path / "KOR", now=clock.now() - timedelta(days=91))
    problems = {row["role"]: row.get("problem", "") for row in shown(capsys, folder.path)}
    assert 'certificate "KOR node": expired at ' in problems["node"]
    assert 'certificate "KOR tls": expired at ' in problems["tls"]
    assert (problems["ca"], problems["signing"]) == ("", "")
    assert main(["keys", "show", str(folder.path)]) == 0
    assert '    problem: certificate "KOR node": expired at ' in capsys.readouterr().out


def test_show_names_a_leaf_that_the_ca_did_not_sign(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, other = (make(tmp_path / name, now=clock.now()) for name in ("KOR", "other"))
    folder.certificate_path("tls").write_bytes(other.certificate_path("tls").read_bytes())
    problems = [row["role"] for row in shown(capsys, folder.path) if "problem" in row]
    assert problems == ["tls"]


def test_show_says_exercise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path / "KOR", now=clock.now(), exercise=True)
    assert all(row["exercise"] for row in shown(capsys, folder.path))
    assert main(["keys", "show", str(folder.path)]) == 0
    assert "EXERCISE KOR node: Ed25519" in capsys.readouterr().out


def test_show_shows_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path / "KOR", now=clock.now())
    for role in ("node", "signing"):
        folder.certificate_path(role).unlink()
    for path in folder.path.glob("*.key"):
        path.unlink()
    assert [row["role"] for row in shown(capsys, folder.path)] == ["ca", "tls"]


@pytest.mark.parametrize("what", ["missing", "a file", "empty", "no certificate", "bad name"])
def test_show_refuses_what_is_no_key_folder(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "KOR"
    if what == "a file":
        path.touch()
    elif what == "empty":
        path.mkdir()
    elif what == "no certificate":
        path.mkdir()
        (path / "ca.crt").write_text("hello")
    elif what == "bad name":
        folder = make(path, now=clock.now(), officers=["kim"])
        folder.certificate_path("officer", "kim").rename(path / "officers" / "Kim.crt")
    line = refused(capsys, ["keys", "show", path])
    assert {
        "missing": "cannot open",
        "a file": "is not a folder; make one with relto keys init",
        "empty": "ca.crt': No such file or directory",
        "no certificate": "ca.crt' is not a certificate in PEM",
        "bad name": 'officer "Kim": want',
    }[what] in line


# --- the clock -----------------------------------------------------------------------------------


def test_now_is_an_aware_instant_in_utc() -> None:
    assert clock.now().utcoffset() == timedelta(0)
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(minutes=1)


# --- issue ---------------------------------------------------------------------------------------


def issued(out: Path, ca: KeyFolder, file: Path, *whose: str) -> int:
    argv = ["keys", "issue", "--ca", ca.path, "--out", out, "--passphrase-file", file, *whose]
    return main([str(a) for a in argv])


@pytest.mark.parametrize("role", ["node", "tls", "signing"])
def test_a_new_key_takes_the_place_of_one_that_ends(
    role: str, made: KeyFolder, tmp_path: Path, passphrase_file: Path
) -> None:
    assert issued(tmp_path / "new", made, passphrase_file, "--role", role) == 0
    new = KeyFolder(tmp_path / "new")
    assert sorted(p.name for p in new.path.iterdir()) == sorted(
        ["ca.crt", f"{role}.crt", f"{role}.key", "officers"]
    )
    ca, leaf = (
        c.public_bytes(Encoding.DER) for c in (made.certificate("ca"), new.certificate(role))
    )
    verify_leaf(leaf, ca=ca, party="KOR", role=role, at=clock.now())
    assert new.signer(role, Passphrase(CANARY)).keyid != made.signer(role, Passphrase(CANARY)).keyid
    assert new.key_path(role).stat().st_mode & 0o777 == 0o600


def test_an_officer_gets_a_new_key_too(
    made: KeyFolder, tmp_path: Path, passphrase_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert issued(tmp_path / "new", made, passphrase_file, "--officer", "choi") == 0
    assert KeyFolder(tmp_path / "new").officers == ("choi",)
    assert "KOR officer choi, valid to 20" in capsys.readouterr().out


def test_a_key_is_not_issued_over_another_nor_without_the_ca_key(
    made: KeyFolder, tmp_path: Path, passphrase_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    assert issued(tmp_path / "there", made, passphrase_file, "--role", "tls") == 2
    assert "is never overwritten" in capsys.readouterr().err
    assert issued(tmp_path / "no" / "parent", made, passphrase_file, "--role", "tls") == 2
    assert "mkdir -p it first" in capsys.readouterr().err
    without = KeyFolder(tmp_path / "without")
    without.path.mkdir(mode=0o700)
    pem = made.certificate("ca").public_bytes(Encoding.PEM)
    without.certificate_path("ca").write_bytes(pem)
    assert issued(tmp_path / "new", without, passphrase_file, "--role", "tls") == 2
    assert "cannot read" in capsys.readouterr().err
    other = make(tmp_path / "other", now=clock.now())
    other.certificate_path("ca").write_bytes(pem)
    assert issued(tmp_path / "new", other, passphrase_file, "--role", "tls") == 2
    assert "is not the key of the CA beside it" in capsys.readouterr().err
    wrong = tmp_path / "wrong"
    wrong.write_text("another\n")
    wrong.chmod(0o600)
    assert issued(tmp_path / "new", made, wrong, "--role", "tls") == 2
    assert "wrong passphrase" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
