"""`relto agreement`: draft terms, sign them at home, deposit and merge, see where they stand."""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from relto import chronicles
from relto.apps import clock
from relto.apps.cli.asking import add_node, answered, ask_raw, say
from relto.apps.cli.files import read_at_most
from relto.apps.cli.papers import (
    add_file,
    add_keys,
    certificates_of,
    files_in,
    instant_of,
    put_in_place,
    read_instrument,
    signing_key,
    words_in,
)
from relto.apps.cli.regime import instant_at
from relto.certificates import decode_certificate, fingerprint, spoken
from relto.chronicles import chronicle, picture
from relto.errors import CallerError, PeerError
from relto.explanations import in_language
from relto.instants import instant, is_instant, moment
from relto.instruments import (
    INSTRUMENT_BYTES_MAX,
    Checked,
    Instrument,
    Pillar,
    check_instrument,
    deposited,
    made,
    merged,
)
from relto.keys import (
    open_key_folder,
)
from relto.keys.files import create_file
from relto.lives import LEGAL, Life, life_at, may_move
from relto.moves import MOVES, Move
from relto.phrases import LANGUAGES, LIVES, MOVED
from relto.records import decode_record
from relto.signed import draft_terms
from relto.tables import quoted
from relto.terms import Words

__all__ = ["add_parser"]

EXIT_REFUSED = 1
DIGITS_MIN = 8  # of the digest, that a signer repeats
_OTHER_MOVES = tuple(move for move in MOVES if move != "signed")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "agreement", help="draft and sign agreements, each party at home", description=__doc__
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    draft = commands.add_parser("draft", help="make the file that the parties will sign")
    draft.add_argument("regime", metavar="DIR", help="the regime folder with the agreement in it")
    draft.add_argument("agreement", metavar="ID", help="which agreement of it")
    draft.add_argument("--out", required=True, metavar="FILE", type=Path, help="the file to make")
    draft.set_defaults(run=_draft)

    sign = commands.add_parser(
        "sign", help="sign the terms, after seeing clauses, proofs, changes and digest"
    )
    add_file(sign)
    add_keys(sign)
    sign.add_argument(
        "--since", metavar="EARLIER", type=Path, help="the file seen last: show what changed since"
    )
    sign.add_argument(
        "--digest", metavar="HEX", help="its first digits, 8 at least, instead of being asked"
    )
    sign.add_argument("--lang", choices=LANGUAGES, default="en", help="language (default: en)")
    sign.set_defaults(run=_sign)

    move = commands.add_parser("move", help="open, withdraw, suspend, give notice …")
    move.add_argument("move", choices=_OTHER_MOVES, metavar="MOVE", help=", ".join(_OTHER_MOVES))
    add_file(move)
    add_keys(move)
    move.add_argument(
        "--effective", metavar="INSTANT", help="when a notice of termination takes effect"
    )
    move.set_defaults(run=_move)

    deposit = commands.add_parser(
        "deposit", help="as the depositary: take in moves, from these files too, in their order"
    )
    add_file(deposit)
    deposit.add_argument("others", nargs="*", metavar="OTHER", type=Path, help="others' copies")
    add_keys(deposit)
    deposit.set_defaults(run=_deposit)

    merge = commands.add_parser("merge", help="take from other copies what this one lacks")
    add_file(merge)
    merge.add_argument("others", nargs="+", metavar="OTHER", type=Path, help="others' copies")
    merge.set_defaults(run=_merge)

    extract = commands.add_parser(
        "extract", help="make what parties of agreements that stand on this one may have of it"
    )
    add_file(extract)
    extract.add_argument("--out", required=True, metavar="FILE", type=Path, help="the file to make")
    extract.set_defaults(run=_extract)

    verify = commands.add_parser("verify", help="check every signature, deposit and move")
    add_file(verify)
    verify.set_defaults(run=_verify)

    put = commands.add_parser("put", help="give our running node a file: it decides by it at once")
    put.add_argument("file", metavar="FILE", type=Path, help="the agreement's file")
    add_node(put)
    put.set_defaults(run=_put)

    get = commands.add_parser("get", help="a file as our running node holds it, with others' moves")
    get.add_argument("agreement", metavar="ID", help="which agreement")
    get.add_argument("--out", required=True, metavar="FILE", type=Path, help="the file to make")
    add_node(get)
    get.set_defaults(run=_get)

    diff = commands.add_parser("diff", help="what differs between two drafts, and what that does")
    diff.add_argument("file", metavar="FILE", type=Path, help="the earlier file")
    diff.add_argument("other", metavar="OTHER", type=Path, help="the later one")
    diff.add_argument(
        "--regime", required=True, metavar="DIR", help="our regime folder, with the words pinned"
    )
    diff.set_defaults(run=_diff)

    timeline = commands.add_parser("timeline", help="what has become of it, move by move")
    add_file(timeline)
    timeline.add_argument("--at", metavar="INSTANT", help="up to then (default: now)")
    timeline.add_argument("--picture", metavar="SVG", type=Path, help="a file to draw it into")
    timeline.add_argument("--lang", choices=LANGUAGES, default="en", help="language (default: en)")
    timeline.set_defaults(run=_timeline)

    status = commands.add_parser("status", help="who has signed, what is missing, what comes next")
    add_file(status)
    status.add_argument("--at", metavar="INSTANT", help="as it is then (default: now)")
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.add_argument("--lang", choices=LANGUAGES, default="en", help="language (default: en)")
    status.set_defaults(run=_status)


