"""Key files: whole or absent, closed to others, silent about what they hold."""

import contextlib
import getpass
import hashlib
import logging
import os
import resource
import shutil
import ssl
import subprocess
import traceback
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from relto import canonical
from relto.envelope import keyid
from relto.errors import CallerError
from relto.keys import (
    SCRYPT,
    FileSigner,
    Identity,
    KeyFolder,
    Passphrase,
    ScryptCost,
    ask_passphrase,
    create_key_folder,
    identity_of,
    open_key_folder,
    read_passphrase,
    read_private_key,
    read_storage_key,
    verify_leaf,
    write_private_key,
    write_storage_key,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CANARY = "canary-7f3a 까나리아"
SECRET = Passphrase(CANARY)
WRONG = Passphrase("wrong-" + CANARY)
CHEAP = ScryptCost(n=2, r=1, p=1)
P256 = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
NEEDS_OPENSSL = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl is not installed: no second reader of keys"
)


def make(path: Path, **more: Any) -> KeyFolder:
    given: dict[str, Any] = {
        "party": "KOR", "officers": ["kim", "lee.min-ji"], "passphrase": SECRET, "now": NOW,
        "cost": CHEAP, **more,
    }  # fmt: skip
    return create_key_folder(path, **given)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> KeyFolder:
    return make(tmp_path_factory.mktemp("made") / "KOR")


@pytest.fixture
def folder(made: KeyFolder, tmp_path: Path) -> KeyFolder:
    """A copy that a test may spoil."""
    shutil.copytree(made.path, tmp_path / "KOR")
    return open_key_folder(tmp_path / "KOR")


def tree(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))


