"""`relto backup|restore`: copy the store of a running node, and put a copy where there is none."""

import argparse
import json
from pathlib import Path

from relto.apps import clock
from relto.apps.cli.asking import add_node, ask
from relto.backups import Backup, make_backup, restore
from relto.errors import CallerError
from relto.instants import instant
from relto.serving import read_config

__all__ = ["add_parser"]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    backup = subparsers.add_parser("backup", help="copy the store of a running node, verified")
    backup.add_argument("to", metavar="BACKUP", help="the folder to make")
    add_node(backup)
    backup.add_argument("--json", action="store_true", help="print one JSON object")
    backup.set_defaults(run=_backup)
    restoring = subparsers.add_parser(
        "restore", help="put a backup into a node's folder that has no store, verified"
    )
    restoring.add_argument("backup", metavar="BACKUP", help="what relto backup made")
    restoring.add_argument("dir", metavar="DIR", help="the node's folder, its node stopped")
    restoring.add_argument("--json", action="store_true", help="print one JSON object")
    restoring.set_defaults(run=_restore)


def _backup(args: argparse.Namespace) -> int:
    if args.node and Path(args.node).is_socket():
        raise CallerError("a backup needs the node's folder: give --node DIR, not its socket")
    to = Path(args.to)
    journaled = ask(args, "POST", "/backup")  # before anything is copied (rule 4)
    config = read_config(Path(args.node))
    made = make_backup(config.store, to, party=config.party, at=journaled["at"])
    if not args.json:
        print(f"{to}: {made.rows} rows and {made.blobs} large contents of {made.party}, verified")
        print(f"  journal: {made.entries} entries, head {made.link[:16]}…")
        print("  payload keys are in it, wrapped; no private key is. Keep apart from it:")
        print(f"  the key folder {config.keys} with its passphrase: without storage.key the")
        print("  contents stay closed for ever; node.toml; the regime folder")
        return 0
    print(json.dumps(_shown(made)))
    return 0


def _restore(args: argparse.Namespace) -> int:
    config = read_config(Path(args.dir))
    at = instant(clock.now().replace(microsecond=0))
    done = restore(Path(args.backup), config.store, party=config.party, at=at)
    if args.json:
        print(json.dumps(_shown(done)))
        return 0
    print(f"{config.store}: {done.rows} rows as of {done.at}, verified")
    print(f"  start it with: relto node serve {args.dir}")
    print("  it asks its peers what it has missed since. Holds set since are gone: set them anew")
    return 0


def _shown(backup: Backup) -> dict[str, object]:
    return {
        "party": backup.party,
        "at": backup.at,
        "journal": {"entries": backup.entries, "link": backup.link},
        "rows": backup.rows,
        "blobs": backup.blobs,
    }
