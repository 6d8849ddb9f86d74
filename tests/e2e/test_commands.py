"""Every command, asked well and asked badly."""

import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.conftest import CARRIED
from e2e.nodes import Nodes, until

TIMEOUT_S = 60


def test_every_command_that_takes_json_gives_one_json_object(
    carried: Nodes, tmp_path: Path
) -> None:
    item = carried.shared("KOR", b"as json", to="JPN", topic="reviewed", title="제목 題名")
    other = carried.shared("KOR", b"as json too", to="JPN", topic="blind")
    officer = ("--officer", str(carried.officer("KOR", "kim")),
               "--passphrase-file", str(carried.passphrase_file))  # fmt: skip
    question = {
        "id": "q", "at": "2015-01-05T00:00:00Z", "holder": "KOR", "to": "JPN",
        "item": {"id": "i", "originator": "KOR", "mark": "KOR:III", "releasable_to": ["JPN", "USA"],
                 "kind": "report", "topics": ["blind"], "about": ["PRK"]},
    }  # fmt: skip
    file = carried.file("question.json", json.dumps(question).encode())
    regime = str(carried.regime)
    alone = [
        ("regime", "check", regime),
        ("decide", "--regime", regime, "--question", str(file)),
        ("keys", "show", str(carried.keys("KOR"))),
    ]
    at_the_node = [
        ("node", "status"),
        ("inbox",),
        ("inbox", "--all"),
        ("item", "show", item),
        ("item", "get", item),
        ("item", "get", item, "--out", str(tmp_path / "out")),
        ("review", "list"),
        ("review", "show", item, "--to", "JPN"),
        ("review", "approve", item, "--to", "JPN", *officer),
        ("review", "refuse", other, "--to", "JPN"),
        ("offer", other, "--to", "JPN"),
        ("hold", "--to", "USA", *officer),
        ("hold", "--to", "USA", "--lift", *officer),
    ]
    outcomes = {c: carried.run(*c, "--json", check=True) for c in alone}
    outcomes |= {c: carried.at("KOR", *c, "--json") for c in at_the_node}
    for command, outcome in outcomes.items():
        assert outcome.out.count("\n") == 1, command
        assert isinstance(outcome.json, dict), command
    content = outcomes["item", "get", item].json
    assert base64.b64decode(content["content"]) == b"as json"
    assert content["header"]["title"] == "제목 題名"
    refused = carried.share("KOR", b"x", to="JPN", topic="paired", check=False)
    assert refused.code == 1
    assert refused.json["refusals"][0]["reasons"][0]["code"] == "outside-topic"


def test_a_change_of_regime_is_held_against_the_items_of_a_running_node(
    carried: Nodes, tmp_path: Path
) -> None:
    item = carried.shared("KOR", b"before the change", to="JPN", topic="reviewed")
    narrower = tmp_path / "regime"
    shutil.copytree(carried.regime, narrower)
    for file in narrower.glob("agreements/*.toml"):
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace('["reviewed"]', '["paired"]'), encoding="utf-8")
    ids = tmp_path / "ids"
    changed = carried.at(
        "KOR", "regime", "diff", str(carried.regime), str(narrower), "--items", "--json",
        "--ids", str(ids),
    ).json["items"]  # fmt: skip
    assert (changed["party"], {shift["gained"] for shift in changed["shifts"]}) == ("KOR", {False})
    lines = [json.loads(line) for line in ids.read_text().splitlines()]
    assert {"item": item, "gained": [], "lost": ["JPN"]} in lines
    assert len(lines) == sum(shift["items"] for shift in changed["shifts"])


