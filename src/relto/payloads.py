"""What an item says: a header, an opaque body, and padding that hides their size.

A payload's plaintext (DESIGN §6) is

    length of the header, 4 bytes big-endian | header, canonical JSON | body

and what is encrypted is that plaintext, padded:

    length of the plaintext, 8 bytes big-endian | plaintext | zero bytes

The whole has a size that Padmé allows (Nikitin et al., PETS 2019, §4: "Reducing Metadata Leakage
from Encrypted Files and Communication with PURBs"), and at least 256 bytes. A size up to L shows
only O(log log L) bits, and costs at most 12 % more than L. Bodies are never unpacked.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from relto import canonical
from relto.canonical import Json
from relto.errors import CallerError, PeerError, ReltoError

__all__ = [
    "BUCKET_BYTES_MIN",
    "HEADER_BYTES_MAX",
    "Payload",
    "bucket_size_bytes",
    "length_field",
    "pad",
    "pad_stream",
    "padding",
    "read_header",
    "unpad",
    "unpad_stream",
]

HEADER_BYTES_MAX = 64 * 1024
TITLE_CHARACTERS_MAX = 500
NAME_BYTES_MAX = 255
RELATIONS_MAX = 256
BUCKET_BYTES_MIN = 256

_HEADER_LENGTH_BYTES = 4
_PLAINTEXT_LENGTH_BYTES = 8
_ZEROS = bytes(64 * 1024)

# RFC 6838 §4.2: restricted names. Lower case, so that one type has one spelling; no parameters.
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
_RELATION = re.compile(r"[a-z][a-z0-9-]{0,63}")
_ITEM_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Payload:
    """A header and a body.

    The header's keys: `title` and `media_type` (required), `name` (of a file, without folders),
    `relations` (a list of `{"relation", "item"}`) and `fields` (an object, by kind of item).
    """

    header: Mapping[str, Json]
    body: bytes

    def __post_init__(self) -> None:
        # A copy: what the caller still holds can no longer change this value.
        encoded = _encode_header(self.header)
        copy = canonical.decode(encoded, size_bytes_max=HEADER_BYTES_MAX)
        _check_header(copy, error=CallerError)
        object.__setattr__(self, "header", copy)

    def encode(self) -> bytes:
        """The plaintext: length, header, body."""
        return self.encode_header() + self.body

    def encode_header(self) -> bytes:
        """What goes before the body: length, header."""
        header = _encode_header(self.header)
        return len(header).to_bytes(_HEADER_LENGTH_BYTES, "big") + header

    @classmethod
    def decode(cls, data: bytes) -> "Payload":
        """The payload that `data` is, if `data` is exactly what `encode` writes for it.

        Raises:
            PeerError: one line that says what is wrong.
        """
        payload, body = read_header((data,))
        return cls(payload.header, b"".join(body))


def read_header(plaintext: Iterable[bytes]) -> tuple[Payload, Iterator[bytes]]:
    """The payload without its body, and the body in pieces, of a plaintext in pieces.

    Raises:
        PeerError: one line that says what is wrong.
    """
    pieces = iter(plaintext)
    # (1) The length, and a header of that length.
    held = _at_least(_HEADER_LENGTH_BYTES, b"", pieces)
    size = int.from_bytes(held[:_HEADER_LENGTH_BYTES], "big")
    if size > HEADER_BYTES_MAX:
        raise PeerError(f"payload header of {size} bytes; at most {HEADER_BYTES_MAX}")
    end = _HEADER_LENGTH_BYTES + size
    held = _at_least(end, held, pieces)
    # (2) The header.
    header = canonical.decode(held[_HEADER_LENGTH_BYTES:end], size_bytes_max=HEADER_BYTES_MAX)
    mapping = _check_header(header, error=PeerError)
    # (3) The rest is the body, whatever it is.
    return Payload(mapping, b""), chain((held[end:],), pieces)


def _at_least(size_bytes: int, held: bytes, pieces: Iterator[bytes]) -> bytes:
    while len(held) < size_bytes:
        piece = next(pieces, None)
        if piece is None:
            raise PeerError(f"payload of {len(held)} bytes ends before its header does")
        held += piece
    return held


def bucket_size_bytes(size_bytes: int) -> int:
    """The padded size of `size_bytes`, which counts the length field: Padmé, at least 256.

    >>> [bucket_size_bytes(n) for n in (0, 256, 257, 1000, 100_000)]
    [256, 256, 272, 1024, 100352]
    """
    if size_bytes <= BUCKET_BYTES_MIN:
        return BUCKET_BYTES_MIN
    # Padmé: like a float whose mantissa has no more bits than its exponent; the rest is zero.
    exponent = size_bytes.bit_length() - 1
    mantissa_bits = exponent.bit_length()
    mask = (1 << (exponent - mantissa_bits)) - 1
    return (size_bytes + mask) & ~mask


def pad(plaintext: bytes) -> bytes:
    """`plaintext` behind its length and before zero bytes, in the size of its bucket."""
    return b"".join(pad_stream((plaintext,), size_bytes=len(plaintext)))


def unpad(padded: bytes) -> bytes:
    """The plaintext that `pad` padded.

    Raises:
        PeerError: `padded` is not exactly what `pad` gives.
    """
    return b"".join(unpad_stream((padded,)))


def pad_stream(plaintext: Iterable[bytes], *, size_bytes: int) -> Iterator[bytes]:
    """`pad` for a plaintext of `size_bytes` in pieces; flat memory.

    Raises:
        CallerError: the pieces together have another size.
    """
    yield length_field(size_bytes)
    seen = 0
    for piece in plaintext:
        seen += len(piece)
        if seen > size_bytes:
            break
        yield piece
    if seen != size_bytes:
        raise CallerError(f"plaintext does not have the {size_bytes} bytes announced")
    yield from padding(size_bytes)


def length_field(size_bytes: int) -> bytes:
    """What `pad` writes before a plaintext of `size_bytes`."""
    return size_bytes.to_bytes(_PLAINTEXT_LENGTH_BYTES, "big")


def padding(size_bytes: int) -> Iterator[bytes]:
    """What `pad` writes behind a plaintext of `size_bytes`, in pieces; flat memory."""
    framed = _PLAINTEXT_LENGTH_BYTES + size_bytes
    left = bucket_size_bytes(framed) - framed
    while left > 0:
        zeros = _ZEROS[:left]
        yield zeros
        left -= len(zeros)


def unpad_stream(padded: Iterable[bytes]) -> Iterator[bytes]:
    """`unpad` for pieces of any size; flat memory. Only the end of the iteration says that all was
    well: show and keep nothing before it."""
    pieces = iter(padded)
    # (1) The length.
    held = b""
    for piece in pieces:
        held += piece
        if len(held) >= _PLAINTEXT_LENGTH_BYTES:
            break
    if len(held) < _PLAINTEXT_LENGTH_BYTES:
        raise PeerError(f"padded payload of {len(held)} bytes is cut off")
    size = int.from_bytes(held[:_PLAINTEXT_LENGTH_BYTES], "big")
    bucket = bucket_size_bytes(_PLAINTEXT_LENGTH_BYTES + size)
    # (2) That many bytes, then zeros. One plaintext has one padding: nothing hides in it.
    seen = _PLAINTEXT_LENGTH_BYTES
    left = size
    piece = held[_PLAINTEXT_LENGTH_BYTES:]
    while True:
        seen += len(piece)
        if seen > bucket:
            raise PeerError(f"padded payload has more than the {bucket} bytes of its bucket")
        if content := piece[:left]:
            left -= len(content)
            yield content
        padding = piece[len(content) :]
        if padding.count(0) != len(padding):
            raise PeerError("padding of the payload is not zero")
        following = next(pieces, None)
        if following is None:
            break
        piece = following
    # (3) Up to its bucket, no less.
    if seen != bucket:
        raise PeerError(f"padded payload of {seen} bytes; its bucket has {bucket}")


def _encode_header(header: Mapping[str, Json]) -> bytes:
    encoded = canonical.encode(header)
    if len(encoded) > HEADER_BYTES_MAX:
        raise CallerError(f"payload header of {len(encoded)} bytes; at most {HEADER_BYTES_MAX}")
    return encoded


def _check_header(header: Json, *, error: type[ReltoError]) -> Mapping[str, Json]:
    """`header`, if it is one; else raise `error`."""
    if not isinstance(header, dict):
        raise error("payload header is not an object")
    if unknown := sorted(header.keys() - _HEADER_CHECKS.keys()):
        raise error(f"payload header has unknown keys, the first {unknown[0][:40]!a}")
    for key in ("title", "media_type"):
        if key not in header:
            raise error(f'payload header has no "{key}"')
    for key, value in header.items():
        if problem := _HEADER_CHECKS[key](value):
            raise error(f'"{key}" of a payload header {problem}')
    return header


def _title(value: Json) -> str | None:
    if not isinstance(value, str) or not 1 <= len(value) <= TITLE_CHARACTERS_MAX:
        return f"is not text of 1 to {TITLE_CHARACTERS_MAX} characters"
    return "is not one line" if "\n" in value or "\t" in value else None


def _media_type(value: Json) -> str | None:
    if isinstance(value, str) and _MEDIA_TYPE.fullmatch(value):
        return None
    return "is not a media type in lower case without parameters, such as text/plain"


def _name(value: Json) -> str | None:
    if not isinstance(value, str) or not 1 <= len(value.encode()) <= NAME_BYTES_MAX:
        return f"is not text of 1 to {NAME_BYTES_MAX} bytes"
    # A name that a careless reader joins to a folder stays in that folder.
    if value in (".", "..") or any(character in value for character in "/\\:\n\t"):
        return 'is not a plain file name; leave out folders, ":", tabs and line breaks'
    return None


def _relations(value: Json) -> str | None:
    if not isinstance(value, list) or len(value) > RELATIONS_MAX:
        return f"is not a list of at most {RELATIONS_MAX} relations"
    return next((problem for each in value if (problem := _relation(each))), None)


def _relation(value: Json) -> str | None:
    if not isinstance(value, dict) or value.keys() != {"relation", "item"}:
        return 'has an entry that is not an object with exactly the keys "relation" and "item"'
    relation, item = value["relation"], value["item"]
    if not isinstance(relation, str) or not _RELATION.fullmatch(relation):
        return "has a relation that is not lower-case letters, digits and hyphens"
    if not isinstance(item, str) or not _ITEM_ID.fullmatch(item):
        return "names an item that is not 64 lower-case hex digits"
    return None


def _fields(value: Json) -> str | None:
    return None if isinstance(value, dict) else "is not an object"


_HEADER_CHECKS = {
    "title": _title,
    "media_type": _media_type,
    "name": _name,
    "relations": _relations,
    "fields": _fields,
}
