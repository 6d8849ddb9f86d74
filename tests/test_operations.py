"""The commands of docs/operations.md that set a node up do set one up."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from relto.apps import clock
from relto.apps.cli import main
from relto.apps.demo.coalition import with_cas
from relto.keys import Passphrase, ScryptCost, create_key_folder, fingerprint, open_key_folder

ROOT = Path(__file__).parent.parent
CHEAP = ScryptCost(n=2, r=1, p=1)


def test_the_commands_of_the_installation_work_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "passphrase").write_text("correct horse\n")
    (tmp_path / "passphrase").chmod(0o600)
    for party in ("USA", "JPN"):
        made = create_key_folder(
            tmp_path / party, party=party, passphrase=Passphrase("x"), now=clock.now(), cost=CHEAP
        )
        shutil.copy(made.certificate_path("ca"), tmp_path / f"{party.lower()}.crt")
    shutil.copytree(ROOT / "regimes" / "tisa", tmp_path / "regime")
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    block = re.split(r"^```sh$", page, maxsplit=1, flags=re.MULTILINE)[1].split("```", 1)[0]
    commands = [shlex.split(line) for line in block.splitlines() if line.startswith("relto ")]
    assert [command[1] for command in commands] == [
        *("keys", "keys", "regime", "regime", "node", "doctor"),
    ]
    for command in commands:
        command = [word.replace("192.0.2.", "127.0.0.") for word in command]  # nobody listens
        if command[1] == "regime":
            fill(tmp_path)
        code = main(command[1:])
        out, err = capsys.readouterr()
        if command[1] == "doctor":
            found = {line.partition(":")[0] for line in out.splitlines()}
            assert code == 1
            assert {"node", "links", "permissions"} <= found
            assert found <= {"node", "links", "permissions", "not checked"}  # the CA's key is here
        else:
            assert code == 0, err


def fill(folder: Path) -> None:
    """What people do after they have compared the fingerprints."""
    places = {"KOR": "keys", "USA": "USA", "JPN": "JPN"}
    cas = {p: fingerprint(open_key_folder(folder / f).certificate("ca")) for p, f in places.items()}
    for file in (folder / "regime" / "agreements").glob("*.toml"):
        text = file.read_text()
        if "\nca = " not in f"\n{text}":
            named = {p: value for p, value in cas.items() if f'"{p}"' in text}
            file.write_text(with_cas(text, named))
