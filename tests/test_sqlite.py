"""What only the real store can get wrong: settings, other programs, crashes, disks."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import apsw
import pytest

from relto.errors import CallerError, ReltoError, StoreBroken, StoreFull
from relto.ports import Reader, Transaction
from relto.stores import SqliteStore
from relto.stores.sqlite import (
    APPLICATION_ID,
    QUICK_CHECK_BYTES_MAX,
    READERS,
    SETTINGS,
    WAL_PAGES_MAX,
    require_sqlite,
)

SALT = bytes(range(32))
CANARY = b"canary-3f9a1c" * 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(folder)
    yield made
    made.close()


def put(store: SqliteStore, key: str, body: bytes) -> None:
    store.commit([lambda tx: tx.put("item", key, body)])


def get(store: SqliteStore, key: str) -> bytes | None:
    with store.read() as reader:
        return reader.get("item", key)


def filled(folder: Path, rows: int = 300) -> None:
    """A closed store with rows, an outbox and a journal."""
    store = SqliteStore(folder)

    def job(tx: Transaction) -> None:
        for n in range(rows):
            tx.put("item", f"k{n:04}", CANARY + bytes(900), state="open")
            tx.outbox_add("JPN", n % 4, n, "subject", CANARY + bytes(900))
            tx.journal_append(CANARY + b"entry %d" % n, SALT)
        tx.set_meta("m", CANARY)
        tx.set_meta("n", b"other")

    store.commit([job])
    store.close()


def change(folder: Path, *statements: str) -> None:
    """What another program does to the closed database."""
    connection = apsw.Connection(str(folder / "relto.db"))
    for statement in statements:
        connection.execute(statement).fetchall()
    connection.close()


def run(script: str, folder: Path, *prefix: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, sys.executable, "-c", script, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# Settings


def test_a_new_database_says_whose_it_is_and_survives_power_cuts(folder: Path) -> None:
    SqliteStore(folder).close()
    connection = apsw.Connection(str(folder / "relto.db"))
    assert connection.pragma("application_id") == 0x52454C54 == APPLICATION_ID
    assert connection.pragma("user_version") == 3
    assert connection.pragma("journal_mode") == "wal"
    connection.close()


def test_the_settings_that_safety_hangs_on() -> None:
    assert dict(SETTINGS) == {
        "synchronous": 2,
        "foreign_keys": 1,
        "trusted_schema": 0,
        "cell_size_check": 1,
        "secure_delete": 1,
        "mmap_size": 0,
        "busy_timeout": 0,
        "wal_autocheckpoint": 0,
        "journal_size_limit": 4_096_000,
        "temp_store": 2,
    }


@pytest.mark.parametrize("version", ["3.40.1", "3.51.2", "3.9.99"])
def test_an_sqlite_that_corrupts_is_refused(version: str) -> None:
    with pytest.raises(CallerError, match=r"need SQLite 3\.51\.3 or newer, got " + version):
        require_sqlite(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.54.1", "4.0.0"])
def test_an_sqlite_that_does_not_is_taken(version: str) -> None:
    require_sqlite(version)


PLANTED = {
    "another application": (["PRAGMA application_id = 1"], "belongs to another program"),
    "no application": (["PRAGMA application_id = 0"], "belongs to another program"),
    "newer schema": (["PRAGMA user_version = 4"], "schema 4 and this relto knows 3: install"),
    "older schema": (["PRAGMA user_version = 0"], "schema that relto did not make"),
    "journal mode": (["PRAGMA journal_mode = DELETE"], "journal mode delete, which another"),
    "trigger": (
        ["CREATE TRIGGER t AFTER INSERT ON meta BEGIN DELETE FROM outbox; END"],
        "schema that relto did not make",
    ),
    "lost index": (["DROP INDEX outbox_by_ready"], "schema that relto did not make"),
    "lost table": (["DROP TABLE journal"], "schema that relto did not make"),
}


@pytest.mark.parametrize("case", PLANTED)
def test_a_database_that_somebody_changed_is_refused_with_the_fix(folder: Path, case: str) -> None:
    statements, message = PLANTED[case]
    filled(folder, rows=1)
    change(folder, *statements)
    for _ in range(2):  # nothing was repaired in passing
        with pytest.raises(CallerError, match=message) as refusal:
            SqliteStore(folder)
        assert "\n" not in str(refusal.value)


def test_a_database_of_another_program_is_left_alone(folder: Path) -> None:
    folder.mkdir(0o700)
    os.close(os.open(folder / "relto.db", os.O_CREAT, 0o600))
    change(folder, "CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (1)")
    before = (folder / "relto.db").read_bytes()
    with pytest.raises(CallerError, match="belongs to another program"):
        SqliteStore(folder)
    assert (folder / "relto.db").read_bytes() == before


def test_the_fix_for_a_wrong_journal_mode_works(folder: Path) -> None:
    filled(folder, rows=1)
    change(folder, "PRAGMA journal_mode = DELETE")
    change(folder, "PRAGMA journal_mode = wal")
    SqliteStore(folder).close()


def test_a_start_that_died_before_the_tables_were_made_is_repeated(folder: Path) -> None:
    folder.mkdir(0o700)
    os.close(os.open(folder / "relto.db", os.O_CREAT, 0o600))
    change(folder, "PRAGMA journal_mode = wal")
    store = SqliteStore(folder)
    put(store, "a", b"1")
    store.close()


# Who may open it


def test_what_it_makes_is_for_its_owner_alone(folder: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(folder, ballast_bytes=10_000)
        put(store, "a", b"1")
        store.blob_append("ab", 0, b"x")
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]
        }
        store.close()
    finally:
        os.umask(before)
    assert modes == {
        "store": 0o700,
        "blobs": 0o700,
        "lock": 0o600,
        "relto.db": 0o600,
        "relto.db-wal": 0o600,
        "relto.db-shm": 0o600,
        "ballast": 0o600,
        "ab": 0o600,
    }


@pytest.mark.parametrize(
    ("name", "mode"), [("", 0o750), ("blobs", 0o701), ("relto.db", 0o640), ("lock", 0o604)]
)
def test_what_others_may_open_is_refused(folder: Path, name: str, mode: int) -> None:
    SqliteStore(folder).close()
    (folder / name).chmod(mode)
    with pytest.raises(CallerError, match=r"others may open .*: chmod [67]00"):
        SqliteStore(folder)


@pytest.mark.parametrize("name", ["lock", "relto.db", "blobs"])
def test_a_link_in_the_place_of_its_own_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    SqliteStore(folder).close()
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CallerError, match=name):
        SqliteStore(folder)


def test_a_link_in_the_place_of_a_blob_is_not_followed(folder: Path, tmp_path: Path) -> None:
    store = SqliteStore(folder)
    (tmp_path / "secret").write_bytes(CANARY)
    (folder / "blobs" / "ab").symlink_to(tmp_path / "secret")
    with pytest.raises(StoreBroken):
        store.blob_read("ab", 0, 100)
    store.close()


def test_a_link_to_the_whole_folder_is_followed(folder: Path, tmp_path: Path) -> None:
    filled(folder, rows=1)
    (tmp_path / "link").symlink_to(folder)
    store = SqliteStore(tmp_path / "link")
    assert get(store, "k0000") is not None
    store.close()


def test_a_folder_that_is_none_or_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "file").chmod(0o600)
    with pytest.raises(CallerError, match="is not a folder"):
        SqliteStore(tmp_path / "file")
    with pytest.raises(CallerError, match="cannot make the store"):
        SqliteStore(tmp_path / "absent" / "store")


def test_a_store_is_open_once(folder: Path, store: SqliteStore) -> None:
    with pytest.raises(CallerError, match="open in another process: stop that one first"):
        SqliteStore(folder)
    other = run(
        "import sys; from pathlib import Path; from relto.stores import SqliteStore\n"
        "SqliteStore(Path(sys.argv[1]))",
        folder,
    )
    assert "is open in another process" in other.stderr
    put(store, "a", b"1")
    assert get(store, "a") == b"1"


def test_a_store_can_be_opened_again_after_a_refused_start(folder: Path) -> None:
    filled(folder, rows=1)
    (folder / "blobs").chmod(0o755)
    with pytest.raises(CallerError):
        SqliteStore(folder)
    (folder / "blobs").chmod(0o700)
    SqliteStore(folder).close()


def test_a_process_that_forked_cannot_use_the_store(folder: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from relto.errors import StoreBroken
from relto.stores import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
if os.fork() == 0:
    for use in (lambda: store.commit([lambda tx: tx.put("item", "a", b"")]), store.blob_names):
        try:
            use()
        except StoreBroken as error:
            print(error, flush=True)
    os._exit(0)
os.wait()
store.commit([lambda tx: tx.put("item", "a", b"")])
"""
    done = run(script, folder)
    assert done.stdout.count("the process forked") == 2
    assert done.returncode == 0


