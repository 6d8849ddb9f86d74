"""`relto prove`: can anything leak by a chain of moves that the regime permits?"""

import argparse
import sys
from pathlib import Path
from typing import Any

from relto.answers import read_json
from relto.apps.cli.files import read_at_most
from relto.apps.cli.regime import instant_at, regime_at
from relto.canonical import encode
from relto.errors import CallerError, RegimeError
from relto.phrases import LANGUAGES
from relto.proofs.certificates import certificate_of
from relto.proofs.checker import check
from relto.proofs.drawings import drawing
from relto.proofs.properties import (
    Property,
    decode_properties,
    decode_stated,
    default_properties,
)
from relto.proofs.proving import Proof, Verdict, prove
from relto.proofs.stories import account, story, words
from relto.regime import Regime
from relto.tables import FILE_BYTES_MAX, quoted

__all__ = ["add_parser"]

CERTIFICATE_BYTES_MAX = 512 * 1024 * 1024
EXIT_BROKEN = 1  # something is broken, or not possible that must be


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "prove", help="prove that no chain of moves that the regime permits leaks, or show one"
    )
    parser.add_argument("dir", metavar="REGIME", help="the regime folder")
    parser.add_argument(
        "--properties", metavar="FILE", help="what to prove (default: made from the regime)"
    )
    parser.add_argument(
        "--at", metavar="INSTANT", help="moves at this instant alone (default: all its timeline)"
    )
    parser.add_argument(
        "--with-consent",
        metavar="KOR:JPN",
        action="append",
        default=[],
        help="KOR consents to JPN, item by item, for whatever is asked; may be repeated",
    )
    parser.add_argument(
        "--lang", choices=LANGUAGES, default="en", help="the reader's language (default: en)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--certificate", metavar="FILE", help="write what holds as a certificate")
    parser.add_argument("--drawings", metavar="DIR", help="draw each chain, as DIR/<property>.svg")
    parser.add_argument(
        "--check", metavar="FILE", help="check a certificate against the regime; proves nothing new"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    regime = regime_at(args.dir)
    if args.check is not None:
        return _check(args, regime)
    at = instant_at(args.at)
    consents = frozenset(_consent(text, regime) for text in args.with_consent)
    proof = prove(regime, _properties(args.properties, regime), at, consents)
    if args.certificate is not None:
        _write(Path(args.certificate), encode(certificate_of(proof)))
    if args.drawings is not None:
        for verdict in proof.verdicts:
            if verdict.chain is not None:
                path = Path(args.drawings) / f"{verdict.property.id}.svg"
                _write(path, drawing(regime, verdict.chain, args.lang).encode())
    if args.json:
        print(encode(_shown(proof, args.lang)).decode())
    else:
        for line in account(proof, args.lang):
            print(line)
    return 0 if proof.holds else EXIT_BROKEN


def _check(args: argparse.Namespace, regime: Regime) -> int:
    for option in ("properties", "at", "certificate", "drawings"):
        if getattr(args, option) is not None:
            raise CallerError(f"--{option} stands beside --check: a certificate says that itself")
    if args.with_consent:
        raise CallerError("--with-consent stands beside --check: a certificate says that itself")
    certificate = read_json(read_at_most(Path(args.check), CERTIFICATE_BYTES_MAX))
    try:
        stated = certificate["properties"] if isinstance(certificate, dict) else None
        properties = decode_stated(args.check, stated, regime)
        check(certificate, regime)
    except RegimeError as e:
        raise CallerError(f"the certificate is malformed: {e.problems[0]}") from None
    except CallerError as e:
        print(f"relto: {args.check}: {e}", file=sys.stderr)
        return EXIT_BROKEN
    for one in properties:
        print(f"holds  {one.id}\n    {words(one, args.lang)}")
    when = certificate.get("at", "every instant of the timeline")
    consents = ", ".join(f"{by}:{to}" for by, to in certificate["consents"]) or "none"
    print(f"{len(properties)} properties hold at {when}; consents counted on: {consents}")
    return 0


def _properties(path: str | None, regime: Regime) -> tuple[Property, ...]:
    if path is None:
        return default_properties(regime)
    return decode_properties(path, read_at_most(Path(path), FILE_BYTES_MAX), regime)


def _consent(text: str, regime: Regime) -> tuple[str, str]:
    originator, _, to = text.partition(":")
    if not {originator, to} <= regime.parties or originator == to:
        known = ", ".join(sorted(regime.parties)[:20])
        raise CallerError(
            f"--with-consent {quoted(text)} is not two parties such as KOR:JPN; there are {known}"
        )
    return originator, to


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as e:
        raise CallerError(f'cannot write "{path}": {e.strerror}') from None


def _shown(proof: Proof, language: str) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "regime": proof.regime.digest,
        "holds": proof.holds,
        "consents": [f"{by}:{to}" for by, to in sorted(proof.consents)],
        "properties": [_verdict(proof, verdict, language) for verdict in proof.verdicts],
        "idle": [{"cites": one.cites, "in_force": one.in_force} for one in proof.idle],
    }
    return shown if proof.at is None else shown | {"at": proof.at}


def _verdict(proof: Proof, verdict: Verdict, language: str) -> dict[str, Any]:
    one = verdict.property
    shown = {**one.shown(), "holds": verdict.holds, "text": words(one, language)}
    if verdict.chain is not None:
        shown["chain"] = list(story(proof.regime, verdict.chain, language))
    return shown
