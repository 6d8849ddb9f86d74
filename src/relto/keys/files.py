"""Private keys in files, each locked by scrypt under a passphrase; and passphrases themselves.

Private keys are encrypted PKCS#8, `storage.key` a wrapped AES-256 key: one passphrase may open
them all, and the weakest lock would be the one to pick.
"""

import base64
import getpass
import os
import stat
import unicodedata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from relto import canonical
from relto.canonical import Json
from relto.certificates import (
    ALGORITHM,
    algorithm_of,
)
from relto.envelope import keyid
from relto.errors import CallerError, PeerError

__all__ = [
    "SCRYPT",
    "FileSigner",
    "Passphrase",
    "ScryptCost",
    "ask_passphrase",
    "create_file",
    "read_file",
    "read_passphrase",
    "read_private_key",
    "read_storage_key",
    "sync_folder",
    "write_private_key",
    "write_storage_key",
]

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

FILE_BYTES_MAX = 64 * 1024
PASSPHRASE_BYTES_MAX = 512
STORAGE_KEY_FORMAT = "relto-storage-key/1"
PEM_LABEL = "ENCRYPTED PRIVATE KEY"
OID_PBES2 = bytes.fromhex("06092a864886f70d01050d")  # 1.2.840.113549.1.5.13
OID_SCRYPT = bytes.fromhex("06092b06010401da47040b")  # 1.3.6.1.4.1.11591.4.11
OID_AES256_CBC = bytes.fromhex("060960864801650304012a")  # 2.16.840.1.101.3.4.1.42


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """What one guess at a passphrase costs: 128 * n * r bytes of memory, p times over."""

    n: int
    r: int
    p: int

    def __post_init__(self) -> None:
        power_of_two = self.n > 1 and self.n & (self.n - 1) == 0
        if not (power_of_two and self.n <= 2**20 and 1 <= self.r <= 32 and 1 <= self.p <= 16):
            raise CallerError(f"scrypt cost n={self.n} r={self.r} p={self.p} is out of bounds")


# OpenSSL, by which Python's `ssl` reads tls.key, refuses scrypt with 32 MiB or more (n = 2**15), so
# p makes up for n: the pair that OWASP's password storage cheat sheet gives for n = 2**14.
SCRYPT = ScryptCost(n=2**14, r=8, p=5)


class Passphrase:
    """A passphrase that does not show itself in a repr, a log line or a traceback."""

    __slots__ = ("_secret",)

    def __init__(self, text: str) -> None:
        # RFC 8265 §4.2: NFC, so that a passphrase is the same from every keyboard.
        secret = unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")
        self._secret = secret
        size = len(secret)
        del text, secret  # from the traceback of what follows
        if not size:
            raise CallerError("the passphrase is empty")
        if size > PASSPHRASE_BYTES_MAX:
            raise CallerError(f"the passphrase is longer than {PASSPHRASE_BYTES_MAX} bytes")

    def __repr__(self) -> str:
        return "Passphrase(…)"

    def reveal(self) -> bytes:
        """The secret. Pass it straight on: a name bound to it would show in a traceback."""
        return self._secret