def mode(path: Path) -> str:
    return f"{path.stat().st_mode & 0o7777:o}"


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def disk_that_takes(size_bytes: int) -> Iterator[None]:
    """No file may grow beyond `size_bytes`: what a full disk looks like to a program."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- the folder ----------------------------------------------------------------------------------


def test_a_folder_has_a_key_and_a_certificate_for_everyone(made: KeyFolder) -> None:
    assert tree(made.path) == [
        "ca.crt",
        "ca.key",
        "node.crt",
        "node.key",
        "officers",
        "officers/kim.crt",
        "officers/kim.key",
        "officers/lee.min-ji.crt",
        "officers/lee.min-ji.key",
        "signing.crt",
        "signing.key",
        "storage.key",
        "tls.crt",
        "tls.key",
    ]
    assert made.identity == Identity("KOR", "ca", None, False)
    assert made.officers == ("kim", "lee.min-ji")


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077], ids=oct)
def test_keys_are_closed_to_others_whatever_the_umask(mask: int, tmp_path: Path) -> None:
    with umask(mask):
        path = make(tmp_path / "KOR").path
    assert {mode(p) for p in path.rglob("*.key")} == {"600"}
    assert {mode(p) for p in path.rglob("*.crt")} == {"644"}
    assert (mode(path), mode(path / "officers")) == ("700", "700")


def test_each_signer_is_the_key_of_its_certificate(made: KeyFolder) -> None:
    everyone: list[tuple[str, str | None]] = [
        ("ca", None), ("node", None), ("tls", None), ("signing", None),
        ("officer", "kim"), ("officer", "lee.min-ji"),
    ]  # fmt: skip
    ca = made.certificate("ca").public_bytes(Encoding.DER)
    keyids = set()
    for role, name in everyone:
        certificate, signer = made.certificate(role, name), made.signer(role, SECRET, name)
        assert signer.keyid == keyid(certificate.public_key())
        assert identity_of(certificate) == Identity("KOR", role, name, False)
        if role != "ca":
            leaf = certificate.public_bytes(Encoding.DER)
            verify_leaf(leaf, ca=ca, party="KOR", role=role, at=NOW)
        keyids.add(signer.keyid)
    assert len(keyids) == len(everyone)


def test_an_exercise_folder_is_for_exercises_throughout(tmp_path: Path) -> None:
    span = (datetime(2014, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))
    folder = make(tmp_path / "KOR", exercise=True, validity=span, officers=["kim"])
    for role, name in (("ca", None), ("node", None), ("tls", None), ("officer", "kim")):
        certificate = folder.certificate(role, name)
        assert identity_of(certificate).exercise
        assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == span


def test_the_ca_key_and_the_officers_may_be_moved_away(folder: KeyFolder) -> None:
    folder.key_path("ca").unlink()
    shutil.rmtree(folder.path / "officers")
    opened = open_key_folder(folder.path)
    assert opened.signer("node", SECRET).sign(b"x")
    assert opened.officers == ()
    with pytest.raises(CallerError, match=r"cannot read '.*ca\.key': No such file"):
        opened.signer("ca", SECRET)


@pytest.mark.parametrize("what", ["file", "folder", "empty folder", "broken link"])
def test_nothing_is_ever_overwritten(what: str, tmp_path: Path) -> None:
    path = tmp_path / "KOR"
    if what == "file":
        path.write_bytes(b"precious")
    elif what == "broken link":
        path.symlink_to("nowhere")
    else:
        path.mkdir()
        if what == "folder":
            (path / "ca.key").write_bytes(b"precious")
    before = tree(tmp_path)
    with pytest.raises(CallerError, match="exists already, and is never overwritten"):
        make(path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"party": "kor"}, "1 to 16 capital letters"),
        ({"officers": ["kim", "../ca"]}, "want at most 32 small letters"),
        ({"officers": ["kim", ""]}, "want at most 32 small letters"),
        ({"validity": (NOW, NOW)}, "only certificates for exercises"),
        ({"now": NOW.replace(tzinfo=None)}, "has no time zone"),
        ({"exercise": True, "validity": (NOW - timedelta(2), NOW - timedelta(1))}, "the present"),
    ],
)
def test_a_refused_request_leaves_nothing_behind(
    more: dict[str, Any], why: str, tmp_path: Path
) -> None:
    with pytest.raises(CallerError, match=why):
        make(tmp_path / "KOR", **more)
    assert tree(tmp_path) == []


@pytest.mark.parametrize("size_bytes", [0, 100, 440, 640])
def test_a_full_disk_leaves_no_half_made_folder(size_bytes: int, tmp_path: Path) -> None:
    with disk_that_takes(size_bytes), pytest.raises(CallerError, match="File too large"):
        make(tmp_path / "KOR")
    assert tree(tmp_path) == []
    make(tmp_path / "KOR")


def test_a_missing_parent_is_named_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match=r"no folder '.*/none'; mkdir -p it first"):
        make(tmp_path / "none" / "KOR")


def test_what_is_no_key_folder_is_not_opened(folder: KeyFolder, tmp_path: Path) -> None:
    def refused(path: Path, why: str) -> None:
        with pytest.raises(CallerError, match=why):
            open_key_folder(path)

    refused(tmp_path / "none", "cannot open '.*none': No such file")
    refused(folder.path / "ca.crt", "is not a folder")
    refused(tmp_path, r"cannot read '.*ca\.crt': No such file")
    folder.path.chmod(0o770)
    refused(folder.path, "others can write into '.*KOR'; chmod 700")


def swap(folder: KeyFolder, one: str, other: str) -> None:
    shutil.copy(folder.path / other, folder.path / one)


def test_a_certificate_in_the_wrong_place_is_refused(folder: KeyFolder, tmp_path: Path) -> None:
    swap(folder, "node.crt", "tls.crt")
    with pytest.raises(CallerError, match=r"node\.crt' is the certificate of KOR tls"):
        folder.certificate("node")
    swap(folder, "officers/kim.crt", "officers/lee.min-ji.crt")
    with pytest.raises(CallerError, match=r"kim\.crt' is the certificate of KOR officer lee\.min"):
        folder.certificate("officer", "kim")
    other = make(tmp_path / "USA", party="USA")
    shutil.copy(other.certificate_path("tls"), folder.certificate_path("tls"))
    with pytest.raises(CallerError, match=r"tls\.crt' is of USA, its CA of KOR"):
        folder.certificate("tls")
    swap(folder, "ca.crt", "tls.crt")
    with pytest.raises(CallerError, match=r"ca\.crt' is the certificate of USA tls"):
        open_key_folder(folder.path)
    folder.certificate_path("ca").write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n")
    with pytest.raises(CallerError, match=r"ca\.crt' is not a certificate in PEM"):
        open_key_folder(folder.path)


def test_the_key_of_another_certificate_does_not_sign(folder: KeyFolder) -> None:
    swap(folder, "signing.key", "tls.key")
    with pytest.raises(CallerError, match=r"signing\.key' is not the key of '.*signing\.crt'"):
        folder.signer("signing", SECRET)


@pytest.mark.parametrize(
    ("role", "name"),
    [
        ("boss", None),
        ("officer", None),
        ("node", "kim"),
        ("officer", "../tls"),
        ("../KOR/ca", None),
    ],
)
def test_no_name_leads_out_of_the_folder(made: KeyFolder, role: str, name: str | None) -> None:
    with pytest.raises(CallerError):
        made.certificate(role, name)
    with pytest.raises(CallerError):
        made.signer(role, SECRET, name)


# --- private keys --------------------------------------------------------------------------------


def test_signatures_verify_with_the_public_key() -> None:
    signer = FileSigner(ED25519)
    ED25519.public_key().verify(signer.sign(b"data"), b"data")
    with pytest.raises(InvalidSignature):
        ED25519.public_key().verify(signer.sign(b"data"), b"Data")
    signature = FileSigner(P256).sign(b"data")
    P256.public_key().verify(signature, b"data", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        P256.public_key().verify(signature, b"Data", ec.ECDSA(hashes.SHA256()))
    assert (FileSigner(P256).algorithm, signer.algorithm) == ("P-256", "Ed25519")


def test_a_curve_that_no_role_takes_does_not_sign() -> None:
    with pytest.raises(CallerError, match="key is secp384r1, want P-256 or Ed25519"):
        FileSigner(ec.generate_private_key(ec.SECP384R1()))


@pytest.mark.parametrize("key", [P256, ED25519], ids=["P-256", "Ed25519"])
def test_a_key_comes_back_from_its_file(key: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    write_private_key(path, key, SECRET, cost=CHEAP)
    read = read_private_key(path, SECRET)
    assert keyid(read.public_key()) == keyid(key.public_key())
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")


def test_the_same_key_is_never_encrypted_alike_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_private_key(tmp_path / name, P256, SECRET, cost=CHEAP)
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


@NEEDS_OPENSSL
@pytest.mark.parametrize("key", [P256, ED25519], ids=["P-256", "Ed25519"])
def test_openssl_opens_a_key_of_full_cost_and_sees_scrypt(key: Any, tmp_path: Path) -> None:
    path, passphrase = tmp_path / "a.key", tmp_path / "passphrase"
    write_private_key(path, key, SECRET)
    passphrase.write_text(CANARY)

    def openssl(*arguments: str | Path) -> bytes:
        command = ["openssl", *arguments]
        return subprocess.run(command, capture_output=True, timeout=20, check=True).stdout

    unlock = ("-passin", f"file:{passphrase}")
    public = openssl("pkey", "-in", path, *unlock, "-pubout", "-outform", "DER")
    assert keyid(key.public_key()) == hashlib.sha256(public).hexdigest()
    structure = openssl("asn1parse", "-in", path).decode()
    assert ":scrypt" in structure
    assert ":aes-256-cbc" in structure
    assert f"INTEGER           :{SCRYPT.n:04X}" in structure


def test_tls_loads_a_key_of_full_cost_from_its_file(made: KeyFolder, tmp_path: Path) -> None:
    """Python's `ssl` reads keys by OpenSSL, which refuses scrypt from 32 MiB upwards."""
    path = tmp_path / "tls.key"
    write_private_key(path, read_private_key(made.key_path("tls"), SECRET), SECRET)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate_path("tls"), path, password=SECRET.reveal)


