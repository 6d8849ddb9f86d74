"""What can be wrong with a node: each check gives findings, each finding with its fix.

The checks look at a node's folder from outside, so that they work while it is down. What only a
running node knows comes in as its answers (`relto.sightings`).
"""

import os
import socket
import ssl
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from relto.certificates import LEAF_ROLES, verify_ca, verify_leaf
from relto.config import Config, Peer
from relto.errors import CallerError, PeerError
from relto.instants import moment
from relto.keys import KeyFolder, Passphrase, open_key_folder
from relto.serving import BALLAST_BYTES, CONFIG_FILE, read_certificate
from relto.stores.checking import Inspection

__all__ = [
    "Finding",
    "disk_findings",
    "journal_clock_findings",
    "key_findings",
    "links_findings",
    "permission_findings",
    "sighting_findings",
    "status_findings",
    "store_findings",
]

FREE_BYTES_MIN = 256 * 1024 * 1024
FREE_FILES_MIN = 1_000
OFFSET_S_MAX = 5.0  # of a clock to a peer's
HPKE_LEFT = timedelta(hours=12)  # a node renews it with a day left
WARN_BEFORE = {
    "ca": timedelta(days=90),
    "node": timedelta(days=14),
    "tls": timedelta(days=14),
    "signing": timedelta(days=30),
    "officer": timedelta(days=30),
}
PROBE_TIMEOUT_S = 5.0
LATE_SHOWN_MAX = 5
KEPT_SHARE_WARN = 0.8


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be: what was checked, what was found, what to do."""

    check: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.check}: {self.what}; {self.fix}"

    def to_json(self) -> dict[str, str]:
        return {"check": self.check, "what": self.what, "fix": self.fix}


# keys and certificates


def key_findings(
    config: Config, now: datetime, passphrase: Passphrase | None = None
) -> Iterator[Finding]:
    """Own certificates and keys, and the CAs of the parties named. `now` is system time.

    With a passphrase the keys that the node needs are opened too.
    """
    try:
        folder = open_key_folder(config.keys)
        ca = folder.certificate("ca")
    except CallerError as e:
        yield Finding("keys", str(e), "the node cannot start without its keys")
        return
    yield from _certificate_findings(ca, ca, config.party, "ca", f"CA of {config.party}", now)
    for role, name in _leaves(folder):
        what = f"{role} certificate" if name is None else f"certificate of officer {name}"
        try:
            leaf = folder.certificate(role, name)
        except CallerError as e:
            yield Finding("keys", str(e), f"issue a new {what}")
            continue
        yield from _certificate_findings(leaf, ca, config.party, role, what, now)
    for peer in config.peers.values():
        try:
            theirs = read_certificate(peer)
        except CallerError as e:
            yield Finding("keys", str(e), f"get the CA certificate of {peer.party} again")
            continue
        what = f"CA of {peer.party}"
        yield from _certificate_findings(theirs, theirs, peer.party, "ca", what, now)
    if passphrase is not None:
        for open_ in (
            lambda: folder.signer("node", passphrase),
            lambda: folder.signer("tls", passphrase),
            lambda: folder.storage_key(passphrase),
        ):
            try:
                open_()
            except CallerError as e:
                yield Finding("keys", str(e), "the node cannot start with it")


def _leaves(folder: KeyFolder) -> Iterator[tuple[str, str | None]]:
    yield from (("node", None), ("tls", None))
    if folder.certificate_path("signing").exists():
        yield "signing", None
    yield from (("officer", name) for name in folder.officers)


def _certificate_findings(
    certificate: x509.Certificate,
    ca: x509.Certificate,
    party: str,
    role: str,
    what: str,
    now: datetime,
) -> Iterator[Finding]:
    if role in LEAF_ROLES:
        fix = "relto keys issue a new one, put it in place, restart the node"
    else:
        fix = "agree on a new CA with all parties: its fingerprint stands in the agreements"
    der, issuer = (c.public_bytes(Encoding.DER) for c in (certificate, ca))
    try:
        if role in LEAF_ROLES:
            verify_leaf(der, ca=issuer, party=party, role=role, at=now)
        else:
            verify_ca(der, party=party, at=now)
    except PeerError as e:
        yield Finding("certificates", f"{what}: {e}", fix)
        return
    left = certificate.not_valid_after_utc - now
    if left < WARN_BEFORE[role]:
        ends = f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
        yield Finding("certificates", f"{what} ends in {_days(left)}, at {ends}", fix)


def _days(left: timedelta) -> str:
    return f"{left.days} days" if left.days != 1 else "1 day"


# permissions


def permission_findings(config: Config) -> Iterator[Finding]:
    """Who else may read or change what belongs to the node."""
    for path in (config.folder, config.folder / CONFIG_FILE, config.regime, config.keys):
        yield from _writable(path)
    for key in sorted([*config.keys.glob("*.key"), *config.keys.glob("officers/*.key")]):
        yield from _opened(key, 0o600)
    if (config.keys / "ca.key").exists():
        yield Finding(
            "permissions",
            f"the CA's private key lies with the node: '{config.keys / 'ca.key'}'",
            "move it to a machine that is not connected: who takes the node could make any key",
        )
    for key in sorted(config.keys.glob("officers/*.key")):
        yield Finding(
            "permissions",
            f"an officer's private key lies with the node: '{key}'",
            "move it to the officer's own machine: who takes the node could approve releases",
        )
    if config.store.exists():
        yield from _opened(config.store, 0o700)
        for file in sorted(config.store.glob("*")):
            yield from _opened(file, 0o700 if file.is_dir() else 0o600)
    if config.socket.is_socket():
        mode = stat.S_IMODE(config.socket.stat().st_mode)
        if mode != config.socket_mode:
            yield Finding(
                "permissions",
                f"the socket '{config.socket}' has mode {mode:o}, not {config.socket_mode:o}",
                "restart the node, which makes it anew",
            )
    if config.people:
        closed = [p for p in config.socket.parents if p.exists() and not p.stat().st_mode & 0o001]
        if closed:
            yield Finding(
                "permissions",
                f"the people of the configuration cannot enter '{closed[-1]}'",
                "name a socket in a folder that they may enter, such as /run/relto",
            )


def _writable(path: Path) -> Iterator[Finding]:
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # the configuration's own check tells
    if mode & 0o022:
        yield Finding("permissions", f"others can write to '{path}'", f"chmod go-w '{path}'")


def _opened(path: Path, mode: int) -> Iterator[Finding]:
    try:
        found = path.lstat().st_mode
    except OSError:
        return  # gone meanwhile, as a log of the database may be
    if found & 0o077:
        yield Finding("permissions", f"others may open '{path}'", f"chmod {mode:o} '{path}'")


# disk, store and clock


def disk_findings(
    config: Config, *, free_bytes_min: int = FREE_BYTES_MIN, free_files_min: int = FREE_FILES_MIN
) -> Iterator[Finding]:
    """Room on the store's disk, and whether the reserve is in place."""
    store = config.store
    if not store.exists():
        return
    found = os.statvfs(store)
    free = found.f_bavail * found.f_frsize
    if free < free_bytes_min:
        yield Finding(
            "disk",
            f"{free // 2**20} MiB are free for '{store}'",
            "free some space; the node takes only FLASH once it is full",
        )
    if found.f_files and found.f_favail < free_files_min:
        yield Finding(
            "disk", f"{found.f_favail} files more fit on the disk of '{store}'", "remove some files"
        )
    ballast = store / "ballast"
    if (store / "relto.db").exists() and (
        not ballast.exists() or ballast.stat().st_size != BALLAST_BYTES
    ):
        yield Finding(
            "disk",
            "the reserve for receipts and FLASH is given up: the disk was full",
            f"free more than {BALLAST_BYTES // 2**20} MiB; a running node takes it back by itself",
        )


