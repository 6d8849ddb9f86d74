"""`relto journal export|verify`: a node's whole journal for auditors, and a check of it."""

import argparse
import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from relto.apps.cli.asking import add_node, answered, ask_raw, new_file, say
from relto.certificates import identity_of
from relto.envelope import Envelope
from relto.errors import CallerError, PeerError
from relto.journals import (
    LINE_BYTES_MAX,
    CheckedJournal,
    first_line,
    last_line,
    verify_journal,
)

__all__ = ["add_parser"]

EXIT_BROKEN = 1


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    journal = subparsers.add_parser("journal", help="what a node decided and did, for auditors")
    commands = journal.add_subparsers(dest="command", required=True, metavar="COMMAND")
    export = commands.add_parser(
        "export", help="all of it from the start, head signed; the export is journaled"
    )
    export.add_argument("--out", metavar="FILE", help="a new file (default: standard output)")
    add_node(export)
    export.set_defaults(run=_export)
    verify = commands.add_parser("verify", help="check an export, without any node")
    verify.add_argument("file", metavar="FILE", help="what relto journal export wrote")
    verify.add_argument(
        "--since", metavar="EARLIER", help="an earlier export, which this one must continue"
    )
    verify.add_argument("--ca", metavar="CA.crt", help="the party's CA, to vouch for the signer")
    verify.add_argument("--json", action="store_true", help="print one JSON object")
    verify.set_defaults(run=_verify)


def _export(args: argparse.Namespace) -> int:
    if args.out is None:
        _write_to(args, sys.stdout.buffer)
        return 0
    path = Path(args.out)
    with new_file(path) as out:  # an export is never written over an earlier one
        entries = _write_to(args, out)
    say(f"{entries} entries; check them with: relto journal verify {path}")
    return 0


def _write_to(args: argparse.Namespace, out: BinaryIO) -> int:
    """Write an export as it comes, page by page; how many entries it has."""
    export = answered(*ask_raw(args, "POST", "/journal/export"))
    last = int(export["entries"])
    out.write(first_line(export["party"]))
    after = 0
    while after < last:
        status, page = ask_raw(args, "GET", f"/journal/export/{last}?after={after}")
        if status != 200:
            answered(status, page)
        after += page.count(b"\n")
        out.write(page)
    certificate = base64.b64decode(export["certificate"], validate=True)
    out.write(last_line(Envelope.from_json(export["head"]), certificate))
    return last


def _verify(args: argparse.Namespace) -> int:
    ca = None if args.ca is None else _read_ca(Path(args.ca))
    try:
        earlier = None if args.since is None else _checked(args.since, ca)
        journal = _checked(args.file, ca, mark=None if earlier is None else earlier.entries)
        if earlier is not None:
            _require_continuation(args, earlier, journal)
    except PeerError as e:
        print(f"relto: {e}", file=sys.stderr)
        return EXIT_BROKEN
    shown = {
        "party": journal.party,
        "entries": journal.entries,
        "link": journal.link.hex(),
        "at": journal.at,
        "signed_by": journal.keyid,
        "vouched": journal.vouched,
        **({} if earlier is None else {"continues": earlier.entries}),
    }
    if args.json:
        print(json.dumps(shown))
        return 0
    print(f"journal of {journal.party}: {journal.entries} entries, an unbroken chain")
    print(f"  head {journal.link.hex()}")
    who = f"the node of {journal.party}" if journal.vouched else f"key {journal.keyid[:16]}…"
    print(f"  signed at {journal.at} by {who}")
    if not journal.vouched:
        print(f"  nobody vouches for that key: give the CA of {journal.party} with --ca")
    if earlier is not None:
        print(f"  continues {args.since}: its {earlier.entries} entries stand unchanged")
    return 0


def _require_continuation(
    args: argparse.Namespace, earlier: CheckedJournal, journal: CheckedJournal
) -> None:
    if earlier.party != journal.party:
        raise PeerError(f"{args.since} is a journal of {earlier.party}, not of {journal.party}")
    if journal.entries < earlier.entries:
        raise PeerError(
            f"{args.file} has {journal.entries} entries and {args.since} had {earlier.entries}: "
            "the node wrote another journal, or this one is the earlier"
        )
    if journal.marked != earlier.link:
        raise PeerError(
            f"{args.file} does not continue {args.since}: of its first {earlier.entries} entries "
            "some were changed. Both heads are signed: keep both files"
        )


def _checked(file: str, ca: bytes | None, *, mark: int | None = None) -> CheckedJournal:
    """Raises PeerError naming the file, and CallerError if it cannot be read."""
    try:
        with open(file, "rb") as lines:
            return verify_journal(_lines(lines), ca=ca, mark=mark)
    except OSError as e:
        raise CallerError(f'cannot read "{file}": {e.strerror}') from None
    except PeerError as e:
        raise PeerError(f"{file}: {e}") from e


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(LINE_BYTES_MAX):
        yield line


def _read_ca(path: Path) -> bytes:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as e:
        raise CallerError(f'cannot read "{path}": {e.strerror}') from None
    except ValueError:
        raise CallerError(f'"{path}" is no certificate in PEM form') from None
    try:
        role = identity_of(certificate).role
    except PeerError as e:
        raise CallerError(f'"{path}": {e}') from None
    if role != "ca":
        raise CallerError(f'"{path}" is the certificate of a {role}, not of a CA')
    return certificate.public_bytes(Encoding.DER)
