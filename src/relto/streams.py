"""Encrypting a payload in chunks: the STREAM construction over AES-256-GCM, and what commits to it.

STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015) as age writes it (C2SP age.md, "Payload"): chunks
of 64 KiB, each sealed under one key with the nonce `counter (11 bytes, big-endian) || last (1)`.
A reader can check chunk by chunk in flat memory, and notices whatever is cut off, moved or added.

AES-GCM does not commit to its key: someone who chooses two keys can make one ciphertext that opens
under both, to different plaintexts, and so show two recipients of one signed manifest different
payloads. So the AEAD key is not the payload key. It and a 32-byte **commitment** are both derived
from the payload key by HKDF-SHA256 (RFC 5869) with distinct `info`; the manifest states the
commitment and every reader checks it before opening anything. Two payload keys with one commitment
would be a collision of SHA-256.

A payload key is drawn fresh for each payload. The commitment is the same whenever the key is, so a
store that keeps commitments unique also notices a key drawn twice after a machine was restored from
a snapshot, before anything leaves.
"""

import hmac
from collections.abc import Iterable, Iterator
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from relto.errors import CallerError, PeerError

__all__ = [
    "CHUNKS_MAX",
    "CHUNK_BYTES",
    "KEY_BYTES",
    "TAG_BYTES",
    "Aead",
    "Encryption",
    "ciphertext_size_bytes",
    "commitment",
    "decrypt",
    "decrypt_chunks",
    "decrypt_stream",
    "encrypt",
    "encrypt_chunks",
    "encrypt_stream",
]

KEY_BYTES = 32
CHUNK_BYTES = 64 * 1024
TAG_BYTES = 16
CHUNKS_MAX = 2**16
"""4 GiB of plaintext."""

_AEAD_INFO = b"relto/payload/v1/aes-256-gcm"
_COMMITMENT_INFO = b"relto/payload/v1/commitment"


class Aead(Protocol):
    """An AEAD with a 12-byte nonce and a 16-byte tag: AES-GCM, or ChaCha20-Poly1305 as in age."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes: ...


def commitment(payload_key: bytes) -> bytes:
    """32 bytes that only this payload key gives. Public: they say nothing about the key."""
    return _derive(payload_key, _COMMITMENT_INFO)


def encrypt(payload_key: bytes, plaintext: bytes) -> bytes:
    """The ciphertext of `plaintext`: its chunks, each with its tag, and nothing else.

    Raises:
        CallerError: the key is not 32 bytes, or the plaintext is above 4 GiB.
    """
    return b"".join(encrypt_stream(payload_key, (plaintext,)))


def decrypt(payload_key: bytes, ciphertext: bytes, *, commitment: bytes) -> bytes:
    """The plaintext of `ciphertext`, all of it or nothing.

    Raises:
        PeerError: the key is not the one `commitment` states, or the ciphertext was altered.
    """
    return b"".join(decrypt_stream(payload_key, (ciphertext,), commitment=commitment))


def encrypt_stream(payload_key: bytes, plaintext: Iterable[bytes]) -> Iterator[bytes]:
    """`encrypt` for a plaintext in pieces of any size; yields chunks, in flat memory."""
    return encrypt_chunks(AESGCM(_derive(payload_key, _AEAD_INFO)), plaintext)


def decrypt_stream(
    payload_key: bytes, ciphertext: Iterable[bytes], *, commitment: bytes
) -> Iterator[bytes]:
    """`decrypt` for a ciphertext in pieces of any size; yields chunks, in flat memory.

    The key is checked at once. Each chunk that comes out is authentic and in its place, but only
    the end of the iteration says that nothing is missing: show and keep nothing before it.
    """
    # (1) The commitment, before any of the ciphertext is touched.
    if not hmac.compare_digest(_derive(payload_key, _COMMITMENT_INFO), commitment):
        raise PeerError("payload key is not the one that the manifest commits to")
    # (2) Chunk by chunk.
    return decrypt_chunks(AESGCM(_derive(payload_key, _AEAD_INFO)), ciphertext)


class Encryption:
    """`encrypt` for a plaintext that comes piece by piece, from someone who is waited for."""

    def __init__(self, payload_key: bytes) -> None:
        self._aead = AESGCM(_derive(payload_key, _AEAD_INFO))
        self._chunks = _Chunks(CHUNK_BYTES)

    def add(self, piece: bytes) -> bytes:
        """The ciphertext of all chunks that are whole now. Raises CallerError above 4 GiB."""
        return b"".join(_sealed(self._aead, *each) for each in self._chunks.add(piece))

    def finish(self) -> bytes:
        """The last chunk's ciphertext; nothing may be added any more."""
        return _sealed(self._aead, *self._chunks.finish())


