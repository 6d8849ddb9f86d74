"""A node as `relto node serve` runs it, watched and held back from beside the product.

    watched.py TOLD SHARE serve ...

TOLD is a pipe, or `-`: the store's commit is wrapped, and after each one that holds a new item a
line `<monotonic ns> <item id>` goes there. SHARE, at most 1, is the part of the time in which a
lane may be at work on ROUTINE: it rests after each message as much longer as that asks for.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from relto.apps.cli import main
from relto.courier import Courier
from relto.hands import Owed
from relto.ports import OutboxRow
from relto.records import PRECEDENCES
from relto.stores import sqlite
from relto.stores.rows import SqlTransaction


def watch(told: int) -> None:
    """Wrap commit and put of every store of this process."""
    put, commit = SqlTransaction.put, sqlite.SqliteStore.commit
    seen: list[str] = []

    def watched_put(
        self: SqlTransaction, kind: str, key: str, body: bytes, *, state: str = "", rank: str = ""
    ) -> None:
        put(self, kind, key, body, state=state, rank=rank)
        if kind == "item" and state == "received":
            seen.append(key)

    def watched_commit(self: sqlite.SqliteStore, jobs: Sequence[Callable[..., Any]]) -> list[Any]:
        seen.clear()
        results = commit(self, jobs)
        at = time.monotonic_ns()
        if seen:
            os.write(told, "".join(f"{at} {item}\n" for item in seen).encode())
        return results

    SqlTransaction.put = watched_put  # type: ignore[method-assign]
    sqlite.SqliteStore.commit = watched_commit  # type: ignore[method-assign]


def hold_back(share: float) -> None:
    """Wrap what every lane of this process delivers."""
    deliver = Courier._deliver
    routine = PRECEDENCES.index("ROUTINE")

    async def held_back(
        self: Courier, granted: Sequence[Owed], precedence: int, left: dict[int, OutboxRow]
    ) -> None:
        began_s = time.monotonic()
        await deliver(self, granted, precedence, left)
        if precedence == routine:
            await asyncio.sleep((time.monotonic() - began_s) * (1 / share - 1))

    Courier._deliver = held_back  # type: ignore[method-assign]


if __name__ == "__main__":
    if sys.argv[1] != "-":
        watch(os.open(sys.argv[1], os.O_WRONLY))
    if float(sys.argv[2]) < 1:
        hold_back(float(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
