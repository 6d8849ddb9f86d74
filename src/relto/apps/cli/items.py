"""`relto share|offer|inbox|item|review|hold`: what analysts and disclosure officers do."""

import argparse
import base64
import hashlib
import io
import json
import mimetypes
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from relto.apps.cli.asking import (
    NodeRefused,
    add_node,
    add_officer,
    answered,
    ask,
    exchange,
    officer,
    say,
)
from relto.config import PAYLOAD_BYTES_LIMIT
from relto.errors import CallerError
from relto.explanations import LANGUAGES, in_language
from relto.framing import framed, read_object, take_head
from relto.labels import KINDS
from relto.marks import is_party_code
from relto.records import PRECEDENCES, Approval, Hold, Manifest
from relto.tables import quoted

__all__ = ["add_parser"]

PIPED_BYTES_MAX = 32 * 1024 * 1024  # held in memory: the node must know the size before the end
PIECE_BYTES = 64 * 1024
EXIT_REFUSED = 1
_ID = re.compile("[0-9a-f]{4,64}")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    share = subparsers.add_parser("share", help="make an item of a file and share it")
    share.add_argument("file", metavar="FILE", help="the content; - for standard input")
    share.add_argument("--topic", action="append", default=[], required=True, help="repeatable")
    share.add_argument("--about", action="append", default=[], help="subject; repeatable")
    share.add_argument("--mark", required=True, help="our own mark, such as KOR:II")
    share.add_argument("--rel-to", required=True, metavar="PARTIES", help="readers, as JPN,USA")
    share.add_argument("--to", metavar="PARTIES", help="send to these now (default: all readers)")
    share.add_argument("--kind", choices=KINDS, default="report")
    share.add_argument("--title", help="default: the file's name")
    share.add_argument("--media-type", help="default: guessed from the file's name")
    share.add_argument("--precedence", choices=PRECEDENCES, default="ROUTINE")
    share.add_argument("--from", action="append", default=[], dest="sources", metavar="ID",
                       help="built on this item; repeatable")  # fmt: skip
    share.add_argument("--exercise", action="store_true", help="an exercise, never real")
    _common(share, _share)
    offer = subparsers.add_parser("offer", help="release an item that is here to another party")
    offer.add_argument("id", metavar="ID")
    offer.add_argument("--to", required=True, metavar="PARTY")
    offer.add_argument("--precedence", choices=PRECEDENCES)
    _common(offer, _offer)
    inbox = subparsers.add_parser("inbox", help="items that came here")
    inbox.add_argument("--all", action="store_true", help="also our own, refused and passing ones")
    inbox.add_argument("--limit", type=int, default=50)
    _common(inbox, _inbox)

    item = subparsers.add_parser("item", help="show an item, or get its content")
    commands = item.add_subparsers(dest="command", required=True, metavar="COMMAND")
    show = commands.add_parser("show", help="label, banners, path with signatures, articles")
    show.add_argument("id", metavar="ID")
    show.add_argument("--lang", choices=LANGUAGES, default="en")
    _common(show, _show)
    get = commands.add_parser("get", help="the content, stamped; the reading is journaled")
    get.add_argument("id", metavar="ID")
    get.add_argument("--out", metavar="FILE", help="default: standard output")
    _common(get, _get)

    review = subparsers.add_parser("review", help="what waits for a disclosure officer")
    commands = review.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _common(commands.add_parser("list", help="what waits, FLASH first"), _review_list)
    for name, run, words in (
        ("show", _review_show, "what would be released, and by which article"),
        ("approve", _approve, "sign the release"),
        ("refuse", _refuse, "refuse the release; whoever asked for it is told"),
    ):
        parser = commands.add_parser(name, help=words)
        parser.add_argument("id", metavar="ID")
        parser.add_argument("--to", required=True, metavar="PARTY")
        if name == "show":
            parser.add_argument("--lang", choices=LANGUAGES, default="en")
        if name == "approve":
            add_officer(parser)
        _common(parser, run)

    hold = subparsers.add_parser("hold", help="stop all releases to one party, or lift the stop")
    hold.add_argument("--to", required=True, metavar="PARTY")
    hold.add_argument("--lift", action="store_true")
    add_officer(hold)
    _common(hold, _hold)


