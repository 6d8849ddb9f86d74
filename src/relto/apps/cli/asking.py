"""How commands ask a running node, over its Unix socket, and sign on an officer's behalf."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from relto import envelope as dsse
from relto.certificates import decode_certificate, identity_of
from relto.config import PAYLOAD_BYTES_LIMIT
from relto.envelope import Envelope
from relto.errors import CallerError, PeerError
from relto.framing import HEAD_BYTES_MAX
from relto.keys import (
    FileSigner,
    ask_passphrase,
    read_passphrase,
    read_private_key,
)
from relto.links import Limits, UnixExchange
from relto.records import Record

__all__ = [
    "NodeRefused",
    "Officer",
    "add_node",
    "add_officer",
    "answered",
    "ask",
    "ask_raw",
    "exchange",
    "new_file",
    "officer",
    "say",
]

TIMEOUT_S = 120.0
LIMITS = Limits(body_bytes_max=PAYLOAD_BYTES_LIMIT + HEAD_BYTES_MAX)


class NodeRefused(CallerError):
    """The node said no. `answer` is all that it said."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        super().__init__(str(answer.get("error", "the node refused")))
        self.answer = answer


def add_node(parser: argparse.ArgumentParser) -> None:
    """`--node DIR`, or the environment's RELTO_NODE."""
    parser.add_argument(
        "--node",
        metavar="DIR",
        default=os.environ.get("RELTO_NODE"),
        help="the node's folder, or its socket (default: $RELTO_NODE)",
    )


def add_officer(parser: argparse.ArgumentParser) -> None:
    """`--officer PATH` and where its passphrase comes from."""
    parser.add_argument(
        "--officer",
        required=True,
        metavar="PATH",
        help="the officer's key and certificate: PATH.key and PATH.crt",
    )
    parser.add_argument("--passphrase-file", metavar="FILE", help="first line: the passphrase")


def ask_raw(
    args: argparse.Namespace, method: str, target: str, body: bytes = b""
) -> tuple[int, bytes]:
    with exchange(args, method, target, (body,), len(body)) as answer:
        return answer.status, b"".join(answer.pieces())


def exchange(
    args: argparse.Namespace,
    method: str,
    target: str,
    body: Iterable[bytes] = (),
    size_bytes: int = 0,
) -> UnixExchange:
    """A request whose body goes in pieces, and whose answer may be taken so."""
    if not args.node:
        raise CallerError("which node? give --node DIR, or set RELTO_NODE")
    path = Path(args.node)
    return UnixExchange(
        path if path.is_socket() else path / "node.sock",
        method,
        target,
        body,
        size_bytes,
        timeout_s=TIMEOUT_S,
        limits=LIMITS,
    )


def ask(
    args: argparse.Namespace, method: str, target: str, body: Mapping[str, Any] | None = None
) -> Any:
    """The node's answer. Raises NodeRefused with what it said."""
    data = b"" if body is None else json.dumps(body).encode()
    return answered(*ask_raw(args, method, target, data))


def answered(status: int, data: bytes) -> Any:
    try:
        answer = json.loads(data)
    except ValueError:
        raise CallerError(f"the node answered {status} without JSON") from None
    if status != 200:
        raise NodeRefused(answer if isinstance(answer, dict) else {})
    return answer


class Officer:
    """An officer's certificate, and the key on the officer's own side, unlocked when it signs."""

    def __init__(self, path: Path, certificate: bytes, passphrase_file: str | None) -> None:
        self._path = path
        self._passphrase_file = passphrase_file
        self._signer: FileSigner | None = None
        self.certificate = certificate
        self.name = identity_of(decode_certificate(certificate)).name or ""

    def sign(self, kind: type[Record], payload: bytes) -> Envelope:
        """Raises CallerError: no such key, wrong passphrase, another key than the certificate's."""
        if self._signer is None:
            self._signer = self._unlock()
        return dsse.sign(kind.type(), payload, [self._signer])

    def _unlock(self) -> FileSigner:
        passphrase = (
            read_passphrase(Path(self._passphrase_file))
            if self._passphrase_file
            else ask_passphrase(confirm=False)
        )
        signer = FileSigner(read_private_key(_beside(self._path, ".key"), passphrase))
        if dsse.keyid(decode_certificate(self.certificate).public_key()) != signer.keyid:
            raise CallerError(f'"{self._path}.crt" is not the certificate of "{self._path}.key"')
        return signer


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)  # a name may have a dot in it


def officer(args: argparse.Namespace) -> Officer:
    """The officer that the options name. Raises CallerError."""
    path = Path(args.officer)
    file = _beside(path, ".crt")
    try:
        pem = file.read_bytes()
    except OSError as e:
        raise CallerError(f'cannot read "{file}": {e.strerror}') from None
    try:
        return Officer(path, _der(pem, file), args.passphrase_file)
    except PeerError as e:
        raise CallerError(f'"{file}" is no certificate of an officer: {e}') from None


def _der(pem: bytes, file: Path) -> bytes:
    try:
        return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    except ValueError:
        raise CallerError(f'"{file}" is no certificate in PEM form') from None


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that was not there, for its owner alone, durable at the end; gone if that fails."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as e:
        raise CallerError(f'cannot make "{path}": {e.strerror}') from None
    try:
        with os.fdopen(file, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
    except BaseException:
        path.unlink(missing_ok=True)  # half of it would look like all of it
        raise


def say(text: str) -> None:
    """Words for the person at the terminal, apart from the output that programs read."""
    print(text, file=sys.stderr)
