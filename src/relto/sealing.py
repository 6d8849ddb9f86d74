"""Sealing a payload piece by piece into the store, in flat memory.

A manifest states the ciphertext's digest, which is known at the end; the padding goes by the size,
which is known at the start. What is short becomes a row's bytes, what is long a durable blob.
"""

import hashlib

from relto import streams
from relto.errors import CallerError
from relto.hop import INLINE_BYTES_MAX
from relto.payloads import length_field, padding
from relto.ports import Store

__all__ = ["BLOB_PART_BYTES", "Sealing"]

BLOB_PART_BYTES = 1024 * 1024


class Sealing:
    """The ciphertext of one payload in the making, of which at most about 1 MiB is in memory."""

    def __init__(
        self, store: Store, name: str, payload_key: bytes, header: bytes, body_bytes: int
    ) -> None:
        """`header` is what goes before the body; a blob, should there be one, is called `name`."""
        self._store = store
        self._name = name
        self._encryption = streams.Encryption(payload_key)
        self._plaintext_bytes = len(header) + body_bytes
        self._left_bytes = body_bytes
        self._digest = hashlib.sha256()
        self._held = bytearray()  # ciphertext that is not in the blob yet
        self.size_bytes = 0
        self._take(length_field(self._plaintext_bytes) + header)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    @property
    def is_short(self) -> bool:
        """Whether it will surely be a row's bytes: no disk is touched before the row is written."""
        return self._plaintext_bytes <= INLINE_BYTES_MAX // 2

    @property
    def inline(self) -> bytes:
        """The whole ciphertext, where it is to be a row's bytes."""
        return bytes(self._held)

    @property
    def stored(self) -> str:
        """Where the ciphertext lies: "row" (the caller writes it), or the blob's name."""
        return "row" if self.size_bytes <= INLINE_BYTES_MAX else self._name

    def add(self, piece: bytes) -> None:
        """A piece of the body. Raises CallerError, StoreFull."""
        self._left_bytes -= len(piece)
        if self._left_bytes < 0:
            raise CallerError("the payload is longer than was announced")
        self._take(piece)

    def finish(self) -> None:
        """The body is whole: pad it, and make a blob durable. Raises CallerError, StoreFull."""
        if self._left_bytes:
            raise CallerError(f"the payload was cut off, {self._left_bytes} bytes before its end")
        for zeros in padding(self._plaintext_bytes):
            self._take(zeros)
        self._keep(self._encryption.finish())
        if self.stored != "row":
            self._flush()
            self._store.blob_sync(self._name)

    def _take(self, plaintext: bytes) -> None:
        self._keep(self._encryption.add(plaintext))

    def _keep(self, ciphertext: bytes) -> None:
        self._digest.update(ciphertext)
        self._held += ciphertext
        self.size_bytes += len(ciphertext)
        if len(self._held) >= BLOB_PART_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._store.blob_append(self._name, self.size_bytes - len(self._held), bytes(self._held))
        self._held.clear()
