"""Hop messages: what travels between two nodes, sealed for the next one (docs/spec/wire.md).

A hop message is unsigned: the records in it are signed, and HPKE binds version, sender,
recipient and key. Its plaintext is padded, so that its size on the wire is one of few.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from relto import canonical, seal
from relto.envelope import Envelope
from relto.errors import PeerError
from relto.payloads import pad, unpad
from relto.seal import HpkePrivateKey, HpkePublicKey
from relto.tables import quoted
from relto.trust import CERTIFICATES_MAX, Certificates

__all__ = [
    "INLINE_BYTES_MAX",
    "PARTS_MAX",
    "PLAINTEXT_BYTES_MAX",
    "RANGE_BYTES_MAX",
    "SEALED_BYTES_MAX",
    "VERSION",
    "Hop",
    "key_id_of",
    "open_hop",
    "open_key",
    "seal_hop",
    "seal_key",
]

VERSION = 1
INLINE_BYTES_MAX = 64 * 1024
"""Ciphertext up to this lies in the store's rows and rides in the hop message; what is larger lies
in a file and follows in ranges."""

RANGE_BYTES_MAX = 1024 * 1024  # of a ciphertext that follows in ranges

RECORDS_MAX = 64
PARTS_MAX = 64
CERTIFICATE_BYTES_MAX = 4096
PLAINTEXT_BYTES_MAX = 1024 * 1024
SEALED_BYTES_MAX = 2 * PLAINTEXT_BYTES_MAX
_KEY_ID_BYTES = 32
_DEPTH_MAX = 6  # of a part


@dataclass(frozen=True, slots=True)
class Hop:
    """One part of a message from a node to the next: one consignment, or results.

    `keys` has the payload key of an item for a reader; `sealed_keys` the payload key of an item
    sealed past this node to the last party; `ciphertexts` what is small enough to ride along.
    """

    records: tuple[Envelope, ...]
    certificates: Certificates = field(default_factory=Certificates)
    keys: Mapping[str, bytes] = field(default_factory=dict)
    sealed_keys: Mapping[str, bytes] = field(default_factory=dict)
    ciphertexts: Mapping[str, bytes] = field(default_factory=dict)

    def encode(self) -> bytes:
        return canonical.encode(
            {
                "records": [record.to_json() for record in self.records],
                "certificates": [_b64(der) for der in self.certificates.by_keyid.values()],
                "keys": {item: _b64(key) for item, key in self.keys.items()},
                "sealed_keys": {item: _b64(key) for item, key in self.sealed_keys.items()},
                "ciphertexts": {item: _b64(data) for item, data in self.ciphertexts.items()},
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> "Hop":
        """Raises PeerError unless `data` is exactly what `encode` writes."""
        return cls.from_json(
            canonical.decode(data, size_bytes_max=PLAINTEXT_BYTES_MAX, depth_max=_DEPTH_MAX)
        )

    @classmethod
    def from_json(cls, value: Any) -> "Hop":
        """Raises PeerError unless `value` is what `encode` writes."""
        names = {"records", "certificates", "keys", "sealed_keys", "ciphertexts"}
        if not isinstance(value, dict) or value.keys() != names:
            raise PeerError(f"a part of a hop message has the keys {', '.join(sorted(names))}")
        records, certificates = value["records"], value["certificates"]
        if not isinstance(records, list) or not 0 < len(records) <= RECORDS_MAX:
            raise PeerError(f"a part of a hop message has 1 to {RECORDS_MAX} records")
        if not isinstance(certificates, list) or len(certificates) > CERTIFICATES_MAX:
            raise PeerError(f"a part of a hop message has at most {CERTIFICATES_MAX} certificates")
        return cls(
            tuple(Envelope.from_json(record) for record in records),
            Certificates.of(_bytes(der, CERTIFICATE_BYTES_MAX) for der in certificates),
            _named(value["keys"], 32),
            _named(value["sealed_keys"], 8192),
            _named(value["ciphertexts"], PLAINTEXT_BYTES_MAX),
        )


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(value: Any, size_max: int) -> bytes:
    if not isinstance(value, str):
        raise PeerError(f"{quoted(value)} is not base64")
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise PeerError("not base64 where bytes belong") from None
    if len(data) > size_max or _b64(data) != value:
        raise PeerError(f"base64 of more than {size_max} bytes, or not in its one form")
    return data


def _named(value: Any, size_max: int) -> dict[str, bytes]:
    if not isinstance(value, dict) or len(value) > RECORDS_MAX:
        raise PeerError(f"not an object of at most {RECORDS_MAX} entries")
    return {name: _bytes(data, size_max) for name, data in value.items()}


def seal_hop(parts: Sequence[bytes], *, sender: str, recipient: str, key: HpkePublicKey) -> bytes:
    """Bytes to send: the id of the recipient's key (32 bytes), then what is sealed to it.

    `parts` are hops as `Hop.encode` writes them, 1 to `PARTS_MAX`.
    """
    info = seal.hop_info(version=VERSION, sender=sender, recipient=recipient, key_id=key.key_id)
    plaintext = b"[" + b",".join(parts) + b"]"
    return bytes.fromhex(key.key_id) + seal.seal(pad(plaintext), key, info)


def key_id_of(sealed: bytes) -> str:
    """Which of our keys a sealed hop message is for."""
    if len(sealed) <= _KEY_ID_BYTES:
        raise PeerError("a hop message of a few bytes")
    return sealed[:_KEY_ID_BYTES].hex()


def open_hop(sealed: bytes, *, sender: str, recipient: str, key: HpkePrivateKey) -> tuple[Hop, ...]:
    """The parts of the hop message that `sender` sealed to this key. Raises PeerError."""
    info = seal.hop_info(
        version=VERSION, sender=sender, recipient=recipient, key_id=key.public_key.key_id
    )
    plaintext = unpad(seal.open_sealed(sealed[_KEY_ID_BYTES:], key, info))
    parts = canonical.decode(
        plaintext, size_bytes_max=PLAINTEXT_BYTES_MAX, depth_max=_DEPTH_MAX + 1
    )
    if not isinstance(parts, list) or not 0 < len(parts) <= PARTS_MAX:
        raise PeerError(f"a hop message has 1 to {PARTS_MAX} parts")
    return tuple(Hop.from_json(part) for part in parts)


def _past_hub_info(*, sender: str, recipient: str, key_id: str, item: str) -> bytes:
    return canonical.encode(
        {
            "protocol": "relto-payload-key",
            "version": VERSION,
            "sender": sender,
            "recipient": recipient,
            "key_id": key_id,
            "item": item,
        }
    )


def seal_key(
    payload_key: bytes, *, sender: str, recipient: str, item: str, key: HpkePublicKey
) -> bytes:
    """A payload key sealed past a hub that does not read, to the last party."""
    info = _past_hub_info(sender=sender, recipient=recipient, key_id=key.key_id, item=item)
    return bytes.fromhex(key.key_id) + seal.seal(payload_key, key, info)


def open_key(
    sealed: bytes, *, sender: str, recipient: str, item: str, key: HpkePrivateKey
) -> bytes:
    """The payload key that `sender` sealed for this item. Raises PeerError."""
    info = _past_hub_info(
        sender=sender, recipient=recipient, key_id=key.public_key.key_id, item=item
    )
    return seal.open_sealed(sealed[_KEY_ID_BYTES:], key, info)
