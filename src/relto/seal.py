"""Sealing bytes for one holder of a key: a peer's node (HPKE), or this node's own store.

Between nodes: HPKE base mode, single-shot (RFC 9180 §6.1), with the hybrid KEM MLKEM768-X25519
(draft-ietf-hpke-pq §4; the same as X-Wing, draft-connolly-cfrg-xwing-kem), HKDF-SHA256 and
AES-256-GCM. What is recorded today stays closed if either ML-KEM or X25519 holds. Base mode does
not say who sealed: the records inside are signed, and `info` binds sender and recipient.

In the store: XAES-256-GCM (C2SP XAES-256-GCM.md), which is AES-256-GCM under a key derived from the
storage key and half of a 192-bit nonce. Nonces of that size may be drawn at random for ever; the 96
bits of plain AES-GCM may not (NIST SP 800-38D §8.3: 2**32 messages under one key).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relto import canonical
from relto.errors import CallerError, PeerError
from relto.ports import Hpke

__all__ = [
    "HYBRID",
    "PLAINTEXT_BYTES_MAX",
    "SEED_BYTES",
    "WRAP_NONCE_BYTES",
    "X25519_ONLY",
    "HpkePrivateKey",
    "HpkePublicKey",
    "Suite",
    "hop_info",
    "open_sealed",
    "seal",
    "unwrap",
    "wrap",
]

SEED_BYTES = 32
PLAINTEXT_BYTES_MAX = 4 * 1024 * 1024
"""A hop message is held in memory whole; larger payloads travel outside it, in ranges."""

STORAGE_KEY_BYTES = 32
WRAP_NONCE_BYTES = 24

_TAG_BYTES = 16
_MLKEM768_PUBLIC_BYTES = 1184
_X25519_BYTES = 32

_LibraryPrivate: TypeAlias = hpke.MLKEM768X25519PrivateKey | x25519.X25519PrivateKey
_LibraryPublic: TypeAlias = hpke.MLKEM768X25519PublicKey | x25519.X25519PublicKey


@dataclass(frozen=True, slots=True)
class Suite:
    """A KEM, with HKDF-SHA256 and an AEAD. Nodes use `HYBRID`; a test may make another."""

    name: str
    hpke_suite: Hpke = field(repr=False)
    enc_bytes: int = field(repr=False)
    public_bytes: int = field(repr=False)
    _load_private: Callable[[bytes], tuple[Any, bytes]] = field(repr=False)
    _load_public: Callable[[bytes], Any] = field(repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class HpkePublicKey:
    """A public key as it travels: for `HYBRID` 1216 bytes, ML-KEM-768 (1184) then X25519 (32).

    Raises:
        PeerError: `raw` is not a public key of this suite.
    """

    raw: bytes
    suite: Suite = field(default_factory=lambda: HYBRID)
    _key: Any = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.raw) != self.suite.public_bytes:
            raise PeerError(
                f"HPKE public key of {len(self.raw)} bytes; {self.suite.name} has"
                f" {self.suite.public_bytes}"
            )
        try:
            key = self.suite._load_public(self.raw)
        except ValueError as error:
            raise PeerError(f"not an HPKE public key for {self.suite.name}") from error
        object.__setattr__(self, "_key", key)

    def __repr__(self) -> str:
        return f'HpkePublicKey("{self.key_id}")'

    @property
    def key_id(self) -> str:
        """SHA-256 of the raw key, in lower-case hex."""
        return hashlib.sha256(self.raw).hexdigest()


@dataclass(frozen=True, slots=True)
class HpkePrivateKey:
    """A private key: a seed of 32 bytes, drawn by the caller; for `HYBRID` the decapsulation key of
    MLKEM768-X25519 itself, for `X25519_ONLY` the X25519 private key.

    Raises:
        CallerError: the seed is not 32 bytes.
    """

    seed: bytes = field(repr=False)
    suite: Suite = field(default_factory=lambda: HYBRID, repr=False)
    public_key: HpkePublicKey = field(init=False)
    _key: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES:
            raise CallerError(f"HPKE seed of {len(self.seed)} bytes; it has {SEED_BYTES}")
        key, public_raw = self.suite._load_private(self.seed)
        object.__setattr__(self, "_key", key)
        object.__setattr__(self, "public_key", HpkePublicKey(public_raw, self.suite))


def hop_info(*, version: int, sender: str, recipient: str, key_id: str) -> bytes:
    """The HPKE `info` of a hop message: it opens only as what it was sealed as.

    >>> hop_info(version=1, sender="KOR", recipient="USA", key_id="ab")
    b'{"key_id":"ab","protocol":"relto-hop","recipient":"USA","sender":"KOR","version":1}'
    """
    return canonical.encode(
        {
            "key_id": key_id,
            "protocol": "relto-hop",
            "recipient": recipient,
            "sender": sender,
            "version": version,
        }
    )


def seal(plaintext: bytes, public: HpkePublicKey, info: bytes) -> bytes:
    """`enc || ciphertext` of RFC 9180 §6.1 `SealBase`, without associated data. Never twice the
    same: the library draws the ephemeral key, anew for each call.

    Raises:
        CallerError: the plaintext is above `PLAINTEXT_BYTES_MAX`.
        PeerError: nothing can be sealed to this key (X25519 of low order, RFC 7748 §6.1).
    """
    if len(plaintext) > PLAINTEXT_BYTES_MAX:
        raise CallerError(f"{len(plaintext)} bytes to seal; at most {PLAINTEXT_BYTES_MAX}")
    try:
        return public.suite.hpke_suite.encrypt(plaintext, public._key, info)
    except ValueError as error:
        raise PeerError(f'nothing can be sealed to HPKE key "{public.key_id}"') from error


def open_sealed(ciphertext: bytes, private: HpkePrivateKey, info: bytes) -> bytes:
    """What `seal` sealed to this key under this `info` (RFC 9180 §6.1 `OpenBase`).

    Raises:
        PeerError: it was sealed to another key, under another `info`, or altered. Which, no one
            can tell, and the message does not try.
    """
    overhead = private.suite.enc_bytes + _TAG_BYTES
    if not overhead <= len(ciphertext) <= PLAINTEXT_BYTES_MAX + overhead:
        raise PeerError(
            f"sealed message of {len(ciphertext)} bytes;"
            f" {overhead} to {PLAINTEXT_BYTES_MAX + overhead} are allowed"
        )
    try:
        return private.suite.hpke_suite.decrypt(ciphertext, private._key, info)
    except (InvalidTag, ValueError) as error:
        raise PeerError("sealed message does not open: other key, other hop, or altered") from error


def wrap(storage_key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """`plaintext` sealed for this node's store: `nonce || ciphertext || tag`, XAES-256-GCM.

    `nonce` is 24 bytes, drawn at random for every call. `aad` says what this is and where it
    stands, so that the store's rows cannot be swapped.

    Raises:
        CallerError: the key is not 32 bytes, or the nonce is not 24.
    """
    key, inner_nonce = _xaes(storage_key, nonce)
    return nonce + AESGCM(key).encrypt(inner_nonce, plaintext, aad)


def unwrap(storage_key: bytes, wrapped: bytes, aad: bytes) -> bytes:
    """What `wrap` wrapped under this key and this `aad`.

    Raises:
        PeerError: another key, another `aad`, or altered bytes.
        CallerError: the key is not 32 bytes.
    """
    if len(wrapped) < WRAP_NONCE_BYTES + _TAG_BYTES:
        raise PeerError(f"wrapped value of {len(wrapped)} bytes is cut off")
    key, inner_nonce = _xaes(storage_key, wrapped[:WRAP_NONCE_BYTES])
    try:
        return AESGCM(key).decrypt(inner_nonce, wrapped[WRAP_NONCE_BYTES:], aad)
    except InvalidTag as error:
        raise PeerError(
            "wrapped value does not open: other key, other place, or altered"
        ) from error


def _xaes(key: bytes, nonce: bytes) -> tuple[bytes, bytes]:
    """The AES-256-GCM key and nonce of C2SP XAES-256-GCM.md: a key from AES-CMAC over a counter,
    "X" and the first half of the nonce (NIST SP 800-108), beside the second half."""
    if len(key) != STORAGE_KEY_BYTES:
        raise CallerError(f"storage key of {len(key)} bytes; it has {STORAGE_KEY_BYTES}")
    if len(nonce) != WRAP_NONCE_BYTES:
        raise CallerError(f"wrapping nonce of {len(nonce)} bytes; it has {WRAP_NONCE_BYTES}")
    # Single blocks, so that ECB is AES itself; the derivation is defined on it.
    block = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()  # noqa: S305
    # CMAC's subkey K1 (NIST SP 800-38B §6.1): double L = AES(0) in GF(2**128).
    doubled = int.from_bytes(block.update(bytes(16)), "big") << 1
    if doubled >> 128:
        doubled ^= (1 << 128) | 0x87
    subkey = doubled.to_bytes(16, "big")
    derived = b"".join(
        block.update(_xor(b"\x00" + bytes([counter]) + b"X\x00" + nonce[:12], subkey))
        for counter in (1, 2)
    )
    return derived, nonce[12:]


def _xor(first: bytes, second: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(first, second, strict=True))


def _load_hybrid_private(seed: bytes) -> tuple[_LibraryPrivate, bytes]:
    """draft-irtf-cfrg-concrete-hybrid-kems: SHAKE256 stretches the seed to the ML-KEM seed (64) and
    the X25519 key (32)."""
    stretched = hashlib.shake_256(seed).digest(96)
    mlkem_key = mlkem.MLKEM768PrivateKey.from_seed_bytes(stretched[:64])
    x25519_key = x25519.X25519PrivateKey.from_private_bytes(stretched[64:])
    public_raw = (
        mlkem_key.public_key().public_bytes_raw() + x25519_key.public_key().public_bytes_raw()
    )
    return hpke.MLKEM768X25519PrivateKey(mlkem_key, x25519_key), public_raw


def _load_hybrid_public(raw: bytes) -> _LibraryPublic:
    return hpke.MLKEM768X25519PublicKey(
        mlkem.MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM768_PUBLIC_BYTES]),
        x25519.X25519PublicKey.from_public_bytes(raw[_MLKEM768_PUBLIC_BYTES:]),
    )


def _load_x25519_private(seed: bytes) -> tuple[_LibraryPrivate, bytes]:
    key = x25519.X25519PrivateKey.from_private_bytes(seed)
    return key, key.public_key().public_bytes_raw()


HYBRID: Final[Suite] = Suite(
    name="MLKEM768-X25519",
    hpke_suite=hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM),
    enc_bytes=hpke.KEM.MLKEM768_X25519.enc_length(),
    public_bytes=_MLKEM768_PUBLIC_BYTES + _X25519_BYTES,
    _load_private=_load_hybrid_private,
    _load_public=_load_hybrid_public,
)
"""The only suite that nodes use."""

X25519_ONLY: Final[Suite] = Suite(
    name="DHKEM(X25519, HKDF-SHA256)",
    hpke_suite=hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM),
    enc_bytes=hpke.KEM.X25519.enc_length(),
    public_bytes=_X25519_BYTES,
    _load_private=_load_x25519_private,
    _load_public=x25519.X25519PublicKey.from_public_bytes,
)
"""RFC 9180 §7.1, no shield against a quantum computer: for checks against other implementations."""
