"""A node's configuration: one TOML file, every setting with its limits, read once."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from relto.errors import CallerError
from relto.marks import is_party_code
from relto.tables import Problems, Table, parse

__all__ = ["Config", "Peer", "Quota", "decode_config"]

PAYLOAD_BYTES_MAX = 32 * 1024 * 1024
PAYLOAD_BYTES_LIMIT = 1024 * 1024 * 1024
OUTBOX_MESSAGES_MAX = 50_000
QUOTA_BYTES_LIMIT = 2**50
QUOTA_COUNT_LIMIT = 10**9
TRANSFERS_LIMIT = 400
REQUESTS_LIMIT = 64


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What each peer may have of this node, every peer alike (`relto.quotas`).

    Kept of a peer: releases, and bytes of their records and ciphertexts. Half-sent: ciphertexts
    of which some ranges are missing, by their stated sizes, and how many seconds one waits for its
    next range. Then requests at work at once, and releases called FLASH in a minute.
    """

    items_max: int = 1_000_000
    bytes_max: int = 100 * 1024**3
    transfers_max: int = 64
    transfer_bytes_max: int = 4 * 1024**3
    transfer_idle_s: int = 86_400
    requests_max: int = 6
    flash_per_minute: int = 120


_QUOTA_LIMITS = {
    "items_max": QUOTA_COUNT_LIMIT,
    "bytes_max": QUOTA_BYTES_LIMIT,
    "transfers_max": TRANSFERS_LIMIT,
    "transfer_bytes_max": QUOTA_BYTES_LIMIT,
    "transfer_idle_s": QUOTA_COUNT_LIMIT,
    "requests_max": REQUESTS_LIMIT,
    "flash_per_minute": QUOTA_COUNT_LIMIT,
}


@dataclass(frozen=True, slots=True)
class Config:
    """What a node is told. Paths are relative to the folder that the file lies in.

    `own_socket` is where people reach the node, where that is not in its folder. `clock` is
    "system", or "exercise" for a node with EXERCISE certificates, whose clock an
    exercise director may set. `people` names who may use the node's socket, by uid. `metrics` is
    host and port on loopback where a scraper reads; `log` is "plain" or "json". With
    `outbox_messages_max` messages owed nothing but FLASH and IMMEDIATE is taken.
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
    quota: Quota = field(default_factory=Quota)
    outbox_messages_max: int = OUTBOX_MESSAGES_MAX

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
        "limits", "quota", "people", "peer",
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
    size, waiting = PAYLOAD_BYTES_MAX, OUTBOX_MESSAGES_MAX
    if "limits" in top.data:
        limits = top.table("limits")
        limits.only("payload_bytes_max", "outbox_messages_max")
        waiting = _number(limits, "outbox_messages_max", QUOTA_COUNT_LIMIT) or waiting
        size = _number(limits, "payload_bytes_max", PAYLOAD_BYTES_LIMIT) or size
    quota = _quota(top.table("quota")) if "quota" in top.data else Quota()
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
        quota,
        waiting,
    )


def _quota(table: Table) -> Quota:
    table.only(
        "items_max", "bytes_max", "transfers_max", "transfer_bytes_max", "transfer_idle_s",
        "requests_max", "flash_per_minute",
    )  # fmt: skip
    given = {key: _number(table, key, limit) for key, limit in _QUOTA_LIMITS.items()}
    return replace(Quota(), **{key: value for key, value in given.items() if value is not None})


def _number(table: Table, key: str, limit: int) -> int | None:
    """A number from 1 to `limit`; None if it is not given, or is none."""
    value = table.data.get(key)
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= limit:
        table.error(key, f"not a number from 1 to {limit}")
        return None
    return value


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