# commands


def _draft(args: argparse.Namespace) -> int:
    instrument = Instrument(draft_terms(files_in(args.regime), args.agreement))
    create_file(args.out, instrument.encode(), mode=0o644)
    print(f"made {args.out}: the terms of {args.agreement}")
    print(f"digest: {instrument.digest}")
    return 0


def _sign(args: argparse.Namespace) -> int:
    regime, words = words_in(args)
    instrument = read_instrument(args.file)
    checked = check_instrument(instrument, words)
    party = open_key_folder(args.keys).identity.party
    at = instant_of(args)
    if "signed" not in may_move(checked.life, party, at):
        raise CallerError(
            f"{party} cannot sign now: the agreement is {checked.life.phase}, and those who have "
            f"not signed are {', '.join(checked.life.missing) or 'none'}"
        )
    from relto.apps.cli.seeing import seen  # the prover is for those who sign alone

    earlier = read_instrument(args.since) if args.since else None
    for line in seen(regime, words, instrument, earlier, at, args.lang):
        say(line)
    _confirm(args, checked.digest)
    return _make(args, instrument, words, checked, "signed", at)


def _move(args: argparse.Namespace) -> int:
    _, words = words_in(args)
    instrument = read_instrument(args.file)
    checked = check_instrument(instrument, words)
    is_notice = args.move == "termination-notified"
    if is_notice != (args.effective is not None):
        raise CallerError("--effective INSTANT stands beside termination-notified, and only there")
    if is_notice and not is_instant(args.effective):
        raise CallerError(f"{quoted(args.effective)} is no instant such as 2015-01-05T00:00:00Z")
    at = instant_of(args)
    return _make(args, instrument, words, checked, args.move, at, args.effective or "")


def _deposit(args: argparse.Namespace) -> int:
    _, words = words_in(args)
    instrument = _with_others(read_instrument(args.file), args.others)
    checked = check_instrument(instrument, words)
    folder = open_key_folder(args.keys)
    if folder.identity.party != checked.agreement.depositary:
        raise CallerError(
            f"{folder.identity.party} is not the depositary; {checked.agreement.depositary} is"
        )
    known = len(instrument.deposits)
    certificates = certificates_of(folder)
    instrument = replace(
        instrument, certificates=tuple(dict.fromkeys((*instrument.certificates, *certificates)))
    )
    instrument, refused = deposited(instrument, words, signing_key(args, folder), instant_of(args))
    history = check_instrument(instrument, words).history
    put_in_place(args.file, instrument.encode())
    for _, move in history[known:]:
        print(f"deposited: {move.move} of {move.party}")
    for move, why in refused:
        print(f"not deposited: {move.move} of {move.party}: {why}", file=sys.stderr)
    return EXIT_REFUSED if refused else 0


