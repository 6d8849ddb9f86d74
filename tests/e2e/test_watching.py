"""Metrics and logs of real nodes: what an operator sees, and what nobody may see in them."""

import json
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e.conftest import CARRIED
from e2e.nodes import LINKS, PARTIES, PASSPHRASE, Nodes, spellings, until
from relto.keys import open_key_folder, read_passphrase

TITLE = "canary-title-c0ffee"
BODY = b"canary-body-c0ffee"
LARGE = b"canary-large-c0ffee" * 10_000
NAME = "canary-name-c0ffee.txt"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def watched(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """KOR and USA with metrics, and logs at DEBUG, each in one form; JPN is down."""
    folder = tmp_path_factory.mktemp("watched")
    with Nodes(folder, CARRIED, PARTIES, LINKS, keys=keys) as nodes:
        nodes.make()
        for party, form in (("KOR", "json"), ("USA", "plain")):
            file = nodes.node(party) / "node.toml"
            settings = f'log = "{form}"\nlog_level = "debug"\n'
            if party == "KOR":
                settings += f'metrics = "127.0.0.1:{free_port()}"\n'
            file.write_text(settings + file.read_text())
            nodes.start(party)
        small = nodes.file(NAME, BODY)
        for content in (small, nodes.file("large", LARGE)):
            nodes.at(
                "KOR", "share", str(content), "--title", TITLE, "--topic", "passed",
                "--about", "PRK", "--mark", "KOR:III", "--rel-to", "JPN,USA", "--to", "JPN",
                "--precedence", "FLASH",
            )  # fmt: skip
        refused = nodes.share("KOR", BODY, to="JPN", topic="paired", title=TITLE, check=False)
        assert refused.code == 1
        until(lambda: samples(nodes)[OWED] == 2 and "with-hub" in nodes.log("KOR"), "at the hub")
        nodes.ask("KOR", "GET", "/sightings")
        yield nodes


OWED = "relto_outbox_messages USA FLASH"  # the hub has both, and JPN neither


def scrape(nodes: Nodes, party: str = "KOR") -> str:
    text = (nodes.node(party) / "node.toml").read_text()
    found = re.search(r'^metrics = "(.*)"$', text, re.MULTILINE)
    assert found is not None
    with urllib.request.urlopen(f"http://{found[1]}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        body: bytes = answer.read()
        return body.decode()


def samples(nodes: Nodes) -> dict[str, float]:
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(scrape(nodes))
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_metrics_say_how_the_node_is(watched: Nodes) -> None:
    found = samples(watched)
    assert found["relto_refusals_total decision outside-topic"] >= 1
    assert found["relto_link_up USA"] == 1
    assert found["relto_agreements_different USA"] == 0
    assert abs(found["relto_clock_offset_seconds USA"]) < 5
    assert found["relto_items made"] == 2
    assert found["relto_journal_entries"] > 5
    assert found["relto_commit_seconds_count"] >= 3
    assert found["relto_commit_queue_jobs"] >= 0
    assert found["relto_ballast_held"] == 1
    assert found["relto_disk_free_bytes"] > 0
    for key in ("ca", "node", "tls", "signing", "hpke"):
        assert found[f"relto_key_expiry_seconds {key}"] > 6 * 24 * 3600
    assert found["relto_key_expiry_seconds hpke"] <= 7 * 24 * 3600
    assert found["relto_peer_certificate_expiry_seconds USA"] > 0
    assert found["relto_outbox_messages USA ROUTINE"] == 0
    assert 0 <= found["relto_outbox_oldest_seconds USA FLASH"] < 60


def test_every_metric_is_documented(watched: Nodes) -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(relto_[a-z_]+)` \|", page, re.MULTILINE))
    families = {f.name for f in text_string_to_metric_families(scrape(watched))}
    families = {f for f in families if not f.endswith("_created")}
    assert {row.removesuffix("_total") for row in rows} == families


def test_metrics_hold_counts_and_no_ids_of_items(watched: Nodes) -> None:
    text = scrape(watched)
    assert "canary" not in text
    labels = re.findall(r'="([^"]*)"', text)
    assert labels
    assert not any(re.search(r"[0-9a-f]{16}", label) for label in labels)


def test_nothing_but_the_metrics_is_served_there(watched: Nodes) -> None:
    text = (watched.node("KOR") / "node.toml").read_text()
    found = re.search(r'^metrics = "(.*)"$', text, re.MULTILINE)
    assert found is not None
    for path in ("/status", "/metrics/all", "/items"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://{found[1]}{path}", timeout=10)


def test_logs_at_debug_tell_each_step_and_no_contents(watched: Nodes) -> None:
    folder = open_key_folder(watched.keys("KOR"))
    secrets = [TITLE.encode(), BODY, LARGE[:40], NAME.encode(), PASSPHRASE.encode()]
    secrets.append(folder.storage_key(read_passphrase(watched.passphrase_file)))
    secrets.append(b"passed")  # its topic: a label is no id
    for party in ("KOR", "USA"):
        text = watched.log(party).encode()
        for secret in secrets:
            for spelled in spellings(secret):
                assert spelled not in text, secret
    told = [json.loads(line) for line in watched.log("KOR").splitlines()]
    assert {"deciding", "listening", "journal"} <= {each["event"] for each in told}
    assert {"draft", "decide", "release", "dispatch"} <= {each.get("entry") for each in told}
    plain = watched.log("USA")
    assert re.search(r"^\S+ WARNING link-down peer=JPN why=", plain, re.MULTILINE)
    assert re.search(r"^\S+ DEBUG journal item=[0-9a-f]{64} .*entry=accept", plain, re.MULTILINE)
