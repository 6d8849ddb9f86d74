"""Keys in files: a party's folder of certificates and encrypted private keys.

    DIR/ca.crt ca.key  node.crt node.key  tls.crt tls.key  signing.crt signing.key
        officers/<name>.crt <name>.key  storage.key

Private keys are encrypted PKCS#8, `storage.key` a wrapped AES-256 key. Both are locked by scrypt:
one passphrase may open them all, and the weakest lock would be the one to pick. `ca.key` and the
officers' files may be moved away from the node, which does not need them.
"""

import functools
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from relto.certificates import ALGORITHM, Identity, decode_certificate, identity_of
from relto.envelope import keyid
from relto.errors import CallerError, PeerError
from relto.issuing import issue, make_ca
from relto.keys.files import (
    SCRYPT,
    FileSigner,
    Passphrase,
    PrivateKey,
    ScryptCost,
    create_file,
    read_file,
    read_private_key,
    read_storage_key,
    sync_folder,
    write_private_key,
    write_storage_key,
)

__all__ = ["KeyFolder", "create_key_folder", "issue_key", "open_key_folder"]


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """A party's folder. Nothing is read before it is asked for, so a file may be elsewhere."""

    path: Path

    @property
    def identity(self) -> Identity:
        """Whose folder it is, by its CA: role `ca`, with `party` and `exercise`."""
        return identity_of(self.certificate("ca"))

    @property
    def officers(self) -> tuple[str, ...]:
        """The names of the officers whose certificates are here, sorted."""
        return tuple(sorted(p.stem for p in (self.path / "officers").glob("*.crt")))

    def certificate_path(self, role: str, name: str | None = None) -> Path:
        """Where the certificate (PEM) of that role is, there or not."""
        return self._stem(role, name).with_suffix(".crt")

    def key_path(self, role: str, name: str | None = None) -> Path:
        """Where the private key of that role is, there or not. `ssl` takes `tls` by its path."""
        return self._stem(role, name).with_suffix(".key")

    def certificate(self, role: str, name: str | None = None) -> x509.Certificate:
        """The certificate of `ca`, `node`, `tls`, `signing`, or of the officer `name`.

        Raises:
            CallerError: it is not there, not readable, or says another role, name or party.
        """
        path = self.certificate_path(role, name)
        certificate = _read_certificate(path)
        identity = _identity_in(path, certificate)
        if (identity.role, identity.name) != (role, name):
            raise CallerError(f"'{path}' is the certificate of {identity}")
        if role != "ca" and identity.party != self.identity.party:
            raise CallerError(f"'{path}' is of {identity.party}, its CA of {self.identity.party}")
        return certificate

    def signer(self, role: str, passphrase: Passphrase, name: str | None = None) -> FileSigner:
        """A signer with the private key of that role, which is the key in its certificate.

        Raises:
            CallerError: no such file, others can read it, the passphrase is wrong, another key.
        """
        path = self.key_path(role, name)
        signer = FileSigner(read_private_key(path, passphrase))
        if signer.keyid != keyid(self.certificate(role, name).public_key()):
            raise CallerError(f"'{path}' is not the key of '{self.certificate_path(role, name)}'")
        return signer

    def storage_key(self, passphrase: Passphrase) -> bytes:
        """The 32 secret bytes under which the node keeps payloads and keys."""
        return read_storage_key(self.path / "storage.key", passphrase)

    def _stem(self, role: str, name: str | None) -> Path:
        Identity("KOR", role, name, exercise=False)  # no other role, and no name like `../x`
        # A name may have a dot in it: the suffix that is replaced is the one added here.
        return self.path / "officers" / f"{name}.x" if name else self.path / f"{role}.x"


def create_key_folder(
    path: Path,
    *,
    party: str,
    officers: Iterable[str] = (),
    passphrase: Passphrase,
    now: datetime,
    exercise: bool = False,
    validity: tuple[datetime, datetime] | None = None,
    cost: ScryptCost = SCRYPT,
) -> KeyFolder:
    """A new folder with a new CA, keys and certificates: all of it on disk, or no folder.

    `validity` is for exercises (see `make_ca`), and holds for the CA and every leaf.

    Raises:
        CallerError: something is at `path` already, or its parent is missing; a malformed party or
            officer; the disk refuses.
    """
    if os.path.lexists(path):
        raise CallerError(f"'{path}' exists already, and is never overwritten")
    if not path.parent.is_dir():
        raise CallerError(f"no folder '{path.parent}'; mkdir -p it first")
    # First what can be refused, then the disk.
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = make_ca(party, key=ca_key, now=now, exercise=exercise, validity=validity)
    issue_leaf = functools.partial(issue, ca=ca, ca_key=ca_key, now=now, validity=validity)
    made: list[tuple[PrivateKey | None, x509.Certificate]] = [(ca_key, ca)]
    names = [("officer", name) for name in dict.fromkeys(officers)]
    for role, name in (("node", None), ("tls", None), ("signing", None), *names):
        key = _new_key(role)
        made.append((key, issue_leaf(public_key=key.public_key(), role=role, name=name)))
    _write_folder(path, made, passphrase, cost=cost, storage=True)
    return KeyFolder(path)