def store_findings(found: Inspection, now: datetime, *, running: bool) -> Iterator[Finding]:
    """Damage, and the HPKE key of the week. `now` is the node's clock."""
    for line in found.damage:
        yield Finding(
            "store", line, "stop the node, keep a copy, restore a backup (docs/operations.md)"
        )
    if found.hpke_key_ends is not None and moment(found.hpke_key_ends) - now < HPKE_LEFT:
        fix = "look why it makes no new one, in its log" if running else "start the node"
        yield Finding("keys", f"the HPKE key of the week ends at {found.hpke_key_ends}", fix)


def journal_clock_findings(found: Inspection, now: datetime) -> Iterator[Finding]:
    """Whether the clock went back behind what the node wrote last. `now` is the node's clock."""
    if found.last_entry_at is None:
        return
    ahead = moment(found.last_entry_at) - now
    if ahead.total_seconds() > OFFSET_S_MAX:
        yield Finding(
            "clock",
            f"the clock is at {now:%Y-%m-%dT%H:%M:%SZ}, before the journal's last entry "
            f"({found.last_entry_at})",
            "set the system's clock by NTP (timedatectl)",
        )


# a running node's answers


def status_findings(status: Mapping[str, Any], regime_digest: str | None) -> Iterator[Finding]:
    """What a node's status says, beside the regime in its folder.

    A node that was not restarted since an upgrade may not say all of it.
    """
    if regime_digest is not None and status["regime"] != regime_digest:
        yield Finding(
            "regime",
            "the node decides by another regime than the folder holds now",
            "relto regime check, then restart the node",
        )
    if twin := status.get("twin"):
        yield Finding(
            "node",
            f"{twin} has a release of ours that this node never made: another runs with our keys",
            "stop one of the two, and restart the other; if there is no other, keys are stolen",
        )
    if status.get("behind", "") not in ("", "new"):
        waits = ", ".join(peer["party"] for peer in status["peers"] if not peer["asked"])
        yield Finding(
            "store",
            f"it is older than what peers have seen ({status['behind']}); not asked yet: "
            f"{waits or 'nobody'}",
            "it catches up by itself once all its peers are reached; set holds anew",
        )
    for peer in status.get("peers", []):
        if peer.get("missing"):
            yield Finding(
                "store",
                f"{peer['party']} has {peer['missing']} releases of ours, and gives them not back",
                f"the log says why (not-given-back); ask the engineer of {peer['party']}",
            )
        yield from _quota_findings(peer)
    all_late = status.get("late", [])
    for late in all_late[:LATE_SHOWN_MAX]:
        yield Finding(
            "alarms",
            f"{late['precedence']} item {late['item'][:12]} to {late['to']} was to be handled by "
            f"{late['due']}",
            f"relto item show {late['item'][:12]} says where it waits",
        )
    if len(all_late) > LATE_SHOWN_MAX:
        more = len(all_late) - LATE_SHOWN_MAX
        yield Finding("alarms", f"{more} more are late", "relto node status --json lists them")


