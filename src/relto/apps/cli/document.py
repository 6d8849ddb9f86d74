"""`relto document`: the agreement for people, as a PDF with the same digest, signed and checked."""

import argparse
from pathlib import Path

from relto.apps import clock
from relto.apps.cli.files import read_at_most
from relto.apps.cli.papers import (
    add_file,
    add_keys,
    certificates_of,
    instant_of,
    put_in_place,
    read_instrument,
    signing_key,
    words_in,
)
from relto.chronicles import lasting_words
from relto.errors import CallerError
from relto.instants import moment
from relto.instruments import Checked, check_instrument
from relto.keys import open_key_folder
from relto.keys.files import create_file
from relto.signing import missing

__all__ = ["add_parser"]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "document", help="an agreement as a PDF for people", description=__doc__
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    make = commands.add_parser("make", help="make it: the same terms give the same bytes")
    add_file(make)
    make.add_argument("--out", required=True, metavar="PDF", type=Path, help="the file to make")
    make.set_defaults(run=_make)

    sign = commands.add_parser("sign", help="sign it, in our party's field, after the terms")
    add_file(sign)
    sign.add_argument("document", metavar="PDF", type=Path, help="the document, signed by others")
    add_keys(sign)
    sign.set_defaults(run=_sign)

    verify = commands.add_parser("verify", help="check all of it against the signed terms")
    add_file(verify)
    verify.add_argument("document", metavar="PDF", type=Path, help="the document")
    verify.set_defaults(run=_verify)


class _Paper:
    """The document of one agreement's terms, as it is here."""

    def __init__(self, args: argparse.Namespace) -> None:
        _, words = words_in(args)
        instrument = read_instrument(args.file)
        self.instrument = instrument
        self.payload = instrument.terms.encode()
        self.checked: Checked = check_instrument(instrument, words)
        self.life = lasting_words(self.checked.agreement)
        self.schemes = {party: scheme.name for party, scheme in words.schemes.items()}

    def signed_terms(self, party: str, keyid: str) -> bool:
        """Whether a party has signed the terms with that key."""
        moves = [m for _, m in self.checked.history] + list(self.checked.waiting)
        has_signed = any(m.move == "signed" and m.party == party for m in moves)
        return has_signed and keyid in {s.keyid for s in self.instrument.signatures}


def _make(args: argparse.Namespace) -> int:
    paper = _Paper(args)
    try:
        from relto.signing.documents import make_document
    except ImportError as e:
        raise missing(e) from None
    data = make_document(paper.payload, paper.schemes, paper.life)
    create_file(args.out, data, mode=0o644)
    print(f"made {args.out}: {paper.checked.agreement.id}, digest {paper.checked.digest}")
    return 0


def _sign(args: argparse.Namespace) -> int:
    paper = _Paper(args)
    try:
        from relto.signing.checking import DOCUMENT_BYTES_MAX, verify_document
        from relto.signing.signatures import sign_document
    except ImportError as e:
        raise missing(e) from None
    folder = open_key_folder(args.keys)
    party = folder.identity.party
    key = signing_key(args, folder)
    if not paper.signed_terms(party, key.keyid):
        raise CallerError(f"{party} has not signed the terms with this key; sign them first")
    at = moment(instant_of(args))
    document = read_at_most(args.document, DOCUMENT_BYTES_MAX)
    present = clock.now() if args.at is None else at
    verify_document(
        document, paper.payload, paper.schemes, paper.life, cas=paper.checked.cas, at=present
    )
    certificate, ca = certificates_of(folder)
    signed = sign_document(document, party, key, certificate, [ca], at)
    put_in_place(args.document, signed)
    print(f"signed by {party} at {at:%Y-%m-%dT%H:%M:%SZ}: {args.document}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    paper = _Paper(args)
    try:
        from relto.signing.checking import DOCUMENT_BYTES_MAX, verify_document
    except ImportError as e:
        raise missing(e) from None
    found = verify_document(
        read_at_most(args.document, DOCUMENT_BYTES_MAX), paper.payload, paper.schemes, paper.life,
        cas=paper.checked.cas, at=clock.now(),
    )  # fmt: skip
    for signature in found.signatures:
        if not paper.signed_terms(signature.party, signature.keyid):
            raise CallerError(
                f"{signature.party} signed the document with another key than the terms"
            )
    agreement = paper.checked.agreement
    print(f"{args.document}: holds: {agreement.id}, digest {paper.checked.digest}")
    for signature in found.signatures:
        print(f"  {signature.party}: signed {signature.at:%Y-%m-%dT%H:%M:%SZ}")
    for party in found.missing:
        print(f"  {party}: has not signed")
    return 0
