"""`relto keys`: make a party's folder of keys and certificates, and show what is in one."""

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from relto.apps import clock
from relto.envelope import keyid
from relto.errors import CallerError, PeerError
from relto.keys import (
    KeyFolder,
    algorithm_of,
    ask_passphrase,
    create_key_folder,
    fingerprint,
    identity_of,
    issue_key,
    open_key_folder,
    read_passphrase,
    spoken,
    verify_ca,
    verify_leaf,
)

__all__ = ["add_parser"]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `relto keys init`, `relto keys issue` and `relto keys show`."""
    commands = subparsers.add_parser(
        "keys", help="make and show keys and certificates", description=__doc__
    ).add_subparsers(metavar="COMMAND", required=True)

    init = commands.add_parser(
        "init",
        allow_abbrev=False,
        help="make a folder with a new CA, its keys and certificates",
        description="Make a folder with a party's new CA, and keys and certificates for its node, "
        "its TLS, its signing key and its officers. The passphrase is asked for on the terminal, "
        "or read from a file; it is never an argument.",
    )
    init.add_argument("--party", required=True, metavar="CODE", help="the party, like KOR")
    init.add_argument("--out", required=True, metavar="DIR", type=Path, help="the folder to make")
    init.add_argument(
        "--officer",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME",
        help="a disclosure officer to issue a certificate for; may be repeated",
    )
    init.add_argument(
        "--exercise", action="store_true", help="for exercises only: never mixes with the real"
    )
    init.add_argument(
        "--valid-from", metavar="DATE", help="first day of exercise certificates, like 2014-01-01"
    )
    init.add_argument("--valid-to", metavar="DATE", help="their last day; today is between the two")
    init.add_argument(
        "--passphrase-file",
        metavar="FILE",
        type=Path,
        help="read the passphrase from the first line of this file, which has mode 0600",
    )
    # Whoever tries this is told why not, instead of being quoted by "unrecognized arguments".
    init.add_argument("--passphrase", nargs="?", const="", help=argparse.SUPPRESS)
    init.set_defaults(run=_init)

    one = commands.add_parser(
        "issue",
        allow_abbrev=False,
        help="make a new key with its certificate, in the place of one that ends",
        description="Make a folder with one new key, and its certificate under the party's CA. "
        "Where the CA's key is, away from the node; then put key and certificate in the place of "
        "the old ones.",
    )
    one.add_argument("--ca", required=True, metavar="DIR", type=Path, help="the folder with ca.key")
    whose = one.add_mutually_exclusive_group(required=True)
    whose.add_argument("--role", choices=("node", "tls", "signing"), help="whose key: the party's")
    whose.add_argument("--officer", metavar="NAME", help="or this disclosure officer's")
    one.add_argument("--out", required=True, metavar="DIR", type=Path, help="the folder to make")
    one.add_argument(
        "--passphrase-file",
        metavar="FILE",
        type=Path,
        help="first line: the passphrase that opens the CA's key, and will open the new one",
    )
    one.set_defaults(run=_issue)

    show = commands.add_parser(
        "show",
        allow_abbrev=False,
        help="show the certificates in a folder",
        description="Show the certificates in a folder, with fingerprints in groups to read out "
        "on the telephone. Needs no passphrase.",
    )
    show.add_argument("dir", metavar="DIR", type=Path, help="the folder")
    show.add_argument("--json", action="store_true", help="as one JSON object")
    show.set_defaults(run=_show)


def _init(args: argparse.Namespace) -> int:
    if args.passphrase is not None:
        raise CallerError(
            "a passphrase on the command line is seen by others; use --passphrase-file, and take "
            "another passphrase"
        )
    validity = _validity(args)
    passphrase = (
        read_passphrase(args.passphrase_file)
        if args.passphrase_file
        else ask_passphrase(confirm=True)
    )
    folder = create_key_folder(
        args.out,
        party=args.party,
        officers=args.officer,
        passphrase=passphrase,
        now=clock.now(),
        exercise=args.exercise,
        validity=validity,
    )
    print(f"made {folder.path}: {', '.join(str(identity_of(c)) for c in _certificates(folder))}")
    print(f"fingerprint of the CA, for the agreement: {fingerprint(folder.certificate('ca'))}")
    print("partners confirm it by voice:")
    print(_in_rows(folder.certificate("ca")))
    print(f"the node does not need {folder.key_path('ca')}: keep it offline")
    return 0


def _issue(args: argparse.Namespace) -> int:
    authority = open_key_folder(args.ca)
    passphrase = (
        read_passphrase(args.passphrase_file)
        if args.passphrase_file
        else ask_passphrase(confirm=False)
    )
    folder = issue_key(
        args.out,
        authority=authority,
        role=args.role or "officer",
        name=args.officer,
        passphrase=passphrase,
        now=clock.now(),
    )
    [_, leaf] = _certificates(folder)
    ends = f"{leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    print(f"made {folder.path}: {identity_of(leaf)}, valid to {ends}")
    return 0


def _show(args: argparse.Namespace) -> int:
    folder = open_key_folder(args.dir)
    ca = folder.certificate("ca")
    now = clock.now()
    rows = [_row(certificate, ca, now) for certificate in _certificates(folder)]
    if args.json:
        print(json.dumps({"certificates": rows}))
        return 0
    for row, certificate in zip(rows, _certificates(folder), strict=True):
        print(f"{identity_of(certificate)}: {row['algorithm']}, keyid {row['keyid']}")
        print(f"    valid {row['not_before']} to {row['not_after']}")
        if "problem" in row:
            print(f"    problem: {row['problem']}")
        print(_in_rows(certificate))
    return 0


def _certificates(folder: KeyFolder) -> Iterator[x509.Certificate]:
    """Those that are there: the CA, the node's, the party's, the officers'."""
    for role in ("ca", "node", "tls", "signing"):
        if folder.certificate_path(role).exists():
            yield folder.certificate(role)
    for name in folder.officers:
        yield folder.certificate("officer", name)


