"""`relto regime diff`: what a change of a regime does, as text or JSON."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict

from relto.apps.cli.regime import instant_at, regime_at
from relto.errors import CallerError
from relto.proofs.differing import Difference, Permission, difference_of
from relto.proofs.stories import words

__all__ = ["diff", "told"]

_STANDS = {None: "not stated", True: "holds", False: "BROKEN"}


def diff(args: argparse.Namespace) -> int:
    """Print what differs between two regimes."""
    at = instant_at(args.at)
    if args.ids and not args.items:
        raise CallerError("--ids needs --items: it names items that a node holds")
    before, after = regime_at(args.before), regime_at(args.after)
    held = None
    if args.items:
        from relto.apps.cli.held import look  # loads what opens a node's folder

        held = look(args, before, after)
    found = difference_of(before, after, at)
    if args.json:
        print(
            json.dumps(
                {
                    "changes": [asdict(change) for change in found.changes],
                    "properties": [
                        {**one.shown(), "before": stood, "after": stands}
                        for one, stood, stands in found.properties
                    ],
                    "permissions": [_permission(one) for one in found.permissions],
                    **({} if held is None else {"items": held.to_json()}),
                },
                ensure_ascii=False,
            )
        )
        return 0
    for line in (*told(found), *(() if held is None else held.told())):
        print(line)
    return 0


def told(found: Difference) -> Iterator[str]:
    """What differs, a line each: clauses and words, properties, permissions with an example."""
    for change in found.changes:
        yield f"{change.what}:"
        before, after = (dict.fromkeys(t.split("; ")) for t in (change.before, change.after))
        for sign, parts, others in (("-", before, after), ("+", after, before)):
            for part in parts:
                if part and part not in others:
                    yield f"  {sign} {part}"
    for one, stood, stands in found.properties:
        yield f"{_STANDS[stood]} → {_STANDS[stands]}: {words(one, 'en')}"
    for permission in found.permissions:
        yield _told(permission)
    if not (found.changes or found.properties or found.permissions):
        yield "nothing differs but words"


def _permission(one: Permission) -> dict[str, object]:
    example = one.example
    label = {
        "mark": example.mark,
        "topics": sorted(example.topics),
        "about": sorted(example.about),
        "kind": example.kind,
    }
    return asdict(one) | {"path": list(one.path), "example": label}


def _told(one: Permission) -> str:
    word = "now possible" if one.gained else "no longer possible"
    label = [one.example.mark, *sorted(one.example.topics), *sorted(one.example.about)]
    held = f", held by {one.basis}" if one.basis else ""
    return (
        f"{word}: {' → '.join(one.path)} by {one.cites}; such as {one.originator}'s "
        f"{one.example.kind}, {', '.join(label)}{held}"
    )