class FileSigner:
    """Signs with a private key that was read from a file: Ed25519, or ECDSA P-256 with SHA-256."""

    __slots__ = ("_key", "algorithm", "keyid")

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self.algorithm = algorithm_of(key.public_key())
        self.keyid = keyid(key.public_key())
        if self.algorithm not in ALGORITHM.values():
            raise CallerError(f"key is {self.algorithm}, want P-256 or Ed25519")

    def __repr__(self) -> str:
        return f"FileSigner({self.algorithm} {self.keyid})"

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`: 64 bytes for Ed25519, a DER sequence for P-256."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(data)
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))


def read_passphrase(path: Path) -> Passphrase:
    """The first line of a file that its owner alone may read.

    Raises:
        CallerError: no such file, others can read it, its first line is empty or not UTF-8.
    """
    found = _first_line(path)
    if isinstance(found, str):  # raised here, where no local variable holds what was read
        raise CallerError(f"passphrase file '{path}': {found}")
    return found


def ask_passphrase(*, confirm: bool, ask: Callable[[str], str] = getpass.getpass) -> Passphrase:
    """A passphrase from the terminal, asked for twice if `confirm`; it is not echoed.

    Raises:
        CallerError: there is no terminal, or the two differ.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # it would echo
            passphrase = Passphrase(ask("passphrase: "))
            if confirm and Passphrase(ask("again: ")).reveal() != passphrase.reveal():
                raise CallerError("the two passphrases differ")
    except (getpass.GetPassWarning, EOFError, OSError) as error:
        raise CallerError("no terminal to ask for a passphrase; use --passphrase-file") from error
    return passphrase


def write_private_key(
    path: Path, key: PrivateKey, passphrase: Passphrase, *, cost: ScryptCost = SCRYPT
) -> None:
    """`key` in a new file of mode 0600, fsynced: PEM, encrypted PKCS#8.

    Raises:
        CallerError: the file exists.
    """
    create_file(path, _encrypted_pem(key, passphrase, cost), mode=0o600)


def read_private_key(path: Path, passphrase: Passphrase) -> PrivateKey:
    """The key in a file that its owner alone may read.

    Raises:
        CallerError: no such file, others can read it, it is not encrypted, the passphrase is wrong.
    """
    pem = read_file(path, secret=True)
    if not pem.startswith(f"-----BEGIN {PEM_LABEL}-----".encode()):
        raise CallerError(f"'{path}' is not an encrypted private key")
    try:
        key = load_pem_private_key(pem, passphrase.reveal())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _wrong_passphrase(path) from None
    if not isinstance(key, PrivateKey):
        raise CallerError(f"'{path}': key is neither P-256 nor Ed25519")
    return key


def write_storage_key(path: Path, passphrase: Passphrase, *, cost: ScryptCost = SCRYPT) -> None:
    """A new random AES-256 key in a new file of mode 0600, fsynced: canonical JSON.

    Raises:
        CallerError: the file exists.
    """
    salt, nonce = os.urandom(16), os.urandom(12)
    head = _storage_head(cost, salt=salt, nonce=nonce)
    aead = AESGCM(_derive(passphrase, salt, cost))
    wrapped = aead.encrypt(nonce, os.urandom(32), canonical.encode(head))
    create_file(path, canonical.encode({**head, "wrapped": _text64(wrapped)}), mode=0o600)


def read_storage_key(path: Path, passphrase: Passphrase) -> bytes:
    """The 32 secret bytes in a file that its owner alone may read.

    Raises:
        CallerError: no such file, others can read it, it is malformed, the passphrase is wrong.
    """
    data = read_file(path, secret=True)
    try:
        document: Any = canonical.decode(data, size_bytes_max=FILE_BYTES_MAX)
        kdf = document["kdf"]
        cost = ScryptCost(n=kdf["n"], r=kdf["r"], p=kdf["p"])
        salt, nonce, wrapped = (
            base64.b64decode(text, validate=True)
            for text in (kdf["salt"], document["nonce"], document["wrapped"])
        )
        head = _storage_head(cost, salt=salt, nonce=nonce)
        # Rebuilt from what was understood, it is the same: nothing unknown, missing or mistyped.
        well_formed = data == canonical.encode({**head, "wrapped": _text64(wrapped)})
    except (ValueError, TypeError, LookupError, PeerError, CallerError):
        well_formed = False
    if not (well_formed and len(nonce) == 12 and len(wrapped) == 32 + 16):
        raise CallerError(f"'{path}' is not a {STORAGE_KEY_FORMAT} file")
    try:
        aead = AESGCM(_derive(passphrase, salt, cost))
        return aead.decrypt(nonce, wrapped, canonical.encode(head))
    except InvalidTag:
        raise _wrong_passphrase(path) from None


def _storage_head(cost: ScryptCost, *, salt: bytes, nonce: bytes) -> dict[str, Json]:
    """All of the file but the wrapped key, which is bound to it."""
    kdf: Json = {"n": cost.n, "name": "scrypt", "p": cost.p, "r": cost.r, "salt": _text64(salt)}
    return {"format": STORAGE_KEY_FORMAT, "kdf": kdf, "nonce": _text64(nonce)}


def _encrypted_pem(key: PrivateKey, passphrase: Passphrase, cost: ScryptCost) -> bytes:
    """PKCS#8 under PBES2 with scrypt and AES-256-CBC, as `openssl pkcs8 -scrypt` writes it.

    Written out here because the library's `BestAvailableEncryption` stretches the passphrase by
    PBKDF2 with 2048 rounds only, some hundred times cheaper to guess at.
    """
    salt, iv = os.urandom(16), os.urandom(16)
    cipher = Cipher(algorithms.AES256(_derive(passphrase, salt, cost)), modes.CBC(iv))
    encryptor, padder = cipher.encryptor(), padding.PKCS7(128).padder()
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    padded = padder.update(plain) + padder.finalize()
    sealed = encryptor.update(padded) + encryptor.finalize()
    # RFC 8018 §6.2 and appendix A.4, RFC 7914 §7: SEQUENCE 0x30, OCTET STRING 0x04, INTEGER 0x02.
    costs = [
        _der(0x02, n.to_bytes(n.bit_length() // 8 + 1, "big")) for n in (cost.n, cost.r, cost.p)
    ]
    scrypt = _der(0x30, OID_SCRYPT, _der(0x30, _der(0x04, salt), *costs))
    aes = _der(0x30, OID_AES256_CBC, _der(0x04, iv))
    pbes2 = _der(0x30, OID_PBES2, _der(0x30, scrypt, aes))
    body = _text64(_der(0x30, pbes2, _der(0x04, sealed)))
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    pem = "\n".join([f"-----BEGIN {PEM_LABEL}-----", *lines, f"-----END {PEM_LABEL}-----", ""])
    return pem.encode()


def _der(tag: int, *parts: bytes) -> bytes:
    """One DER value; the tag's number is small and the length definite."""
    body = b"".join(parts)
    size = len(body)
    if size < 0x80:
        return bytes([tag, size]) + body
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + body


def _derive(passphrase: Passphrase, salt: bytes, cost: ScryptCost) -> bytes:
    return Scrypt(salt, length=32, n=cost.n, r=cost.r, p=cost.p).derive(passphrase.reveal())


def _text64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _wrong_passphrase(path: Path) -> CallerError:
    return CallerError(f"wrong passphrase for '{path}', or the file is damaged")


def _first_line(path: Path) -> Passphrase | str:
    line = read_file(path, secret=True).partition(b"\n")[0].removesuffix(b"\r")
    try:
        return Passphrase(line.decode())
    except UnicodeDecodeError:
        return "its first line is not UTF-8"
    except CallerError as error:
        return str(error)


def read_file(path: Path, *, secret: bool = False) -> bytes:
    """The bytes of a regular file; a `secret` one is opened to its owner alone, or refused."""
    try:
        # O_NONBLOCK: a pipe in its place must not make us wait. Then ask the open file itself, so
        # that nobody can swap it between the question and the reading.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise CallerError(f"'{path}' is not a regular file")
            if secret and status.st_mode & 0o077 and not _is_credential(path, status):
                raise CallerError(
                    f"others than its owner have access to '{path}'; chmod 600 '{path}'"
                )
            with os.fdopen(fd, "rb", closefd=False) as file:
                data = file.read(FILE_BYTES_MAX + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise CallerError(f"cannot read '{path}': {error.strerror}") from error
    if len(data) > FILE_BYTES_MAX:
        raise CallerError(f"'{path}' has more than {FILE_BYTES_MAX} bytes")
    return data


def _is_credential(path: Path, status: os.stat_result) -> bool:
    """A secret that systemd laid down for this service alone (LoadCredential=).

    Root's, in a folder that only this service sees. Newer versions let the service read it by an
    access list, whose mask stands where the group's rights would.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return (
        path.parent == Path(folder)
        and path.is_absolute()
        and status.st_uid in (0, os.geteuid())
        and not status.st_mode & 0o037
    )


def create_file(path: Path, data: bytes, *, mode: int) -> None:
    """A new file with these bytes, on disk when this returns; on failure there is none."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError as error:
        raise CallerError(f"'{path}' exists already, and is never overwritten") from error
    except OSError as error:
        raise CallerError(f"cannot write '{path}': {error.strerror}") from error
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)  # whatever the umask
            file.write(data)
            file.flush()
            os.fsync(fd)
        sync_folder(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise CallerError(f"cannot write '{path}': {error.strerror}") from error


def sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
