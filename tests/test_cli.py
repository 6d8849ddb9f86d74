"""Whatever people type: exit 2, one clear line on stderr, nothing on stdout, no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from relto.apps.cli import COMMANDS, make_parser

REPOSITORY = Path(__file__).parents[1]
TISA = str(REPOSITORY / "regimes" / "tisa")
ITEM = "0123456789ab"

# Command line -> what the line on stderr must say. {tmp} is an empty folder.
MISUSES: dict[str, tuple[list[str], str]] = {
    "no command": ([], "the following arguments are required: COMMAND"),
    "unknown command": (["recall"], "invalid choice"),
    "regime without folder": (["regime", "check", "{tmp}/none"], 'no regime folder "'),
    "regime digest of nothing": (["regime", "digest", "{tmp}"], "is no sound regime"),
    "decide without regime": (["decide", "--item", "x"], "--regime"),
    "decide with nothing to decide": (["decide", "--regime", TISA], "missing --item"),
    "decide on a missing file": (
        ["decide", "--regime", TISA, "--batch", "{tmp}/none"],
        "cannot read",
    ),
    "explain in no language of ours": (
        ["explain", "--regime", TISA, "--lang", "fr"],
        "invalid choice: 'fr'",
    ),
    "keys without a passphrase": (
        ["keys", "init", "--party", "KOR", "--out", "{tmp}/k", "--passphrase-file", "{tmp}/p"],
        "cannot read",
    ),
    "keys shown of nothing": (["keys", "show", "{tmp}/none"], "cannot open"),
    "no node named": (["node", "status"], "which node? give --node DIR, or set RELTO_NODE"),
    "no node there": (["node", "status", "--node", "{tmp}"], "no node listens at"),
    "node without configuration": (
        ["node", "serve", "{tmp}", "--passphrase-file", "{tmp}/p"],
        "make a node with relto node init",
    ),
    "node with a bad address": (
        ["node", "init", "{tmp}/n", "--party", "KOR", "--regime", TISA, "--keys", "{tmp}",
         "--listen", "here"],
        'listen = "here" is not an address such as 127.0.0.1:7401',
    ),
    "node with a bad peer": (
        ["node", "init", "{tmp}/n", "--party", "KOR", "--regime", TISA, "--keys", "{tmp}",
         "--listen", "127.0.0.1:7401", "--peer", "USA"],
        '"USA" is not PARTY=HOST:PORT=CA.crt',
    ),
    "node with a bad party": (
        ["node", "init", "{tmp}/n", "--party", "kor", "--regime", TISA, "--keys", "{tmp}",
         "--listen", "127.0.0.1:7401"],
        'party = "kor" is not this node\'s party, such as KOR',
    ),
    "share of a missing file": (
        ["share", "{tmp}/none", "--topic", "t", "--mark", "KOR:II", "--rel-to", "JPN",
         "--node", "{tmp}"],
        "cannot read",
    ),
    "item that is no id": (["item", "show", "../etc", "--node", "{tmp}"], "is no item's id"),
    "item of no node": (["item", "get", ITEM, "--node", "{tmp}"], "no node listens at"),
    "review for no party": (
        ["review", "show", ITEM, "--to", "nobody", "--node", "{tmp}"],
        "is no party's code",
    ),
    "approval without an officer": (
        ["review", "approve", ITEM, "--to", "JPN", "--officer", "{tmp}/kim", "--node", "{tmp}"],
        "cannot read",
    ),
    "hold without an officer": (
        ["hold", "--to", "JPN", "--node", "{tmp}"],
        "the following arguments are required: --officer",
    ),
    "backup of no node": (["backup", "{tmp}/b", "--node", "{tmp}"], "no node listens at"),
    "backup of no node named": (["backup", "{tmp}/b"], "which node? give --node DIR"),
    "restore of nothing": (["restore", "{tmp}/b", "{tmp}"], "make a node with relto node init"),
    "journal of no node": (
        ["journal", "export", "--out", "{tmp}/j", "--node", "{tmp}"],
        "no node listens at",
    ),
    "journal that is not there": (["journal", "verify", "{tmp}/j"], "cannot read"),
    "clock of no node": (["node", "clock", "noon", "--node", "{tmp}"], "no node listens at"),
    "inbox of no node": (["inbox", "--node", "{tmp}"], "no node listens at"),
    "offer of no node": (["offer", ITEM, "--to", "JPN", "--node", "{tmp}"], "no node listens at"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISUSES)
def test_a_misuse_is_one_clear_line(name: str, tmp_path: Path) -> None:
    words, expected = MISUSES[name]
    done = subprocess.run(
        [sys.executable, "-m", "relto", *(w.replace("{tmp}", str(tmp_path)) for w in words)],
        env={k: v for k, v in os.environ.items() if k != "RELTO_NODE"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.rstrip("\n").split("\n")
    assert expected in lines[-1], done.stderr
    assert len(lines) == 1 or lines[0].startswith("usage: relto"), done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == []  # nothing is half done


def test_every_command_is_known_to_the_parser_that_loads_it_alone() -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit) as end:
            make_parser(command).parse_args([command, "--help"])
        assert end.value.code == 0