# Snapshots and the log


def test_there_are_only_so_many_snapshots(folder: Path) -> None:
    store = SqliteStore(folder, reader_wait_s=0.0)
    with ExitStack() as snapshots:
        for _ in range(READERS):
            snapshots.enter_context(store.read())
        with pytest.raises(StoreFull, match="all 4 snapshots are in use"):
            get(store, "a")
        with pytest.raises(RuntimeError, match="a snapshot is still open"):
            store.close()
    assert get(store, "a") is None
    store.close()


def test_the_log_is_bounded_though_a_snapshot_is_held(folder: Path) -> None:
    store = SqliteStore(folder, reader_wait_s=0.0)
    log = folder / "relto.db-wal"
    put(store, "a", b"1")
    with store.read() as reader:
        for n in range(16):  # 1 000 pages each
            put(store, f"k{n % 3}", bytes([n]) * 4_000_000)
        put(store, "k", bytes(4_000_000))
        with pytest.raises(StoreFull, match="a snapshot is open for too long"):
            put(store, "a", b"no")
        assert log.stat().st_size < (WAL_PAGES_MAX + 2_000) * 4200
        assert reader.get("item", "a") == b"1"
    put(store, "a", b"2")
    put(store, "a", b"3")
    assert get(store, "a") == b"3"
    assert log.stat().st_size < 5_000_000
    store.close()


