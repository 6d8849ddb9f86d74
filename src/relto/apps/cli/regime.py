"""`relto regime check|digest|diff`: is the folder a sound regime, what names it, what changed?"""

import argparse
import json
import os
import sys
from pathlib import Path

from relto.errors import CallerError
from relto.instants import is_instant
from relto.regime import Regime
from relto.signed import check_folder
from relto.stores.folder import read_folder
from relto.tables import Problem, quoted

__all__ = ["add_parser", "instant_at", "regime_at"]

PROBLEMS_SHOWN_MAX = 1_000


def regime_at(folder: str) -> Regime:
    """The sound regime in a folder, for commands that need one."""
    regime, problems = check_folder(*read_folder(Path(folder)))
    if regime is None:
        raise CallerError(
            f"{folder} is no sound regime: {problems.errors[0]}"
            f" ({len(problems.errors)} in all; see relto regime check {folder})"
        )
    return regime


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("regime", help="check a regime folder, or print its digest")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check", help="report every error and everything suspicious; exit 2 if there are errors"
    )
    check.add_argument("dir", metavar="DIR", help="the regime folder")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(run=_check)
    digest = commands.add_parser("digest", help="print the digest that names the regime")
    digest.add_argument("dir", metavar="DIR", help="the regime folder")
    digest.set_defaults(run=_digest)
    diff = commands.add_parser(
        "diff", help="what a change does: clauses, properties, and what may be given"
    )
    diff.add_argument("before", metavar="A", help="the regime folder before")
    diff.add_argument("after", metavar="B", help="the regime folder after")
    diff.add_argument(
        "--at",
        metavar="INSTANT",
        help="moves at this instant alone (default: all the timeline; with --items the items now)",
    )
    diff.add_argument(
        "--items",
        action="store_true",
        help="of the items that a node holds: which may newly go to whom, and which no longer",
    )
    diff.add_argument(
        "--ids", metavar="FILE", help="with --items: each of them, a line of JSON, in a new file"
    )
    diff.add_argument(  # not asking.add_node: its module loads half a node
        "--node",
        metavar="DIR",
        default=os.environ.get("RELTO_NODE"),
        help="with --items: the node's folder (default: $RELTO_NODE)",
    )
    diff.add_argument("--json", action="store_true", help="print one JSON object")
    diff.set_defaults(run=_diff)


def _shown(problem: Problem) -> dict[str, object]:
    return {"file": problem.file, "line": problem.line, "message": problem.message}


def _check(args: argparse.Namespace) -> int:
    regime, problems = check_folder(*read_folder(Path(args.dir)))
    errors = sorted(problems.errors, key=lambda p: (p.file, p.line))
    if args.json:
        print(
            json.dumps(
                {
                    "ok": regime is not None,
                    "errors": [_shown(p) for p in errors],
                    "warnings": [_shown(p) for p in problems.warnings],
                },
                ensure_ascii=False,
            )
        )
    else:
        for problem in errors[:PROBLEMS_SHOWN_MAX]:
            print(f"error: {problem}", file=sys.stderr)
        for problem in problems.warnings[:PROBLEMS_SHOWN_MAX]:
            print(f"warning: {problem}", file=sys.stderr)
        if regime is not None:
            clauses = sum(len(a.clauses) for a in regime.agreements.values())
            print(
                f"{args.dir}: sound: {len(regime.schemes)} parties, {len(regime.agreements)} "
                f"agreements, {clauses} clauses, {len(problems.warnings)} warnings"
            )
            print(f"digest {regime.digest}")
        else:
            print(
                f"{args.dir}: {len(errors)} errors, {len(problems.warnings)} warnings",
                file=sys.stderr,
            )
    return 0 if regime is not None else 2


def _diff(args: argparse.Namespace) -> int:
    from relto.apps.cli.differing import diff  # loads the prover: a tenth of a start

    return diff(args)


def instant_at(text: str | None) -> str | None:
    """What `--at` says, if it is given. Raises CallerError."""
    if text is not None and not is_instant(text):
        raise CallerError(f"{quoted(text)} is no instant such as 2015-01-05T00:00:00Z")
    return text


def _digest(args: argparse.Namespace) -> int:
    print(regime_at(args.dir).digest)
    return 0
