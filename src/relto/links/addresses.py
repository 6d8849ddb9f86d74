"""Where a server listens: TLS over TCP for nodes, a Unix socket for the people of this host."""

import asyncio
import contextlib
import fcntl
import ipaddress
import os
import socket
import ssl
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from relto.errors import CallerError, PeerError
from relto.links.http import Peer, PeerCredentials
from relto.links.tls import is_strict

__all__ = ["LoopbackAddress", "TlsAddress", "UnixAddress"]

BACKLOG = 128  # connections that wait to be accepted


@dataclass(frozen=True, slots=True)
class TlsAddress:
    """Where to listen for nodes; port 0 takes a free one, which `Server.port` tells."""

    host: str
    port: int
    context: ssl.SSLContext

    def __post_init__(self) -> None:
        if not is_strict(self.context):
            raise ValueError("the context must be one of server_context()")

    def listen(self) -> socket.socket:
        """A listening socket; CallerError where the address is taken or cannot be used."""
        return _listen(self.host, self.port)

    def leave(self, listener: socket.socket) -> None:
        """Stop listening."""
        listener.close()

    def peer_of(self, transport: asyncio.BaseTransport) -> Peer:
        """The DER of the certificate that the other end showed."""
        tls = transport.get_extra_info("ssl_object")
        der: bytes | None = tls.getpeercert(binary_form=True)
        if not der:
            raise PeerError("no certificate was shown")
        return der


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """Where to listen for people of this host. Whom `mode` lets in, the uid of a request names."""

    path: Path
    mode: int = 0o600
    context: None = None

    def listen(self) -> socket.socket:
        """As `TlsAddress.listen`. A file left by a server that is gone makes room."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Two servers that start at once would each find the file stale.
            with _locked(self.path.parent):
                _remove_stale(self.path)
                # Linux gives the file that bind() makes the mode of the socket, so that it is at
                # no instant open to more; the umask may have taken from it (UMask= of the unit).
                os.fchmod(listener.fileno(), self.mode)
                listener.bind(str(self.path))
                self.path.chmod(self.mode)
                if stat.S_IMODE(self.path.lstat().st_mode) & ~self.mode:
                    self.path.unlink()
                    raise CallerError(f'"{self.path}" cannot be kept to mode {self.mode:o}')
                listener.listen(BACKLOG)
        except OSError as exc:
            listener.close()
            raise CallerError(f'cannot listen at "{self.path}": {exc.strerror or exc}') from exc
        except CallerError:
            listener.close()
            raise
        return listener

    def leave(self, listener: socket.socket) -> None:
        """Stop listening, and remove the socket file unless another server listens there now."""
        listener.close()
        with contextlib.suppress(CallerError, OSError), _locked(self.path.parent):
            _remove_stale(self.path)

    def peer_of(self, transport: asyncio.BaseTransport) -> Peer:
        """The uid of the other end's process, as it was when it connected."""
        size = struct.calcsize("3i")
        credentials = transport.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, size
        )
        _pid, uid, _gid = struct.unpack("3i", credentials)
        return PeerCredentials(uid)


@dataclass(frozen=True, slots=True)
class LoopbackAddress:
    """Where to listen for programs of this host, without TLS: a loopback address and no other."""

    host: str
    port: int
    context: None = None

    def __post_init__(self) -> None:
        if not ipaddress.ip_address(self.host).is_loopback:
            raise ValueError("the address must be one of loopback")

    def listen(self) -> socket.socket:
        """As `TlsAddress.listen`."""
        return _listen(self.host, self.port)

    def leave(self, listener: socket.socket) -> None:
        """Stop listening."""
        listener.close()

    def peer_of(self, transport: asyncio.BaseTransport) -> Peer:
        """Nobody knows: the kernel names no one at the other end of TCP."""
        return b""


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _remove_stale(path: Path) -> None:
    """Remove the socket file that a server left which is gone; refuse where one still listens."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise CallerError(f'"{path}" is there and is not a socket: choose another path')
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            with contextlib.suppress(BlockingIOError):  # it listens, and is busy
                probe.connect(str(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        path.unlink()
        return
    raise CallerError(f'another process listens at "{path}": stop it or choose another path')


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        raise CallerError(f'cannot listen at "{host}" port {port}: {exc.strerror}') from exc