def test_snapshots_that_overlap_without_a_pause_do_not_stop_commits(store: SqliteStore) -> None:
    done = threading.Event()

    def look() -> int:
        looks = 0
        while not done.is_set():
            with store.read() as reader:
                number, _ = reader.journal_head()
                assert reader.count("item") == min(number, 4)
                looks += 1
        return looks

    def write(tx: Transaction) -> None:
        number = tx.journal_append(b"entry", SALT)
        tx.put("item", f"k{number % 4}", bytes([number]) * 4_000_000)

    with ThreadPoolExecutor(8) as pool:
        looking = [pool.submit(look) for _ in range(8)]
        try:
            for _ in range(40):  # more than twice the pages that the log may have
                store.commit([write])
        finally:
            done.set()
        assert all(looks.result() > 0 for looks in looking)


def test_the_log_stays_small_without_snapshots(folder: Path, store: SqliteStore) -> None:
    for n in range(60):
        put(store, f"k{n}", bytes(400_000))
    assert (folder / "relto.db-wal").stat().st_size < 6_000_000


def test_what_is_deleted_and_scrubbed_is_in_no_file(folder: Path) -> None:
    store = SqliteStore(folder, reader_wait_s=0.0)

    def files_with_canary() -> list[str]:
        # In another process: to close a descriptor of the database here drops SQLite's locks.
        found = subprocess.run(
            ["grep", "-rlc", CANARY.decode(), str(folder)], capture_output=True, text=True
        )
        return found.stdout.split()

    def write(tx: Transaction) -> None:
        tx.put("item", "a", CANARY * 200)
        tx.outbox_add("JPN", 0, 0, "s", CANARY)
        tx.set_meta("m", CANARY)

    def purge(tx: Transaction) -> None:
        tx.delete("item", "a")
        tx.outbox_remove(1)
        tx.set_meta("m", b"")

    store.commit([write])
    assert files_with_canary()
    store.commit([purge])
    with store.read(), pytest.raises(StoreFull, match="a snapshot is open for too long"):
        store.scrub()
    store.scrub()
    assert files_with_canary() == []
    store.close()


# Damage


def test_a_zeroed_page_is_found_at_start(folder: Path) -> None:
    filled(folder)
    with (folder / "relto.db").open("r+b") as file:
        file.seek(4096 * 20)
        file.write(bytes(4096))
    with pytest.raises(StoreBroken, match=r"restore the store '.*' from a backup"):
        SqliteStore(folder)


def test_what_is_no_database_is_refused(folder: Path) -> None:
    folder.mkdir(0o700)
    (folder / "relto.db").write_bytes(b"not a database, but long enough to be read" * 100)
    (folder / "relto.db").chmod(0o600)
    with pytest.raises(StoreBroken, match="SQLITE_NOTADB"):
        SqliteStore(folder)


