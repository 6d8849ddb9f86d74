"""`relto doctor`: what is wrong with a node, each finding with its fix; also while it is down."""

import argparse
import json
import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from relto.agreeing import kept
from relto.apps import clock
from relto.apps.cli.asking import add_node, answered
from relto.config import Config
from relto.errors import CallerError, RegimeError, ReltoError, StoreError
from relto.findings import (
    Finding,
    disk_findings,
    journal_clock_findings,
    key_findings,
    links_findings,
    permission_findings,
    sighting_findings,
    status_findings,
    store_findings,
)
from relto.keys import read_passphrase
from relto.links import Limits, LinkError, unix_request
from relto.regime import closure
from relto.serving import CONFIG_FILE, open_regime, open_trust, read_config, read_regime
from relto.stores.checking import inspect_store
from relto.stores.visits import visit

__all__ = ["add_parser"]

TIMEOUT_S = 30.0
LIMITS = Limits(body_bytes_max=16 * 1024 * 1024)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="check a node, running or not: what is wrong, and the fix",
        description="Checks configuration, regime, keys and certificates, permissions, disk, "
        "store, clock, links, and the agreements shared with each peer. Changes nothing. Exit 0: "
        "all is well; 1: there are findings; 2: the folder cannot be checked at all.",
    )
    add_node(parser)
    parser.add_argument(
        "--passphrase-file", metavar="FILE", help="check too that it opens the node's keys"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


class _Round:
    """One round of checks: what was found, what was looked at, what could not be and why."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.checked: list[str] = []
        self.unchecked: dict[str, str] = {}

    def look(self, check: str, found: Iterable[Finding]) -> None:
        """Take in a check's findings; what it could not look at is said, never passed over."""
        try:
            self.findings += found
        except (OSError, ReltoError) as e:
            self.unchecked[check] = str(e)
        else:
            self.checked.append(check)


def _run(args: argparse.Namespace) -> int:
    if not args.node:
        raise CallerError("which node? give --node DIR, or set RELTO_NODE")
    folder = Path(args.node)
    if folder.is_socket() and not os.access(folder.parent / CONFIG_FILE, os.R_OK):
        return _ask_alone(args, folder)
    folder = folder.parent if folder.is_socket() else folder
    passphrase = read_passphrase(Path(args.passphrase_file)) if args.passphrase_file else None
    if not (folder / CONFIG_FILE).exists():
        raise CallerError(f'"{folder}" has no {CONFIG_FILE}; name the node\'s folder')
    round_ = _Round()
    try:
        config = read_config(folder)
    except CallerError as e:
        round_.findings.append(Finding("configuration", str(e), f"correct {folder / CONFIG_FILE}"))
        return _print(args, "", round_)
    round_.checked.append("configuration")
    now = clock.now()
    digest = _regime(config, round_)
    round_.look("keys", key_findings(config, now, passphrase))
    round_.look("permissions", permission_findings(config))
    round_.look("disk", disk_findings(config))
    status = _ask(config.socket, "/status", round_)
    _store(config, round_, now, running=status is not None)
    if status is None:
        round_.look("links", links_findings(config, now))
        round_.unchecked["agreements"] = "the node compares them with its peers once it runs"
    else:
        _running(config.socket, status, digest, round_, now)
    return _print(args, config.party, round_)


def _ask_alone(args: argparse.Namespace, socket: Path) -> int:
    """For people who may use the node's socket, and not open its folder."""
    round_ = _Round()
    round_.unchecked["folder"] = "only the node's own user may open it"
    status = _ask(socket, "/status", round_)
    if status is None:
        return _print(args, "", round_)
    _running(socket, status, None, round_, clock.now())
    return _print(args, status["party"], round_)


def _running(socket: Path, status: Any, digest: str | None, round_: _Round, now: datetime) -> None:
    """What a running node says of itself and of its peers."""
    round_.look("node", status_findings(status, digest))
    seen = _ask(socket, "/sightings", round_)
    if seen is not None:
        round_.look("links", sighting_findings(seen["peers"], now))
        _compared(seen["peers"], round_)


def _regime(config: Config, round_: _Round) -> str | None:
    """The digest of the regime in the folder, if it is sound and names the CAs that we have."""
    try:
        whole = open_regime(config, read_regime(config, _taken_in(config)))
        regime = closure(whole, config.party)
        open_trust(config, regime)
    except RegimeError as e:
        fix = f"relto regime check {config.regime}"
        round_.findings.append(Finding("regime", str(e.problems[0]), fix))
        return None
    except CallerError as e:
        fix = "the node cannot start; its party, CAs and agreements must fit together"
        round_.findings.append(Finding("regime", str(e), fix))
        return None
    round_.checked.append("regime")
    return regime.digest


def _taken_in(config: Config) -> dict[str, bytes]:
    """The signed agreements in the node's store; what is wrong with that is said apart."""
    try:
        with visit(config.store) as store, store.read() as reader:
            return kept(reader)
    except ReltoError:
        return {}


def _ask(socket: Path, target: str, round_: _Round) -> Any:
    """A running node's answer, or None."""
    try:
        response = unix_request(socket, "GET", target, timeout_s=TIMEOUT_S, limits=LIMITS)
    except LinkError:
        what = f"nothing answers at '{socket}'"
        round_.findings.append(Finding("node", what, "start it with relto node serve"))
        return None
    try:
        return answered(response.status, response.body)
    except CallerError as e:
        round_.unchecked["node"] = str(e)
        return None


def _store(config: Config, round_: _Round, now: datetime, *, running: bool) -> None:
    try:
        found = inspect_store(config.store)
    except CallerError as e:
        round_.unchecked["store"] = str(e)
        return
    except StoreError as e:
        round_.findings.append(Finding("store", str(e), "see docs/operations.md"))
        return
    its_now = now + timedelta(seconds=found.clock_offset_s)
    round_.look("store", store_findings(found, its_now, running=running))
    round_.look("clock", journal_clock_findings(found, its_now))
    if not found.quick_checked:
        round_.unchecked["database"] = "too large for SQLite's own check; every row was checked"


def _compared(seen: list[dict[str, Any]], round_: _Round) -> None:
    silent = [s["party"] for s in seen if "differences" not in s]
    if silent:
        round_.unchecked["agreements"] = f"not compared with {', '.join(silent)}"
    if len(silent) < len(seen):
        round_.checked.append("agreements")


def _print(args: argparse.Namespace, party: str, round_: _Round) -> int:
    if args.json:
        answer = {
            "party": party,
            "findings": [finding.to_json() for finding in round_.findings],
            "checked": round_.checked,
            "unchecked": round_.unchecked,
        }
        print(json.dumps(answer, ensure_ascii=False))
    else:
        for finding in round_.findings:
            print(finding)
        for check, why in round_.unchecked.items():
            print(f"not checked: {check}: {why}")
        if not round_.findings:
            print(f"node of {party}: nothing found; checked: {', '.join(round_.checked)}")
    return 1 if round_.findings else 0
