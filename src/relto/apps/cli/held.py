"""`relto regime diff --items`: which items of a node may newly go to whom, and which no longer."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from relto.apps import clock
from relto.apps.cli.asking import new_file, say
from relto.apps.cli.regime import instant_at
from relto.consequences import Affected, Consequences, Shift, Verdict, consequences
from relto.errors import CallerError
from relto.holdings import KIND
from relto.instants import instant
from relto.ports import Reader
from relto.regime import Regime
from relto.serving import read_config
from relto.stores.visits import visit

__all__ = ["Held", "look"]

REDRAWN_S = 0.2  # a terminal
REPEATED_S = 10.0  # where standard error is a file or a pipe


@dataclass(frozen=True, slots=True)
class Held:
    """What was found at one node."""

    party: str
    at: str
    found: Consequences

    def to_json(self) -> dict[str, Any]:
        shifts = sorted(self.found.shifts.items(), key=_order)
        return {
            "party": self.party,
            "at": self.at,
            "items": self.found.items,
            "classes": self.found.classes,
            "shifts": [_shown(shift, affected) for shift, affected in shifts],
        }

    def told(self) -> list[str]:
        """The same in lines for people."""
        found = self.found
        count = f"{found.items:,}, of {found.classes:,} classes"
        lines = [f"items held by {self.party} at {self.at}: {count}"]
        if not found.shifts:
            return [*lines, "  none may newly go to anybody, and none may no longer"]
        for to in sorted({shift.to for shift in found.shifts}):
            ours = {s: a for s, a in found.shifts.items() if s.to == to}
            gained, lost = (
                sum(a.items for s, a in ours.items() if s.gained is sign) for sign in (True, False)
            )
            lines.append(f"to {to}: {gained:,} may newly go, {lost:,} no longer")
            lines += [
                _line(shift, affected) for shift, affected in sorted(ours.items(), key=_order)
            ]
        return lines


def look(args: argparse.Namespace, before: Regime, after: Regime) -> Held:
    """What the change does to the items of the node that `--node` names.

    With `--ids` every item that is affected is written to a new file, a line of JSON each.
    """
    if not args.node:
        raise CallerError("which node? give --node DIR, or set RELTO_NODE")
    folder = Path(args.node)
    folder = folder.parent if folder.is_socket() else folder
    config = read_config(folder)
    with ExitStack() as opened:
        store = opened.enter_context(visit(config.store))
        with store.read() as reader:
            progress = _Progress(reader.count(KIND))
            at = instant_at(args.at) or _now(reader)
        opened.callback(progress.end)
        out = opened.enter_context(new_file(Path(args.ids))) if args.ids else None

        def tell(items: Sequence[str], gained: Sequence[str], lost: Sequence[str]) -> None:
            assert out is not None  # noqa: S101  # or nobody asks to be told
            whom = json.dumps({"gained": gained, "lost": lost}, separators=(",", ":"))[1:]
            out.writelines(f'{{"item":"{item}",{whom}\n'.encode() for item in items)

        found = consequences(
            store.read, config.party, before, after, at,
            progress=progress.add, tell=None if out is None else tell,
        )  # fmt: skip
    return Held(config.party, at, found)


def _now(reader: Reader) -> str:
    """The node's own present, which an exercise may have set."""
    ahead = timedelta(seconds=float(reader.meta("clock-offset-s") or 0))
    return instant((clock.now() + ahead).replace(microsecond=0))


class _Progress:
    """How many items were looked at, on standard error: in place on a terminal, else in lines."""

    def __init__(self, items: int) -> None:
        self._items = items
        self._done = 0
        self._drawn = False
        self._is_terminal = sys.stderr.isatty()
        self._told_s = time.monotonic()

    def add(self, items: int) -> None:
        self._done += items
        now_s = time.monotonic()
        if now_s - self._told_s < (REDRAWN_S if self._is_terminal else REPEATED_S):
            return
        self._told_s = now_s
        text = f"{self._done:,} of {self._items:,} items"
        if self._is_terminal:
            self._drawn = True
            print(f"\r{text}", end="", file=sys.stderr, flush=True)
        else:
            say(text)

    def end(self) -> None:
        """Leave no line behind that is no longer true."""
        if self._drawn:
            print(f"\r{' ' * 60}\r", end="", file=sys.stderr, flush=True)


def _order(entry: tuple[Shift, Affected]) -> tuple[Any, ...]:
    """By recipient, what is gained first, then the most items."""
    shift, affected = entry
    return shift.to, not shift.gained, -affected.items, affected.example


def _shown(shift: Shift, affected: Affected) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "to": shift.to,
        "gained": shift.gained,
        "items": affected.items,
        "classes": affected.classes,
        "example": affected.example,
        "before": _verdict(shift.before),
        "after": _verdict(shift.after),
    }
    return shown | {"why": affected.why} if affected.why else shown


def _verdict(verdict: Verdict) -> dict[str, Any]:
    if verdict.cites:
        return {"decision": "allow", "path": list(verdict.path), "cites": list(verdict.cites)}
    reasons = [
        {"code": reason.code} | ({} if reason.cites is None else {"cites": reason.cites})
        for reason in verdict.reasons
    ]
    return {"decision": "deny", "reasons": reasons}


def _line(shift: Shift, affected: Affected) -> str:
    sign, how = ("+", shift.after) if shift.gained else ("-", shift.before)
    refused, when = (shift.before, "before") if shift.gained else (shift.after, "now")
    why = f" ({affected.why})" if affected.why else ""
    # What the clauses say that permit it otherwise is the answer; where they are gone, all others.
    told = [r for r in refused.reasons if r.cites in how.cites] or refused.reasons
    reasons = ", ".join(f"{r.code} {r.cites or ''}".rstrip() for r in told)
    return (
        f"  {sign} {affected.items:,} {' → '.join(how.path)} by {', '.join(how.cites)}; "
        f"{when} {reasons}{why}; such as {affected.example}"
    )