def _common(parser: argparse.ArgumentParser, run: Any) -> None:
    add_node(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def _print(args: argparse.Namespace, answer: Any, lines: list[str]) -> int:
    print(json.dumps(answer, ensure_ascii=False) if args.json else "\n".join(lines))
    return 0


def _id(args: argparse.Namespace) -> str:
    """An item's id, or its beginning, as the command line has it. Raises CallerError."""
    if not _ID.fullmatch(args.id):
        raise CallerError(f"{quoted(args.id)} is no item's id; give its first digits, at least 4")
    return str(args.id)


def _review_of(args: argparse.Namespace) -> str:
    if not is_party_code(args.to):
        raise CallerError(f"{quoted(args.to)} is no party's code, such as JPN")
    return f"/reviews/{_id(args)}/{args.to}"


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _refused(args: argparse.Namespace, refusal: NodeRefused) -> int:
    """What the decision refused is an answer: exit 1, with reasons and what would change it."""
    answer = refusal.answer
    if "refusals" not in answer:
        raise refusal
    if args.json:
        print(json.dumps(answer, ensure_ascii=False))
        return EXIT_REFUSED
    for denied in answer["refusals"]:
        print(f"may not go to {denied['to']}:")
        for reason in denied["reasons"]:
            print(f"  {reason['code']}" + (f" ({reason['cites']})" if "cites" in reason else ""))
        print("  what would change it:")
        for need in denied["needs"]:
            print(f"    {need}")
    return EXIT_REFUSED


def _share(args: argparse.Namespace) -> int:
    file, name, size = _content(args.file)
    with file:
        return _share_content(args, file, name, size)


def _share_content(args: argparse.Namespace, file: BinaryIO, name: str, size: int) -> int:
    media_type = args.media_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
    header = {"title": args.title or name, "media_type": media_type, "name": name}
    readers = _names(args.rel_to)
    label: dict[str, Any] = {
        "mark": args.mark,
        "releasable_to": readers,
        "kind": args.kind,
        "topics": args.topic,
        "about": args.about,
    }
    if args.exercise:
        label["exercise"] = True
    head = {
        "label": label,
        "header": header,
        "to": _names(args.to) if args.to else readers,
        "precedence": args.precedence,
        "from": args.sources,
    }
    if size > 8 * 1024 * 1024:
        say(f"sealing {size // 1024 // 1024} MiB …")
    before = framed(head, b"")
    body = chain((before,), _pieces_of(file, size))
    try:
        with exchange(args, "POST", "/drafts", body, len(before) + size) as response:
            answer = answered(response.status, b"".join(response.pieces()))
    except NodeRefused as e:
        return _refused(args, e)
    return _print(args, answer, [f"item {answer['id']}", *_ways(answer)])


def _content(path: str) -> tuple[BinaryIO, str, int]:
    """The content's file, its name and its size. Raises CallerError."""
    file: BinaryIO
    try:
        if path == "-":
            file, name = sys.stdin.buffer, "standard-input"
        else:
            file, name = Path(path).open("rb"), Path(path).name  # noqa: SIM115  # the caller's
        found = os.fstat(file.fileno())
        if stat.S_ISREG(found.st_mode):
            size = found.st_size - file.tell()
        else:
            whole = file.read(PIPED_BYTES_MAX + 1)
            file, size = io.BytesIO(whole), len(whole)
            if size > PIPED_BYTES_MAX:
                raise CallerError(
                    f"content through a pipe has at most {PIPED_BYTES_MAX} bytes; give a file"
                )
    except OSError as e:
        raise CallerError(f'cannot read "{path}": {e.strerror or e}') from None
    if size > PAYLOAD_BYTES_LIMIT:
        raise CallerError(f'"{path}" has {size} bytes; at most {PAYLOAD_BYTES_LIMIT}')
    return file, name, size


def _pieces_of(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes of a file. Raises CallerError."""
    while size:
        try:
            piece = file.read(min(size, PIECE_BYTES))
        except OSError as e:
            raise CallerError(f"cannot read the content: {e.strerror}") from None
        if not piece:
            raise CallerError("the file became shorter while it was read; share it again")
        size -= len(piece)
        yield piece


def _ways(answer: Mapping[str, Any]) -> list[str]:
    lines = []
    for way in answer["to"]:
        text = f"  to {way['to']}: {_STATES.get(way['state'], way['state'])}"
        if "sent_bytes" in way:
            text += f", {way['sent_bytes'] * 100 // way['of_bytes']} % of the content sent"
        if way.get("codes"):
            text += f" ({', '.join(way['codes'])})"
        if way.get("undelivered_because"):
            text += f": {way['undelivered_because']}"
        if way.get("late"):
            text += ", LATE for its precedence"
        lines.append(text)
    return lines


_STATES = {
    "review": "waiting for a disclosure officer (relto review list)",
    "ready": "released, on its way",
    "sent": "with the next node, no receipt yet",
    "with-hub": "with the hub, which holds it; waiting there",
    "delivered": "delivered, receipt verified",
    "refused": "refused on the way",
    "declined": "refused by our own officer",
    "blocked": "stopped here",
}


def _offer(args: argparse.Namespace) -> int:
    body = {"to": args.to}
    if args.precedence:
        body["precedence"] = args.precedence
    try:
        answer = ask(args, "POST", f"/items/{_id(args)}/offer", body)
    except NodeRefused as e:
        return _refused(args, e)
    return _print(args, answer, [f"item {answer['id']}", *_ways(answer)])


def _line(item: Mapping[str, Any]) -> str:
    exercise = "EXERCISE " if item.get("exercise") else ""
    title = item.get("title") or "(content not opened here)"
    return (
        f"{item['id'][:12]}  {item['precedence']:<9} {item['at']}  {item['from']} {item['kind']}  "
        f"{exercise}{item['banner']}  {title}"
    )


def _inbox(args: argparse.Namespace) -> int:
    states = [None] if args.all else ["received", "receiving"]
    items: list[Any] = []
    for state in states:
        query = f"limit={args.limit}" + (f"&state={state}" if state else "")
        items += ask(args, "GET", f"/items?{query}")["items"]
    lines = []
    for item in items:
        lines.append(_line(item) + ("" if item["state"] == "received" else f"  [{item['state']}]"))
        lines += _ways(item)
    return _print(args, {"items": items}, lines or ["nothing"])


def _show(args: argparse.Namespace) -> int:
    item = ask(args, "GET", f"/items/{_id(args)}")
    label = item["label"]
    lines = [
        _line(item),
        f"  id        {item['id']}",
        f"  label     {label['mark']}, "
        f"releasable to {', '.join(label['releasable_to']) or 'nobody'}; "
        f"about {', '.join(label['about']) or 'nothing named'}; "
        f"topics {', '.join(label['topics']) or 'none'}",
    ]
    for source in label.get("sources", []):
        if source["item"] != "self":
            lines.append(
                f"  source    {source['item'][:12]} of {source['originator']} ({source['mark']})"
            )
    banners = " → ".join(f"{b['party']} {b['banner']}" for b in item["banners"])
    lines.append(f"  banners   {banners}")
    manifest = item["manifest"]
    if "signed_by" in manifest:
        signers = ", ".join(manifest["signed_by"])
        lines.append(
            f"  {manifest['at']}  made by {manifest['party']}, signed by {signers}: verified"
        )
    for step in item["path"]:
        signers = ", ".join(step["signed_by"])
        lines.append(
            f"  {step['at']}  released {' → '.join(step['path'])} as {', '.join(step['marks'])} "
            f"by {', '.join(step['cites'])}, signed by the {signers} of {step['party']}: verified"
        )
        for cite, text in step["articles"].items():
            lines.append(f"      {cite}: {in_language(text, args.lang)}")
    for answer in item["answers"]:
        codes = f" ({', '.join(answer['codes'])})" if "codes" in answer else ""
        lines.append(f"  {answer['at']}  {answer['record']} of {answer['party']}{codes}: verified")
    return _print(args, item, [*lines, *_ways(item)])


def _get(args: argparse.Namespace) -> int:
    with exchange(args, "GET", f"/items/{_id(args)}/payload") as response:
        if response.status != 200:
            answered(response.status, b"".join(response.pieces()))
        head, body = take_head(response.pieces())
        exercise = "EXERCISE // " if head.get("exercise") else ""
        stamp = (
            f"{exercise}{head['banner']} // {head['from']} ({head['mark']}) // {head['id'][:12]}"
        )
        is_text = head["header"]["media_type"].startswith("text/")
        if args.out is not None:
            _write(Path(args.out), _stamped(stamp, body) if is_text else body)
        if args.json:
            _print_json({**head, "stamp": stamp}, None if args.out else body)
            return 0
        if args.out is None:
            for piece in _stamped(stamp, body) if is_text else body:
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    say(f"{stamp}  {head['header']['title']}")
    return 0


def _stamped(stamp: str, body: Iterator[bytes]) -> Iterator[bytes]:
    """A text between two lines with its stamp."""
    line = stamp.encode() + b"\n"
    yield line
    last = b""
    for piece in body:
        yield piece
        last = piece[-1:] or last
    yield line if last == b"\n" else b"\n" + line


def _print_json(answer: Mapping[str, Any], body: Iterator[bytes] | None) -> None:
    """An object, and with a body the "content" in it, in base64."""
    text = json.dumps(answer, ensure_ascii=False)
    if body is None:
        print(text)
        return
    print(f'{text[:-1]}, "content": "', end="")
    held = b""
    for piece in body:
        held += piece
        whole = len(held) - len(held) % 3
        print(base64.b64encode(held[:whole]).decode(), end="")
        held = held[whole:]
    print(f'{base64.b64encode(held).decode()}"}}')


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    """A new file for its owner alone, whole or not at all; nothing is overwritten."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(pieces)
        except BaseException:
            path.unlink()
            raise
    except OSError as e:
        raise CallerError(f'cannot write "{path}": {e.strerror}') from None


def _review_list(args: argparse.Namespace) -> int:
    reviews = ask(args, "GET", "/reviews")["reviews"]
    lines = []
    for review in reviews:
        approved = ", ".join(review["approved_by"]) or "nobody yet"
        lines.append(
            f"{_line(review)}\n  to {review['review_to']}: {review['officers']} officer(s) "
            f"needed, approved by {approved}"
        )
    return _print(args, {"reviews": reviews}, lines or ["nothing waits for review"])


def _review_lines(review: Mapping[str, Any], language: str) -> list[str]:
    label = review["label"]
    return [
        _line(review),
        f"  readers   {', '.join(label['releasable_to']) or 'nobody'}; about "
        f"{', '.join(label['about']) or 'nothing named'}; topics {', '.join(label['topics'])}",
        f"  path      {' → '.join(review['path'])}",
        f"  marks     {' → '.join(review['marks'])}",
        f"  protected {', '.join(review['protected_by'])}",
        *(
            f"  article   {cite}: {in_language(text, language)}"
            for cite, text in review["articles"].items()
        ),
        f"  officers  {review['officers']}",
    ]


def _review_show(args: argparse.Namespace) -> int:
    review = ask(args, "GET", _review_of(args))
    return _print(args, review, _review_lines(review, args.lang))


def _approve(args: argparse.Namespace) -> int:
    """Sign what the node drafted: the approval and, for our own item, its manifest."""
    signer = officer(args)
    review = ask(args, "GET", f"{_review_of(args)}?officer={signer.name}")
    for line in _review_lines(review, "en"):
        say(line)
    approval = base64.b64decode(review["approval"])
    _check_draft(review, approval, signer.name)
    body = {
        "approval": signer.sign(Approval, approval).to_json(),
        "certificate": base64.b64encode(signer.certificate).decode(),
    }
    if "manifest" in review:
        manifest = base64.b64decode(review["manifest"])
        body["manifest"] = signer.sign(Manifest, manifest).to_json()
    try:
        answer = ask(args, "POST", f"{_review_of(args)}/approve", body)
    except NodeRefused as e:
        return _refused(args, e)
    return _print(args, answer, [f"item {answer['id']}", *_ways(answer)])


def _check_draft(review: Mapping[str, Any], approval: bytes, officer_name: str) -> None:
    """What is about to be signed is what was shown. Raises CallerError."""
    draft = Approval.from_json(read_object(approval))
    manifest = base64.b64decode(review.get("manifest", ""))
    shown = (
        officer_name, review["id"], list(draft.path), review["leg_marks"],
        review["protected_by"], sorted(review["articles"]),
    )  # fmt: skip
    drafted = (
        draft.officer, draft.item, review["path"], [leg.mark for leg in draft.legs],
        [leg.protected_by for leg in draft.legs], sorted(set(draft.basis.values())),
    )  # fmt: skip
    if shown != drafted or (manifest and hashlib.sha256(manifest).hexdigest() != draft.item):
        raise CallerError("the node drafted something else than it shows; nothing was signed")


def _refuse(args: argparse.Namespace) -> int:
    answer = ask(args, "POST", f"{_review_of(args)}/refuse")
    return _print(args, answer, [f"item {answer['id']}", *_ways(answer)])


def _hold(args: argparse.Namespace) -> int:
    draft = ask(args, "POST", "/holds/draft", {"to": args.to, "on": not args.lift})
    signer = officer(args)
    body = {
        "hold": signer.sign(Hold, base64.b64decode(draft["hold"])).to_json(),
        "certificate": base64.b64encode(signer.certificate).decode(),
    }
    answer = ask(args, "POST", "/holds", body)
    word = "nothing is released to" if answer["on"] else "releases go again to"
    return _print(args, answer, [f"{word} {answer['to']}"])