def spoil(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(change(path.read_bytes())), None)[1]


def plain_pem(key: Any, lock: Any = None) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock or NoEncryption()))


def replace_by(make_it: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        make_it(path)

    return change


RSA_LOCKED = plain_pem(
    rsa.generate_private_key(public_exponent=65537, key_size=2048),
    BestAvailableEncryption(CANARY.encode()),
)

BAD_KEY_FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (Path.unlink, "cannot read '.*': No such file"),
    "open to the group": (lambda p: p.chmod(0o640), "have access to '.*'; chmod 600 '"),
    "open to others": (lambda p: p.chmod(0o604), "have access to '.*'; chmod 600 '"),
    "writable by others": (lambda p: p.chmod(0o602), "have access to '.*'; chmod 600 '"),
    "a folder": (replace_by(Path.mkdir), "is not a regular file"),
    "a pipe": (replace_by(os.mkfifo), "is not a regular file"),
    "a link to what is open": (
        replace_by(lambda p: p.symlink_to("/etc/passwd")),
        "have access to '.*'; chmod 600 '",
    ),
    "empty": (spoil(lambda _: b""), "is not an encrypted private key"),
    "huge": (spoil(lambda data: data * 1000), "has more than 65536 bytes"),
    "not encrypted": (spoil(lambda _: plain_pem(P256)), "is not an encrypted private key"),
    "a certificate": (
        spoil(lambda data: data.replace(b"ENCRYPTED PRIVATE KEY", b"CERTIFICATE")),
        "is not an encrypted private key",
    ),
    "RSA": (spoil(lambda _: RSA_LOCKED), "key is neither P-256 nor Ed25519"),
    "cut short": (spoil(lambda data: data[: len(data) // 2]), "wrong passphrase for '.*', or"),
    "a byte changed": (spoil(lambda data: data[:-40] + b"AAAA" + data[-36:]), "wrong passphrase"),
}


@pytest.mark.parametrize("case", BAD_KEY_FILES)
def test_a_bad_key_file_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    change, why = BAD_KEY_FILES[case]
    path = tmp_path / "a.key"
    write_private_key(path, P256, SECRET, cost=CHEAP)
    change(path)
    if case.startswith("a link"):
        assert os.stat(path).st_mode & 0o044
    with pytest.raises(CallerError, match=why) as refused:
        read_private_key(path, SECRET)
    assert str(refused.value).isprintable()


def test_a_wrong_passphrase_gives_one_clear_line(made: KeyFolder) -> None:
    path = made.key_path("node")
    for attempt in (
        lambda: made.signer("node", WRONG),
        lambda: read_private_key(path, Passphrase(CANARY + " ")),
    ):
        with pytest.raises(CallerError) as refused:
            attempt()
        assert str(refused.value) == f"wrong passphrase for '{path}', or the file is damaged"


@pytest.mark.parametrize("write", [write_storage_key, None], ids=["storage", "private"])
def test_a_key_file_is_never_overwritten_nor_left_half_written(write: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.key"

    def attempt() -> None:
        if write:
            write(path, SECRET, cost=CHEAP)
        else:
            write_private_key(path, P256, SECRET, cost=CHEAP)

    with (
        disk_that_takes(50),
        pytest.raises(CallerError, match=r"cannot write '.*': File too large"),
    ):
        attempt()
    assert not path.exists()
    attempt()
    before = path.read_bytes()
    with pytest.raises(CallerError, match="exists already, and is never overwritten"):
        attempt()
    assert path.read_bytes() == before


# --- the storage key -----------------------------------------------------------------------------


def test_a_storage_key_is_32_random_bytes_that_come_back(made: KeyFolder, tmp_path: Path) -> None:
    key = made.storage_key(SECRET)
    assert len(key) == 32
    assert key == made.storage_key(SECRET)
    write_storage_key(tmp_path / "storage.key", SECRET, cost=CHEAP)
    assert read_storage_key(tmp_path / "storage.key", SECRET) != key


def edit(**changes: Any) -> Callable[[bytes], bytes]:
    """The file with members of it or of its `kdf` changed, or dropped where None."""

    def change(data: bytes) -> bytes:
        document: Any = canonical.decode(data, size_bytes_max=10_000)
        for name, value in changes.items():
            home = document["kdf"] if name in ("n", "r", "p", "salt", "more") else document
            if value is None:
                del home[name]
            else:
                home[name] = value
        return canonical.encode(document)

    return change


MALFORMED = "is not a relto-storage-key/1 file"
BAD_STORAGE_KEYS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", MALFORMED),
    "no JSON": (lambda _: b"{", MALFORMED),
    "a list": (lambda _: b"[]", MALFORMED),
    "not canonical": (lambda data: data + b"\n", MALFORMED),
    "not UTF-8": (lambda data: b"\xff" + data, MALFORMED),
    "another format": (edit(format="relto-storage-key/2"), MALFORMED),
    "unknown member": (edit(wrapper="x"), MALFORMED),
    "unknown kdf member": (edit(more=1), MALFORMED),
    "no wrapped": (edit(wrapped=None), MALFORMED),
    "no kdf": (edit(kdf=None), MALFORMED),
    "no n": (edit(n=None), MALFORMED),
    "no salt": (edit(salt=None), MALFORMED),
    "kdf a string": (edit(kdf="scrypt"), MALFORMED),
    "n not a power of two": (edit(n=3), MALFORMED),
    "n zero": (edit(n=0), MALFORMED),
    "n that takes all memory": (edit(n=2**40), MALFORMED),
    "n a string": (edit(n="2"), MALFORMED),
    "r zero": (edit(r=0), MALFORMED),
    "p negative": (edit(p=-1), MALFORMED),
    "salt not base64": (edit(salt="*"), MALFORMED),
    "base64 with loose bits": (edit(nonce="AAAAAAAAAAAAAAAAAAAAAB=="), MALFORMED),
    "short nonce": (edit(nonce="AAAA"), MALFORMED),
    "short wrapped": (edit(wrapped="AAAA"), MALFORMED),
    "other salt": (edit(salt="AAAAAAAAAAAAAAAAAAAAAA=="), "wrong passphrase for"),
    "other cost": (edit(n=4), "wrong passphrase for"),
    "other nonce": (edit(nonce="AAAAAAAAAAAAAAAA"), "wrong passphrase for"),
    "other wrapped": (edit(wrapped="A" * 64), "wrong passphrase for"),
}


@pytest.mark.parametrize("case", BAD_STORAGE_KEYS)
def test_a_bad_storage_key_is_refused(case: str, tmp_path: Path) -> None:
    change, why = BAD_STORAGE_KEYS[case]
    path = tmp_path / "storage.key"
    write_storage_key(path, SECRET, cost=CHEAP)
    spoil(change)(path)
    with pytest.raises(CallerError, match=why) as refused:
        read_storage_key(path, SECRET)
    assert "\n" not in str(refused.value)


def test_a_storage_key_opens_neither_to_others_nor_by_a_wrong_passphrase(
    folder: KeyFolder,
) -> None:
    with pytest.raises(CallerError, match=r"wrong passphrase for '.*storage\.key'"):
        folder.storage_key(WRONG)
    (folder.path / "storage.key").chmod(0o644)
    with pytest.raises(CallerError, match=r"chmod 600 '.*storage\.key'"):
        folder.storage_key(SECRET)


@pytest.mark.parametrize(
    "cost",
    [
        (0, 8, 1),
        (1, 8, 1),
        (3, 8, 1),
        (2**21, 8, 1),
        (2, 0, 1),
        (2, 33, 1),
        (2, 8, 0),
        (2, 8, 17),
    ],
)
def test_a_cost_out_of_bounds_cannot_be_built(cost: tuple[int, int, int]) -> None:
    with pytest.raises(CallerError, match="is out of bounds"):
        ScryptCost(*cost)


def test_the_usual_cost_is_what_the_comment_says() -> None:
    assert (SCRYPT.n, SCRYPT.r, SCRYPT.p) == (16384, 8, 5)


# --- passphrases ---------------------------------------------------------------------------------


def passphrase_file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("data", "secret"),
    [
        (b"open sesame", b"open sesame"),
        (b"open sesame\n", b"open sesame"),
        (b"open sesame\r\nsecond line\n", b"open sesame"),
        (b" two  spaces \n", b" two  spaces "),
        ("한글".encode(), "한글".encode()),
        (b"e\xcc\x81", b"\xc3\xa9"),  # from a keyboard that sends e and an accent
    ],
)
def test_the_first_line_of_the_file_is_the_passphrase(
    data: bytes, secret: bytes, tmp_path: Path
) -> None:
    assert read_passphrase(passphrase_file(tmp_path / "p", data)).reveal() == secret


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the passphrase is empty"),
        (b"\nsecond line", "the passphrase is empty"),
        (b"\xff\xfe", "its first line is not UTF-8"),
        (b"x" * 513, "longer than 512 bytes"),
        (b"x" * 70_000, "has more than 65536 bytes"),
    ],
)
def test_a_bad_passphrase_file_is_refused(data: bytes, why: str, tmp_path: Path) -> None:
    with pytest.raises(CallerError, match=why):
        read_passphrase(passphrase_file(tmp_path / "p", data))


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o644, 0o620, 0o666], ids=oct)
def test_a_passphrase_file_open_to_others_is_refused(bits: int, tmp_path: Path) -> None:
    path = passphrase_file(tmp_path / "p", CANARY.encode())
    path.chmod(bits)
    with pytest.raises(CallerError, match="chmod 600 '") as refused:
        read_passphrase(path)
    assert "canary" not in str(refused.value)
    path.chmod(0o400)
    assert read_passphrase(path).reveal() == CANARY.encode()