SHARE = ("--topic", "passed", "--about", "PRK", "--mark", "KOR:III", "--rel-to", "JPN,USA")
BAD = {
    "a file that is not there": (("share", "{tmp}/none", *SHARE), "No such file"),
    "a folder for a file": (("share", "{tmp}", *SHARE), "Is a directory"),
    "an unknown topic": (("share", "{file}", *SHARE, "--topic", "gossip"), 'topic "gossip"'),
    "an unknown subject": (("share", "{file}", *SHARE, "--about", "ATL"), '"ATL"'),
    "a mark of another": (("share", "{file}", *SHARE, "--mark", "JPN:HI"), "JPN:HI"),
    "an unknown mark": (("share", "{file}", *SHARE, "--mark", "KOR:IX"), "KOR:II, KOR:III"),
    "an unknown reader": (("share", "{file}", *SHARE, "--rel-to", "FRA"), '"FRA"'),
    "ourselves as a reader": (("share", "{file}", *SHARE, "--rel-to", "KOR"), "KOR"),
    "no reader": (("share", "{file}", *SHARE, "--rel-to", ""), "--rel-to"),
    "a reader twice": (("share", "{file}", *SHARE, "--rel-to", "JPN,JPN"), "twice"),
    "a recipient twice": (("share", "{file}", *SHARE, "--to", "JPN,JPN"), "JPN"),
    "an unknown recipient": (("share", "{file}", *SHARE, "--to", "FRA"), "FRA"),
    "an unknown precedence": (("share", "{file}", *SHARE, "--precedence", "NOW"), "NOW"),
    "an unknown kind": (("share", "{file}", *SHARE, "--kind", "rumour"), "rumour"),
    "a title with a line break": (("share", "{file}", *SHARE, "--title", "a\nb"), "title"),
    "a title that turns its letters": (("share", "{file}", *SHARE, "--title", "\u202ea"), "title"),
    "a long title": (("share", "{file}", *SHARE, "--title", "x" * 501), "title"),
    "a media type": (("share", "{file}", *SHARE, "--media-type", "text"), "media"),
    "a source that is not here": (("share", "{file}", *SHARE, "--from", "0" * 64), "no such item"),
    "a source that is no id": (("share", "{file}", *SHARE, "--from", "zz"), "no such item"),
    "an exercise of nothing": (("share",), "FILE"),
    "an offer of nothing": (("offer", "0" * 64, "--to", "JPN"), "no such item"),
    "an offer to nobody": (("offer", "{item}", "--to", "FRA"), '"FRA"'),
    "an id that is none": (("item", "show", "a b"), '"a b"'),
    "an id with a path": (("item", "show", "../../status"), "id"),
    "an empty id": (("item", "get", ""), "id"),
    "a short id": (("item", "show", "abc"), "at least 4"),
    "an id of nothing": (("item", "get", "0" * 64), "no such item"),
    "a file that is there": (("item", "get", "{item}", "--out", "{file}"), "File exists"),
    "a page of nothing": (("inbox", "--limit", "0"), "limit"),
    "a page too large": (("inbox", "--limit", "100000"), "limit"),
    "a page of words": (("inbox", "--limit", "many"), "many"),
    "a review of nothing": (("review", "show", "0" * 64, "--to", "JPN"), "no such item"),
    "a review to nobody": (("review", "show", "{item}", "--to", "jpn!"), '"jpn!"'),
    "a review that does not wait": (("review", "refuse", "{item}", "--to", "USA"), "waits"),
    "an officer that is not there": (
        ("review", "approve", "{item}", "--to", "JPN", "--officer", "{tmp}/nobody",
         "--passphrase-file", "{passphrase}"), "nobody.crt"),
    "a hold of nobody": (("hold", "--to", "FRA", "--officer", "{officer}",
                          "--passphrase-file", "{passphrase}"), '"FRA"'),
    "a hold of ourselves": (("hold", "--to", "KOR", "--officer", "{officer}",
                             "--passphrase-file", "{passphrase}"), '"KOR"'),
    "a hold with a wrong passphrase": (("hold", "--to", "JPN", "--officer", "{officer}",
                                        "--passphrase-file", "{wrong}"), "passphrase"),
    "a passphrase file that others read": (("hold", "--to", "JPN", "--officer", "{officer}",
                                            "--passphrase-file", "{open}"), "chmod 600"),
    "an instant that is none": (("node", "clock", "yesterday"), '"yesterday"'),
    "a day that there is not": (("node", "clock", "2015-02-30T00:00:00Z"), "2015-02-30"),
    "no such command": (("itme",), "itme"),
}  # fmt: skip


