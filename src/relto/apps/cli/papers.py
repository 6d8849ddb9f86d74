"""What commands about agreements share: files, words, keys, and the instant at which one signs."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from relto.apps import clock
from relto.apps.cli.files import read_at_most
from relto.errors import CallerError, PeerError
from relto.instants import instant, is_instant
from relto.instruments import INSTRUMENT_BYTES_MAX, Instrument
from relto.keys import FileSigner, KeyFolder, ask_passphrase, open_key_folder, read_passphrase
from relto.keys.files import create_file, sync_folder
from relto.regime import Regime
from relto.signed import load_folder
from relto.stores.folder import read_folder
from relto.tables import quoted
from relto.terms import Words

__all__ = [
    "add_file",
    "add_keys",
    "certificates_of",
    "files_in",
    "instant_of",
    "put_in_place",
    "read_instrument",
    "signing_key",
    "words_in",
]


def add_file(parser: argparse.ArgumentParser) -> None:
    """The agreement's file, and `--regime` with the words that its terms pin."""
    parser.add_argument("file", metavar="FILE", type=Path, help="the agreement's file")
    parser.add_argument(
        "--regime", required=True, metavar="DIR", help="our regime folder, with the words pinned"
    )


def add_keys(parser: argparse.ArgumentParser) -> None:
    """`--keys`, where their passphrase comes from, and `--at`."""
    parser.add_argument(
        "--keys", required=True, metavar="DIR", type=Path, help="the folder with our signing key"
    )
    parser.add_argument("--passphrase-file", metavar="FILE", type=Path, help="first line: it")
    parser.add_argument("--at", metavar="INSTANT", help="in an exercise: when this is done")


def files_in(folder: str) -> Mapping[str, bytes]:
    """The files of a regime folder. Raises CallerError."""
    files, problems = read_folder(Path(folder))
    if problems.errors:
        raise CallerError(f"{folder} is no sound regime: {problems.errors[0]}")
    return files


def words_in(args: argparse.Namespace) -> tuple[Regime, Words]:
    """The regime in `--regime`, and what terms may speak of in it. Raises CallerError."""
    files = files_in(args.regime)
    regime = load_folder(files)
    return regime, Words.of(files, regime)


def read_instrument(path: Path) -> Instrument:
    """Raises CallerError where the file is no instrument."""
    try:
        return Instrument.decode(read_at_most(path, INSTRUMENT_BYTES_MAX))
    except PeerError as e:
        raise CallerError(f'"{path}" is no file of an agreement: {e}') from None


def put_in_place(path: Path, data: bytes) -> None:
    """In the place of the old file, whole or not at all."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    create_file(beside, data, mode=0o644)
    os.replace(beside, path)
    sync_folder(path.parent)


def certificates_of(folder: KeyFolder) -> tuple[bytes, bytes]:
    """The certificates (DER) of the signing key in a folder and of its CA."""
    return (
        folder.certificate("signing").public_bytes(Encoding.DER),
        folder.certificate("ca").public_bytes(Encoding.DER),
    )


def signing_key(args: argparse.Namespace, folder: KeyFolder) -> FileSigner:
    """The signing key in a folder. Raises CallerError."""
    passphrase = (
        read_passphrase(args.passphrase_file)
        if args.passphrase_file
        else ask_passphrase(confirm=False)
    )
    return folder.signer("signing", passphrase)


def instant_of(args: argparse.Namespace) -> str:
    """Now; in an exercise the instant given. Raises CallerError."""
    if args.at is None:
        return instant(clock.now().replace(microsecond=0))
    if not open_key_folder(args.keys).identity.exercise:
        raise CallerError("--at is for exercises; what is real happens now")
    if not is_instant(args.at):
        raise CallerError(f"--at {quoted(args.at)} is no instant such as 2015-01-05T00:00:00Z")
    return str(args.at)
