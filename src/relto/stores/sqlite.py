"""The store of a real node: one SQLite database in WAL mode, with large contents beside it.

    DIR/lock        held while the store is open
    DIR/relto.db    the rows, with -wal and -shm beside it
    DIR/blobs/      large contents, one file each
    DIR/ballast     space to give back when the disk is full

One thread commits, over one connection; snapshots have connections of their own, which cannot
write.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import apsw

from relto.errors import CallerError, ReltoError, StoreError, StoreFull
from relto.ports import Reader, Transaction
from relto.stores import limits
from relto.stores.files import Ballast, Blobs, Folder
from relto.stores.fuse import Fuse
from relto.stores.migrations import MIGRATIONS, SCHEMA_VERSION
from relto.stores.rows import SCHEMA, SqlReader, SqlTransaction
from relto.stores.snapshots import Snapshots

__all__ = ["SqliteStore", "connect", "copy_database", "require_sqlite"]

# Older ones can corrupt a database when two connections write and checkpoint at once ("WAL-reset
# bug", sqlite.org/wal.html#walresetbug); Debian 12 ships 3.40.
SQLITE_OLDEST = (3, 51, 3)

APPLICATION_ID = 0x52454C54  # "RELT", in the file's header: `file relto.db` shows it

READERS = 4
READER_WAIT_S = 1.0  # for one of them to come free
QUICK_CHECK_BYTES_MAX = 1024**3  # a few seconds; a bigger database is not checked at start
WAL_PAGES = 1_000  # from here on each commit is followed by a checkpoint
WAL_PAGES_MAX = 16_000  # 64 MiB; reached only behind snapshots. Then they must end, or we shed
WAL_BYTES_KEPT = WAL_PAGES * 4096

T = TypeVar("T")

# Every one is read back: SQLite ignores a setting that it does not know or that comes too late.
SETTINGS: tuple[tuple[str, int], ...] = (
    # Each commit is on the disk when it returns: FULL kept 50 of 50 acknowledged rows through a
    # power cut, NORMAL none. 2 is FULL.
    ("synchronous", 2),
    ("foreign_keys", 1),
    # A schema that somebody planted cannot call functions with side effects.
    ("trusted_schema", 0),
    # Damaged cells are found when a page is read, not when they are followed.
    ("cell_size_check", 1),
    # What is deleted is overwritten with zeros: destroying is a duty (`return_or_destroy`).
    ("secure_delete", 1),
    # A failed read of a mapped file is a signal that kills without a word; of a file, an error.
    ("mmap_size", 0),
    # Nobody else writes, so there is nothing to wait for; a wait would hide that somebody does.
    ("busy_timeout", 0),
    # SQLite's own checkpoint swallows its errors, a failed fsync too: `commit` does it instead.
    ("wal_autocheckpoint", 0),
    # After a checkpoint the log is cut to this, so that one long read does not cost disk for ever.
    ("journal_size_limit", WAL_BYTES_KEPT),
    # Sorting stays in memory: temporary files would hold contents in clear. 2 is MEMORY.
    ("temp_store", 2),
)

# sqlite3_db_config switches, likewise read back.
SWITCHES: tuple[tuple[int, int], ...] = (
    (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),  # no SQL can write pages or the schema directly
    (apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0),  # we have none, so one that fires was planted
    (apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0),
    (apsw.SQLITE_DBCONFIG_DQS_DML, 0),  # "x" is a column or an error, never a string
    (apsw.SQLITE_DBCONFIG_DQS_DDL, 0),
    # A plan does not depend on the values that are bound: else SQLite plans again for each of them.
    (apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1),
)


class SqliteStore:
    """The port's `Store` in a folder.

    `quick_checked` says whether the database was small enough to be checked at start.

    Args:
        path: the folder; made if it is absent, in a parent that exists.
        ballast_bytes: disk space to reserve for receipts and FLASH; 0 for none. At least 16 MiB
            is of use: a checkpoint may need the log's 4 MiB first.
        pages_max: most pages of 4096 bytes that the database may have; None for no limit.
        reader_wait_s: how long `read` waits for one of the `READERS` snapshots to end.

    Raises:
        CallerError: the folder or database is not one this program may use; says the fix.
        StoreBroken: the database is damaged.
    """

    def __init__(
        self,
        path: Path,
        *,
        ballast_bytes: int = 0,
        pages_max: int | None = None,
        reader_wait_s: float = READER_WAIT_S,
    ) -> None:
        require_sqlite(apsw.sqlite_lib_version())
        self._fuse = fuse = Fuse(f"the store '{path}'")
        self._commits = threading.Lock()
        self._wal_pages = 0
        self._closed = False
        with ExitStack() as opened, fuse.guard():
            folder = Folder(path)
            opened.callback(folder.close)
            file = folder.reserve("relto.db")
            self._writer = writer = connect(file, apsw.SQLITE_OPEN_READWRITE)
            opened.callback(self._close_writer)
            self._identify(file)
            if pages_max is not None:
                _set(writer, "max_page_count", pages_max)
            writer.set_wal_hook(self._note_wal)
            self.quick_checked = file.stat().st_size <= QUICK_CHECK_BYTES_MAX
            if self.quick_checked and writer.pragma("quick_check", 1) != "ok":
                raise fuse.blow("the database is damaged")
            readers = []
            for _ in range(READERS):
                reader = connect(file, apsw.SQLITE_OPEN_READONLY)
                opened.callback(reader.close)
                _set(reader, "query_only", 1)
                # Opens the log too, so that a snapshot needs no new descriptor later.
                reader.execute("SELECT count(*) FROM meta").fetchall()
                readers.append(reader)
            self._snapshots = Snapshots(readers, wait_s=reader_wait_s)
            self._blobs = Blobs(folder.path, fuse)
            opened.callback(self._blobs.close)
            self._ballast = Ballast(folder.path, ballast_bytes, fuse)
            # The log was made by the first read. SQLite syncs the folder as well, but goes on if
            # that fails; a power cut could then take the whole log with its name.
            folder.sync(fuse)
            self._closing = opened.pop_all()

    def commit(self, jobs: Sequence[Callable[[Transaction], T]]) -> list[T | ReltoError]:
        limits.jobs(len(jobs))
        with self._alone():
            if self._wal_pages > WAL_PAGES_MAX:
                self._restart_log()
            results = self._transact(jobs) if jobs else []
            if self._wal_pages >= WAL_PAGES:
                # The jobs are durable already; a checkpoint that finds no room can come later.
                with suppress(StoreFull):
                    self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)
            return results

    @contextmanager
    def read(self) -> Iterator[Reader]:
        self._fuse.check()
        with self._snapshots.one() as connection:
            reader = SqlReader(connection, self._fuse)
            try:
                with self._fuse.guard():
                    connection.execute("BEGIN")
                    # The instant of a snapshot is that of its first read.
                    connection.execute("SELECT count(*) FROM meta").fetchall()
                yield reader
            finally:
                reader.close()
                if connection.in_transaction:
                    with suppress(apsw.Error):  # nothing to lose, and the next BEGIN would fail
                        connection.execute("ROLLBACK")

    def scrub(self) -> None:
        with self._alone():
            self._restart_log()

    def blob_append(self, name: str, offset: int, data: bytes) -> None:
        self._blobs.append(name, offset, data)

    def blob_size(self, name: str) -> int:
        return self._blobs.size(name)

    def blob_sync(self, name: str) -> None:
        self._blobs.sync(name)

    def blob_read(self, name: str, offset: int, length: int) -> bytes:
        return self._blobs.read(name, offset, length)

    def blob_remove(self, name: str) -> bool:
        return self._blobs.remove(name)

    def blob_names(self) -> list[str]:
        return self._blobs.names()

    @property
    def ballast_held(self) -> bool:
        return self._ballast.held

    def release_ballast(self) -> None:
        self._ballast.release()

    def restore_ballast(self) -> None:
        self._ballast.restore()

    def close(self) -> None:
        if self._closed:
            return
        with self._alone(checked=False):
            try:
                with self._snapshots.pause():
                    self._closed = True
                    self._closing.close()
                    self._fuse.end()
            except StoreFull as error:
                raise RuntimeError("a snapshot is still open: end it before the store") from error

    @contextmanager
    def _alone(self, *, checked: bool = True) -> Iterator[None]:
        """Inside, this thread is the one that uses the writing connection."""
        if not self._commits.acquire(blocking=False):
            raise RuntimeError("a commit is running: one thread commits, and no job does")
        try:
            if checked:
                self._fuse.check()
            yield
        finally:
            self._commits.release()

    def _transact(self, jobs: Sequence[Callable[[Transaction], T]]) -> list[T | ReltoError]:
        transaction = SqlTransaction(self._writer, self._fuse)
        try:
            self._do("BEGIN IMMEDIATE")
            results = [self._run(transaction, job) for job in jobs]
            self._do("COMMIT")
        except BaseException:
            # After FULL SQLite may have rolled back by itself. After a broken disk there is
            # nothing sensible to do: the log has no commit mark, or has it, and restart will tell.
            if self._writer.in_transaction and not self._fuse.blown:
                self._do("ROLLBACK")
            raise
        finally:
            transaction.close()
        return results

    def _run(self, transaction: SqlTransaction, job: Callable[[Transaction], T]) -> T | ReltoError:
        self._do("SAVEPOINT job")
        result: T | ReltoError
        end = "RELEASE job"
        try:
            result = job(transaction)
        except StoreError:
            raise
        except ReltoError as refusal:
            result, end = refusal, "ROLLBACK TO job; RELEASE job"
        # INVARIANT: nothing runs after a failed statement. SQLite may have ended the transaction
        # with it, and the next statement would commit by itself.
        if transaction.failed is not None:
            raise transaction.failed
        self._do(end)
        if isinstance(result, ReltoError):
            transaction.rolled_back()
        return result

    def _do(self, sql: str) -> None:
        with self._fuse.guard():
            self._writer.execute(sql)

    def _checkpoint(self, mode: int) -> None:
        with self._fuse.guard():
            self._writer.wal_checkpoint("main", mode)

    def _restart_log(self) -> None:
        """Empty the log. It takes milliseconds, for which snapshots and commits wait."""
        with self._snapshots.pause():
            self._checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._wal_pages = 0

    def _close_writer(self) -> None:
        if self._fuse.blown:
            # Closing would copy the log into a database of which we no longer know enough.
            self._writer.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._writer.close()

    def _note_wal(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _identify(self, file: Path) -> None:
        """Make an empty file ours, or refuse one that is not.

        An initialised database that has another journal mode, version or schema than we gave it
        was changed by somebody else, and nothing that relies on it holds.
        """
        writer = self._writer
        application, version = writer.pragma("application_id"), writer.pragma("user_version")
        found = writer.execute(
            "SELECT sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'"
        ).fetchall()
        schema = sorted(str(sql) for (sql,) in found)
        if (application, version, schema) == (0, 0, []):
            _set(writer, "journal_mode", "wal")
            writer.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA:
                writer.execute(statement)
            writer.pragma("application_id", APPLICATION_ID)
            writer.pragma("user_version", SCHEMA_VERSION)
            writer.execute("COMMIT")
        elif application != APPLICATION_ID:
            raise CallerError(f"'{file}' belongs to another program: give relto its own folder")
        elif version > SCHEMA_VERSION:
            raise CallerError(
                f"'{file}' has schema {version} and this relto knows {SCHEMA_VERSION}:"
                " install the newer relto that wrote it"
            )
        elif version not in {*MIGRATIONS, SCHEMA_VERSION} or schema != sorted(SCHEMA):
            raise CallerError(f"'{file}' has a schema that relto did not make: restore a backup")
        elif (mode := writer.pragma("journal_mode")) != "wal":
            raise CallerError(
                f"'{file}' has journal mode {mode}, which another program set: restore a backup,"
                f" or if this is one, run: sqlite3 '{file}' 'PRAGMA journal_mode=wal'"
            )
        elif version != SCHEMA_VERSION:
            self._migrate(version)

    def _migrate(self, version: int) -> None:
        """All steps from `version` on in one commit: a crash leaves the old layout or the new."""
        if self._writer.pragma("quick_check", 1) != "ok":
            raise self._fuse.blow("the database is damaged")
        transaction = SqlTransaction(self._writer, self._fuse)
        try:
            self._do("BEGIN IMMEDIATE")
            for each in range(version, SCHEMA_VERSION):
                MIGRATIONS[each](transaction)
            self._writer.pragma("user_version", SCHEMA_VERSION)
            self._do("COMMIT")
        finally:
            transaction.close()


def copy_database(store: Path, to: Path) -> None:
    """Copy the database of a store, running or not, as of one instant, into the folder `to`.

    By SQLite's own online backup in one step, so that no commit since shows. As long as it runs,
    the store's log cannot be emptied; past `WAL_PAGES_MAX` the store sheds.

    Raises:
        CallerError: there is no such store, or no room.
    """
    file, copy = store / "relto.db", to / "relto.db"
    if not file.is_file():
        raise CallerError(f"there is no store in '{store}'")
    try:
        source = connect(file, apsw.SQLITE_OPEN_READONLY)
        try:
            os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            target = connect(copy, apsw.SQLITE_OPEN_READWRITE)
            try:
                with target.backup("main", source, "main") as backup:
                    backup.step(-1)
            finally:
                target.close()
        finally:
            source.close()
    except (apsw.Error, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise CallerError(f"cannot copy '{file}' to '{copy}': {why}") from error


def require_sqlite(version: str) -> None:
    """Nothing, or CallerError if that version of SQLite may corrupt a store.

    >>> require_sqlite("3.51.3")
    """
    if tuple(int(part) for part in version.split(".")) < SQLITE_OLDEST:
        needed = ".".join(map(str, SQLITE_OLDEST))
        raise CallerError(f"need SQLite {needed} or newer, got {version}: install a newer apsw")


def connect(file: Path, flags: int) -> apsw.Connection:
    """A connection with our settings, each read back. Raises CallerError for an unfit SQLite."""
    connection = apsw.Connection(str(file), flags=flags | apsw.SQLITE_OPEN_NOFOLLOW)
    for switch, value in SWITCHES:
        if connection.config(switch, value) != value:
            raise CallerError(f"SQLite does not take switch {switch}: install a newer apsw")
    for name, value in SETTINGS:
        _set(connection, name, value)
    return connection


def _set(connection: apsw.Connection, name: str, value: int | str) -> None:
    connection.pragma(name, value)
    found = connection.pragma(name)
    if found != value:
        raise CallerError(f"SQLite has {name} {found} instead of {value}: install a newer apsw")