def _merge(args: argparse.Namespace) -> int:
    _, words = words_in(args)
    before = read_instrument(args.file)
    instrument = _with_others(before, args.others)
    checked = check_instrument(instrument, words)
    put_in_place(args.file, instrument.encode())
    moves, deposits = (
        len(instrument.moves) - len(before.moves),
        len(instrument.deposits) - len(before.deposits),
    )
    print(f"{args.file}: {moves} moves and {deposits} deposits more; {checked.life.state}")
    return 0


def _extract(args: argparse.Namespace) -> int:
    _, words = words_in(args)
    instrument = read_instrument(args.file)
    checked = check_instrument(instrument, words)
    create_file(args.out, Pillar.of(instrument, checked.agreement, words).encode(), mode=0o644)
    print(f"made {args.out}: who is bound by {checked.agreement.id}, equal marks and its life")
    return 0


def _verify(args: argparse.Namespace) -> int:
    _, words = words_in(args)
    try:
        checked = check_instrument(read_instrument(args.file), words)
    except PeerError as e:
        print(f"relto: {args.file}: {e}", file=sys.stderr)
        return EXIT_REFUSED
    agreement = checked.agreement
    print(f"{args.file}: holds: {agreement.id}, {agreement.kind}, digest {checked.digest}")
    for party in sorted(agreement.parties):
        at = checked.life.signed.get(party)
        print(f"  {party}: {f'signed {at}' if at else 'has not signed'}")
        if party in checked.cas:
            stated = fingerprint(decode_certificate(checked.cas[party]))
            print(f"    CA, to compare by voice: {spoken(stated)}")
    return 0


def _put(args: argparse.Namespace) -> int:
    found = answered(
        *ask_raw(args, "POST", "/agreements", read_at_most(args.file, INSTRUMENT_BYTES_MAX))
    )
    word = "taken in" if found["new"] else "nothing new"
    print(f"{found['agreement']}: {word}; {found['deposits']} deposits at the node")
    return 0


def _get(args: argparse.Namespace) -> int:
    status, data = ask_raw(args, "GET", f"/agreements/{args.agreement}", b"")
    if status != 200:
        answered(status, data)
    create_file(args.out, data, mode=0o644)
    print(f"made {args.out}: {args.agreement} as the node holds it")
    return 0


def _diff(args: argparse.Namespace) -> int:
    from relto.apps.cli.seeing import differs

    regime, words = words_in(args)
    at = instant(clock.now())
    for line in differs(regime, words, read_instrument(args.file), read_instrument(args.other), at):
        print(line)
    return 0


def _timeline(args: argparse.Namespace) -> int:
    _, words = words_in(args)
    checked = check_instrument(read_instrument(args.file), words)
    entries = chronicle(checked, instant_at(args.at) or instant(clock.now()))
    for line in chronicles.told(entries, args.lang):
        print(line)
    if args.picture is not None:
        create_file(args.picture, picture(checked, entries, args.lang).encode(), mode=0o644)
    return 0


def _status(args: argparse.Namespace) -> int:
    _, words = words_in(args)
    checked = check_instrument(read_instrument(args.file), words)
    at = instant_at(args.at) or instant(clock.now())
    if at < checked.life.last_at:
        raise CallerError(f"--at {at} is before the latest move, {checked.life.last_at}")
    life = life_at(checked.life, at)
    if args.json:
        print(json.dumps(_as_json(checked, life, at), ensure_ascii=False))
    else:
        for line in _told(checked, life, at, args.lang):
            print(line)
    return 0


