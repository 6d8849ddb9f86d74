"""The command line: parse, ask the core or a running node, print."""

import argparse
import os
import sys
from collections.abc import Sequence

from relto.apps.cli import decide, keys, regime
from relto.errors import RegimeError, ReltoError

__all__ = ["main"]

MODULES = (regime, decide, keys)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="relto",
        description="Runs information-sharing pacts: who may see this, by which article, along "
        "which path.",
    )
    subparsers = parser.add_subparsers(dest="noun", required=True, metavar="COMMAND")
    for module in MODULES:
        module.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit 0 done, 1 refused or not as it should be, 2 wrongly asked."""
    args = make_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except RegimeError as e:
        print(f"relto: {e.problems[0]}", file=sys.stderr)
        return 2
    except ReltoError as e:
        print(f"relto: {e}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read our output has gone
        return 1
    except KeyboardInterrupt:
        return 130
