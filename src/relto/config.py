"""A node's configuration: one TOML file, every setting with its limits, read once."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from relto.errors import CallerError
from relto.marks import is_party_code
from relto.tables import Problems, Table, parse

__all__ = ["Config", "Peer", "decode_config"]

PAYLOAD_BYTES_MAX = 32 * 1024 * 1024
PAYLOAD_BYTES_LIMIT = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Peer:
    """Another party: its CA, whose fingerprint agreements state, and where its node listens.

    A party without an address is known, so that what it signed can be verified, and not
    connected: it is reached through others alone.
    """

    party: str
    host: str
    port: int
    ca: Path

    @property
    def is_connected(self) -> bool:
        return bool(self.host)


@dataclass(frozen=True, slots=True)
class Config:
    """What a node is told. Paths are relative to the folder that the file lies in.

    `own_socket` is where people reach the node, where that is not in its folder. `clock` is
    "system", or "exercise" for a node with EXERCISE certificates, whose clock an
    exercise director may set. `people` names who may use the node's socket, by uid. `metrics` is
    host and port on loopback where a scraper reads; `log` is "plain" or "json".
    """

    party: str
    folder: Path
    regime: Path
    keys: Path
    host: str
    port: int
    clock: str
    payload_bytes_max: int
    people: Mapping[int, str]
    peers: Mapping[str, Peer]
    own_socket: Path | None
    metrics: tuple[str, int] | None = None
    log: str = "plain"
    log_level: str = "info"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def socket(self) -> Path:
        return self.own_socket or self.folder / "node.sock"

    @property
    def socket_mode(self) -> int:
        """Open to others where `people` are named: the node asks the kernel who each one is."""
        return 0o666 if self.people else 0o600


def decode_config(data: bytes, file: Path) -> Config:
    """The configuration in a file's bytes. Raises CallerError naming line and fix."""
    problems = Problems()
    document = parse(file.name, data, problems)
    config = None
    if document is not None:
        top = Table(document, (), document.data, problems)
        config = _decode(top, file.parent)
    if config is None or problems.errors:
        raise CallerError(
            "; ".join(str(p) for p in problems.errors[:5]) or f"{file} is no configuration"
        )
    return config


def _decode(top: Table, folder: Path) -> Config:
    top.only(
        "party", "regime", "keys", "listen", "socket", "metrics", "log", "log_level", "clock",
        "limits", "people", "peer",
    )  # fmt: skip
    party = top.take_text("party", "this node's party, such as KOR", accept=is_party_code)
    regime = top.take_text("regime", "the regime folder")
    keys = top.take_text("keys", "the party's key folder")
    host, port = _address(top, "listen")
    clock = "system"
    if "clock" in top.data:
        clock = top.take_choice("clock", ["system", "exercise"]) or clock
    metrics = _loopback(top, "metrics") if "metrics" in top.data else None
    log = "plain"
    if "log" in top.data:
        log = top.take_choice("log", ["plain", "json"]) or log
    log_level = "info"
    if "log_level" in top.data:
        log_level = top.take_choice("log_level", ["info", "debug"]) or log_level
    socket = top.take_text("socket", "the path of a socket", required=False)
    size = PAYLOAD_BYTES_MAX
    if "limits" in top.data:
        limits = top.table("limits")
        limits.only("payload_bytes_max")
        value = limits.data.get("payload_bytes_max", size)
        if type(value) is not int or not 1 <= value <= PAYLOAD_BYTES_LIMIT:
            limits.error("payload_bytes_max", f"not a number from 1 to {PAYLOAD_BYTES_LIMIT}")
        else:
            size = value
    people: dict[int, str] = {}
    if "people" in top.data:
        table = top.table("people")
        for uid in table.data:
            name = table.take_text(uid, "a person's name")
            if not uid.isdecimal():
                table.error(uid, f"{uid} is not a numeric uid")
            elif name is not None:
                people[int(uid)] = name
    peers: dict[str, Peer] = {}
    for peer in top.tables("peer", required=False, what="[[peer]] tables"):
        peer.only("party", "address", "ca")
        name = peer.take_text("party", "the peer's party", accept=is_party_code)
        its_host, its_port = _address(peer, "address") if "address" in peer.data else ("", 0)
        ca = peer.take_text("ca", "the file with the peer's CA certificate")
        if name is not None and ca is not None:
            if name in peers or name == party:
                peer.error("party", f"{name} stands twice; one node a party")
            peers[name] = Peer(name, its_host, its_port, folder / ca)
    return Config(
        party or "",
        folder,
        folder / (regime or ""),
        folder / (keys or ""),
        host,
        port,
        clock,
        size,
        people,
        peers,
        None if socket is None else folder / socket,
        metrics,
        log,
        log_level,
    )


def _loopback(table: Table, key: str) -> tuple[str, int] | None:
    """Host and port of an address of this host alone: what is served there has no lock."""
    host, port = _address(table, key)
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        if host:
            table.error(key, f"{host} is not a loopback address, such as 127.0.0.1 or [::1]")
        return None
    return host, port


def _address(table: Table, key: str) -> tuple[str, int]:
    value = table.take_text(key, "an address such as 127.0.0.1:7401") or ""
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        if value:
            table.error(key, f'{key} = "{value}" is not an address such as 127.0.0.1:7401')
        return "", 0
    return host.strip("[]"), int(port)
