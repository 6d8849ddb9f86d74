"""A look into a store from outside, also while its node runs: snapshot by snapshot, read only."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import apsw

from relto.errors import CallerError
from relto.ports import Reader
from relto.stores.fuse import Fuse
from relto.stores.migrations import SCHEMA_VERSION
from relto.stores.rows import SqlReader
from relto.stores.sqlite import APPLICATION_ID, connect

__all__ = ["Visit", "own_database", "visit"]

BUSY_MS = 1_000  # while its node opens or closes the store


class Visit:
    """A store that this process did not open, and never writes to."""

    def __init__(self, connection: apsw.Connection, fuse: Fuse) -> None:
        self._connection = connection
        self._fuse = fuse

    def read(self) -> AbstractContextManager[Reader]:
        """A snapshot, as the port's `Store.read`. Hold it briefly: the log grows behind it."""
        return self._read()

    @contextmanager
    def _read(self) -> Iterator[Reader]:
        reader = SqlReader(self._connection, self._fuse)
        with self._fuse.guard():
            self._connection.execute("BEGIN")
        try:
            yield reader
        finally:
            reader.close()
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


@contextmanager
def visit(path: Path) -> Iterator[Visit]:
    """Look into the store in a folder, whether its node runs or not.

    Raises:
        CallerError: there is none, it belongs to another user, or it has another layout.
        StoreError: it cannot be read.
    """
    file = own_database(path)
    fuse = Fuse(f"the store '{path}'")
    with fuse.guard():
        connection = connect(file, apsw.SQLITE_OPEN_READONLY)
    with closing(connection):
        connection.set_busy_timeout(BUSY_MS)
        with fuse.guard():
            application = connection.pragma("application_id")
            version = connection.pragma("user_version")
        if application != APPLICATION_ID:
            raise CallerError(f"'{file}' is not one of relto's")
        if version != SCHEMA_VERSION:
            raise CallerError(
                f"'{file}' has schema {version} and this relto knows {SCHEMA_VERSION}: "
                + ("start its node once" if version < SCHEMA_VERSION else "install the newer relto")
            )
        yield Visit(connection, fuse)


def own_database(path: Path) -> Path:
    """The database of the store in a folder. Raises CallerError if it is not ours to open."""
    file = path / "relto.db"
    try:
        owner = file.stat().st_uid
    except OSError as error:
        raise CallerError(f"no store at '{path}': {error.strerror}") from error
    # SQLite makes a log beside the database; made by another user, the node could not open it.
    if owner != os.geteuid():
        raise CallerError(f"'{file}' belongs to another user: run this as the node's user")
    return file