READS: dict[str, Callable[[Reader], object]] = {
    "documents": lambda r: (r.listing("item", limit=1000), [r.get("item", "k0000")]),
    "outbox": lambda r: r.outbox_rows(None, 0, 1000),
    "journal": lambda r: r.journal(0, 1000),
    "meta": lambda r: r.meta("m"),
}
FLIPS = {
    "a body": ("documents", "UPDATE documents SET body = x'00' WHERE key = 'k0000'"),
    "a state": ("documents", "UPDATE documents SET state = 'done' WHERE key = 'k0000'"),
    "a rank": ("documents", "UPDATE documents SET rank = '1' WHERE key = 'k0000'"),
    "a key": ("documents", "UPDATE documents SET key = 'k9' WHERE key = 'k0000'"),
    "a kind": ("documents", "UPDATE documents SET kind = 'item' WHERE kind = 'other'"),
    "a peer": ("outbox", "UPDATE outbox SET peer = 'USA' WHERE number = 1"),
    "a precedence": ("outbox", "UPDATE outbox SET precedence = 3 WHERE number = 1"),
    "when it is ready": ("outbox", "UPDATE outbox SET ready_ms = 77 WHERE number = 1"),
    "when it is due": ("outbox", "UPDATE outbox SET due_ms = 77, ready_ms = 77 WHERE number = 1"),
    "a lease": ("outbox", "UPDATE outbox SET lease_until_ms = 1, ready_ms = 1 WHERE number = 1"),
    "the attempts": ("outbox", "UPDATE outbox SET attempts = 7 WHERE number = 1"),
    "a subject": ("outbox", "UPDATE outbox SET subject = 'other' WHERE number = 1"),
    "a number": ("outbox", "UPDATE outbox SET number = 999 WHERE number = 1"),
    "an entry": ("journal", "UPDATE journal SET entry = x'00' WHERE number = 2"),
    "a salt": ("journal", "UPDATE journal SET salt = zeroblob(32) WHERE number = 2"),
    "a link": ("journal", "UPDATE journal SET link = zeroblob(32) WHERE number = 2"),
    "an entry gone": ("journal", "DELETE FROM journal WHERE number = 2"),
    "an entry's number": ("journal", "UPDATE journal SET number = 9 WHERE number = 3"),
    "the first entry gone": ("journal", "DELETE FROM journal WHERE number = 1"),
    "a value": ("meta", "UPDATE meta SET value = x'00'"),
    "a value's key": ("meta", "UPDATE meta SET key = 'm' WHERE key = 'n'"),
}


@pytest.mark.parametrize("case", FLIPS)
def test_a_changed_field_is_never_served(folder: Path, case: str) -> None:
    read, statement = FLIPS[case]
    filled(folder, rows=3)
    change(
        folder,
        "INSERT INTO documents SELECT 'other', 'k7', state, rank, body, digest FROM documents"
        " WHERE key = 'k0001'",
    )
    if case == "a value's key":
        change(folder, "DELETE FROM meta WHERE key = 'm'")
    change(folder, statement)
    store = SqliteStore(folder)
    for _ in range(2):
        with pytest.raises(StoreBroken, match="damaged"), store.read() as reader:
            READS[read](reader)
    with pytest.raises(StoreBroken, match="damaged"):
        put(store, "a", b"1")
    store.close()


def test_the_journal_is_not_continued_from_a_damaged_head(folder: Path) -> None:
    filled(folder, rows=3)
    change(folder, "UPDATE journal SET link = zeroblob(32) WHERE number = 3")
    store = SqliteStore(folder)
    with pytest.raises(StoreBroken, match="journal entry 3 is damaged"):
        store.commit([lambda tx: tx.journal_append(b"next", SALT)])
    store.close()


def test_a_flipped_bit_in_any_body_is_never_served(folder: Path) -> None:
    filled(folder, rows=40)
    file = folder / "relto.db"
    pristine = file.read_bytes()
    places = [at for at in range(len(pristine)) if pristine.startswith(CANARY, at)]
    assert len(places) == 40 * 3 + 1
    for place in places[::10]:
        file.write_bytes(pristine)
        with file.open("r+b") as raw:
            raw.seek(place + 3)
            raw.write(bytes([CANARY[3] ^ 0x10]))
        store = SqliteStore(folder)
        with pytest.raises(StoreBroken, match="damaged"), store.read() as reader:
            [read(reader) for read in READS.values()]
        store.close()


