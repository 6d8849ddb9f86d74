"""A node's configuration: every mistake is named with its line, and nothing is guessed."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from relto.config import PAYLOAD_BYTES_LIMIT, PAYLOAD_BYTES_MAX, Peer, Quota, decode_config
from relto.errors import CallerError

FILE = Path("/nodes/kor/node.toml")
BASE = """\
party = "KOR"
regime = "../regime"
keys = "../keys"
listen = "127.0.0.1:7401"
"""
PEER = """
[[peer]]
party = "USA"
address = "hub.example:7402"
ca = "../ca/USA.crt"
"""


def test_what_is_required_is_enough_and_the_rest_has_its_default() -> None:
    config = decode_config(BASE.encode(), FILE)
    assert (config.party, config.host, config.port) == ("KOR", "127.0.0.1", 7401)
    assert config.regime == Path("/nodes/kor/../regime")
    assert config.keys == Path("/nodes/kor/../keys")
    assert config.clock == "system"
    assert config.payload_bytes_max == PAYLOAD_BYTES_MAX == 32 * 1024 * 1024
    assert (config.people, config.peers) == ({}, {})
    assert config.store == Path("/nodes/kor/store")
    assert config.socket == Path("/nodes/kor/node.sock")
    assert config.socket_mode == 0o600


def test_everything_that_can_be_set_is_read() -> None:
    text = (
        BASE + 'clock = "exercise"\nsocket = "/run/relto/kor.sock"\n'
        "[limits]\npayload_bytes_max = 1\n[people]\n1000 = \"kim\"\n1001 = \"lee\"\n" + PEER
        + '[[peer]]\nparty = "JPN"\nca = "jpn.crt"\n'
    )  # fmt: skip
    config = decode_config(text.encode(), FILE)
    assert config.clock == "exercise"
    assert config.payload_bytes_max == 1
    assert config.people == {1000: "kim", 1001: "lee"}
    assert config.socket_mode == 0o666
    assert config.socket == Path("/run/relto/kor.sock")
    usa, jpn = config.peers["USA"], config.peers["JPN"]
    assert usa == Peer("USA", "hub.example", 7402, Path("/nodes/kor/../ca/USA.crt"))
    assert usa.is_connected
    assert jpn == Peer("JPN", "", 0, Path("/nodes/kor/jpn.crt"))
    assert not jpn.is_connected


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.1:1", "127.0.0.1", 1),
        ("localhost:65535", "localhost", 65535),
        ("[::1]:7401", "::1", 7401),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, host: str, port: int) -> None:
    config = decode_config(BASE.replace("127.0.0.1:7401", address).encode(), FILE)
    assert (config.host, config.port) == (host, port)


@pytest.mark.parametrize("size", [1, PAYLOAD_BYTES_LIMIT])
def test_the_largest_payload_is_settable_within_its_limits(size: int) -> None:
    text = BASE + f"[limits]\npayload_bytes_max = {size}\n"
    assert decode_config(text.encode(), FILE).payload_bytes_max == size


def test_every_quota_is_settable_within_its_limits_and_the_others_keep_their_default() -> None:
    assert decode_config(BASE.encode(), FILE).quota == Quota(
        items_max=1_000_000, bytes_max=107_374_182_400, transfers_max=64,
        transfer_bytes_max=4_294_967_296, transfer_idle_s=86_400, requests_max=6,
        flash_per_minute=120,
    )  # fmt: skip
    for name in (field.name for field in fields(Quota)):
        text = BASE + f"[quota]\n{name} = 7\n"
        assert decode_config(text.encode(), FILE).quota == replace(Quota(), **{name: 7})


def test_how_much_may_wait_is_settable_within_its_limits() -> None:
    assert decode_config(BASE.encode(), FILE).outbox_messages_max == 50_000
    for value in (1, 10**9):
        text = BASE + f"[limits]\noutbox_messages_max = {value}\n"
        assert decode_config(text.encode(), FILE).outbox_messages_max == value


def test_watching_is_off_and_plain_unless_said_otherwise() -> None:
    config = decode_config(BASE.encode(), FILE)
    assert (config.metrics, config.log, config.log_level) == (None, "plain", "info")
    for address, host in (("127.0.0.1:9464", "127.0.0.1"), ("[::1]:9464", "::1")):
        text = BASE + f'metrics = "{address}"\nlog = "json"\nlog_level = "debug"\n'
        config = decode_config(text.encode(), FILE)
        assert (config.metrics, config.log, config.log_level) == ((host, 9464), "json", "debug")


FAULTS: dict[str, tuple[str, str]] = {
    "no party": (BASE.replace('party = "KOR"\n', ""), "party"),
    "no regime": (BASE.replace('regime = "../regime"\n', ""), "regime"),
    "no keys": (BASE.replace('keys = "../keys"\n', ""), "keys"),
    "no address": (BASE.replace('listen = "127.0.0.1:7401"\n', ""), "listen"),
    "an unknown setting": (BASE + "ports = 3\n", "ports"),
    "an unknown limit": (BASE + "[limits]\nitems_max = 3\n", "items_max"),
    "a party in small letters": (BASE.replace("KOR", "kor"), "kor"),
    "a party that is a number": (BASE.replace('"KOR"', "7"), "party"),
    "a port of 0": (BASE.replace("7401", "0"), "127.0.0.1:0"),
    "a port that is too high": (BASE.replace("7401", "65536"), "65536"),
    "an address without a port": (BASE.replace(":7401", ""), "address"),
    "an address without a host": (BASE.replace("127.0.0.1:", ":"), "address"),
    "metrics on a network": (BASE + 'metrics = "192.0.2.1:9464"\n', "192.0.2.1"),
    "metrics on every address": (BASE + 'metrics = "0.0.0.0:9464"\n', "0.0.0.0"),
    "metrics at a name": (BASE + 'metrics = "localhost:9464"\n', "localhost"),
    "metrics without a port": (BASE + 'metrics = "127.0.0.1"\n', "address"),
    "an unknown form of log": (BASE + 'log = "xml"\n', "xml"),
    "an unknown level of log": (BASE + 'log_level = "trace"\n', "trace"),
    "another clock": (BASE + 'clock = "sundial"\n', "sundial"),
    "a limit of 0": (BASE + "[limits]\npayload_bytes_max = 0\n", "payload_bytes_max"),
    "a limit above the limit": (
        BASE + f"[limits]\npayload_bytes_max = {PAYLOAD_BYTES_LIMIT + 1}\n", "payload_bytes_max",
    ),
    "a limit that is a text": (BASE + '[limits]\npayload_bytes_max = "1"\n', "payload_bytes_max"),
    "a limit that is true": (BASE + "[limits]\npayload_bytes_max = true\n", "payload_bytes_max"),
    "no place for a message": (BASE + "[limits]\noutbox_messages_max = 0\n", "outbox"),
    "an unknown quota": (BASE + "[quota]\nitems = 3\n", "items"),
    "a quota of 0": (BASE + "[quota]\nitems_max = 0\n", "items_max"),
    "a quota above its limit": (BASE + "[quota]\ntransfers_max = 401\n", "transfers_max"),
    "a quota that is a text": (BASE + '[quota]\nrequests_max = "1"\n', "requests_max"),
    "quotas that are no table": (BASE + "quota = 7\n", "quota"),
    "people by name": (BASE + '[people]\nkim = "kim"\n', "kim"),
    "a person without a name": (BASE + "[people]\n1000 = 7\n", "1000"),
    "a peer twice": (BASE + PEER + PEER, "twice"),
    "itself as a peer": (BASE + PEER.replace("USA", "KOR"), "twice"),
    "a peer without a CA": (BASE + PEER.replace('ca = "../ca/KOR.crt"\n', "").replace(
        'ca = "../ca/USA.crt"\n', ""), "ca"),
    "a peer with an unknown setting": (BASE + PEER + "weight = 1\n", "weight"),
    "a peer without a port": (BASE + PEER.replace(":7402", ""), "address"),
    "a peer that is no table": (BASE + "peer = 7\n", "peer"),
    "limits that are no table": (BASE + "limits = 7\n", "limits"),
    "people that are no table": (BASE + 'people = "kim"\n', "people"),
    "no TOML": ("party = KOR\n", "line 1"),
    "a key twice": (BASE + 'party = "USA"\n', ""),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_a_mistake_stops_the_start_and_is_named(case: str) -> None:
    text, word = FAULTS[case]
    with pytest.raises(CallerError) as caught:
        decode_config(text.encode(), FILE)
    line = str(caught.value)
    assert "\n" not in line
    assert line.isprintable()
    if word:
        assert word in line or "node.toml" in line


def test_bytes_that_are_no_text_are_a_mistake_like_any_other() -> None:
    for data in (b"\xff\xfe", b"\0", b"a" * 2_000_000):
        with pytest.raises(CallerError):
            decode_config(data, FILE)
