"""The contents of items in a node's store: ciphertexts, and the payloads that open from them."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator

from relto import streams
from relto.errors import CallerError, PeerError, StoreBroken
from relto.items import Item
from relto.payloads import Payload, read_header, unpad_stream
from relto.ports import Store
from relto.sealing import BLOB_PART_BYTES

__all__ = ["Contents", "part_of"]


class Contents:
    """What one node's store holds of its items' contents."""

    def __init__(self, store: Store, payload_key: Callable[[Item], bytes | None]) -> None:
        self.store = store
        self._payload_key = payload_key  # None: this node carries the item without reading it

    def ciphertext(self, item: Item) -> Iterator[bytes]:
        """All of an item's ciphertext, in pieces of at most `BLOB_PART_BYTES`."""
        if item.stored == "row":
            with self.store.read() as reader:
                data = reader.get("ciphertext", item.id)
            yield data or b""
            return
        if not item.stored:
            raise CallerError("the item's ciphertext is not here yet")
        size = self.store.blob_size(item.stored)
        for offset in range(0, size, BLOB_PART_BYTES):
            yield self.store.blob_read(item.stored, offset, min(BLOB_PART_BYTES, size - offset))

    def require_whole(self, item: Item) -> None:
        """Raises StoreBroken where the ciphertext is not the one that the manifest states."""
        digest = hashlib.sha256()
        for piece in self.ciphertext(item):
            digest.update(piece)
        if digest.hexdigest() != item.manifest.ciphertext_sha256:
            raise StoreBroken(f"the ciphertext of {item.id} is damaged in the store")

    def open(self, item: Item) -> tuple[Payload, int, Iterator[bytes]]:
        """The header of an item's payload, the size of its body, and its body in pieces.

        Nothing comes out before everything held: a first pass checks digest, key, every chunk and
        the padding, a second one, which checks each chunk once more, gives the body.

        Raises CallerError where this node may not read it, PeerError where the maker's payload
        is none.
        """
        key = self._payload_key(item)
        if key is None:
            raise CallerError("this node carries the item without being able to read it")
        self.require_whole(item)
        commitment = bytes.fromhex(item.manifest.commitment)

        def plaintext() -> tuple[Payload, Iterator[bytes]]:
            chunks = streams.decrypt_stream(key, self.ciphertext(item), commitment=commitment)
            return read_header(unpad_stream(chunks))

        def again() -> Iterator[bytes]:
            try:
                yield from plaintext()[1]
            except PeerError as e:  # all of it held a moment ago
                raise StoreBroken(
                    f"the ciphertext of {item.id} was damaged in the store while it was read"
                ) from e

        payload, body = plaintext()
        size = sum(map(len, body))
        return payload, size, again()

    def payload(self, item: Item) -> Payload:
        """The payload of an item, whole. Raises as `open` does."""
        payload, _, body = self.open(item)
        return Payload(payload.header, b"".join(body))

    async def sweep(self) -> None:
        """At start: remove the contents that a crash left without a row that refers to them."""

        def unreferenced() -> list[str]:
            with self.store.read() as reader:
                return [
                    name
                    for name in self.store.blob_names()
                    if reader.get("blob", name) is None and reader.get("receiving", name) is None
                ]

        for name in await asyncio.to_thread(unreferenced):
            await self.drop(name)

    async def drop(self, stored: str) -> None:
        """Remove a content from the store, if it is a blob of its own."""
        if stored not in ("", "row"):
            await asyncio.to_thread(lambda: self.store.blob_remove(stored))


def part_of(pieces: Iterator[bytes]) -> bytes:
    """The next pieces, together about `BLOB_PART_BYTES`: a thread is not asked for each chunk."""
    part = bytearray()
    for piece in pieces:
        part += piece
        if len(part) >= BLOB_PART_BYTES:
            break
    return bytes(part)