def test_a_big_database_starts_unchecked_and_says_so(folder: Path) -> None:
    filled(folder, rows=1)
    os.truncate(folder / "relto.db", QUICK_CHECK_BYTES_MAX + 4096)  # sparse
    store = SqliteStore(folder)
    assert not store.quick_checked
    assert get(store, "k0000") is not None
    store.close()
    os.truncate(folder / "relto.db", QUICK_CHECK_BYTES_MAX)
    store = SqliteStore(folder)
    assert store.quick_checked
    store.close()


# Crashes

WRITER = """
import sys
from pathlib import Path
from relto.errors import StoreError
from relto.stores import SqliteStore

def job(tx):
    number = tx.journal_append(b"entry", bytes(32))
    assert tx.outbox_add("JPN", number % 4, 0, "s", b"x" * 3000) == number
    tx.put("item", str(number), b"x" * 5000)
    return number

store = SqliteStore(Path(sys.argv[1]))
try:
    for _ in range(5000):
        [number] = store.commit([job])
        print(number, flush=True)
except StoreError as error:
    print("stopped:", error, flush=True)
    for use in (lambda: store.commit([job]), store.scrub, store.read().__enter__):
        try:
            use()
            print("WENT ON", flush=True)
        except StoreError as again:
            print(type(again).__name__, flush=True)
    store.close()
"""


def written(folder: Path) -> int:
    """How many jobs of WRITER are in the store, after a check that each is there as a whole."""
    store = SqliteStore(folder)
    with store.read() as reader:
        count, _ = reader.journal_head()
        assert (reader.outbox_count("JPN"), reader.count("item")) == (count, count)
        after = 0
        while page := reader.journal(after, 1000):
            after = page[-1].number
        assert after == count
        assert count == 0 or reader.get("item", str(count)) == b"x" * 5000
    store.close()
    return count


def test_kill_9_loses_nothing_that_was_acknowledged(folder: Path) -> None:
    acknowledged = 0
    for kill in range(20):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(1 + 17 * kill % 60):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        lines = writer.stdout.read().split("\n")[:-1]  # what it still said; a torn line is no word
        acknowledged = int(lines[-1]) if lines else acknowledged
        writer.stdout.close()
        writer.wait()
        # One more may have been committed and not said: its outcome was unknown.
        assert written(folder) - acknowledged in (0, 1)
        acknowledged = written(folder)


def _killed_with_log(folder: Path) -> tuple[int, Path]:
    """A store whose process died after ten commits, with all of them in the log."""
    dies = "if number == 10: os.kill(os.getpid(), 9)"
    script = "import os\n" + WRITER.replace("print(number", f"{dies}\n        print(number")
    assert run(script, folder).returncode == -signal.SIGKILL
    return 10, folder / "relto.db-wal"


TEARS: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "nothing": (lambda log: log, 0),
    "last byte missing": (lambda log: log[:-1], 1),
    "last frame missing": (lambda log: log[:-4120], 1),
    "last sector zero": (lambda log: log[:-512] + bytes(512), 1),
    "a bit of the last frame": (lambda log: log[:-99] + bytes([log[-99] ^ 1]) + log[-98:], 1),
    "garbage behind": (lambda log: log + b"\xff" * 5000, 0),
}


@pytest.mark.parametrize("case", TEARS)
def test_a_torn_end_of_the_log_costs_only_the_commit_it_tears(folder: Path, case: str) -> None:
    tear, lost = TEARS[case]
    count, log = _killed_with_log(folder)
    log.write_bytes(tear(log.read_bytes()))
    assert written(folder) == count - lost


def test_a_write_that_fails_ends_the_store(folder: Path) -> None:
    """RLIMIT_FSIZE makes writes fail with EFBIG, which is no full disk."""
    limit = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))\n"
    )
    done = run(limit + WRITER, folder)
    lines = done.stdout.splitlines()
    stop = next(n for n, line in enumerate(lines) if line.startswith("stopped:"))
    assert "the database failed (SQLITE_IOERR_WRITE): restart the node" in lines[stop]
    assert lines[stop + 1 :] == ["StoreBroken"] * 3
    assert written(folder) - int(lines[stop - 1]) in (0, 1)


