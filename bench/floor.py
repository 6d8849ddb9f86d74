"""What one warning must cost at least: its cryptography, commits and round trips, done bare.

No queue, no parsing, no decision, no record format: the same primitives, libraries and parameters,
one after the other in one process. The other ends of the two TLS connections are a process each,
which read a request of the size that a hop message has, and answer.
"""

import hashlib
import multiprocessing
import os
import socket
import ssl
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

import apsw
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relto import seal, streams
from relto.keys import issue, make_ca
from relto.links import client_context, server_context
from relto.seal import HpkePrivateKey

HOP_BYTES = 13_000  # what a hop message with one item of 4 KiB has, about
ITEM_BYTES = 6_000  # an item's row
RECORD_BYTES = 700
ANSWER_BYTES = 150
OPERATIONS = {
    "Seoul": "encrypt 4 KiB, wrap its key, sign manifest and release, commit, commit the dispatch,"
    " seal a hop message, one TLS round trip",
    "Washington": "open it, verify manifest and release, wrap the key, sign receipt and release,"
    " commit, commit the dispatch, seal, one TLS round trip",
    "Tokyo": "open it, verify manifest and two releases, wrap the key, sign the receipt, commit",
}


class Floor:
    """The bare steps. `run` does them once and gives milliseconds."""

    def __init__(self, folder: Path) -> None:
        self._links = [_Echo(folder), _Echo(folder)]
        self._databases = [_database(folder / f"{n}.db") for n in range(3)]
        self._signer = ed25519.Ed25519PrivateKey.generate()
        self._public = self._signer.public_key()
        self._hpke = HpkePrivateKey(os.urandom(seal.SEED_BYTES))
        self._storage_key = os.urandom(32)

    def close(self) -> None:
        for link in self._links:
            link.close()
        for database in self._databases:
            database.close()

    def run(self, *, dispatch_apart: bool = True) -> float:
        """With a commit of its own for each dispatch, or as part of the one before it."""
        plaintext, record = os.urandom(4352), os.urandom(RECORD_BYTES)
        start = time.perf_counter()
        key = os.urandom(streams.KEY_BYTES)
        ciphertext = streams.encrypt(key, plaintext)
        hashlib.sha256(ciphertext).digest()
        signature = self._signer.sign(record)
        self._signer.sign(record)
        self._keep(0, key, ciphertext)
        self._carry(0, dispatch_apart=dispatch_apart)
        for _ in range(2):
            self._public.verify(signature, record)
        self._signer.sign(record)
        self._signer.sign(record)
        self._keep(1, key, ciphertext)
        self._carry(1, dispatch_apart=dispatch_apart)
        for _ in range(3):
            self._public.verify(signature, record)
        self._signer.sign(record)
        self._keep(2, key, ciphertext)
        return (time.perf_counter() - start) * 1000

    def _keep(self, place: int, key: bytes, ciphertext: bytes) -> None:
        wrapped = seal.wrap(self._storage_key, os.urandom(24), key, b"payload")
        self._commit(place, [wrapped + bytes(ITEM_BYTES), ciphertext, bytes(600)])

    def _carry(self, place: int, *, dispatch_apart: bool) -> None:
        """Dispatch from one place to the next, which opens what came."""
        if dispatch_apart:
            self._commit(place, [bytes(ITEM_BYTES), bytes(300)])
        sealed = seal.seal(bytes(HOP_BYTES), self._hpke.public_key, b"info")
        self._links[place].round_trip(sealed)
        seal.open_sealed(sealed, self._hpke, b"info")

    def _commit(self, place: int, rows: list[bytes]) -> None:
        database = self._databases[place]
        database.execute("BEGIN IMMEDIATE")
        for row in rows:
            database.execute("INSERT INTO rows (body) VALUES (?)", (row,))
        database.execute("COMMIT")


@contextmanager
def floor() -> Iterator[Floor]:
    with tempfile.TemporaryDirectory(prefix="relto-floor-") as folder:
        made = Floor(Path(folder))
        try:
            yield made
        finally:
            made.close()


def _database(file: Path) -> apsw.Connection:
    database = apsw.Connection(str(file))
    database.pragma("journal_mode", "wal")
    database.pragma("synchronous", 2)  # FULL, as in the product
    database.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, body BLOB) STRICT")
    return database


class _Echo:
    """A TLS connection, mutual and kept, to a process that answers each request."""

    def __init__(self, folder: Path) -> None:
        now = datetime.now(UTC).replace(microsecond=0)
        ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        ca = make_ca("KOR", key=ca_key, now=now, exercise=True)
        leaf = issue(
            ca=ca, ca_key=ca_key, public_key=key.public_key(), role="tls", name=None, now=now
        )
        certificate = leaf.public_bytes(Encoding.PEM)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        cas = [ca.public_bytes(Encoding.PEM)]
        ours, theirs = multiprocessing.Pipe()
        fork = multiprocessing.get_context("fork")
        self._process = fork.Process(
            target=_answer, args=(theirs, certificate, pem, cas), daemon=True
        )
        self._process.start()
        port = ours.recv()
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = client_context(certificate, pem, cas).wrap_socket(plain)

    def round_trip(self, data: bytes) -> None:
        self._socket.sendall(struct.pack(">I", len(data)) + data)
        _receive(self._socket, ANSWER_BYTES)

    def close(self) -> None:
        self._socket.close()
        self._process.join(5)


def _answer(pipe: Connection, certificate: bytes, key: bytes, cas: list[bytes]) -> None:
    context = server_context(certificate, key, cas)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        pipe.send(listening.getsockname()[1])
        plain, _ = listening.accept()
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_side=True) as link:
            while head := _receive(link, 4):
                _receive(link, struct.unpack(">I", head)[0])
                link.sendall(bytes(ANSWER_BYTES))


def _receive(link: ssl.SSLSocket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = link.recv(size - len(data))
        if not part:
            return b""
        data += part
    return data
