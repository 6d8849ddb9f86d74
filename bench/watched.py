"""A node as `relto node serve` runs it, that also tells when it has committed an item.

Beside the product, which knows nothing of it: the store's commit is wrapped, and after each one
that holds a new item a line `<monotonic ns> <item id>` goes to the pipe whose path comes first.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from relto.apps.cli import main
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


if __name__ == "__main__":
    watch(os.open(sys.argv[1], os.O_WRONLY))
    sys.exit(main(sys.argv[2:]))