# System calls


def _strace(tmp_path: Path, *options: str) -> list[str]:
    """A command prefix that traces, or a skipped test where that is not allowed."""
    prefix = ["strace", "-f", "-y", "-o", str(tmp_path / "trace"), *options]
    if not shutil.which("strace") or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("strace is missing, or may not trace here")
    return prefix


@pytest.mark.parametrize("sync", range(1, 6))
def test_a_failed_sync_of_the_log_ends_the_store(folder: Path, tmp_path: Path, sync: int) -> None:
    SqliteStore(folder).close()
    prefix = _strace(
        tmp_path,
        *("-P", str(folder / "relto.db-wal")),
        *("-e", "trace=fdatasync", "-e", f"inject=fdatasync:error=EIO:when={sync}"),
    )
    lines = run(WRITER, folder, *prefix).stdout.splitlines()
    stop = next(n for n, line in enumerate(lines) if line.startswith("stopped:"))
    assert "SQLITE_IOERR_" in lines[stop]
    assert lines[stop + 1 :] == ["StoreBroken"] * 3
    assert written(folder) - stop in (0, 1)


def test_a_failed_sync_of_a_checkpoint_ends_the_store(folder: Path, tmp_path: Path) -> None:
    """SQLite's own checkpoints would have swallowed it, and the log been written over."""
    SqliteStore(folder).close()
    database = str(folder / "relto.db")
    prefix = _strace(
        tmp_path, "-P", database, "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO"
    )
    lines = run(WRITER, folder, *prefix).stdout.splitlines()
    stop = next(n for n, line in enumerate(lines) if line.startswith("stopped:"))
    assert "SQLITE_IOERR_FSYNC" in lines[stop]
    assert lines[stop + 1 :] == ["StoreBroken"] * 3
    assert stop > 50
    assert written(folder) == stop + 1  # the checkpoint's commit was durable, and unknown


def test_the_names_of_database_and_log_are_durable_before_the_first_commit(
    folder: Path, tmp_path: Path
) -> None:
    """SQLite syncs the folder too, but goes on when that fails."""
    SqliteStore(folder).close()
    prefix = _strace(
        tmp_path, "-P", str(folder), "-e", "trace=fsync", "-e", "inject=fsync:error=EIO"
    )
    done = run(WRITER, folder, *prefix)
    assert done.stdout == ""
    assert "the disk failed to sync" in done.stderr
    prefix = _strace(tmp_path, "-e", "trace=openat,fsync,fdatasync")
    run(BLOB_WRITER, folder, *prefix)
    calls = (tmp_path / "trace").read_text().splitlines()
    made = max(n for n, call in enumerate(calls) if "openat" in call and "relto.db-wal" in call)
    synced = max(n for n, call in enumerate(calls) if "fsync(" in call and f"<{folder}>" in call)
    first = min(n for n, call in enumerate(calls) if "fdatasync(" in call)
    assert made < synced < first


BLOB_WRITER = """
import sys
from pathlib import Path
from relto.errors import StoreError
from relto.stores import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
try:
    store.blob_append("ab", 0, b"hello")
    store.blob_sync("ab")
    store.commit([lambda tx: tx.put("item", "ab", b"")])
    print("said", flush=True)
except StoreError as error:
    print(error, flush=True)
"""


def test_a_blob_and_its_name_are_durable_before_its_row(folder: Path, tmp_path: Path) -> None:
    SqliteStore(folder).close()
    prefix = _strace(tmp_path, "-e", "trace=pwrite64,fsync,fdatasync,write")
    assert run(BLOB_WRITER, folder, *prefix).stdout == "said\n"
    calls: list[tuple[str, str]] = []
    for line in (tmp_path / "trace").read_text().splitlines():
        for call in (
            ("pwrite64", "/blobs/ab>"),
            ("fsync", "/blobs/ab>"),
            ("fsync", "/blobs>"),
            ("pwrite64", "/relto.db-wal>"),
            ("fdatasync", "/relto.db-wal>"),
            ("write", '"said'),
        ):
            if f" {call[0]}(" in line and call[1] in line and calls[-1:] != [call]:
                calls.append(call)
    start, end = calls.index(("pwrite64", "/blobs/ab>")), calls.index(("write", '"said'))
    assert calls[start : end + 1] == [
        ("pwrite64", "/blobs/ab>"),
        ("fsync", "/blobs/ab>"),
        ("fsync", "/blobs>"),
        ("pwrite64", "/relto.db-wal>"),  # the header of a new log
        ("fdatasync", "/relto.db-wal>"),
        ("pwrite64", "/relto.db-wal>"),
        ("fdatasync", "/relto.db-wal>"),
        ("write", '"said'),
    ]


