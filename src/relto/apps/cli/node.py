"""`relto node init|serve|status`: make a node's folder, run it, see how it is."""

import argparse
import asyncio
import json
from pathlib import Path

from relto import logs
from relto.apps.cli.asking import add_node, ask
from relto.config import decode_config
from relto.errors import CallerError
from relto.keys import ask_passphrase, read_passphrase
from relto.serving import CONFIG_FILE, read_config, serve

LATE_SHOWN_MAX = 5  # alarms that the status for people lists

__all__ = ["add_parser"]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("node", help="make, run and look after a node")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    init = commands.add_parser("init", help="make a node's folder with its configuration")
    init.add_argument("dir", metavar="DIR", help="the folder to make")
    init.add_argument("--party", required=True, help="this node's party")
    init.add_argument("--regime", required=True, metavar="DIR", help="the regime folder")
    init.add_argument("--keys", required=True, metavar="DIR", help="the party's key folder")
    init.add_argument("--listen", required=True, metavar="HOST:PORT", help="where peers connect")
    init.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="PARTY=HOST:PORT=CA.crt",
        help="another party's node and its CA certificate; once for each",
    )
    init.add_argument(
        "--party-ca",
        action="append",
        default=[],
        metavar="PARTY=CA.crt",
        help="the CA of a party whose node is reached through others alone",
    )
    init.add_argument(
        "--exercise", action="store_true", help="the clock may be set; needs EXERCISE certificates"
    )
    init.set_defaults(run=_init)
    serving = commands.add_parser("serve", help="run the node until SIGTERM")
    serving.add_argument("dir", metavar="DIR", help="the node's folder")
    serving.add_argument("--passphrase-file", metavar="FILE", help="first line: the passphrase")
    serving.set_defaults(run=_serve)
    status = commands.add_parser("status", help="items, queues, links, holds, clock")
    add_node(status)
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.set_defaults(run=_status)
    clock = commands.add_parser("clock", help="set the clock of an exercise")
    add_node(clock)
    clock.add_argument("at", metavar="INSTANT", help="such as 2014-12-29T00:00:00Z")
    clock.set_defaults(run=_clock)


def _init(args: argparse.Namespace) -> int:
    folder = Path(args.dir)
    peers = []
    for given in args.peer:
        party, _, rest = given.partition("=")
        address, _, ca = rest.partition("=")
        if not (party and address and ca):
            raise CallerError(f'"{given}" is not PARTY=HOST:PORT=CA.crt')
        peers.append((party, address, Path(ca).resolve()))
    for given in args.party_ca:
        party, _, ca = given.partition("=")
        if not (party and ca):
            raise CallerError(f'"{given}" is not PARTY=CA.crt')
        peers.append((party, "", Path(ca).resolve()))
    lines = [
        f"party = {json.dumps(args.party)}",
        f"regime = {json.dumps(str(Path(args.regime).resolve()))}",
        f"keys = {json.dumps(str(Path(args.keys).resolve()))}",
        f"listen = {json.dumps(args.listen)}",
        f"clock = {json.dumps('exercise' if args.exercise else 'system')}",
        "",
        "[limits]",
        "payload_bytes_max = 33554432",
    ]
    for party, address, path in peers:
        lines += ["", "[[peer]]", f"party = {json.dumps(party)}"]
        lines += [f"address = {json.dumps(address)}"] if address else []
        lines += [f"ca = {json.dumps(str(path))}"]
    text = "\n".join(lines) + "\n"
    decode_config(text.encode(), folder / CONFIG_FILE)  # what could not be read is not written
    try:
        folder.mkdir(mode=0o700, parents=True)
        (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
    except OSError as e:
        raise CallerError(f'cannot make "{folder}": {e.strerror}') from None
    print(f"made {folder / CONFIG_FILE}; run it with: relto node serve {folder}")
    return 0


def _serve(args: argparse.Namespace) -> int:
    config = read_config(Path(args.dir))
    logs.set_up(form=config.log, level=config.log_level)
    passphrase = (
        read_passphrase(Path(args.passphrase_file))
        if args.passphrase_file
        else ask_passphrase(confirm=False)
    )
    asyncio.run(serve(config, passphrase, ready=lambda: print("ready", flush=True)))
    return 0


def _status(args: argparse.Namespace) -> int:
    status = ask(args, "GET", "/status")
    if args.json:
        print(json.dumps(status, ensure_ascii=False))
        return 0
    exercise = " EXERCISE" if status["exercise"] else ""
    print(f"node of {status['party']}{exercise}, clock {status['clock']}")
    print(f"  regime {status['regime'][:16]}…, in force: {', '.join(status['in_force']) or 'none'}")
    items = ", ".join(f"{count} {state}" for state, count in status["items"].items() if count)
    print(f"  items: {items or 'none'}; waiting for review: {status['reviews']}")
    if status["twin"]:
        print(f"  ALARM: {status['twin']} has a release of ours that this node never made:")
        print("    another node runs with our keys. Stop one of the two, and restart the other")
    if status["behind"] not in ("", "new"):
        waits = ", ".join(peer["party"] for peer in status["peers"] if not peer["asked"])
        print(f"  the store is behind ({status['behind']}): not asked yet: {waits or 'nobody'}")
    for peer in status["peers"]:
        print(f"  {peer['party']}: {peer['waiting']} messages owed, link {peer['link']}")
        if peer["missing"]:
            print(f"    {peer['missing']} releases that it has of ours, and has not given back")
        if peer.get("limits"):
            print(f"    reached its limits of {', '.join(peer['limits'])}: relto doctor")
    if status["holds"]:
        print(f"  on hold, nothing is released to: {', '.join(status['holds'])}")
    for late in status["late"][:LATE_SHOWN_MAX]:
        print(
            f"  LATE: {late['precedence']} to {late['to']} was to be handled by {late['due']}:"
            f" relto item show {late['item'][:12]}"
        )
    if len(status["late"]) > LATE_SHOWN_MAX:
        print(f"  LATE: {len(status['late']) - LATE_SHOWN_MAX} more: relto node status --json")
    journal = status["journal"]
    print(f"  journal: {journal['entries']} entries, head {journal['link'][:16]}…")
    return 0


def _clock(args: argparse.Namespace) -> int:
    print(ask(args, "POST", "/clock", {"at": args.at})["clock"])
    return 0
