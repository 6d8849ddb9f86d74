"""TLS contexts of a node: version 1.3, both sides with a certificate of a CA that is named.

The handshake shows that *some* CA of `ca_pems` vouches for the peer. Which party the peer is, which
CA must vouch for that party, and whether the certificate is revoked, the caller checks on the DER
of the certificate (`check_peer`, `Request.peer`): a party's CA could certify another party's name.
"""

import contextlib
import os
import ssl
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from relto.errors import CallerError

__all__ = ["KeyFile", "client_context", "is_strict", "server_context"]


@dataclass(frozen=True, slots=True)
class KeyFile:
    """An encrypted private key in PEM; `password` is called when the key is loaded."""

    path: Path
    password: Callable[[], bytes]


def server_context(
    certificate: Path | bytes, key: KeyFile | bytes, ca_pems: Iterable[bytes]
) -> ssl.SSLContext:
    """A context to listen with. Bytes are PEM in memory and touch no disk.

    Raises:
        CallerError: certificate, key or a CA cannot be used, or no CA is named.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # a resumed session would not show its certificate again
    return _harden(context, certificate, key, ca_pems)


def client_context(
    certificate: Path | bytes, key: KeyFile | bytes, ca_pems: Iterable[bytes]
) -> ssl.SSLContext:
    """A context to connect with; otherwise as `server_context`."""
    return _harden(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, key, ca_pems)


def is_strict(context: ssl.SSLContext) -> bool:
    """Does it speak TLS 1.3 alone, and only with peers that show a certificate?"""
    return (
        context.minimum_version is ssl.TLSVersion.TLSv1_3
        and context.verify_mode is ssl.CERT_REQUIRED
    )


def _harden(
    context: ssl.SSLContext,
    certificate: Path | bytes,
    key: KeyFile | bytes,
    ca_pems: Iterable[bytes],
) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a peer is its SAN URI, which `check_peer` reads
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    _load_authorities(context, ca_pems)
    _load_own(context, certificate, key)
    return context


def _load_authorities(context: ssl.SSLContext, ca_pems: Iterable[bytes]) -> None:
    try:
        for pem in ca_pems:
            context.load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as exc:
        raise CallerError("a CA certificate is not readable as PEM") from exc
    if not context.cert_store_stats()["x509_ca"]:
        raise CallerError("no CA certificate: name the CAs of the parties to speak with")


def _load_own(context: ssl.SSLContext, certificate: Path | bytes, key: KeyFile | bytes) -> None:
    asked = False

    def password() -> bytes:
        nonlocal asked
        asked = True
        # Without a password OpenSSL would ask for one on the terminal; an empty one it refuses.
        return key.password() if isinstance(key, KeyFile) else b""

    try:
        with (
            _as_file(certificate) as certificate_path,
            _as_file(key.path if isinstance(key, KeyFile) else key) as key_path,
        ):
            context.load_cert_chain(certificate_path, key_path, password)
    except ssl.SSLError as exc:
        # OpenSSL gives Python no reason for a wrong password.
        reason = (exc.reason or "wrong password or not PEM").lower().replace("_", " ")
        raise CallerError(f"the TLS certificate or its key cannot be used: {reason}") from exc
    except OSError as exc:
        raise CallerError(f"the TLS certificate or its key cannot be read: {exc}") from exc
    if isinstance(key, KeyFile) and not asked:
        raise CallerError(f'the key in "{key.path}" is not encrypted: encrypt it')


@contextlib.contextmanager
def _as_file(source: Path | bytes) -> Iterator[Path]:
    """A path at which OpenSSL reads `source`; bytes lie in memory that has no name."""
    if isinstance(source, Path):
        yield source
        return
    with os.fdopen(os.memfd_create("relto", os.MFD_CLOEXEC), "wb") as memory:
        memory.write(source)
        memory.flush()
        yield Path(f"/proc/self/fd/{memory.fileno()}")
