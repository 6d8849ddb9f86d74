"""`relto decide`: may this holder give this item to that party? One question, or a file of them."""

import argparse
import gc
import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from relto.answers import LINE_BYTES_MAX, answer_line, read_json, show
from relto.apps.cli.regime import regime_at
from relto.decisions import Engine
from relto.errors import CallerError
from relto.explanations import LANGUAGES, explain
from relto.questions import Question, decode_question

__all__ = ["add_parser"]

FILE_BYTES_MAX = 16 * 1024 * 1024
_BLOCK_BYTES = 256 * 1024
_GC_THRESHOLD = 100_000


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    decide = subparsers.add_parser(
        "decide", help="decide one question, or a file with one JSON question a line"
    )
    _add_question(decide)
    decide.add_argument("--batch", metavar="FILE", help="one JSON question a line; - for stdin")
    decide.add_argument("--json", action="store_true", help="print the answer as JSON")
    decide.set_defaults(run=_decide)
    parser = subparsers.add_parser(
        "explain", help="the path, marks, articles, duties and reviewers, for people"
    )
    _add_question(parser)
    parser.set_defaults(run=_explain)


def _add_question(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--regime", required=True, metavar="DIR", help="the regime folder")
    parser.add_argument("--question", metavar="FILE", help="the whole question, as in a batch")
    parser.add_argument("--item", metavar="FILE", help="the item's label; - for stdin")
    parser.add_argument("--holder", metavar="PARTY", help="who holds the item")
    parser.add_argument("--to", metavar="PARTY", help="who is to get it")
    parser.add_argument("--at", metavar="INSTANT", help="when, such as 2015-01-05T00:00:00Z")
    parser.add_argument("--holding", metavar="FILE", help="how the holder came by the item")
    parser.add_argument("--consents", metavar="FILE", help="a list of consent records")
    parser.add_argument("--status", metavar="FILE", help="a list of status records")
    parser.add_argument(
        "--lang", choices=LANGUAGES, default="en", help="the reader's language (default: en)"
    )


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """The file at `path`, or standard input for `-`."""
    if path == "-":
        if sys.stdin is None:
            raise CallerError("standard input is closed; give it a file or a pipe")
        yield sys.stdin.buffer
        return
    try:
        file = Path(path).open("rb")  # noqa: SIM115  # what fails in the body is not about opening
    except OSError as e:
        raise CallerError(f'cannot read "{path}": {e.strerror}') from None
    with file:
        yield file


def _load(path: str) -> Any:
    with _opened(path) as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise CallerError(f'"{path}" is larger than {FILE_BYTES_MAX} bytes')
    return read_json(data)


_PARTS = ("item", "holder", "to", "at", "holding", "consents", "status")


def _check_alone(args: argparse.Namespace, option: str, why: str) -> None:
    """Refuse parts of a question beside a whole one: left unread they would change the answer."""
    others = _PARTS if option == "--question" else ("question", *_PARTS)
    for other in others:
        if getattr(args, other) is not None:
            raise CallerError(f"--{other} stands beside {option}, which stands alone: {why}")


def _question(args: argparse.Namespace, engine: Engine) -> Question:
    if args.question is not None:
        _check_alone(args, "--question", "it already says item, holder, to, at and records")
        return decode_question(_load(args.question), engine.regime)
    missing = [o for o in ("item", "holder", "to", "at") if getattr(args, o) is None]
    if missing:
        raise CallerError(
            f"missing --{missing[0]}; a question needs --item FILE --holder PARTY --to PARTY "
            "--at INSTANT, or --question FILE"
        )
    data = {"at": args.at, "holder": args.holder, "to": args.to, "item": _load(args.item)}
    for option in ("holding", "consents", "status"):
        if getattr(args, option) is not None:
            data[option] = _load(getattr(args, option))
    return decode_question(data, engine.regime)


def _decide(args: argparse.Namespace) -> int:
    if args.batch is not None:
        _check_alone(args, "--batch", "each of its lines is a whole question")
        engine = Engine(regime_at(args.regime))
        with _opened(args.batch) as file:
            return _batch(engine, file)
    engine = Engine(regime_at(args.regime))
    question = _question(args, engine)
    decision = engine.decide(question)
    if args.json:
        print(_line(show(engine, question, decision)))
    else:
        print(explain(engine, question, decision, args.lang))
    return 0


def _explain(args: argparse.Namespace) -> int:
    engine = Engine(regime_at(args.regime))
    question = _question(args, engine)
    print(explain(engine, question, engine.decide(question), args.lang))
    return 0


_line = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines of the file, of which an overlong one is cut just past the limit: memory is flat."""
    while line := file.readline(LINE_BYTES_MAX + 2):
        yield line
        while not line.endswith(b"\n") and len(line) > LINE_BYTES_MAX:
            line = file.readline(LINE_BYTES_MAX + 2)
            if not line:
                return


def _batch(engine: Engine, file: BinaryIO) -> int:
    """Answers one a line, in order, written as they come."""
    gc.freeze()  # the regime stays; questions make no cycles worth looking for this often
    gc.set_threshold(_GC_THRESHOLD)
    out = sys.stdout
    waiting: list[str] = []
    size = 0
    block_bytes = _BLOCK_BYTES if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else 0
    for line in _lines(file):
        text = line.rstrip(b"\r\n")
        if not text.strip():
            continue
        waiting.append(_line(answer_line(engine, text)))
        size += len(waiting[-1])
        if size > block_bytes:
            out.write("\n".join(waiting) + "\n")
            out.flush()
            waiting, size = [], 0
    if waiting:
        out.write("\n".join(waiting) + "\n")
    out.flush()
    return 0
