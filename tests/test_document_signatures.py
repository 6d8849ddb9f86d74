"""Signatures of a document: what holds, what outside programs say of it, and every way to cheat."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from documents import LIFE, NOW, SCHEMES, SIGNED_AT, document_terms, payload_of, signed
from pacts import Party
from relto.signing.checking import SignedDocument, verify_document
from relto.signing.documents import make_document

PAYLOAD = payload_of(document_terms())


@dataclass(frozen=True)
class World:
    parties: dict[str, Party]
    unsigned: bytes
    signed: bytes  # by USA, KOR and JPN, in that order

    def verify(self, document: bytes, **changes: object) -> SignedDocument:
        given = {
            "cas": {name: party.ca for name, party in self.parties.items()},
            "at": NOW,
            **changes,
        }
        return verify_document(document, PAYLOAD, SCHEMES, LIFE, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def world() -> World:
    parties = {name: Party.of(name) for name in SCHEMES}
    unsigned = make_document(PAYLOAD, SCHEMES, LIFE)
    return World(parties, unsigned, signed(unsigned, parties, "USA", "KOR", "JPN"))


# What holds


def test_each_signature_holds_and_who_is_missing_is_said(world: World) -> None:
    assert world.verify(world.unsigned) == SignedDocument((), ("JPN", "KOR", "USA"))
    two = world.verify(signed(world.unsigned, world.parties, "KOR", "JPN"))
    assert [s.party for s in two.signatures] == ["KOR", "JPN"]
    assert two.missing == ("USA",)
    three = world.verify(world.signed)
    assert [(s.party, s.at, s.stamped_at) for s in three.signatures] == [
        ("USA", SIGNED_AT["USA"], None),
        ("KOR", SIGNED_AT["KOR"], None),
        ("JPN", SIGNED_AT["JPN"], None),
    ]
    assert [s.keyid for s in three.signatures] == [
        world.parties[name].signer.keyid for name in ("USA", "KOR", "JPN")
    ]
    assert three.missing == ()


def test_a_signature_leaves_the_bytes_before_it_as_they_are(world: World) -> None:
    assert world.signed.startswith(world.unsigned)


def test_what_was_signed_in_time_holds_after_the_certificate_has_ended(world: World) -> None:
    assert world.verify(world.signed, at=NOW + timedelta(days=3000)).missing == ()


# What outside programs say


def pems(world: World) -> bytes:
    return b"".join(
        x509.load_der_x509_certificate(party.ca).public_bytes(Encoding.PEM)
        for party in world.parties.values()
    )


def pdfsig(document: bytes, tmp_path: Path) -> str:
    (tmp_path / "document.pdf").write_bytes(document)
    command = ["pdfsig", "-nocert", str(tmp_path / "document.pdf")]
    done = subprocess.run(command, capture_output=True, timeout=60)
    return done.stdout.decode()


needs_pdfsig = pytest.mark.skipif(
    shutil.which("pdfsig") is None, reason="pdfsig is not here (Debian: poppler-utils)"
)


@needs_pdfsig
def test_pdfsig_finds_every_signature_valid(world: World, tmp_path: Path) -> None:
    said = pdfsig(world.signed, tmp_path)
    assert said.count("Signature is Valid.") == 3
    assert re.findall(r"Field Name: (\w+)", said) == ["JPN", "KOR", "USA"]
    assert said.count("ETSI.CAdES.detached") == 3
    assert said.count("Total document signed") == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here")
def test_openssl_finds_every_signature_valid(world: World, tmp_path: Path) -> None:
    (tmp_path / "cas.pem").write_bytes(pems(world))
    found = 0
    for signature, covered in cms_of(world.signed):
        (tmp_path / "signature.der").write_bytes(signature)
        (tmp_path / "covered").write_bytes(covered)
        done = subprocess.run(
            ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", "signature.der",
             "-content", "covered", "-CAfile", "cas.pem", "-purpose", "any", "-out", "out",
             "-attime", str(int(NOW.timestamp()))],
            cwd=tmp_path, capture_output=True, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        found += 1
    assert found == 3


def cms_of(document: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each signature with the bytes that it covers, by its byte range."""
    for match in re.finditer(rb"/ByteRange \[(\d+) (\d+) (\d+) (\d+)\]", document):
        first, first_size, second, second_size = map(int, match.groups())
        digits = document[first + first_size + 1 : second - 1]
        covered = document[first : first + first_size] + document[second : second + second_size]
        yield bytes.fromhex(digits.decode()), covered
