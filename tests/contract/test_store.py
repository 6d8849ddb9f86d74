"""What every store must do: one suite, run over each of them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import pytest

from relto.errors import CallerError, ReltoError, StoreBroken, StoreFull
from relto.ports import (
    BODY_BYTES_MAX,
    CHUNK_BYTES_MAX,
    ENTRY_BYTES_MAX,
    JOBS_MAX,
    JOURNAL_START,
    NAME_CHARS_MAX,
    ROWS_MAX,
    OutboxDepth,
    Reader,
    Row,
    Store,
    Tally,
    Transaction,
)
from relto.stores import Fault, MemoryStore, SqliteStore

T = TypeVar("T")
SALT = bytes(range(32))


class Stand:
    """A store, and what the next process would find in its place."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._folder = folder / "store"
        self.store: Store = MemoryStore() if kind == "memory" else SqliteStore(self._folder)

    def restart(self) -> Store:
        if isinstance(self.store, MemoryStore):
            self.store = self.store.crashed()
        else:
            self.store.close()
            self.store = SqliteStore(self._folder)
        return self.store


@pytest.fixture(params=["memory", "sqlite"])
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    made = Stand(request.param, tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def store(stand: Stand) -> Store:
    return stand.store


@pytest.fixture(params=["memory", "sqlite"])
def small_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store with room for about 150 kB."""
    made: Store
    if request.param == "memory":
        made = MemoryStore(bytes_max=150_000)
    else:
        made = SqliteStore(tmp_path / "store", pages_max=50)
    yield made
    made.close()


def do(store: Store, job: Callable[[Transaction], T]) -> T:
    """Commit one job and return its result, or raise its refusal."""
    [result] = store.commit([job])
    if isinstance(result, ReltoError):
        raise result
    return result


def ask(store: Store, question: Callable[[Reader], T]) -> T:
    with store.read() as reader:
        return question(reader)


def put_both(tx: Transaction, first: bytes, second: bytes) -> None:
    tx.put("item", "a", first)
    tx.put("item", "b", second)


def refuse(tx: Transaction) -> None:
    raise CallerError("no")


def rows_of(store: Store) -> list[str]:
    return [row.key for row in ask(store, lambda r: r.listing("item", limit=ROWS_MAX))]


# Rows


def test_an_empty_store_has_nothing(store: Store) -> None:
    with store.read() as reader:
        assert reader.get("item", "a") is None
        assert reader.listing("item", limit=1) == []
        assert reader.count("item") == 0
        assert reader.tallies("item", limit=1) == []
        assert reader.outbox_due("JPN", now_ms=2**62, limit=1) == []
        assert reader.outbox_rows(None, 0, 1) == []
        assert reader.outbox_next_due("JPN") is None
        assert reader.outbox_count(None) == 0
        assert reader.journal(0, 1) == []
        assert reader.journal_head() == (0, bytes(32))
        assert reader.meta("m") is None
    assert store.blob_names() == []
    assert store.blob_size("ab") == 0


def test_a_row_is_what_was_put_last(store: Store) -> None:
    do(store, lambda tx: tx.put("item", "a", b"one", state="open", rank="1"))
    do(store, lambda tx: tx.put("item", "a", b"two", state="done", rank="2"))
    do(store, lambda tx: tx.put("hold", "a", b"other"))
    assert ask(store, lambda r: r.get("item", "a")) == b"two"
    assert ask(store, lambda r: r.get("hold", "a")) == b"other"
    assert ask(store, lambda r: r.listing("item", limit=9)) == [Row("a", "done", "2", b"two")]
    assert ask(store, lambda r: r.listing("item", state="open", limit=9)) == []
    assert ask(store, lambda r: r.listing("hold", limit=9)) == [Row("a", "", "", b"other")]


def test_rows_are_tallied_by_state_page_by_page(store: Store) -> None:
    def fill(tx: Transaction) -> None:
        for key, state, rank in (("c", "b", "1"), ("a", "b", "2"), ("d", "a", ""), ("b", "", "9")):
            tx.put("item", key, b"", state=state, rank=rank)
        tx.put("hold", "0", b"", state="b")

    do(store, fill)
    every = [Tally("", 1, "b"), Tally("a", 1, "d"), Tally("b", 2, "a")]
    with store.read() as reader:
        assert reader.tallies("item", limit=9) == every
        assert reader.tallies("item", limit=2) == every[:2]
        assert reader.tallies("item", after="", limit=9) == every[1:]
        assert reader.tallies("item", after="a", limit=9) == every[2:]
        assert reader.tallies("item", after="b", limit=9) == []
        assert reader.tallies("other", limit=9) == []


def test_places_are_the_page_of_a_listing_without_its_rows(store: Store) -> None:
    def fill(tx: Transaction) -> None:
        for key, state, rank in (("c", "b", "1"), ("a", "b", "2"), ("d", "a", ""), ("b", "b", "1")):
            tx.put("item", key, key.encode(), state=state, rank=rank)

    do(store, fill)
    with store.read() as reader:
        every = reader.listing("item", state="b", limit=9)
        assert [row.key for row in every] == ["b", "c", "a"]
        places = reader.places("item", "b", limit=9)
        assert [(p.key, p.rank, p.cursor) for p in places] == [
            (row.key, row.rank, row.cursor) for row in every
        ]
        assert reader.places("item", "b", after=every[0].cursor, limit=1) == places[1:2]
        assert reader.places("item", "c", limit=9) == []


def test_an_empty_body_is_not_an_absent_row(store: Store) -> None:
    do(store, lambda tx: tx.put("item", "a", b""))
    assert ask(store, lambda r: r.get("item", "a")) == b""


def test_to_delete_what_is_absent_does_nothing(store: Store) -> None:
    do(store, lambda tx: tx.put("item", "a", b"one"))
    assert do(store, lambda tx: tx.delete("item", "b")) is False
    assert do(store, lambda tx: tx.delete("hold", "a")) is False
    assert do(store, lambda tx: tx.delete("item", "a")) is True
    assert do(store, lambda tx: tx.delete("item", "a")) is False
    assert ask(store, lambda r: r.get("item", "a")) is None


def test_a_count_is_of_one_kind_and_one_state_or_all(store: Store) -> None:
    def job(tx: Transaction) -> None:
        tx.put("item", "a", b"", state="open")
        tx.put("item", "b", b"", state="open")
        tx.put("item", "c", b"", state="")
        tx.put("hold", "a", b"", state="open")

    do(store, job)
    assert ask(store, lambda r: r.count("item")) == 3
    assert ask(store, lambda r: r.count("item", "open")) == 2
    assert ask(store, lambda r: r.count("item", "")) == 1
    assert ask(store, lambda r: r.count("item", "done")) == 0
    assert ask(store, lambda r: r.count("hold", "open")) == 1


def test_a_listing_goes_by_rank_then_key_by_code_point(store: Store) -> None:
    def job(tx: Transaction) -> None:
        for rank, key in [("2", "a"), ("10", "z"), ("", "m"), ("10", "Z"), ("2", "\U0001f600")]:
            tx.put("item", key, b"", rank=rank)
        tx.put("item", "\uffee", b"", rank="2")

    do(store, job)
    # U+FFEE sorts before U+1F600, which UTF-16 would not do.
    assert rows_of(store) == ["m", "Z", "z", "a", "\uffee", "\U0001f600"]


@pytest.mark.parametrize("state", [None, "open"])
def test_pages_of_a_listing_meet_without_gap_or_overlap(store: Store, state: str | None) -> None:
    def job(tx: Transaction) -> None:
        for n in range(23):
            tx.put("item", f"k{n:02}", b"", state="open", rank=f"{n % 3}:")
            tx.put("item", f"other{n:02}", b"", state="done", rank=f"{n % 3}:")

    do(store, job)
    seen: list[Row] = []
    with store.read() as reader:
        cursor = ""
        while page := reader.listing("item", state=state, after=cursor, limit=5):
            seen += page
            cursor = page[-1].cursor
    everything = ask(store, lambda r: r.listing("item", state=state, limit=ROWS_MAX))
    assert seen == everything
    assert len(seen) == (23 if state else 46)


def test_a_cursor_stays_good_when_its_row_is_gone(store: Store) -> None:
    for key in "abcd":
        do(store, lambda tx, key=key: tx.put("item", key, b""))  # type: ignore[misc]
    first = ask(store, lambda r: r.listing("item", limit=2))
    do(store, lambda tx: tx.delete("item", "b"))
    rest = ask(store, lambda r: r.listing("item", after=first[-1].cursor, limit=2))
    assert [row.key for row in rest] == ["c", "d"]


@pytest.mark.parametrize("cursor", ["x", ":", "1", "-1:a", "99999:a", "1:a", "²:ab"])
def test_what_is_no_cursor_is_refused(store: Store, cursor: str) -> None:
    with store.read() as reader, pytest.raises(CallerError):
        reader.listing("item", after=cursor, limit=1)


def test_meta_is_what_was_set_last(store: Store) -> None:
    do(store, lambda tx: tx.set_meta("seq", b"1"))
    do(store, lambda tx: tx.set_meta("seq", b"2"))
    assert ask(store, lambda r: r.meta("seq")) == b"2"
    assert ask(store, lambda r: r.meta("other")) is None


# Commits


def test_a_job_sees_what_it_and_the_jobs_before_it_did(store: Store) -> None:
    def first(tx: Transaction) -> int:
        tx.put("item", "a", b"1", state="open")
        assert tx.get("item", "a") == b"1"
        return tx.count("item", "open")

    def second(tx: Transaction) -> int:
        tx.put("item", "b", b"2", state="open")
        assert tx.journal_append(b"entry", SALT) == 1
        assert tx.journal_head()[0] == 1
        return tx.count("item", "open")

    assert store.commit([first, second]) == [1, 2]


def test_a_refused_job_is_undone_alone(store: Store) -> None:
    def bad(tx: Transaction) -> int:
        tx.put("item", "a", b"changed")
        tx.put("item", "bad", b"")
        tx.delete("item", "keep")
        tx.outbox_add("JPN", 0, 0, "s", b"")
        tx.journal_append(b"bad", SALT)
        tx.set_meta("m", b"bad")
        raise CallerError("no")

    def good(tx: Transaction) -> int:
        assert tx.get("item", "a") == b"1"
        assert tx.get("item", "bad") is None
        tx.put("item", "b", b"2")
        return tx.outbox_add("JPN", 0, 0, "s", b"") + tx.journal_append(b"good", SALT)

    def before(tx: Transaction) -> None:
        tx.put("item", "a", b"1")
        tx.put("item", "keep", b"")

    do(store, before)
    results = store.commit([bad, good, bad])
    assert [str(results[0]), results[1], str(results[2])] == ["no", 2, "no"]
    assert isinstance(results[0], CallerError)
    assert rows_of(store) == ["a", "b", "keep"]
    assert ask(store, lambda r: r.outbox_count(None)) == 1
    assert [row.entry for row in ask(store, lambda r: r.journal(0, 9))] == [b"good"]
    assert ask(store, lambda r: r.meta("m")) is None


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), StoreFull("full")])
def test_any_other_exception_undoes_every_job(store: Store, error: BaseException) -> None:
    def bad(tx: Transaction) -> None:
        tx.put("item", "b", b"")
        raise error

    with pytest.raises(type(error)):
        store.commit([lambda tx: tx.put("item", "a", b""), bad, refuse])
    assert rows_of(store) == []
    do(store, lambda tx: tx.put("item", "c", b""))
    assert rows_of(store) == ["c"]


def test_an_error_that_a_job_returns_is_a_result_like_any_other(store: Store) -> None:
    def job(tx: Transaction) -> CallerError:
        tx.put("item", "a", b"")
        return CallerError("told")

    [result] = store.commit([job])
    assert str(result) == "told"
    assert rows_of(store) == ["a"]


def test_jobs_after_a_failed_one_do_not_run(store: Store) -> None:
    ran = []

    def bad(tx: Transaction) -> None:
        raise ValueError("bug")

    with pytest.raises(ValueError, match="bug"):
        store.commit([lambda tx: ran.append(1), bad, lambda tx: ran.append(3)])
    assert ran == [1]


def test_a_commit_of_nothing_is_nothing(store: Store) -> None:
    assert store.commit([]) == []


def test_a_job_may_not_commit(store: Store) -> None:
    with pytest.raises(RuntimeError, match="one thread commits"):
        store.commit([lambda tx: store.commit([])])
    do(store, lambda tx: tx.put("item", "a", b""))


def test_a_transaction_ends_with_its_commit(store: Store) -> None:
    kept: list[Transaction] = []
    store.commit([kept.append])
    with pytest.raises(RuntimeError, match="after its end"):
        kept[0].put("item", "a", b"")
    with pytest.raises(RuntimeError, match="after its end"):
        kept[0].get("item", "a")
    assert rows_of(store) == []


def test_what_is_committed_is_there_after_a_restart(stand: Stand) -> None:
    def job(tx: Transaction) -> None:
        tx.put("item", "a", b"body", state="open", rank="7")
        tx.outbox_add("JPN", 2, 5, "subject", b"owed")
        tx.journal_append(b"entry", SALT)
        tx.set_meta("m", b"value")

    do(stand.store, job)

    def everything(r: Reader) -> object:
        return (
            r.listing("item", limit=9),
            r.outbox_rows(None, 0, 9),
            r.journal(0, 9),
            r.journal_head(),
            r.meta("m"),
        )

    before = ask(stand.store, everything)
    assert ask(stand.restart(), everything) == before


# Snapshots


def test_a_snapshot_does_not_change(store: Store) -> None:
    do(store, lambda tx: tx.put("item", "a", b"1"))
    with store.read() as before:
        do(store, lambda tx: put_both(tx, b"2", b""))
        with store.read() as after:
            assert after.get("item", "a") == b"2"
        assert before.get("item", "a") == b"1"
        assert before.count("item") == 1


def test_a_snapshot_is_of_the_instant_it_was_opened(store: Store) -> None:
    with store.read() as reader:
        do(store, lambda tx: tx.put("item", "a", b"1"))
        assert reader.get("item", "a") is None


def test_a_snapshot_does_not_see_a_commit_that_runs(store: Store) -> None:
    def job(tx: Transaction) -> bytes | None:
        tx.put("item", "a", b"1")
        return ask(store, lambda r: r.get("item", "a"))

    assert do(store, job) is None
    assert ask(store, lambda r: r.get("item", "a")) == b"1"


def test_a_snapshot_ends(store: Store) -> None:
    with store.read() as reader:
        pass
    with pytest.raises(RuntimeError, match="after its end"):
        reader.get("item", "a")


def test_a_snapshot_that_met_an_exception_ends_too(store: Store) -> None:
    for _ in range(20):
        with pytest.raises(ValueError, match="bug"), store.read():
            raise ValueError("bug")
    do(store, lambda tx: tx.put("item", "a", b"1"))
    assert ask(store, lambda r: r.count("item")) == 1


def test_snapshots_in_many_threads_are_each_of_one_instant(store: Store) -> None:
    def write(tx: Transaction) -> None:
        number = tx.journal_append(b"entry", SALT)
        tx.set_meta("last", str(number).encode())

    def look(_: int) -> bool:
        with store.read() as reader:
            number, _link = reader.journal_head()
            return reader.meta("last") == (str(number).encode() if number else None)

    with ThreadPoolExecutor(8) as pool:
        looks = pool.map(look, range(400))
        for _ in range(100):
            store.commit([write])
        assert all(looks)


# Outbox


def test_what_is_due_comes_by_precedence_then_number(store: Store) -> None:
    def job(tx: Transaction) -> list[int]:
        return [
            tx.outbox_add("JPN", 3, 10, "routine", b"a"),
            tx.outbox_add("JPN", 0, 10, "flash", b"b"),
            tx.outbox_add("JPN", 1, 10, "immediate", b"c"),
            tx.outbox_add("JPN", 0, 10, "flash too", b"d"),
            tx.outbox_add("JPN", 0, 11, "later", b"e"),
            tx.outbox_add("USA", 0, 10, "other", b"f"),
        ]

    assert do(store, job) == [1, 2, 3, 4, 5, 6]
    due = ask(store, lambda r: r.outbox_due("JPN", now_ms=10, limit=9))
    assert [row.number for row in due] == [2, 4, 3, 1]
    assert [row.subject for row in due] == ["flash", "flash too", "immediate", "routine"]
    assert [row.body for row in due] == [b"b", b"d", b"c", b"a"]
    assert ask(store, lambda r: r.outbox_due("JPN", now_ms=9, limit=9)) == []
    due = ask(store, lambda r: r.outbox_due("JPN", now_ms=11, limit=3))
    assert [row.number for row in due] == [2, 4, 5]
    assert ask(store, lambda r: r.outbox_next_due("JPN")) == 10


def test_a_leased_row_is_not_due_until_the_lease_ends(store: Store) -> None:
    number = do(store, lambda tx: tx.outbox_add("JPN", 0, 10, "s", b""))
    assert do(store, lambda tx: tx.outbox_lease(number, 15)) is True
    assert ask(store, lambda r: r.outbox_due("JPN", now_ms=14, limit=9)) == []
    assert ask(store, lambda r: r.outbox_next_due("JPN")) == 15
    [row] = ask(store, lambda r: r.outbox_due("JPN", now_ms=15, limit=9))
    assert (row.due_ms, row.lease_until_ms, row.ready_ms) == (10, 15, 15)


def test_to_reschedule_ends_the_lease(store: Store) -> None:
    number = do(store, lambda tx: tx.outbox_add("JPN", 1, 10, "s", b"body"))
    do(store, lambda tx: tx.outbox_lease(number, 5_000))
    assert do(store, lambda tx: tx.outbox_reschedule(number, due_ms=20, attempts=1, error="no"))
    [row] = ask(store, lambda r: r.outbox_due("JPN", now_ms=20, limit=9))
    assert (row.due_ms, row.lease_until_ms, row.attempts, row.error) == (20, 0, 1, "no")
    assert (row.peer, row.precedence, row.subject, row.body) == ("JPN", 1, "s", b"body")


def test_an_error_text_is_cut_and_mended(store: Store) -> None:
    number = do(store, lambda tx: tx.outbox_add("JPN", 1, 0, "s", b""))
    text = "\ud800\0" + "x" * 600
    do(store, lambda tx: tx.outbox_reschedule(number, due_ms=0, attempts=1, error=text))
    [row] = ask(store, lambda r: r.outbox_rows(None, 0, 9))
    assert row.error == "?" + "x" * 498


def test_a_row_that_is_gone_cannot_be_leased_or_brought_back(store: Store) -> None:
    number = do(store, lambda tx: tx.outbox_add("JPN", 0, 0, "s", b""))
    assert do(store, lambda tx: tx.outbox_remove(number)) is True
    assert do(store, lambda tx: tx.outbox_remove(number)) is False
    assert do(store, lambda tx: tx.outbox_lease(number, 9)) is False
    assert not do(store, lambda tx: tx.outbox_reschedule(number, due_ms=0, attempts=1, error=""))
    assert ask(store, lambda r: r.outbox_count(None)) == 0


def test_a_committed_number_is_never_given_again(stand: Stand) -> None:
    add: Callable[[Transaction], int] = lambda tx: tx.outbox_add("JPN", 0, 0, "s", b"")  # noqa: E731
    assert stand.store.commit([add, add]) == [1, 2]
    do(stand.store, lambda tx: tx.outbox_remove(2))
    assert do(stand.store, add) == 3
    do(stand.store, lambda tx: tx.outbox_remove(3))
    assert do(stand.restart(), add) == 4


def test_rows_are_listed_by_number_for_one_peer_or_all(store: Store) -> None:
    def job(tx: Transaction) -> None:
        for n in range(6):
            tx.outbox_add("JPN" if n % 2 else "USA", 3 - n % 4, n, f"s{n}", b"")

    do(store, job)

    def numbers(peer: str | None, after: int, limit: int) -> list[int]:
        return [row.number for row in ask(store, lambda r: r.outbox_rows(peer, after, limit))]

    assert numbers(None, 0, 4) == [1, 2, 3, 4]
    assert numbers(None, 4, 4) == [5, 6]
    assert numbers("JPN", 0, 2) == [2, 4]
    assert numbers("JPN", 4, 2) == [6]
    assert numbers("KOR", 0, 2) == []
    assert ask(store, lambda r: r.outbox_count(None)) == 6
    assert ask(store, lambda r: r.outbox_count("USA")) == 3


# Journal


def test_the_journal_is_a_hash_chain(store: Store) -> None:
    for number, entry in enumerate([b"first", b"", b"third"], 1):
        assert do(store, lambda tx, entry=entry: tx.journal_append(entry, SALT)) == number  # type: ignore[misc]
    # Computed apart, with sha256sum over the bytes that the port's docstring names.
    links = [
        "62bbf2a186b2e232e2662596591a58e901f811e3f6eb8abccd612bf81fa11e45",
        "d3d0c37da51d521ea65ecd4c6b66c7e916b590f8d2ab61bfe0f377474372fb6a",
        "3b6a271f114d696e3178f69ce438a323750c902179849b2e7ad11b94782150fe",
    ]
    rows = ask(store, lambda r: r.journal(0, 9))
    assert [row.number for row in rows] == [1, 2, 3]
    assert [row.entry for row in rows] == [b"first", b"", b"third"]
    assert [row.salt for row in rows] == [SALT] * 3
    assert [row.link.hex() for row in rows] == links
    assert ask(store, lambda r: r.journal_head()) == (3, bytes.fromhex(links[2]))


def test_the_chain_goes_on_behind_what_a_refused_job_had_appended(store: Store) -> None:
    def refused(tx: Transaction) -> int:
        tx.journal_append(b"never", SALT)
        raise CallerError("no")

    def job(tx: Transaction) -> int:
        return tx.journal_append(b"a", SALT) + tx.journal_append(b"b", SALT)

    results = store.commit([job, refused, job, refused])
    assert [r for r in results if isinstance(r, int)] == [3, 7]
    rows = ask(store, lambda r: r.journal(0, 9))  # which verifies the chain
    assert [(row.number, row.entry) for row in rows] == [(1, b"a"), (2, b"b"), (3, b"a"), (4, b"b")]
    assert do(store, lambda tx: tx.journal_append(b"c", SALT)) == 5


def test_pages_of_the_journal_meet(store: Store) -> None:
    store.commit([lambda tx: tx.journal_append(b"entry", SALT) for _ in range(7)])
    pages = [ask(store, lambda r, after=after: r.journal(after, 3)) for after in (0, 3, 6, 7, 99)]  # type: ignore[misc]
    assert [[row.number for row in page] for page in pages] == [[1, 2, 3], [4, 5, 6], [7], [], []]
    link = JOURNAL_START
    for row in [row for page in pages for row in page]:
        link = sha256(link + sha256(row.salt + row.entry).digest()).digest()
        assert row.link == link


# Limits

LONG = "x" * (NAME_CHARS_MAX + 1)
BAD_WRITES: dict[str, Callable[[Transaction], object]] = {
    "empty kind": lambda tx: tx.put("", "a", b""),
    "empty key": lambda tx: tx.put("item", "", b""),
    "long kind": lambda tx: tx.put(LONG, "a", b""),
    "long key": lambda tx: tx.put("item", LONG, b""),
    "long state": lambda tx: tx.put("item", "a", b"", state=LONG),
    "long rank": lambda tx: tx.put("item", "a", b"", rank=LONG),
    "NUL": lambda tx: tx.put("item", "a\0b", b""),
    "lone surrogate": lambda tx: tx.put("item", "a\ud800", b""),
    "large body": lambda tx: tx.put("item", "a", bytes(BODY_BYTES_MAX + 1)),
    "delete without key": lambda tx: tx.delete("item", ""),
    "empty peer": lambda tx: tx.outbox_add("", 0, 0, "s", b""),
    "precedence 4": lambda tx: tx.outbox_add("JPN", 4, 0, "s", b""),
    "precedence -1": lambda tx: tx.outbox_add("JPN", -1, 0, "s", b""),
    "due before 0": lambda tx: tx.outbox_add("JPN", 0, -1, "s", b""),
    "due past 63 bits": lambda tx: tx.outbox_add("JPN", 0, 2**63, "s", b""),
    "long subject": lambda tx: tx.outbox_add("JPN", 0, 0, LONG, b""),
    "large outbox body": lambda tx: tx.outbox_add("JPN", 0, 0, "s", bytes(BODY_BYTES_MAX + 1)),
    "lease past 63 bits": lambda tx: tx.outbox_lease(1, 2**63),
    "number past 63 bits": lambda tx: tx.outbox_remove(2**63),
    "attempts before 0": lambda tx: tx.outbox_reschedule(1, due_ms=0, attempts=-1, error=""),
    "large entry": lambda tx: tx.journal_append(bytes(ENTRY_BYTES_MAX + 1), SALT),
    "short salt": lambda tx: tx.journal_append(b"e", bytes(31)),
    "long salt": lambda tx: tx.journal_append(b"e", bytes(33)),
    "empty meta key": lambda tx: tx.set_meta("", b""),
    "large meta": lambda tx: tx.set_meta("m", bytes(BODY_BYTES_MAX + 1)),
}
BAD_READS: dict[str, Callable[[Reader], object]] = {
    "no rows": lambda r: r.listing("item", limit=0),
    "too many rows": lambda r: r.listing("item", limit=ROWS_MAX + 1),
    "too many due": lambda r: r.outbox_due("JPN", now_ms=0, limit=ROWS_MAX + 1),
    "too many in the outbox": lambda r: r.outbox_rows(None, 0, ROWS_MAX + 1),
    "too many entries": lambda r: r.journal(0, ROWS_MAX + 1),
    "entries before the first": lambda r: r.journal(-1, 1),
    "empty kind": lambda r: r.count(""),
    "empty peer": lambda r: r.outbox_next_due(""),
    "lone surrogate": lambda r: r.get("item", "\ud800"),
    "now past 63 bits": lambda r: r.outbox_due("JPN", now_ms=2**63, limit=1),
}


@pytest.mark.parametrize("case", BAD_WRITES)
def test_a_bad_write_refuses_its_job_alone(store: Store, case: str) -> None:
    refusal, done = store.commit([BAD_WRITES[case], lambda tx: tx.put("item", "good", b"")])
    assert isinstance(refusal, CallerError)
    assert done is None
    assert rows_of(store) == ["good"]
    assert ask(store, lambda r: (r.outbox_count(None), r.journal_head()[0])) == (0, 0)


@pytest.mark.parametrize("case", BAD_READS)
def test_a_bad_read_is_refused(store: Store, case: str) -> None:
    with store.read() as reader:
        with pytest.raises(CallerError):
            BAD_READS[case](reader)
        assert reader.count("item") == 0


def test_a_job_may_catch_a_refused_write(store: Store) -> None:
    def job(tx: Transaction) -> None:
        tx.put("item", "a", b"")
        with pytest.raises(CallerError):
            tx.put("item", "", b"")

    do(store, job)
    assert rows_of(store) == ["a"]


def test_what_is_just_within_the_limits_is_taken(store: Store) -> None:
    key, body = "x" * NAME_CHARS_MAX, bytes(BODY_BYTES_MAX)

    def job(tx: Transaction) -> None:
        tx.put("item", key, body, rank="é" * NAME_CHARS_MAX)
        tx.outbox_add("JPN", 3, 2**63 - 1, "", body)
        tx.journal_append(bytes(ENTRY_BYTES_MAX), SALT)

    do(store, job)
    assert ask(store, lambda r: r.get("item", key)) == body
    [row] = ask(store, lambda r: r.listing("item", limit=ROWS_MAX))
    assert ask(store, lambda r: r.listing("item", after=row.cursor, limit=1)) == []
    assert ask(store, lambda r: r.outbox_next_due("JPN")) == 2**63 - 1


def test_a_commit_has_a_limit_of_jobs(store: Store) -> None:
    with pytest.raises(CallerError, match="at most 1000 jobs, got 1001"):
        store.commit([lambda tx: tx.put("item", "a", b"")] * (JOBS_MAX + 1))
    assert rows_of(store) == []


# A full disk


def test_a_full_disk_undoes_the_whole_commit(small_store: Store) -> None:
    do(small_store, lambda tx: tx.put("item", "a", b"before"))
    jobs: list[Callable[[Transaction], None]] = [
        lambda tx: tx.put("item", "a", b"changed"),
        lambda tx: tx.put("item", "big", bytes(400_000)),
        lambda tx: tx.put("item", "c", b""),
    ]
    for _ in range(3):
        with pytest.raises(StoreFull, match="free some space"):
            small_store.commit(jobs)
        assert ask(small_store, lambda r: r.get("item", "a")) == b"before"
        assert rows_of(small_store) == ["a"]
    do(small_store, lambda tx: tx.put("item", "d", b"fits"))
    assert rows_of(small_store) == ["a", "d"]


def test_a_job_cannot_swallow_that_the_disk_is_full(small_store: Store) -> None:
    def swallow(tx: Transaction) -> None:
        with suppress(StoreFull):
            tx.put("item", "big", bytes(400_000))

    with pytest.raises(StoreFull):
        small_store.commit([lambda tx: tx.put("item", "a", b""), swallow])
    assert rows_of(small_store) == []


# Blobs


def test_a_blob_is_what_was_written_in_parts(store: Store) -> None:
    store.blob_append("ab-12", 0, b"hello ")
    store.blob_append("ab-12", 6, b"world")
    store.blob_append("cd", 0, b"")
    assert store.blob_size("ab-12") == 11
    assert store.blob_read("ab-12", 0, 100) == b"hello world"
    assert store.blob_read("ab-12", 4, 3) == b"o w"
    assert store.blob_read("ab-12", 11, 3) == b""
    assert store.blob_read("ab-12", 99, 3) == b""
    assert store.blob_names() == ["ab-12", "cd"]


def test_a_part_sent_again_takes_its_place(store: Store) -> None:
    store.blob_append("ab", 0, b"hello world")
    store.blob_append("ab", 0, b"hello")
    assert store.blob_read("ab", 0, 100) == b"hello world"
    store.blob_append("ab", 6, b"there, world")
    assert store.blob_read("ab", 0, 100) == b"hello there, world"


def test_a_part_behind_the_end_is_refused(store: Store) -> None:
    store.blob_append("ab", 0, b"hello")
    for offset in (6, -1):
        with pytest.raises(CallerError, match="gap"):
            store.blob_append("ab", offset, b"x")
    with pytest.raises(CallerError, match="gap"):
        store.blob_append("cd", 1, b"x")
    assert store.blob_names() == ["ab"]
    assert store.blob_read("ab", 0, 100) == b"hello"


@pytest.mark.parametrize(
    "name", ["", "AB", "a/b", "..", ".", "-a", "a.b", "a" * 129, "a\n", "ä", "g", "a\0"]
)
def test_what_is_no_name_of_a_blob_is_refused(store: Store, name: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.blob_append(name, 0, b""),
        lambda: store.blob_size(name),
        lambda: store.blob_sync(name),
        lambda: store.blob_read(name, 0, 1),
        lambda: store.blob_remove(name),
    ]
    for call in calls:
        with pytest.raises(CallerError, match="lower-case hex"):
            call()
    assert store.blob_names() == []


def test_parts_of_a_blob_have_limits(store: Store) -> None:
    with pytest.raises(CallerError, match="at most"):
        store.blob_append("ab", 0, bytes(CHUNK_BYTES_MAX + 1))
    store.blob_append("ab", 0, b"x")
    for offset, length in [(0, CHUNK_BYTES_MAX + 1), (-1, 1), (0, -1)]:
        with pytest.raises(CallerError, match="at most"):
            store.blob_read("ab", offset, length)


def test_an_absent_blob_is_removed_already_but_cannot_be_read_or_synced(store: Store) -> None:
    assert store.blob_remove("ab") is False
    with pytest.raises(CallerError, match="no blob 'ab'"):
        store.blob_read("ab", 0, 1)
    with pytest.raises(CallerError, match="no blob 'ab'"):
        store.blob_sync("ab")
    store.blob_append("ab", 0, b"x")
    assert store.blob_remove("ab") is True
    assert store.blob_size("ab") == 0


def test_a_synced_blob_is_there_after_a_restart(stand: Stand) -> None:
    stand.store.blob_append("ab", 0, b"hello")
    stand.store.blob_sync("ab")
    assert stand.restart().blob_read("ab", 0, 9) == b"hello"


# The end


def test_the_ballast_can_be_released_and_restored(store: Store) -> None:
    assert store.ballast_held
    store.restore_ballast()
    store.release_ballast()
    store.release_ballast()
    store.restore_ballast()
    assert store.ballast_held


def test_to_scrub_changes_nothing_that_is_there(store: Store) -> None:
    do(store, lambda tx: put_both(tx, b"1", b"2"))
    do(store, lambda tx: tx.delete("item", "b"))
    store.scrub()
    assert rows_of(store) == ["a"]


def test_a_closed_store_does_nothing_more(store: Store) -> None:
    store.close()
    store.close()
    calls: list[Callable[[], object]] = [
        lambda: store.commit([refuse]),
        lambda: ask(store, lambda r: r.count("item")),
        lambda: store.blob_append("ab", 0, b""),
        lambda: store.blob_names(),
        lambda: store.scrub(),
        lambda: store.release_ballast(),
    ]
    for call in calls:
        with pytest.raises(StoreBroken, match="closed"):
            call()


# What only the store in memory does: the faults of a disk, on demand


@pytest.mark.parametrize(
    ("fault", "error", "kept", "kept_after_restart"),
    [
        (None, None, True, True),
        (Fault.FULL, StoreFull, False, False),
        (Fault.FAILED, StoreBroken, None, False),
        (Fault.PERSISTED, StoreBroken, None, True),
    ],
)
def test_a_commit_in_memory_meets_the_fault_it_is_told_to(
    fault: Fault | None,
    error: type[ReltoError] | None,
    kept: bool | None,
    kept_after_restart: bool,
) -> None:
    faults = iter([None, fault, None])
    store = MemoryStore(faults=lambda: next(faults))
    do(store, lambda tx: tx.put("item", "a", b"1"))
    with pytest.raises(error) if error else nullcontext():
        do(store, lambda tx: tx.put("item", "b", b"2"))
    if kept is None:
        for use in (lambda: rows_of(store), lambda: store.commit([refuse]), store.blob_names):
            with pytest.raises(StoreBroken):
                use()
    else:
        assert rows_of(store) == (["a", "b"] if kept else ["a"])
    assert rows_of(store.crashed()) == (["a", "b"] if kept_after_restart else ["a"])


def test_a_crash_in_memory_takes_what_was_not_synced() -> None:
    store = MemoryStore()
    store.blob_append("aa", 0, b"synced")
    store.blob_sync("aa")
    store.blob_append("aa", 6, b" and not")
    store.blob_append("bb", 0, b"not")
    after = store.crashed()
    assert after.blob_names() == ["aa"]
    assert after.blob_read("aa", 0, 99) == b"synced"
    with pytest.raises(StoreBroken, match="crashed"):
        store.commit([refuse])


def test_the_ballast_in_memory_is_room() -> None:
    store = MemoryStore(bytes_max=100, ballast_bytes=40)
    do(store, lambda tx: tx.put("item", "a", bytes(50)))
    with pytest.raises(StoreFull):
        do(store, lambda tx: tx.put("item", "b", bytes(20)))
    with pytest.raises(StoreFull):
        store.blob_append("aa", 0, bytes(20))
    store.release_ballast()
    do(store, lambda tx: tx.put("item", "b", bytes(20)))
    store.blob_append("aa", 0, bytes(20))
    with pytest.raises(StoreFull):
        store.restore_ballast()
    held = store.ballast_held
    store.blob_remove("aa")
    do(store, lambda tx: tx.delete("item", "b"))
    store.restore_ballast()
    assert (held, store.ballast_held) == (False, True)


def test_what_is_owed_is_counted_by_peer_and_precedence(store: Store) -> None:
    assert ask(store, lambda r: r.outbox_depths()) == []
    for peer, precedence in (("USA", 3), ("JPN", 0), ("USA", 3), ("USA", 0)):
        do(store, partial(_owe, peer=peer, precedence=precedence))
    assert ask(store, lambda r: r.outbox_depths()) == [
        OutboxDepth("JPN", 0, 1, 2),
        OutboxDepth("USA", 0, 1, 4),
        OutboxDepth("USA", 3, 2, 1),
    ]
    do(store, lambda tx: tx.outbox_remove(1))
    assert ask(store, lambda r: r.outbox_depths())[2] == OutboxDepth("USA", 3, 1, 3)


def _owe(tx: Transaction, *, peer: str, precedence: int) -> int:
    return tx.outbox_add(peer, precedence, 0, "", b"x")
