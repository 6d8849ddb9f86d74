"""The command line: parse, ask the core or a running node, print."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper

from relto.errors import RegimeError, ReltoError

__all__ = ["main"]

COMMANDS = {
    "regime": "regime",
    "decide": "decide",
    "explain": "decide",
    "prove": "prove",
    "keys": "keys",
    "agreement": "agreement",
    "document": "document",
    "node": "node",
    "doctor": "doctor",
    "journal": "journal",
    "backup": "backup",
    "restore": "backup",
    **dict.fromkeys(("share", "offer", "inbox", "item", "review", "hold"), "items"),
}
"""Each command and its module here: only that of the command at hand is loaded."""


def make_parser(command: str = "") -> argparse.ArgumentParser:
    """The parser of every command, or of the one named."""
    parser = argparse.ArgumentParser(
        prog="relto",
        description="Runs information-sharing pacts: who may see this, by which article, along "
        "which path.",
    )
    subparsers = parser.add_subparsers(dest="noun", required=True, metavar="COMMAND")
    modules = [COMMANDS[command]] if command in COMMANDS else dict.fromkeys(COMMANDS.values())
    for name in modules:
        import_module(f"relto.apps.cli.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit 0 done, 1 refused or not as it should be, 2 wrongly asked."""
    argv = sys.argv[1:] if argv is None else argv
    args = make_parser(argv[0] if argv else "").parse_args(argv)
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