@pytest.mark.parametrize("errno", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("path", ["blobs/ab", "blobs"])
def test_a_failed_sync_of_a_blob_ends_the_store(
    folder: Path, tmp_path: Path, path: str, errno: str
) -> None:
    SqliteStore(folder).close()
    (folder / "blobs" / "ab").touch(0o600)
    prefix = _strace(
        tmp_path, "-P", str(folder / path), "-e", "trace=fsync", "-e", f"inject=fsync:error={errno}"
    )
    assert "the disk failed to sync" in run(BLOB_WRITER, folder, *prefix).stdout


# A full disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a small disk here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_sheds_and_the_ballast_gives_room(disk: Path) -> None:
    (disk / "other").write_bytes(bytes(8_000_000))
    store = SqliteStore(disk / "store", ballast_bytes=6_000_000)
    _until_full(lambda n: put(store, f"k{n}", bytes(50_000)))
    _until_full(lambda n: store.blob_append("ab", n * 100_000, bytes(100_000)))
    store.release_ballast()
    assert not (disk / "store" / "ballast").exists()
    for _ in range(300):
        store.commit([lambda tx: tx.journal_append(b"receipt", SALT)])
    _until_full(lambda n: store.blob_append("cd", n * 100_000, bytes(100_000)))
    with pytest.raises(StoreFull, match="no room"):
        store.restore_ballast()
    assert not (disk / "store" / "ballast").exists()
    store.close()


def test_a_store_starts_on_a_full_disk_and_says_so(disk: Path) -> None:
    (disk / "other").write_bytes(bytes(12_000_000))
    store = SqliteStore(disk / "store")
    taken = _until_full(lambda n: put(store, f"k{n}", bytes(50_000)))
    store.close()
    store = SqliteStore(disk / "store", ballast_bytes=10_000_000)
    held_on_a_full_disk = store.ballast_held
    with store.read() as reader:
        assert reader.count("item") == taken
    (disk / "other").unlink()
    store.restore_ballast()
    assert (held_on_a_full_disk, store.ballast_held) == (False, True)
    store.close()


def _until_full(write: Callable[[int], None]) -> int:
    """How many writes there is room for."""
    for n in range(1000):
        try:
            write(n)
        except StoreFull:
            return n
    raise AssertionError("the disk never filled up")


def test_the_ballast_is_real_space(folder: Path) -> None:
    store = SqliteStore(folder, ballast_bytes=1_000_000)
    found = (folder / "ballast").stat()
    assert (found.st_size, found.st_blocks * 512 >= 1_000_000) == (1_000_000, True)
    held = store.ballast_held
    store.release_ballast()
    assert (held, store.ballast_held) == (True, False)
    assert not (folder / "ballast").exists()
    store.close()
    SqliteStore(folder, ballast_bytes=2_000_000).close()
    assert (folder / "ballast").stat().st_size == 2_000_000
    SqliteStore(folder).close()
    assert not (folder / "ballast").exists()


def test_a_job_cannot_hide_behind_a_refusal_that_the_disk_is_full(folder: Path) -> None:
    def hide(tx: Transaction) -> None:
        try:
            tx.put("item", "big", bytes(400_000))
        except StoreFull as error:
            raise CallerError("something else") from error

    store = SqliteStore(folder, pages_max=50)
    with pytest.raises(StoreFull):
        store.commit([lambda tx: tx.put("item", "a", b""), hide])
    assert get(store, "a") is None
    put(store, "b", b"fits")
    store.close()


def test_the_messages_are_one_line_and_quote_nothing_stored(folder: Path) -> None:
    filled(folder, rows=3)
    change(folder, "UPDATE documents SET body = x'00'")
    store = SqliteStore(folder)
    with pytest.raises(ReltoError) as error:
        get(store, "k0000")
    assert "canary" not in str(error.value)
    assert "\n" not in str(error.value)
    store.close()