def test_a_passphrase_is_asked_for_twice_when_it_is_new() -> None:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return CANARY

    assert ask_passphrase(confirm=True, ask=ask).reveal() == CANARY.encode()
    assert asked == ["passphrase: ", "again: "]
    ask_passphrase(confirm=False, ask=ask)
    assert asked[2:] == ["passphrase: "]


def test_a_bad_answer_at_the_prompt_is_refused() -> None:
    answers = iter(["one", "two"])
    with pytest.raises(CallerError, match="the two passphrases differ"):
        ask_passphrase(confirm=True, ask=lambda _: next(answers))
    with pytest.raises(CallerError, match="the passphrase is empty"):
        ask_passphrase(confirm=True, ask=lambda _: "")

    def closed(_: str) -> str:
        raise EOFError

    def echoing(_: str) -> str:
        warnings.warn("Can not control echo", getpass.GetPassWarning, stacklevel=1)
        return CANARY

    for ask in (closed, echoing):
        with pytest.raises(CallerError, match=r"no terminal to ask .* use --passphrase-file"):
            ask_passphrase(confirm=False, ask=ask)


# Written once by these functions: what is on disk somewhere must stay readable.
STORED_STORAGE_KEY = (
    b'{"format":"relto-storage-key/1","kdf":{"n":2,"name":"scrypt","p":1,"r":1,"salt":"xF04/fzJg7nvTUmrXCzvvA=="}'
    b',"nonce":"8GLQ57W7FQgHbVge","wrapped":"P2xrnjvUHHobD/cNFen4NbXQCzdQNTokaM11GT5X8ASssUZTTuD+sxdPKkICbKW3"}'
)
STORED_PRIVATE_KEY = b"""\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGaMFYGCSqGSIb3DQEFDTBJMCgGCSsGAQQB2kcECzAbBBDp0myC42MJK0hdUYK1
JafdAgECAgEBAgEBMB0GCWCGSAFlAwQBKgQQFuwOivoJc8XpOkEC1TPTlwRADIii
0XQTZRE540lqrGslMNb0I3/ON6aKmZ++VBvHUvQjdkxqyBHI0NiGEZnCMo0QnANE
u8Uxa54SbKoo98yVmQ==
-----END ENCRYPTED PRIVATE KEY-----
"""


