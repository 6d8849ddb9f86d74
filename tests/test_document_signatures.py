"""Signatures of a document: what holds, what outside programs say of it, and every way to cheat."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from asn1crypto import keys, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pyhanko.sign.timestamps.dummy_client import DummyTimeStamper

import document_attacks
from document_attacks import AFTER, PREPARED, Change, changed
from documents import LIFE, NOW, SCHEMES, SIGNED_AT, document_terms, payload_of, signed
from pacts import Party
from relto.errors import CallerError, PeerError
from relto.signing.checking import SignedDocument, verify_document
from relto.signing.documents import make_document
from relto.signing.signatures import prepare, sign_document

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


# Time-stamps


@dataclass(frozen=True)
class Authority:
    """A time-stamping authority in this process, which says one instant."""

    at: datetime
    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @classmethod
    def of(cls, at: datetime) -> "Authority":
        key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "time")])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(7)
            .not_valid_before(datetime(2019, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2029, 1, 1, tzinfo=UTC))
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(at, key, certificate)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def stamp(self, request: bytes) -> bytes:
        key = self.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        stamper = DummyTimeStamper(
            asn1_x509.Certificate.load(self.der),
            keys.PrivateKeyInfo.load(key),
            fixed_dt=self.at,
        )
        response = stamper.request_tsa_response(tsp.TimeStampReq.load(request))
        return bytes(response.dump())


def stamped(world: World, authority: Authority, at: datetime) -> bytes:
    kor = world.parties["KOR"]
    return sign_document(
        world.unsigned, "KOR", kor.signer, kor.certificate, [kor.ca], at, authority.stamp
    )


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.of(SIGNED_AT["KOR"] + timedelta(seconds=5))


def test_a_time_stamp_of_an_authority_that_is_trusted_is_told(
    world: World, authority: Authority, tmp_path: Path
) -> None:
    document = stamped(world, authority, SIGNED_AT["KOR"])
    (signature,) = world.verify(document, tsa=[authority.der]).signatures
    assert (signature.at, signature.stamped_at) == (SIGNED_AT["KOR"], authority.at)
    (signature,) = world.verify(document).signatures
    assert signature.stamped_at is None
    if shutil.which("pdfsig"):
        assert pdfsig(document, tmp_path).count("Signature is Valid.") == 1


def test_a_time_stamp_of_another_authority_refuses(world: World, authority: Authority) -> None:
    document = stamped(world, Authority.of(authority.at), SIGNED_AT["KOR"])
    words = refusal(world, document, tsa=[authority.der])
    assert words == "the time-stamp of the signature of KOR does not hold"


def test_what_is_dated_after_its_time_stamp_refuses(world: World, authority: Authority) -> None:
    document = stamped(world, authority, authority.at + timedelta(seconds=1))
    assert "is stamped 2020-01-03T02:00:05Z, before" in refusal(
        world, document, tsa=[authority.der]
    )


def test_a_certificate_that_had_ended_when_it_was_stamped_refuses(world: World) -> None:
    late = Authority.of(datetime(2021, 6, 1, tzinfo=UTC))
    document = stamped(world, late, SIGNED_AT["KOR"])
    words = refusal(world, document, tsa=[late.der], at=datetime(2022, 1, 1, tzinfo=UTC))
    assert words.startswith("the signature of KOR: ")


@pytest.mark.parametrize("answer", [b"", b"no", b"0\x03\x02\x01\x00"])
def test_without_the_time_stamp_asked_for_nothing_is_signed(world: World, answer: bytes) -> None:
    kor = world.parties["KOR"]
    with pytest.raises(CallerError, match="no time-stamp, so nothing is signed"):
        sign_document(
            world.unsigned, "KOR", kor.signer, kor.certificate, [kor.ca], SIGNED_AT["KOR"],
            lambda request: answer,
        )  # fmt: skip


# Every way to cheat


def refusal(world: World, document: bytes, **changes: object) -> str:
    """The one line by which it is refused."""
    with pytest.raises(PeerError) as caught:
        world.verify(document, **changes)
    words = str(caught.value)
    assert "\n" not in words
    assert len(words) < 250
    return words


@pytest.mark.parametrize("change", AFTER, ids=lambda change: change.__name__)
def test_nothing_is_changed_after_the_signatures(world: World, change: Change) -> None:
    attacked = changed(world.signed, change)
    assert "after the signature of JPN something else" in refusal(world, attacked)


@pytest.mark.parametrize("change", AFTER, ids=lambda change: change.__name__)
def test_a_later_signature_does_not_cover_up_a_change(world: World, change: Change) -> None:
    attacked = changed(signed(world.unsigned, world.parties, "KOR"), change)
    attacked = signed(attacked, world.parties, "JPN", "USA")
    words = refusal(world, attacked)
    assert re.search("changed with the signature of JPN|after the signature of KOR .* added", words)


@pytest.mark.parametrize("change", PREPARED, ids=lambda change: change.__name__)
def test_a_document_prepared_for_a_shadow_attack_is_refused_as_soon_as_it_is_signed(
    world: World, change: Change
) -> None:
    prepared = changed(world.unsigned, change)
    assert "before any signature something else" in refusal(world, prepared)
    everybody = signed(prepared, world.parties, "USA", "KOR", "JPN")
    words = refusal(world, everybody)
    assert re.search("changed with the signature of USA|before any signature .* added", words)


def test_a_signature_is_not_taken_back(world: World) -> None:
    attacked = changed(world.signed, document_attacks.forget_a_signature)
    assert "after the signature of JPN something else" in refusal(world, attacked)


@needs_pdfsig
def test_pdfsig_accepts_the_attachment_that_is_refused_here(world: World, tmp_path: Path) -> None:
    attacked = changed(world.signed, document_attacks.AFTER[0])
    assert pdfsig(attacked, tmp_path).count("Signature is Valid.") == 3
    assert "after the signature of JPN something else" in refusal(world, attacked)


def test_one_does_not_sign_in_the_field_of_another(world: World) -> None:
    thief = world.parties["JPN"]
    attacked = sign_document(
        world.unsigned, "KOR", thief.signer, thief.certificate, [thief.ca], SIGNED_AT["KOR"]
    )
    assert "the signature of KOR: certificate" in refusal(world, attacked)
    assert "not signed by the CA of KOR" in refusal(world, attacked)


def test_a_ca_of_the_same_name_is_not_the_partys(world: World) -> None:
    twin = Party.of("KOR")
    attacked = sign_document(
        world.unsigned, "KOR", twin.signer, twin.certificate, [twin.ca], SIGNED_AT["KOR"]
    )
    assert "not signed by the CA of KOR" in refusal(world, attacked)


def test_an_officer_does_not_sign_for_its_party(world: World) -> None:
    kim = world.parties["KOR"].officer("kim")
    attacked = sign_document(
        world.unsigned, "KOR", kim.signer, kim.certificate, [kim.ca], SIGNED_AT["KOR"]
    )
    assert 'role is "officer", want "signing"' in refusal(world, attacked)


@pytest.mark.parametrize("days", [-1, 366])
def test_a_certificate_counts_only_in_its_time(world: World, days: int) -> None:
    kor = world.parties["KOR"]
    at = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=days)
    attacked = sign_document(world.unsigned, "KOR", kor.signer, kor.certificate, [kor.ca], at)
    words = refusal(world, attacked, at=at + timedelta(days=1))
    assert words.startswith("the signature of KOR: ")


def test_a_signature_of_tomorrow_is_refused(world: World) -> None:
    words = refusal(world, world.signed, at=SIGNED_AT["USA"] + timedelta(hours=1))
    assert words == "KOR signed at 2020-01-03T02:00:00Z, which is yet to come"


def test_a_party_without_a_known_ca_is_refused(world: World) -> None:
    cas = {name: world.parties[name].ca for name in ("USA", "JPN")}
    assert "no CA of KOR is known" in refusal(world, world.signed, cas=cas)


def test_signatures_stand_in_the_order_of_their_instants(world: World) -> None:
    attacked = signed(world.unsigned, world.parties, "KOR", "USA")
    assert refusal(world, attacked) == (
        "signatures are out of order: USA signed at 2020-01-02T05:00:00Z, over one of KOR at "
        "2020-01-03T02:00:00Z"
    )


def test_revisions_are_neither_left_out_nor_exchanged(world: World) -> None:
    base = world.unsigned
    one = signed(base, world.parties, "USA")
    two = signed(one, world.parties, "KOR")
    first, second = one[len(base) :], two[len(one) :]
    for attacked in (base + second, base + second + first, base + first + first):
        words = refusal(world, attacked)
        assert "more than its field was changed" in words or "signs twice" in words


def test_a_party_signs_once(world: World) -> None:
    with pytest.raises(CallerError, match="no empty field of KOR"):
        signed(world.signed, world.parties, "KOR")
    emptied = changed(world.signed, document_attacks.forget_a_signature)
    again = signed(emptied, world.parties, "JPN")
    assert refusal(world, again) == "JPN signs twice"


def test_who_is_no_party_has_no_field(world: World) -> None:
    kor = world.parties["KOR"]
    with pytest.raises(CallerError, match="no empty field of AUS"):
        sign_document(
            world.unsigned, "AUS", kor.signer, kor.certificate, [kor.ca], SIGNED_AT["KOR"]
        )


def test_a_key_that_is_not_the_certificates_signs_nothing(world: World) -> None:
    kor, jpn = world.parties["KOR"], world.parties["JPN"]
    with pytest.raises(CallerError, match="not the one in the certificate"):
        sign_document(
            world.unsigned, "KOR", jpn.signer, kor.certificate, [kor.ca], SIGNED_AT["KOR"]
        )


def test_the_document_of_other_terms_is_refused(world: World) -> None:
    terms = document_terms()
    terms["agreement"]["clause"][0]["text"]["en"] = "Through the hub, or not."
    other = make_document(payload_of(terms), SCHEMES, LIFE)
    attacked = signed(other, world.parties, "USA", "KOR", "JPN")
    assert "not the one that these terms give" in refusal(world, attacked)


def test_a_signature_of_another_document_does_not_hold_here(world: World) -> None:
    other = make_document(PAYLOAD, SCHEMES, {"en": ["It never ends."], "ko": ["끝나지 않는다."]})
    ((signature, _),) = cms_of(signed(other, world.parties, "KOR"))
    moved = prepare(world.unsigned, "KOR", SIGNED_AT["KOR"]).filled(signature)
    assert refusal(world, moved) == (
        "the signature of KOR does not hold: it is of another document, or by another key"
    )


def test_text_that_does_not_say_the_terms_is_refused_though_they_are_attached(
    world: World,
) -> None:
    other = make_document(PAYLOAD, SCHEMES, {"en": ["It never ends."], "ko": ["끝나지 않는다."]})
    attacked = signed(other, world.parties, "USA", "KOR", "JPN")
    assert "not the one that these terms give" in refusal(world, attacked)


def test_what_is_cut_off_is_refused_and_named_so(world: World) -> None:
    one = signed(world.unsigned, world.parties, "USA")
    sizes = [0, 1, len(world.unsigned) - 1, len(world.unsigned) + 1, len(one) - 1]
    sizes += range(len(world.unsigned) + 100, len(one), 3000)
    for size in sizes:
        assert "cut off" in refusal(world, one[:size]), size


def test_what_is_appended_is_refused(world: World) -> None:
    for more in (b"\n", b"\0", b"%%EOF\n", b"%PDF-1.7\n", world.unsigned):
        assert "after the signature of JPN something else" in refusal(world, world.signed + more)
    assert "not the one that these terms give" in refusal(world, b"\n" + world.signed)


def test_no_byte_outside_a_signature_can_be_changed(world: World) -> None:
    one = signed(world.unsigned, world.parties, "USA")
    start = one.index(b"/Contents <", len(world.unsigned)) + len(b"/Contents <")
    end = one.index(b">", start)
    step = (len(one) - end) // 12 + 1
    places = [*range(7, len(world.unsigned), 9001), *range(len(world.unsigned), start, 23)]
    for place in [*places, end, *range(end + 1, len(one), step), len(one) - 1]:
        attacked = bytearray(one)
        attacked[place] ^= 1
        refusal(world, bytes(attacked))


def test_a_changed_signature_is_refused_or_the_same_signature_still(world: World) -> None:
    one = signed(world.unsigned, world.parties, "USA")
    holds = world.verify(one)
    start = one.index(b"/Contents <", len(world.unsigned)) + len(b"/Contents <")
    refused = 0
    for place in range(start, start + 4400, 97):
        attacked = bytearray(one)
        attacked[place] = ord("1" if attacked[place] == ord("0") else "0")
        try:
            assert world.verify(bytes(attacked)) == holds
        except PeerError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 20
