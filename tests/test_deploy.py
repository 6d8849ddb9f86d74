"""The unit and the container file name what exists, and keep the node to itself."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from relto.apps.cli import make_parser

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "deploy" / "relto.service"
CONTAINER = ROOT / "deploy" / "Containerfile"
NEEDS_SYSTEMD = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze: the unit is not verified"
)


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def instructions() -> list[tuple[str, str]]:
    """Of the container file: each instruction and its argument, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", CONTAINER.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def test_the_unit_starts_a_command_that_exists() -> None:
    [start] = settings()["ExecStart"]
    words = shlex.split(start)
    assert words[0] == "/opt/relto/bin/relto"
    args = make_parser().parse_args(words[1:])
    assert (args.dir, args.passphrase_file) == ("/var/lib/relto/node", "%d/passphrase")
    [credential] = settings()["LoadCredential"]
    assert credential.partition(":")[0] == "passphrase"
    assert settings()["StateDirectory"] == ["relto"]  # which is /var/lib/relto


def test_the_unit_restarts_what_a_restart_can_help() -> None:
    found = settings()
    assert found["Restart"] == ["always"]
    assert found["RestartPreventExitStatus"] == ["2"]  # refused to start: docs/operations.md
    assert {"StartLimitIntervalSec", "StartLimitBurst", "RestartSec"} <= found.keys()


def test_the_unit_lets_the_node_see_who_uses_its_socket() -> None:
    """Another user namespace would make a stranger of everybody named under [people]."""
    assert "PrivateUsers" not in settings()
    assert settings()["RuntimeDirectoryMode"] == ["0755"]


@NEEDS_SYSTEMD
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """With the program of this environment, and a user that this machine has."""
    text = UNIT.read_text().replace(
        "/opt/relto/bin/relto", str(Path(sys.executable).parent / "relto")
    )
    text = re.sub(r"^(User|Group)=relto$", r"\1=daemon", text, flags=re.MULTILINE)
    unit = tmp_path / "relto.service"
    unit.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True
    )
    said = [line for line in done.stderr.splitlines() if "relto" in line]
    assert (done.returncode, said) == (0, []), done.stderr
    unit.write_text(text.replace("Restart=always", "Restart=sometimes"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True
    )
    assert "sometimes" in done.stderr  # it does look


@NEEDS_SYSTEMD
def test_systemd_finds_the_unit_well_locked_in() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(UNIT)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


def test_the_container_starts_commands_that_exist() -> None:
    found = dict(instructions())
    entry = json.loads(found["ENTRYPOINT"])
    assert entry == ["python", "-m", "relto"]
    args = make_parser().parse_args(json.loads(found["CMD"]))
    assert args.dir == "/var/lib/relto/node"
    health = json.loads(found["HEALTHCHECK"].partition("CMD ")[2])
    assert health[: len(entry)] == entry
    assert make_parser().parse_args(health[len(entry) :]).node == "/var/lib/relto/node"


def test_the_container_has_locked_packages_our_code_and_nothing_else() -> None:
    copied = [value.split()[0] for name, value in instructions() if name in ("COPY", "ADD")]
    assert copied == ["requirements/run.txt", "src/relto"]
    assert all((ROOT / source).exists() for source in copied)
    installs = [v for n, v in instructions() if n == "RUN" and "pip install" in v]
    assert len(installs) == 1
    assert "--require-hashes" in installs[0]
    assert "--only-binary :all:" in installs[0]
    named = re.findall(r"(?i)(?:ARG|ENV) \S*(?:pass|secret|key)", CONTAINER.read_text())
    assert named == []


def test_the_container_does_not_run_as_root() -> None:
    order = [name for name, _ in instructions()]
    assert dict(instructions())["USER"] == "10001"
    assert order.index("USER") > max(i for i, name in enumerate(order) if name in ("RUN", "COPY"))


def test_the_lock_file_of_the_container_is_that_of_the_tests() -> None:
    """Every package of run.txt, at the version and with the hashes of dev.txt."""

    def packages(name: str) -> dict[str, str]:
        text = (ROOT / "requirements" / name).read_text()
        blocks = re.findall(r"^(\S+==\S+)[^\n]*\n((?:    --hash=\S+[^\n]*\n)+)", text, re.MULTILINE)
        return {package: re.sub(r"[\s\\]+", " ", hashes) for package, hashes in blocks}

    run, dev = packages("run.txt"), packages("dev.txt")
    assert {p.partition("==")[0] for p in run} == {
        *("apsw", "cffi", "cryptography", "h11", "prometheus-client", "pycparser", "rfc8785"),
    }
    assert run.items() <= dev.items()
