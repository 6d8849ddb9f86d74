"""Puts a node together from its folder, and serves until told to stop."""

import asyncio
import logging
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from relto.agreeing import Agreeing, joined, kept
from relto.certificates import identity_of
from relto.config import Config, Peer, decode_config
from relto.counter import BUSY, Counter, is_streamed
from relto.courier import LANES, Courier
from relto.decisions import Engine
from relto.errors import CallerError, PeerError, ReltoError, StoreBroken
from relto.hop import SEALED_BYTES_MAX
from relto.keys import KeyFolder, Passphrase, open_key_folder
from relto.links import (
    Client,
    KeyFile,
    Limits,
    LoopbackAddress,
    PeerCredentials,
    Server,
    TlsAddress,
    UnixAddress,
    client_context,
    server_context,
)
from relto.node import Node, NodeSecrets
from relto.peering import Peering, peer_of
from relto.recovery import Recovery
from relto.regime import Regime, closure
from relto.signed import load_folder
from relto.stores import SqliteStore
from relto.stores.folder import read_folder
from relto.stores.writer import Observer, Writer
from relto.supervisor import notify
from relto.system import Surroundings, SystemClock, end_process
from relto.trust import Trust

if TYPE_CHECKING:
    from relto.metrics import Tallies

__all__ = [
    "CONFIG_FILE",
    "open_node",
    "open_regime",
    "open_trust",
    "read_certificate",
    "read_config",
    "serve",
]

log = logging.getLogger("relto.serving")

CONFIG_FILE = "node.toml"
BALLAST_BYTES = 16 * 1024 * 1024
KEY_CHECK_S = 3_600
ROOM_CHECK_S = 30
SIGHTING_S = 60
AGREEING_S = 30  # until peers are asked what has become of our agreements
TRANSFER_CHECK_S = 60
ALARM_CHECK_S = 5
SWITCH_S = 0.0001
SCRAPER_LIMITS = Limits(body_bytes_max=1024, connections_max=8)
PEER_LIMITS = Limits(body_bytes_max=SEALED_BYTES_MAX)
HEAD_BYTES_MAX = 1024 * 1024  # what a request of our own people has beside the payload


def read_config(folder: Path) -> Config:
    """The configuration in a node's folder. Raises CallerError."""
    file = folder / CONFIG_FILE
    try:
        data = file.read_bytes()
    except OSError as e:
        raise CallerError(
            f'cannot read "{file}": {e.strerror}; make a node with relto node init'
        ) from None
    return decode_config(data, file)