def _quota_findings(peer: Mapping[str, Any]) -> Iterator[Finding]:
    """Limits that a peer has reached of late, or will."""
    party = peer["party"]
    for limit in peer.get("limits", []):
        yield Finding(
            "quota",
            f"{party} reached its limit of {limit}",
            "ask its engineer what it sends; [quota] says how much each peer may have",
        )
    for what, most in peer.get("kept_max", {}).items():
        share = peer["kept"][what] / most
        if share >= KEPT_SHARE_WARN:
            yield Finding(
                "quota",
                f"{share:.0%} of the {what} that may be kept of {party} are there",
                f"raise {what}_max under [quota] if the disk has room, and restart the node",
            )


def sighting_findings(sightings: list[Mapping[str, Any]], now: datetime) -> Iterator[Finding]:
    """What the node saw of its peers. `now` is system time, by which TLS goes."""
    for seen in sightings:
        party = seen["party"]
        if error := seen.get("error"):
            yield Finding("links", f"{party} is not reached: {error}", _link_fix(party, error))
        ends = seen.get("certificate_ends")
        if not error and ends is not None:
            yield from _peer_certificate(party, moment(ends) - now, ends)
        offset_s = seen.get("offset_s", 0.0)
        if abs(offset_s) > OFFSET_S_MAX:
            yield Finding(
                "clock",
                f"{party}'s clock is {abs(offset_s):.0f} s {'ahead' if offset_s > 0 else 'behind'}",
                "compare both with NTP (timedatectl), and set the wrong one",
            )
        for difference in seen.get("differences", []):
            yield Finding(
                "agreements",
                f"with {party}: {difference}",
                "compare the signed texts and lifecycle records with its engineer; the regime "
                "folders must hold the same",
            )


def _peer_certificate(party: str, left: timedelta, ends: str) -> Iterator[Finding]:
    if left < WARN_BEFORE["tls"]:
        yield Finding(
            "links",
            f"{party}'s TLS certificate ends in {_days(left)}, at {ends}",
            "tell its engineer to issue a new one",
        )


def _link_fix(party: str, error: str) -> str:
    for part, fix in (
        ("connection refused", "its node is down, or its address in [[peer]] is wrong"),
        ("no answer", "its host or the network between is down: call its engineer"),
        (
            "certificate",
            "compare its CA by voice; its engineer may have to issue a new certificate",
        ),
        ("alert", f"it refuses our certificate: is our CA the one that {party} has?"),
        ("closed before", "it may not name this party in [[peer]]: call its engineer"),
    ):
        if part in error:
            return fix
    return "call its engineer"


def links_findings(config: Config, now: datetime) -> Iterator[Finding]:
    """Calls every connected peer without our key: is it there, and who does it say it is?

    For when the node is down. A peer that wants our certificate, as all do, ends such a connection
    once it has shown its own, and tells nothing else.
    """
    for peer in config.peers.values():
        if not peer.is_connected:
            continue
        try:
            ca = read_certificate(peer).public_bytes(Encoding.DER)
            shown = _shown_certificate(peer)
            leaf = verify_leaf(shown, ca=ca, party=peer.party, role="tls", at=now)
        except (PeerError, CallerError) as e:
            fix = _link_fix(peer.party, str(e))
            yield Finding("links", f"{peer.party} is not reached: {e}", fix)
            continue
        ends = leaf.not_valid_after_utc
        yield from _peer_certificate(peer.party, ends - now, f"{ends:%Y-%m-%dT%H:%M:%SZ}")


def _shown_certificate(peer: Peer) -> bytes:
    """The DER of the certificate that a peer shows, unchecked. Raises PeerError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # `verify_leaf` checks it, and says what is wrong
    where = f'peer "{peer.host}" port {peer.port}'
    try:
        with (
            socket.create_connection((peer.host, peer.port), PROBE_TIMEOUT_S) as plain,
            context.wrap_socket(plain) as tls,
        ):
            return tls.getpeercert(binary_form=True) or b""
    except TimeoutError:
        raise PeerError(f"{where}: no answer within {PROBE_TIMEOUT_S:g} s") from None
    except ssl.SSLError as e:
        reason = (e.reason or "failed").lower().replace("_", " ")
        raise PeerError(f"{where}: tls: {reason}") from None
    except OSError as e:
        raise PeerError(f"{where}: {(e.strerror or 'not reached').lower()}") from None
