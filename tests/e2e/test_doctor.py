"""`relto doctor`: silent about a node that is well; a line with its fix for each thing amiss."""

import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from e2e.conftest import CARRIED
from e2e.nodes import LINKS, PARTIES, Nodes
from relto.apps import clock
from relto.config import Config
from relto.findings import (
    Finding,
    disk_findings,
    journal_clock_findings,
    key_findings,
    links_findings,
    sighting_findings,
    status_findings,
    store_findings,
)
from relto.instants import moment
from relto.keys import open_key_folder
from relto.serving import read_config
from relto.stores.checking import inspect_store

BALLAST_BYTES = 16 * 1024 * 1024


@pytest.fixture(scope="module")
def ward(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """KOR and USA run, JPN does not; only what a node needs lies in their key folders."""
    folder = tmp_path_factory.mktemp("ward")
    shutil.copytree(keys, folder / "keys")
    for key in [*folder.glob("keys/*/keys/ca.key"), *folder.glob("keys/*/keys/officers/*.key")]:
        key.unlink()
    with Nodes(folder, CARRIED, PARTIES, LINKS, keys=folder / "keys") as nodes:
        nodes.make()
        nodes.start("KOR")
        nodes.shared("KOR", b"large" * 50_000, to="JPN", topic="automatic")  # waits in the outbox
        nodes.stop("KOR")
        shutil.copytree(nodes.node("KOR"), folder / "stopped")
        nodes.start("KOR")
        nodes.start("USA")
        yield nodes


@pytest.fixture
def stopped(ward: Nodes, tmp_path: Path) -> Path:
    """A copy of KOR's folder, as it lay while the node was down, with keys of its own."""
    folder = tmp_path / "node"
    shutil.copytree(ward.folder / "stopped", folder)
    shutil.copytree(ward.keys("KOR"), tmp_path / "keys")
    shutil.copytree(ward.regime, tmp_path / "regime")
    text = (folder / "node.toml").read_text()
    text = text.replace(str(ward.keys("KOR")), str(tmp_path / "keys"))
    text = text.replace(str(ward.regime), str(tmp_path / "regime"))
    (folder / "node.toml").write_text(text)
    return folder


def config_of(folder: Path) -> Config:
    return read_config(folder)


def found(ward: Nodes, folder: Path, *more: str) -> list[str]:
    """The findings beside the one that the node does not run, as `check: what`."""
    outcome = ward.run("doctor", "--node", str(folder), "--json", *more)
    findings = outcome.json["findings"]
    assert outcome.code == (1 if findings else 0)
    assert all(f["fix"] for f in findings)
    return [f"{f['check']}: {f['what']}" for f in findings if f["check"] != "node"]


# running


def test_nothing_is_found_at_a_node_that_is_well(ward: Nodes) -> None:
    outcome = ward.at("KOR", "doctor", check=False)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (
        "node of KOR: nothing found; checked: configuration, regime, keys, permissions, disk, "
        "store, clock, node, links, agreements\n"
    )


def test_a_peer_that_is_not_reached_is_one_line_with_its_fix(ward: Nodes) -> None:
    outcome = ward.at("USA", "doctor", check=False)
    assert outcome.code == 1
    port = ward.ports["JPN"]
    assert outcome.out.splitlines() == [
        f'links: JPN is not reached: peer "127.0.0.1" port {port}: connection refused; its node '
        "is down, or its address in [[peer]] is wrong",
        "not checked: agreements: not compared with JPN",
    ]


def test_who_may_only_use_the_socket_hears_what_the_node_says(
    ward: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s").symlink_to(ward.node("USA") / "node.sock")
    monkeypatch.chdir(tmp_path)
    outcome = ward.run("doctor", "--node", "s")
    assert outcome.code == 1
    [finding, *unchecked] = outcome.out.splitlines()
    assert finding.startswith("links: JPN is not reached: ")
    assert unchecked == [
        "not checked: folder: only the node's own user may open it",
        "not checked: agreements: not compared with JPN",
    ]


def test_another_clock_and_other_agreements_at_a_peer_are_found(
    ward: Nodes, tmp_path: Path
) -> None:
    shutil.copytree(ward.regime, tmp_path / "regime")
    pair = tmp_path / "regime" / "agreements" / "pair-kor-usa.toml"
    pair.write_text(pair.read_text().replace('en = "', 'en = "Amended: ', 1))
    timeline = tmp_path / "regime" / "timeline.toml"
    end = '\n[[event]]\nagreement = "carried"\nat = 2020-01-01T00:00:00Z\nevent = "terminated"\n'
    timeline.write_text(timeline.read_text() + end)
    file = ward.node("USA") / "node.toml"
    text = file.read_text()
    file.write_text(text.replace(str(ward.regime), str(tmp_path / "regime")))
    try:
        at_usa = ward.at("USA", "doctor", "--json", check=False).json["findings"]
        assert [f["what"] for f in at_usa if f["check"] == "regime"] == [
            "the node decides by another regime than the folder holds now"
        ]
        with ward.down("USA"):
            pass
        later = clock.now() + timedelta(hours=1)
        ward.at("USA", "node", "clock", f"{later:%Y-%m-%dT%H:%M:%SZ}")
        findings = ward.at("KOR", "doctor", "--json", check=False).json["findings"]
    finally:
        file.write_text(text)
        ward.at("USA", "node", "clock", f"{clock.now():%Y-%m-%dT%H:%M:%SZ}")
        with ward.down("USA"):
            pass
    whats = [f"{f['check']}: {f['what']}" for f in findings]
    assert whats[0].startswith("clock: USA's clock is 3")
    assert whats[0].endswith(" s ahead")
    assert whats[1] == "agreements: with USA: carried is in force here alone"
    assert whats[2].startswith("agreements: with USA: pair-kor-usa has other terms there (")
    assert len(whats) == 3


# configuration, regime, keys


def test_only_that_it_does_not_run_is_found_at_a_node_that_is_down(
    ward: Nodes, stopped: Path
) -> None:
    outcome = ward.run("doctor", "--node", str(stopped))
    assert outcome.code == 1
    assert outcome.out.splitlines() == [
        f"node: nothing answers at '{stopped}/node.sock'; start it with relto node serve",
        "not checked: agreements: the node compares them with its peers once it runs",
    ]


def test_a_folder_of_no_node_is_an_error(ward: Nodes, tmp_path: Path) -> None:
    outcome = ward.run("doctor", "--node", str(tmp_path))
    assert (outcome.code, outcome.out) == (2, "")
    assert "has no node.toml" in outcome.err


def spoil(path: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    return change


def chmod(path: str, mode: int) -> Callable[[Path], None]:
    return lambda folder: (folder / path).chmod(mode)


def remove(path: str) -> Callable[[Path], None]:
    return lambda folder: (folder / path).unlink()


def write(path: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / path).write_text("")
        (folder / path).chmod(0o600)

    return change


def another_certificate(folder: Path) -> None:
    shutil.copy(folder / "../keys/tls.crt", folder / "../keys/node.crt")


def another_partys_ca(folder: Path) -> None:
    spoil("node.toml", "/USA/keys/ca.crt", "/JPN/keys/ca.crt")(folder)


def another_programs_ca(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    now = clock.now()
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, now, now + timedelta(days=1))
    (folder / "other.crt").write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
    text = (folder / "node.toml").read_text()
    (folder / "node.toml").write_text(re.sub(r'ca = ".*"', 'ca = "other.crt"', text, count=1))


def empty(path: str) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / path, 0)


def junk(path: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / path).write_bytes(b"no database at all " * 1000)

    return change


def no_contents(folder: Path) -> None:
    for blob in (folder / "store" / "blobs").iterdir():
        blob.unlink()


def another_socket(folder: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    os.chdir(folder)  # a socket's path has at most 107 bytes
    server.bind("node.sock")
    server.close()
    (folder / "node.sock").chmod(0o666)


def people(folder: Path) -> None:
    folder.chmod(0o700)
    spoil("node.toml", "[limits]", '[people]\n1001 = "kim"\n[limits]')(folder)


AMISS: dict[str, tuple[Callable[[Path], None], str]] = {
    "unknown setting": (spoil("node.toml", "[limits]", "speed = 9\n[limits]"), "configuration: "),
    "broken agreement": (
        spoil("../regime/agreements/carried.toml", "kind =", "sort ="),
        "regime: ",
    ),
    "another CA in an agreement": (
        spoil("../regime/agreements/pair-kor-usa.toml", "sha256:", "sha256:" + "0" * 64 + '", X="'),
        "regime: ",
    ),
    "no node certificate": (remove("../keys/node.crt"), "keys: "),
    "certificate of another role": (another_certificate, "keys: "),
    "no CA file of a peer": (
        spoil("node.toml", 'ca = "/', 'ca = "/none/'),
        "keys: cannot read the",
    ),
    "CA of another program": (another_programs_ca, "keys: the CA at "),
    "CA of another party": (another_partys_ca, "keys: the CA at "),
    "database emptied": (empty("store/relto.db"), "store: the database is not one of relto's"),
    "database of another program": (junk("store/relto.db"), "store: "),
    "key folder open": (chmod("../keys", 0o777), "keys: others can write into"),
    "key file open": (chmod("../keys/node.key", 0o640), "permissions: others may open"),
    "CA key here": (write("../keys/ca.key"), "permissions: the CA's private key"),
    "officer key here": (write("../keys/officers/kim.key"), "permissions: an officer's private"),
    "store open": (chmod("store", 0o755), "permissions: others may open"),
    "database open": (chmod("store/relto.db", 0o644), "permissions: others may open"),
    "configuration writable": (chmod("node.toml", 0o666), "permissions: others can write to"),
    "regime writable": (chmod("../regime", 0o777), "permissions: others can write to"),
    "socket open": (another_socket, "permissions: the socket"),
    "people locked out": (people, "permissions: the people of the configuration cannot enter"),
    "no reserve": (remove("store/ballast"), "disk: the reserve for receipts and FLASH is given up"),
    "content gone": (no_contents, "store: content "),
}


@pytest.mark.parametrize("name", AMISS)
def test_each_thing_amiss_is_found(
    name: str, ward: Nodes, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stopped)
    change, words = AMISS[name]
    change(stopped)
    assert any(line.startswith(words) for line in found(ward, stopped)), found(ward, stopped)


def test_a_passphrase_that_does_not_open_the_keys_is_found(
    ward: Nodes, stopped: Path, tmp_path: Path
) -> None:
    assert found(ward, stopped, "--passphrase-file", str(ward.passphrase_file)) == []
    wrong = tmp_path / "wrong"
    wrong.write_text("canary\n")
    wrong.chmod(0o600)
    lines = found(ward, stopped, "--passphrase-file", str(wrong))
    assert len(lines) == 3
    assert all("wrong passphrase for" in line for line in lines)
    assert not any("canary" in line for line in lines)


def whats(findings: Iterator[Finding]) -> list[str]:
    return [f.what for f in findings]


def test_certificates_are_told_of_before_they_end(stopped: Path) -> None:
    config = config_of(stopped)
    end = open_key_folder(config.keys).certificate("tls").not_valid_after_utc
    assert whats(key_findings(config, end - timedelta(days=91))) == []
    early = whats(key_findings(config, end - timedelta(days=13, hours=1)))
    for line in ("tls certificate ends in 13 days", "certificate of officer kim ends in 13 days",
                 "CA of USA ends in 13 days", "CA of KOR ends in 13 days"):  # fmt: skip
        assert any(what.startswith(line) for what in early), line
    late = whats(key_findings(config, end + timedelta(seconds=1)))
    assert any("expired at" in what and what.startswith("tls certificate") for what in late)


# disk, store, clock


def test_little_room_on_the_disk_is_found(stopped: Path) -> None:
    config = config_of(stopped)
    assert whats(disk_findings(config, free_bytes_min=1, free_files_min=0)) == []
    [line] = whats(disk_findings(config, free_bytes_min=2**62, free_files_min=0))
    assert line.endswith(f"MiB are free for '{stopped}/store'")
    [line] = whats(disk_findings(config, free_bytes_min=1, free_files_min=2**62))
    assert line.endswith(f"files more fit on the disk of '{stopped}/store'")


DAMAGE = {
    "document": ("UPDATE documents SET state = 'made' WHERE kind = 'hpke-key'", "hpke-key '"),
    "body": ("UPDATE documents SET body = x'00' WHERE kind = 'item'", "item '"),
    "outbox": ("UPDATE outbox SET precedence = 0", "outbox row 1 is damaged"),
    "meta": ("UPDATE meta SET value = x'31' WHERE key = 'seq'", "meta 'seq' is damaged"),
    "journal entry": (
        "UPDATE journal SET entry = x'7b7d' WHERE number = 2",
        "journal: entry 2 does not continue the chain",
    ),
    "journal gap": ("DELETE FROM journal WHERE number = 2", "journal: entries 2 to 2 are missing"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_each_kind_of_damage_in_the_store_is_found(name: str, ward: Nodes, stopped: Path) -> None:
    sql, words = DAMAGE[name]
    assert inspect_store(stopped / "store").damage == ()
    connection = apsw.Connection(str(stopped / "store" / "relto.db"))
    connection.execute(sql)
    changed = connection.changes()
    connection.close()
    assert changed >= 1
    lines = found(ward, stopped)
    assert any(line.startswith(f"store: {words}") for line in lines), lines


def test_a_page_that_was_overwritten_is_found(ward: Nodes, stopped: Path) -> None:
    file = stopped / "store" / "relto.db"
    with file.open("r+b") as data:
        data.seek(4096 * 3)  # the head of a page, and where its cells lie
        data.write(b"\xff" * 200)
    assert any(line.startswith("store: ") for line in found(ward, stopped))


def test_looking_into_a_store_changes_nothing_in_it(stopped: Path) -> None:
    before = {f: f.read_bytes() for f in (stopped / "store").rglob("*") if f.is_file()}
    assert inspect_store(stopped / "store").rows > 3
    after = {f: f.read_bytes() for f in before}
    assert before == after


def test_a_clock_that_went_back_is_found(stopped: Path) -> None:
    seen = inspect_store(stopped / "store")
    assert seen.last_entry_at is not None
    last = moment(seen.last_entry_at)
    assert whats(journal_clock_findings(seen, last)) == []
    [line] = whats(journal_clock_findings(seen, last - timedelta(minutes=1)))
    assert f"before the journal's last entry ({seen.last_entry_at})" in line


def test_a_key_of_the_week_that_was_not_renewed_is_found(stopped: Path) -> None:
    seen = inspect_store(stopped / "store")
    assert seen.hpke_key_ends is not None
    ends = moment(seen.hpke_key_ends)
    assert whats(store_findings(seen, ends - timedelta(days=1), running=True)) == []
    for running in (True, False):
        [finding] = store_findings(seen, ends - timedelta(hours=1), running=running)
        assert finding.what == f"the HPKE key of the week ends at {seen.hpke_key_ends}"


# peers

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SEEN: dict[str, Any] = {
    "party": "USA",
    "certificate_ends": "2026-05-01T00:00:00Z",
    "offset_s": 0.4,
    "differences": [],
}
PEERS: list[tuple[dict[str, Any], str]] = [
    ({"error": 'peer "h" port 1: no answer within 5 s'}, "call its engineer"),
    ({"error": 'peer "h" port 1: certificate refused: certificate has expired'}, "by voice"),
    ({"error": 'peer "h" port 1: tls: tlsv1 alert unknown ca'}, "refuses our certificate"),
    ({"error": 'peer "h" port 1: closed before its answer was whole'}, "may not name this party"),
    ({"error": 'peer "h" port 1: odd'}, "call its engineer"),
    ({"certificate_ends": "2026-03-10T00:00:00Z"}, "issue a new one"),
    ({"offset_s": 5.6}, "NTP"),
    ({"offset_s": -3600.0}, "NTP"),
    ({"differences": ["pact is in force here alone"]}, "compare the signed texts"),
]


def test_a_peer_that_is_well_is_passed_over() -> None:
    assert list(sighting_findings([SEEN], NOW)) == []
    assert list(sighting_findings([{"party": "USA"}], NOW)) == []


@pytest.mark.parametrize(("change", "fix"), PEERS)
def test_each_thing_amiss_with_a_peer_has_its_fix(change: dict[str, Any], fix: str) -> None:
    [finding] = sighting_findings([{**SEEN, **change}], NOW)
    assert fix in finding.fix


def test_a_node_that_runs_by_an_old_regime_is_found() -> None:
    status = {"regime": "a", "late": []}
    assert list(status_findings(status, "a")) == []
    assert list(status_findings(status, None)) == []
    [finding] = status_findings(status, "b")
    assert "restart the node" in finding.fix


def test_an_older_node_that_says_less_is_no_fault() -> None:
    assert list(status_findings({"regime": "a"}, "a")) == []


def test_a_second_node_with_our_keys_and_an_old_store_are_found() -> None:
    peers = [{"party": "JPN", "asked": False}, {"party": "USA", "asked": True}]
    status = {"regime": "a", "late": [], "twin": "", "behind": "new", "peers": peers}
    assert list(status_findings(status, "a")) == []
    [finding] = status_findings({**status, "twin": "USA"}, "a")
    assert finding.what.startswith("USA has a release of ours that this node never made")
    [finding] = status_findings({**status, "peers": [{"party": "JPN", "missing": 3}]}, "a")
    assert finding.what == "JPN has 3 releases of ours, and gives them not back"
    [finding] = status_findings({**status, "behind": "restored"}, "a")
    assert finding.what.endswith("peers have seen (restored); not asked yet: JPN")


def test_what_is_late_is_found_a_few_by_name() -> None:
    late = {"item": "ab" * 32, "to": "JPN", "precedence": "FLASH", "due": "2026-03-01T00:10:00Z"}
    [finding] = status_findings({"regime": "a", "late": [late]}, "a")
    assert (
        finding.what == "FLASH item abababababab to JPN was to be handled by 2026-03-01T00:10:00Z"
    )
    found = list(status_findings({"regime": "a", "late": [late] * 9}, "a"))
    assert [f.what for f in found[5:]] == ["4 more are late"]


def test_peers_are_called_while_the_node_is_down(ward: Nodes, stopped: Path) -> None:
    """USA runs and shows a good certificate; then one that ends, one of another party, nobody."""
    config = config_of(stopped)
    now = clock.now()
    assert whats(links_findings(config, now)) == []
    end = open_key_folder(ward.keys("USA")).certificate("tls").not_valid_after_utc
    [line] = whats(links_findings(config, end - timedelta(days=2, hours=1)))
    assert line.startswith("USA's TLS certificate ends in 2 days")
    [line] = whats(links_findings(config, end + timedelta(days=1)))
    assert "USA is not reached: " in line
    assert "expired at" in line
    file = stopped / "node.toml"
    own, theirs = ward.ports["USA"], ward.ports["KOR"]
    file.write_text(file.read_text().replace(f":{own}", f":{theirs}"))
    [line] = whats(links_findings(config_of(stopped), now))
    assert line.startswith("USA is not reached: ")
    file.write_text(file.read_text().replace(f":{theirs}", f":{ward.ports['JPN']}"))
    [line] = whats(links_findings(config_of(stopped), now))
    assert line.endswith("connection refused")
