"""The command line: parse, ask the core or a running node, print."""

import argparse
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from relto.apps.cli import decide, items, keys, node, regime
from relto.errors import RegimeError, ReltoError

__all__ = ["main"]

MODULES = (regime, decide, keys, node, items)


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
    if sys.stdout is None:
        print("relto: standard output is closed; give it a file or a pipe", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, TextIOWrapper):  # JSON is UTF-8, whatever the terminal prefers
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except RegimeError as e:
        print(f"relto: {e.problems[0]}", file=sys.stderr)
        return 2
    except ReltoError as e:
        print(f"relto: {e}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read our output has gone
        return 1
    except OSError as e:  # a full disk below our output
        print(f"relto: cannot write the answer: {e.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 130