def _row(certificate: x509.Certificate, ca: x509.Certificate, now: datetime) -> dict[str, Any]:
    """What `show` says about one certificate; what is absent is left out."""
    identity = identity_of(certificate)
    print_ = fingerprint(certificate)
    row: dict[str, Any] = {
        "party": identity.party,
        "role": identity.role,
        "exercise": identity.exercise,
        "algorithm": algorithm_of(certificate.public_key()),
        "keyid": keyid(certificate.public_key()),
        "not_before": f"{certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}",
        "not_after": f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        "fingerprint": print_,
        "spoken": spoken(print_),
    }
    if identity.name is not None:
        row["name"] = identity.name
    issuer, der = (c.public_bytes(Encoding.DER) for c in (ca, certificate))
    try:
        if identity.role == "ca":
            verify_ca(der, party=identity.party, at=now)
        else:
            verify_leaf(der, ca=issuer, party=identity.party, role=identity.role, at=now)
    except PeerError as error:
        row["problem"] = str(error)
    return row


def _in_rows(certificate: x509.Certificate) -> str:
    """The fingerprint in four indented lines of four groups."""
    groups = spoken(fingerprint(certificate)).split()
    return "\n".join("    " + " ".join(groups[i : i + 4]) for i in range(0, 16, 4))


def _validity(args: argparse.Namespace) -> tuple[datetime, datetime] | None:
    if args.valid_from is None and args.valid_to is None:
        return None
    if args.valid_from is None or args.valid_to is None or not args.exercise:
        raise CallerError("--valid-from and --valid-to go together, and with --exercise")
    first, last = _day("--valid-from", args.valid_from), _day("--valid-to", args.valid_to)
    return first, datetime.combine(last, time(23, 59, 59), UTC)


def _day(option: str, text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise CallerError(f'{option} "{text}": want a date like 2014-01-01') from error