# what is shown


def _confirm(args: argparse.Namespace, digest: str) -> None:
    """The signer repeats the digest's first digits. Raises CallerError."""
    digits = args.digest
    if digits is None:
        try:
            digits = input(f"To sign, type the first {DIGITS_MIN} digits of the digest: ")
        except EOFError:
            raise CallerError("nobody is there to confirm; give --digest") from None
    digits = digits.strip().lower()
    if len(digits) < DIGITS_MIN or not digest.startswith(digits):
        raise CallerError("that is not the digest shown; nothing was signed")


def _told(checked: Checked, life: Life, at: str, language: str) -> Iterator[str]:
    def words(key: str) -> str:
        return in_language(LIVES[key], language)

    yield f"{in_language(checked.agreement.title, language)} ({checked.agreement.id})"
    yield f"{words('digest')}: {checked.digest}"
    yield f"{words('state')}: {words(life.state)} ({at})"
    for party in sorted(checked.agreement.parties):
        signed = life.signed.get(party)
        said = f"{words('signed-at')} {signed}" if signed else words("not-signed")
        yield f"  {party}: {said}"
    if life.begins:
        yield f"{words('begins')}: {life.begins}"
    for party, notice in sorted(life.notices.items()):
        rests = f" ({words('rests')})" if notice.suspended else ""
        yield f"{words('notice')} {party}: {notice.effective}{rests}"
    if life.ended:
        yield f"{words('ended-at')}: {life.ended}"
    elif life.next_end:
        yield f"{words('ends')}: {life.next_end}"
    for move in checked.waiting:
        name = in_language(MOVED[move.move], language)
        yield f"{words('waits')}: {name} ({move.party}, {move.at})"


def _as_json(checked: Checked, life: Life, at: str) -> dict[str, object]:
    return {
        "agreement": checked.agreement.id,
        "digest": checked.digest,
        "exercise": checked.exercise,
        "at": at,
        "state": life.state,
        "signed": dict(sorted(life.signed.items())),
        "missing": list(life.missing),
        "begins": life.begins,
        "suspended_by": sorted(life.suspended_by),
        "notices": {
            party: {"effective": notice.effective, "suspended": notice.suspended}
            for party, notice in sorted(life.notices.items())
        },
        "ends": life.ended or life.next_end,
        "may": {party: list(may_move(life, party, at)) for party in sorted(life.agreement.parties)},
        "waiting": [{"party": m.party, "move": m.move, "at": m.at} for m in checked.waiting],
    }


# files and keys


def _with_others(instrument: Instrument, others: list[Path]) -> Instrument:
    for path in others:
        instrument = merged(instrument, read_instrument(path))
    return instrument


def _make(
    args: argparse.Namespace,
    instrument: Instrument,
    words: Words,
    checked: Checked,
    name: str,
    at: str,
    effective: str = "",
) -> int:
    """Sign one move, and write the file if all of it still holds."""
    folder = open_key_folder(args.keys)
    party = folder.identity.party
    if name not in may_move(checked.life, party, at):
        phase, who = LEGAL[name]
        raise CallerError(
            f"{name} of {party} is out of place: the agreement is {checked.life.phase}; it is made "
            f"while it is {phase}, {who}"
        )
    seqs = [m.seq for m in _moves(instrument) if m.party == party]
    seq = max([int(moment(at).timestamp() * 1000), *(s + 1 for s in seqs)])
    move = Move(party, checked.agreement.id, checked.digest, name, seq, at, effective)
    instrument = made(instrument, move, signing_key(args, folder), certificates_of(folder))
    check_instrument(instrument, words)
    put_in_place(args.file, instrument.encode())
    print(f"{name} by {party} at {at}; send {args.file} to {checked.agreement.depositary}")
    return 0


def _moves(instrument: Instrument) -> list[Move]:
    return [decode_record(envelope, Move) for envelope in instrument.moves]
