"""What every `Signer` owes: FileSigner with each kind of key, read back from its encrypted file."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from relto import envelope
from relto.errors import PeerError
from relto.keys import (
    FileSigner,
    Passphrase,
    ScryptCost,
    read_private_key,
    write_private_key,
)
from relto.keys.files import PrivateKey
from relto.ports import Signer

KEYS: dict[str, Callable[[], PrivateKey]] = {
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
}
TYPE = envelope.payload_type("receipt", 1)
Pair = tuple[Signer, envelope.PublicKey]


@pytest.fixture(params=KEYS)
def signer(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    key = KEYS[request.param]()
    passphrase = Passphrase("correct horse")
    path = tmp_path / "x.key"
    write_private_key(path, key, passphrase, cost=ScryptCost(n=2, r=1, p=1))
    return FileSigner(read_private_key(path, passphrase)), key.public_key()


def test_its_keyid_is_the_digest_of_its_public_key(signer: Pair) -> None:
    assert signer[0].keyid == envelope.keyid(signer[1])


def test_what_it_signs_verifies_under_its_key_and_nothing_else_does(signer: Pair) -> None:
    signed = envelope.sign(TYPE, b"payload", [signer[0]])
    assert envelope.verify(signed, signer[1], payload_type=TYPE) == b"payload"
    other = envelope.Envelope(TYPE, b"payloae", signed.signatures)
    with pytest.raises(PeerError):
        envelope.verify(other, signer[1], payload_type=TYPE)


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_it_takes_any_bytes(signer: Pair, size: int) -> None:
    signed = envelope.sign(TYPE, bytes(size), [signer[0]])
    assert envelope.verify(signed, signer[1], payload_type=TYPE) == bytes(size)


def test_it_shows_nothing_of_its_key(signer: Pair) -> None:
    assert repr(signer[0]) in (
        f"FileSigner(Ed25519 {signer[0].keyid})",
        f"FileSigner(P-256 {signer[0].keyid})",
    )