def issue_key(
    path: Path,
    *,
    authority: KeyFolder,
    role: str,
    name: str | None = None,
    passphrase: Passphrase,
    now: datetime,
    cost: ScryptCost = SCRYPT,
) -> KeyFolder:
    """A new folder with a new key of that role and its certificate, under the CA in `authority`.

    `passphrase` opens the CA's key, and locks the new one. In an exercise the certificate is
    valid as long as its CA.

    Raises:
        CallerError: something is at `path` already, or its parent is missing; the CA's key is not
            there or does not open; a malformed role or name; the disk refuses.
    """
    if os.path.lexists(path):
        raise CallerError(f"'{path}' exists already, and is never overwritten")
    if not path.parent.is_dir():
        raise CallerError(f"no folder '{path.parent}'; mkdir -p it first")
    ca = authority.certificate("ca")
    ca_key = read_private_key(authority.key_path("ca"), passphrase)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey) or keyid(ca_key.public_key()) != keyid(
        ca.public_key()
    ):
        raise CallerError(f"'{authority.key_path('ca')}' is not the key of the CA beside it")
    exercise = authority.identity.exercise
    key = _new_key(role)
    leaf = issue(
        ca=ca,
        ca_key=ca_key,
        public_key=key.public_key(),
        role=role,
        name=name,
        now=now,
        validity=(ca.not_valid_before_utc, ca.not_valid_after_utc) if exercise else None,
    )
    _write_folder(path, [(None, ca), (key, leaf)], passphrase, cost=cost, storage=False)
    return KeyFolder(path)


def _write_folder(
    path: Path,
    made: Sequence[tuple[PrivateKey | None, x509.Certificate]],
    passphrase: Passphrase,
    *,
    cost: ScryptCost,
    storage: bool,
) -> None:
    """All of it on disk at `path`, with a storage key if wanted, or no folder."""
    try:
        # mkdtemp makes it 0700. Beside the target, so that the rename is one step on one disk.
        draft = KeyFolder(Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)))
    except OSError as error:
        raise CallerError(f"cannot write beside '{path}': {error.strerror}") from error
    try:
        (draft.path / "officers").mkdir(mode=0o700)
        for key, certificate in made:
            who = identity_of(certificate)
            if key is not None:
                write_private_key(draft.key_path(who.role, who.name), key, passphrase, cost=cost)
            pem = certificate.public_bytes(Encoding.PEM)
            create_file(draft.certificate_path(who.role, who.name), pem, mode=0o644)
        if storage:
            write_storage_key(draft.path / "storage.key", passphrase, cost=cost)
        draft.path.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise CallerError(f"cannot write '{path}': {error.strerror}") from error
    finally:
        shutil.rmtree(draft.path, ignore_errors=True)  # gone already after the rename


def open_key_folder(path: Path) -> KeyFolder:
    """The folder at `path`, once its CA certificate is readable and nobody else may write in it.

    Raises:
        CallerError: it is not such a folder.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise CallerError(f"cannot open '{path}': {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise CallerError(f"'{path}' is not a folder; make one with relto keys init")
    if mode & 0o022:
        raise CallerError(f"others can write into '{path}'; chmod 700 '{path}'")
    folder = KeyFolder(path)
    folder.certificate("ca")
    return folder


def _new_key(role: str) -> PrivateKey:
    if ALGORITHM[role] == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1())


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        pem = read_file(path)
        der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
        return decode_certificate(der)
    except (ValueError, PeerError) as error:
        raise CallerError(f"'{path}' is not a certificate in PEM") from error


def _identity_in(path: Path, certificate: x509.Certificate) -> Identity:
    try:
        return identity_of(certificate)
    except PeerError as error:
        raise CallerError(f"'{path}': {error}") from error