def read_regime(config: Config, papers: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of the regime in a configuration, with what its node has taken in since.

    Raises CallerError.
    """
    files, problems = read_folder(config.regime)
    if problems.errors:
        raise CallerError(f"{config.regime}: {problems.errors[0]}")
    try:
        return joined(files, papers)
    except PeerError as e:
        raise CallerError(f"{config.regime}: {e}") from e


def open_regime(config: Config, files: Mapping[str, bytes]) -> Regime:
    """The whole regime in those files, in which the node's party has a scheme.

    Raises CallerError, and RegimeError with every error.
    """
    regime = load_folder(files)
    if config.party not in regime.parties:
        raise CallerError(f'party "{config.party}" has no scheme in {config.regime}')
    return regime


def open_trust(config: Config, regime: Regime) -> Trust:
    """The CAs of this party and of its peers, as the agreements state them. Raises CallerError."""
    folder = open_key_folder(config.keys)
    identity = folder.identity
    if identity.party != config.party:
        raise CallerError(f"the keys in {config.keys} are of {identity.party}, not {config.party}")
    if config.clock == "exercise" and not identity.exercise:
        raise CallerError(
            'clock = "exercise" needs EXERCISE certificates; these are real: remove the setting'
        )
    certificates = [folder.certificate("ca"), *(read_certificate(p) for p in config.peers.values())]
    cas = [c.public_bytes(Encoding.DER) for c in certificates]
    try:
        return Trust.under(regime, cas, exercise=identity.exercise)
    except PeerError as e:
        raise CallerError(str(e)) from e


def open_node(
    config: Config, passphrase: Passphrase, *, observer: Observer | None = None
) -> tuple[Node, Agreeing]:
    """The node of a configuration, its store open, its keys in memory; and what was signed.

    Raises CallerError.
    """
    folder = open_key_folder(config.keys)
    keys = NodeSecrets(
        folder.signer("node", passphrase),
        folder.certificate("node").public_bytes(Encoding.DER),
        folder.storage_key(passphrase),
    )
    store = SqliteStore(config.store, ballast_bytes=BALLAST_BYTES)
    try:
        with store.read() as reader:
            files = read_regime(config, kept(reader))
        regime = open_regime(config, files)
        own = closure(regime, config.party)
        trust = open_trust(config, own)
    except ReltoError:
        store.close()
        raise
    around = Surroundings(SystemClock(exercise=config.clock == "exercise"))
    writer = Writer(store, on_broken=end_process, observer=observer)
    node = Node(config, store, writer, Engine(own), trust, keys, around)
    return node, Agreeing(node, files, regime)


def read_certificate(peer: Peer) -> x509.Certificate:
    """A peer's CA, from the file that the configuration names. Raises CallerError."""
    try:
        certificate = x509.load_pem_x509_certificate(peer.ca.read_bytes())
    except (OSError, ValueError) as e:
        raise CallerError(f'cannot read the CA of {peer.party} at "{peer.ca}": {e}') from None
    try:
        party = identity_of(certificate).party
    except PeerError as e:
        raise CallerError(f'the CA at "{peer.ca}" is none of relto: {e}') from None
    if party != peer.party:
        raise CallerError(f'the CA at "{peer.ca}" is of {party}; name the one of {peer.party}')
    return certificate


async def serve(
    config: Config, passphrase: Passphrase, *, ready: Callable[[], None] = lambda: None
) -> None:
    """Run the node until SIGTERM or SIGINT. `ready` is called once it answers."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no key in a core file
    # The thread that commits and the one that answers take turns, and each statement of SQLite lets
    # the other go on: with Python's 5 ms, a commit would wait for that at every one of them.
    sys.setswitchinterval(SWITCH_S)
    tallies = _tallies(config)
    node, agreeing = open_node(config, passphrase, observer=tallies)
    folder = open_key_folder(config.keys)
    connected = [peer for peer in config.peers.values() if peer.is_connected]
    pems = [read_certificate(peer).public_bytes(Encoding.PEM) for peer in connected]
    certificate = folder.certificate_path("tls")
    key = KeyFile(folder.key_path("tls"), passphrase.reveal)
    own = folder.certificate("ca").public_bytes(Encoding.PEM)
    to_server = server_context(certificate, key, pems or [own])  # without peers nobody comes in
    to_client = client_context(certificate, key, pems or [own])
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        stack.callback(node.close)
        couriers: dict[str, Courier] = {}
        for peer in connected:
            client = Client(
                peer.host,
                peer.port,
                to_client,
                check_peer=partial(_check_peer, node, couriers, peer.party),
                limits=PEER_LIMITS,
                connections_max=len(LANES) + 1,
            )
            couriers[peer.party] = Courier(node, peer, client)
        recovery = Recovery(node, couriers)
        await recovery.begin()
        await node.renew_key()
        await node.contents.sweep()
        counter = Counter(node, couriers, agreeing)
        peering = Peering(node, couriers, agreeing)
        peers = Server(
            peering.handle,
            TlsAddress(config.host, config.port, to_server),
            on_error=_log_error,
            limits=PEER_LIMITS,
            identify=lambda der: _identify(node, der),
            on_crowd=lambda host: log.warning("handshakes-refused", extra={"address": host}),
        )
        people = Server(
            counter.handle,
            UnixAddress(config.socket, config.socket_mode),
            on_error=_log_error,
            limits=Limits(body_bytes_max=config.payload_bytes_max + HEAD_BYTES_MAX),
            streams=is_streamed,
            busy=BUSY,
        )
        servers = [peers, people]
        if tallies is not None and config.metrics is not None:
            servers.append(_metrics_server(config, tallies, counter, peers, folder))
        for server in servers:
            await server.start()
            stack.push_async_callback(server.close)
        for courier in couriers.values():
            stack.push_async_callback(courier.close)
        recovery.start()  # which starts each courier once its peer was asked
        stack.push_async_callback(recovery.close)
        for period_s, action in (
            (KEY_CHECK_S, node.renew_key),
            (ROOM_CHECK_S, node.find_room),
            (ALARM_CHECK_S, node.raise_alarms),
            (TRANSFER_CHECK_S, peering.expire_transfers),
            (SIGHTING_S, counter.sightings.look),
            (AGREEING_S, partial(agreeing.ask_all, couriers)),
        ):
            task = _every(period_s, action)
            stack.callback(asyncio.create_task(task).cancel)
        address = f"{config.host}:{config.port}"
        log.info("listening", extra={"party": config.party, "address": address})
        notify("READY=1")
        stack.callback(notify, "STOPPING=1")
        ready()
        await stop.wait()


def _tallies(config: Config) -> "Tallies | None":
    """What counts for the metrics; nothing where nobody reads them."""
    if config.metrics is None:
        return None
    from relto.metrics import Tallies  # a third of the time that a command takes to start

    return Tallies()


def _metrics_server(
    config: Config, tallies: "Tallies", counter: Counter, peers: Server, folder: KeyFolder
) -> Server:
    from relto.metrics import Metrics

    assert config.metrics is not None  # noqa: S101  # there are tallies
    counter.node.on_entry = tallies.entry
    present = [r for r in ("ca", "node", "signing", "tls") if folder.certificate_path(r).exists()]
    metrics = Metrics(
        tallies,
        counter.node,
        counter.couriers,
        counter.sightings,
        peers,
        {role: folder.certificate(role) for role in present},
    )
    return Server(
        metrics.handle, LoopbackAddress(*config.metrics), on_error=_log_error, limits=SCRAPER_LIMITS
    )


def _identify(node: Node, peer: bytes | PeerCredentials) -> str:
    """Whom a connection counts against: its party, whatever certificate it shows."""
    assert isinstance(peer, bytes)  # noqa: S101  # a TLS link has no other
    return peer_of(node, peer, node.clock.system_now())


def _check_peer(node: Node, couriers: Mapping[str, Courier], party: str, der: bytes) -> None:
    couriers[party].certificate = der
    found = peer_of(node, der, node.clock.system_now())
    if found != party:
        raise PeerError(f"it is the node of {found}, not of {party}")


async def _every(period_s: float, action: Callable[[], Awaitable[None]]) -> None:
    """Do it again and again; a failure is logged, and it is tried at the next time."""
    while True:
        await asyncio.sleep(period_s)
        try:
            await action()
        except ReltoError as e:
            log.warning("task-failed", extra={"why": str(e)})


def _log_error(error: Exception) -> None:
    """A handler's fault. A broken store ends the process, also when reading found it."""
    if isinstance(error, StoreBroken):
        end_process(error)
    log.error("request-failed", exc_info=error)