def test_files_written_earlier_stay_readable(tmp_path: Path) -> None:
    passphrase = Passphrase("open sesame")
    storage = passphrase_file(tmp_path / "storage.key", STORED_STORAGE_KEY)
    assert read_storage_key(storage, passphrase).hex() == (
        "82aa416b5e9c7e82a332a31888d44092c64d5f486a5615f346ed0617272a5404"
    )
    private = read_private_key(passphrase_file(tmp_path / "a.key", STORED_PRIVATE_KEY), passphrase)
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    assert private.private_bytes_raw() == bytes(range(32))


# --- silence -------------------------------------------------------------------------------------


def refusal(attempt: Callable[[], object]) -> str:
    """All that a traceback with local variables says of how `attempt` was refused, logged too."""
    with pytest.raises(CallerError) as refused:
        attempt()
    error = refused.value
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next  # without the frame of this test
    logging.getLogger("relto").error("refused", exc_info=error)
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join([repr(error), *whole.format()])


def test_no_secret_is_ever_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """F-64: a canary in the passphrase; then look wherever text comes out, locals included."""
    caplog.set_level(logging.DEBUG)
    folder = make(tmp_path / "KOR")
    signer, key = folder.signer("node", SECRET), read_private_key(folder.key_path("node"), SECRET)
    shown = [
        f(x) for f in (repr, str, ascii) for x in (SECRET, signer, folder, [SECRET], {"p": SECRET})
    ]
    shown += [f"{SECRET} {SECRET!r} {signer}", "%s" % SECRET]  # noqa: UP031
    bad_file = passphrase_file(tmp_path / "bad", CANARY.encode() + b"\xff")
    long_file = passphrase_file(tmp_path / "long", CANARY.encode() * 100)
    (tmp_path / "taken").touch()
    attempts: list[Callable[[], object]] = [
        lambda: folder.signer("node", WRONG),
        lambda: folder.signer("officer", WRONG, "kim"),
        lambda: folder.storage_key(WRONG),
        lambda: folder.signer("officer", SECRET, "lee"),
        lambda: make(folder.path),
        lambda: make(tmp_path / "none" / "KOR"),
        lambda: write_private_key(tmp_path / "taken", key, SECRET, cost=CHEAP),
        lambda: write_storage_key(tmp_path / "taken", SECRET, cost=CHEAP),
        lambda: read_passphrase(bad_file),
        lambda: read_passphrase(long_file),
        lambda: ask_passphrase(confirm=False, ask=lambda _: CANARY * 100),
    ]
    shown += [refusal(attempt) for attempt in attempts]
    with disk_that_takes(0):
        shown.append(refusal(lambda: make(tmp_path / "USA")))

    out, err = capfd.readouterr()
    everything = "\n".join([*shown, caplog.text, out, err])
    assert "Passphrase(…)" in everything
    assert "wrong passphrase" in everything
    assert "canary-7f3a" not in everything
    raw = key.private_bytes_raw() if isinstance(key, ed25519.Ed25519PrivateKey) else b""
    assert len(raw) == 32
    for secret in (raw, folder.storage_key(SECRET), CANARY.encode()):
        assert secret.hex() not in everything
        assert repr(secret)[2:-1] not in everything
        for path in folder.path.rglob("*.*"):
            assert secret not in path.read_bytes()


@pytest.mark.parametrize(
    ("mode", "taken"),
    [(0o400, True), (0o440, True), (0o640, True), (0o660, False), (0o444, False), (0o450, False)],
)
def test_a_credential_of_systemd_is_taken_with_the_mask_of_its_access_list(
    mode: int, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials" / "passphrase"
    file.parent.mkdir()
    file.write_text("correct horse\n")
    file.chmod(mode)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(file.parent))
    if taken:
        assert read_passphrase(file).reveal() == b"correct horse"
    else:
        with pytest.raises(CallerError, match="chmod 600"):
            read_passphrase(file)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))  # another folder is not it
    if mode & 0o077:
        with pytest.raises(CallerError, match="chmod 600"):
            read_passphrase(file)