def ciphertext_size_bytes(plaintext_size_bytes: int) -> int:
    """How many bytes `encrypt` gives for that many: 16 more for each chunk begun, one at least.

    >>> [ciphertext_size_bytes(n) for n in (0, 65536, 65537)]
    [16, 65552, 65569]
    """
    return plaintext_size_bytes + TAG_BYTES * max(1, -(-plaintext_size_bytes // CHUNK_BYTES))


def encrypt_chunks(
    aead: Aead, plaintext: Iterable[bytes], *, chunks_max: int = CHUNKS_MAX
) -> Iterator[bytes]:
    """STREAM encryption under a key that seals nothing else.

    Only an empty plaintext gives an empty chunk.
    """
    for index, chunk, last in _chunks(plaintext, CHUNK_BYTES):
        yield _sealed(aead, index, chunk, last, chunks_max=chunks_max)


def decrypt_chunks(
    aead: Aead, ciphertext: Iterable[bytes], *, chunks_max: int = CHUNKS_MAX
) -> Iterator[bytes]:
    """STREAM decryption. Refuses what is cut off, moved, added or altered, at the first chunk."""
    for index, sealed, last in _chunks(ciphertext, CHUNK_BYTES + TAG_BYTES):
        if index >= chunks_max:
            raise PeerError(f"ciphertext is above {chunks_max} chunks of 64 KiB")
        if len(sealed) < TAG_BYTES:
            raise PeerError(f"ciphertext is cut off in chunk {index}")
        if len(sealed) == TAG_BYTES and index > 0:
            raise PeerError(f"ciphertext has an empty chunk {index}; only an empty payload has one")
        try:
            yield aead.decrypt(_nonce(index, last=last), sealed, None)
        except InvalidTag as error:
            raise PeerError(f"ciphertext was cut off or altered in chunk {index}") from error


def _sealed(
    aead: Aead, index: int, chunk: bytes, last: bool, *, chunks_max: int = CHUNKS_MAX
) -> bytes:
    if index >= chunks_max:
        raise CallerError(f"payload is above {chunks_max} chunks of 64 KiB; send it in parts")
    return aead.encrypt(_nonce(index, last=last), chunk, None)


class _Chunks:
    """Bytes as (index, chunk, last): full chunks, the last one perhaps shorter.

    The last is empty only if there are no bytes at all. A full chunk is held back until a further
    byte, or the end, says whether it is the last.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._held = bytearray()
        self._index = 0

    def add(self, piece: bytes) -> Iterator[tuple[int, bytes, bool]]:
        """The chunks that are whole now: to be iterated to its end."""
        self._held += piece
        start = 0
        while len(self._held) - start > self._size_bytes:
            yield self._index, bytes(self._held[start : start + self._size_bytes]), False
            self._index += 1
            start += self._size_bytes
        del self._held[:start]

    def finish(self) -> tuple[int, bytes, bool]:
        return self._index, bytes(self._held), True


def _chunks(pieces: Iterable[bytes], size_bytes: int) -> Iterator[tuple[int, bytes, bool]]:
    chunks = _Chunks(size_bytes)
    for piece in pieces:
        yield from chunks.add(piece)
    yield chunks.finish()


def _nonce(index: int, *, last: bool) -> bytes:
    return index.to_bytes(11, "big") + bytes([last])


def _derive(payload_key: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) of the payload key, without salt: the key is uniform already."""
    if len(payload_key) != KEY_BYTES:
        raise CallerError(f"payload key of {len(payload_key)} bytes; it has {KEY_BYTES}")
    return HKDF(hashes.SHA256(), length=32, salt=None, info=info).derive(payload_key)