@pytest.fixture(scope="module")
def places(carried: Nodes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    tmp = tmp_path_factory.mktemp("bad")
    file = tmp / "file"
    file.write_text("content")
    for name, mode in (("wrong", 0o600), ("open", 0o644)):
        (tmp / name).write_text("something else\n")
        (tmp / name).chmod(mode)
    item = carried.shared("KOR", b"asked badly about", to="JPN", topic="blind")
    return {
        "tmp": str(tmp), "file": str(file), "item": item, "wrong": str(tmp / "wrong"),
        "open": str(tmp / "open"), "passphrase": str(carried.passphrase_file),
        "officer": str(carried.officer("KOR", "kim")),
    }  # fmt: skip


def clear(err: str) -> str:
    """The one line that says what is wrong, without the usage that argparse puts before it."""
    lines = [line for line in err.splitlines() if not re.match(r"usage:|  ", line)]
    assert len(lines) == 1, err
    assert re.match(r"relto( \w+)*: ", lines[0]), err
    return lines[0]


@pytest.mark.parametrize("name", BAD)
def test_what_is_asked_badly_gets_one_clear_line(
    carried: Nodes, places: dict[str, str], name: str
) -> None:
    command, words = BAD[name]
    outcome = carried.at("KOR", *(part.format(**places) for part in command), check=False)
    assert (outcome.code, outcome.out) == (2, ""), outcome
    assert words in clear(outcome.err)


def test_what_has_no_node_to_ask_says_so(
    carried: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RELTO_NODE", raising=False)
    for command in (("inbox",), ("node", "status"), ("review", "list"), ("item", "show", "0000")):
        outcome = carried.run(*command)
        assert outcome.code == 2
        assert "give --node DIR, or set RELTO_NODE" in clear(outcome.err)
        outcome = carried.run(*command, "--node", str(tmp_path))
        assert outcome.code == 2
        assert "no node listens" in clear(outcome.err)
    monkeypatch.setenv("RELTO_NODE", str(carried.node("KOR")))
    assert carried.run("node", "status", "--json").json["party"] == "KOR"


# Configurations

SETTINGS: dict[str, tuple[str, str, str]] = {
    # what is wrong: (pattern of a line, what it becomes, what the message has)
    "no party": (r"party = .*\n", "", "party"),
    "a party in small letters": (r'^party = "KOR"', 'party = "kor"', "party"),
    "a party without a scheme": (r'^party = "KOR"', 'party = "FRA"', '"FRA" has no scheme'),
    "keys of another party": (r"^(keys = .*)KOR(.*)", r"\1JPN\2", "are of JPN, not KOR"),
    "no regime": (r"^regime = .*", 'regime = "/nowhere"', "no regime folder"),
    "a regime that is a number": (r"^regime = .*", "regime = 7", "regime"),
    "no keys": (r"^keys = .*", 'keys = "/nowhere"', "/nowhere"),
    "no address to listen at": (r"^listen = .*", 'listen = "here"', "127.0.0.1:7401"),
    "a port that is none": (r"^listen = .*", 'listen = "127.0.0.1:99999"', "127.0.0.1:7401"),
    "an address that is not ours": (r"^listen = .*", 'listen = "192.0.2.1:7401"', "cannot listen"),
    "a clock that there is not": (r"^clock = .*", 'clock = "sundial"', "exercise"),
    "a limit of nothing": (r"^payload_bytes_max = .*", "payload_bytes_max = 0", "1 to"),
    "a limit in words": (r"^payload_bytes_max = .*", 'payload_bytes_max = "32M"', "1 to"),
    "an unknown limit": (r"^payload_bytes_max = .*", "payload_max = 7", "payload_max"),
    "an unknown setting": (r"^clock", 'colour = "blue"\nclock', "colour"),
    "a person without a uid": (r"^\[limits\]", '[people]\nalice = "alice"\n[limits]', "uid"),
    "a peer without a party": (r'^party = "USA"\n', "", "party"),
    "a peer that is ourselves": (r'^party = "USA"', 'party = "KOR"', "KOR"),
    "a peer at no address": (r"^address = .*", 'address = "there"', "127.0.0.1:7401"),
    "a peer without a CA": (r"^ca = .*USA.*\n", "", "ca"),
    "a peer whose CA is not there": (r"^ca = .*USA.*", 'ca = "/nowhere.crt"', "/nowhere.crt"),
    "a peer with the CA of another": (r"^(ca = .*)USA(.*)", r"\1JPN\2", "name the one of USA"),
    "no TOML": (r"^clock", "clock =", "node.toml"),
}


@pytest.fixture(scope="module")
def refusals(
    carried: Nodes, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[int, str]]:
    """How a node ends with each of the settings. All at once, since each starts a Python."""
    processes = {}
    good = (carried.node("KOR") / "node.toml").read_text()
    for name, (pattern, replacement, _) in SETTINGS.items():
        folder = tmp_path_factory.mktemp("settings")
        text, count = re.subn(pattern, replacement, good, count=1, flags=re.MULTILINE)
        assert count == 1, name
        (folder / "node.toml").write_text(text)
        processes[name] = subprocess.Popen(
            [sys.executable, "-m", "relto", "node", "serve", str(folder),
             "--passphrase-file", str(carried.passphrase_file)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    found = {}
    for name, process in processes.items():
        try:
            out, err = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        assert out == "", name
        found[name] = (process.returncode, err)
    return found


@pytest.mark.parametrize("name", SETTINGS)
def test_a_bad_setting_stops_the_start_with_one_line_that_names_the_fix(
    refusals: dict[str, tuple[int, str]], name: str
) -> None:
    code, err = refusals[name]
    lines = [line for line in err.splitlines() if line.startswith("relto: ")]
    assert code == 2, err
    assert "Traceback" not in err
    assert len(lines) == 1, err
    assert SETTINGS[name][2] in lines[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--party", "kor"), "party"),
        (("--listen", "nowhere"), "127.0.0.1:7401"),
        (("--peer", "USA"), "PARTY=HOST:PORT=CA.crt"),
        (("--peer", "USA=there=ca.crt"), "127.0.0.1:7401"),
        (("--party-ca", "JPN"), "PARTY=CA.crt"),
        (("--peer", "KOR=127.0.0.1:1=ca.crt"), "KOR"),
    ],
)
def test_init_writes_nothing_that_serve_could_not_read(
    carried: Nodes, tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    outcome = carried.run(
        "node", "init", str(tmp_path / "node"), "--party", "KOR", "--regime", str(CARRIED),
        "--keys", str(carried.keys("KOR")), "--listen", "127.0.0.1:7401", *change,
    )  # fmt: skip
    assert (outcome.code, outcome.out) == (2, "")
    assert words in clear(outcome.err)
    assert not (tmp_path / "node").exists()


def test_init_never_writes_over_a_node(carried: Nodes) -> None:
    outcome = carried.run(
        "node", "init", str(carried.node("KOR")), "--party", "KOR", "--regime", str(CARRIED),
        "--keys", str(carried.keys("KOR")), "--listen", "127.0.0.1:7401",
    )  # fmt: skip
    assert outcome.code == 2
    assert "File exists" in clear(outcome.err)


def test_a_second_node_in_the_same_folder_does_not_start(carried: Nodes) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "relto", "node", "serve", str(carried.node("KOR")),
         "--passphrase-file", str(carried.passphrase_file)],
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert process.returncode == 2
    assert "is open in another process" in process.stderr
    until(lambda: carried.at("KOR", "node", "status").code == 0, "the first goes on")
