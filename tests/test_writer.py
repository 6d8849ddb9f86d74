"""Group commit: a job's result is known when it is durable, and one job's fault is its own."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from relto.errors import CallerError, StoreBroken, StoreFull
from relto.ports import Transaction
from relto.stores import Fault, MemoryStore
from relto.stores.writer import BATCH_MAX, QUEUE_MAX, QUEUE_URGENT_MAX, Writer

WAIT_S = 10.0


class Bench:
    """A writer whose commits a test can hold back, one after the other."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.at_the_gate = threading.Semaphore(0)
        self.faults: list[Fault | None] = []
        self.commits = 0
        self.broken: list[BaseException] = []
        self.store = MemoryStore(faults=self._fault, ballast_bytes=10)
        self.writer = Writer(self.store, on_broken=self.broken.append)

    def _fault(self) -> Fault | None:
        self.commits += 1
        self.at_the_gate.release()
        assert self.gate.acquire(timeout=WAIT_S)
        return self.faults.pop(0) if self.faults else None

    def open(self, commits: int = 1_000) -> None:
        self.gate.release(commits)

    def wait_at_the_gate(self) -> None:
        assert self.at_the_gate.acquire(timeout=WAIT_S)

    def value(self, key: str) -> bytes | None:
        with self.store.read() as reader:
            return reader.meta(key)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.open()
    made.writer.close()


def put(key: str, value: bytes = b"1") -> Callable[[Transaction], Any]:
    def job(tx: Transaction) -> str:
        tx.set_meta(key, value)
        return key

    return job


def refuse(tx: Transaction) -> None:
    tx.set_meta("refused", b"1")
    raise CallerError("not this")


def test_a_result_is_known_only_when_it_is_committed(bench: Bench) -> None:
    future = bench.writer.submit(put("a"))
    bench.wait_at_the_gate()
    assert not future.done()
    assert bench.value("a") is None
    bench.open()
    assert future.result(WAIT_S) == "a"
    assert bench.value("a") == b"1"


def test_what_waits_is_committed_together_and_in_order(bench: Bench) -> None:
    first = bench.writer.submit(put("order", b"first"))
    bench.wait_at_the_gate()
    others = [bench.writer.submit(put("order", b"%d" % n)) for n in range(BATCH_MAX)]
    one_more = bench.writer.submit(put("order", b"last"))
    bench.open()
    assert first.result(WAIT_S)
    assert all(f.result(WAIT_S) for f in others)
    assert one_more.result(WAIT_S)
    assert bench.commits == 3  # the first, a full batch, and the one that no longer fitted
    assert bench.value("order") == b"last"


def test_a_job_that_is_refused_is_undone_alone(bench: Bench) -> None:
    first = bench.writer.submit(put("held back"))
    bench.wait_at_the_gate()
    before, bad, after = (bench.writer.submit(j) for j in (put("a"), refuse, put("b")))
    bench.open()
    assert first.result(WAIT_S)
    assert (before.result(WAIT_S), after.result(WAIT_S)) == ("a", "b")
    with pytest.raises(CallerError, match="not this"):
        bad.result(WAIT_S)
    assert bench.commits == 2
    assert bench.value("refused") is None


def test_a_full_disk_refuses_all_of_a_commit_gives_room_and_goes_on(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.faults = [Fault.FULL]
    bench.open()
    with pytest.raises(StoreFull):
        bench.writer.submit(put("a")).result(WAIT_S)
    assert [record.msg for record in caplog.records] == ["disk-full"]
    assert bench.value("a") is None
    assert not bench.store.ballast_held
    assert bench.writer.submit(put("a")).result(WAIT_S) == "a"
    assert bench.broken == []


@pytest.mark.parametrize("fault", [Fault.FAILED, Fault.PERSISTED])
def test_after_a_failed_commit_nothing_is_written_any_more(bench: Bench, fault: Fault) -> None:
    first = bench.writer.submit(put("first"))
    bench.wait_at_the_gate()
    bench.faults = [None, fault]
    failed = [bench.writer.submit(put(key)) for key in ("a", "b")]
    bench.open()
    assert first.result(WAIT_S)
    for future in failed:
        with pytest.raises(StoreBroken):
            future.result(WAIT_S)
    with pytest.raises(StoreBroken):
        bench.writer.submit(put("c")).result(WAIT_S)
    assert [type(e) for e in bench.broken] == [StoreBroken]
    assert bench.commits == 2


def test_a_fault_of_our_own_in_a_job_ends_the_process_too(bench: Bench) -> None:
    def job(tx: Transaction) -> None:
        raise ZeroDivisionError

    bench.open()
    with pytest.raises(ZeroDivisionError):
        bench.writer.submit(job).result(WAIT_S)
    assert [type(e) for e in bench.broken] == [ZeroDivisionError]
    with pytest.raises(StoreBroken):
        bench.writer.submit(put("a")).result(WAIT_S)


def test_past_the_queues_limit_the_asker_is_told_to_come_back(bench: Bench) -> None:
    first = bench.writer.submit(put("first"))
    bench.wait_at_the_gate()
    waiting = [bench.writer.submit(put("x")) for _ in range(QUEUE_MAX)]
    assert not any(f.done() for f in waiting)
    with pytest.raises(StoreFull, match="too much"):
        bench.writer.submit(put("one more")).result(WAIT_S)
    bench.open()
    assert first.result(WAIT_S)
    assert all(f.result(WAIT_S) == "x" for f in waiting)
    assert bench.value("one more") is None


def test_the_most_urgent_is_committed_first(bench: Bench) -> None:
    first = bench.writer.submit(put("held back"), 0)
    bench.wait_at_the_gate()
    routine = [bench.writer.submit(put("order", b"routine %d" % n), 3) for n in range(BATCH_MAX)]
    flash = bench.writer.submit(put("order", b"flash"), 0)
    bench.open(2)
    assert first.result(WAIT_S)
    assert flash.result(WAIT_S)
    assert bench.value("order") == b"flash"  # alone in its commit
    assert not routine[0].done()
    bench.open()
    assert all(f.result(WAIT_S) for f in routine)
    assert bench.commits == 3


def test_flash_does_not_wait_for_jobs_that_have_not_begun(bench: Bench) -> None:
    ran: list[str] = []
    urgent: list[Any] = []

    def job(name: str) -> Callable[[Transaction], Any]:
        def run(tx: Transaction) -> str:
            ran.append(name)
            if name == "b":  # while it runs the warning comes in
                urgent.append(bench.writer.submit(job("flash"), 0))
            return name

        return run

    many = bench.writer.submit_all([job("a"), job("b"), refuse, job("c")], 3)
    bench.wait_at_the_gate()
    bench.open(1)
    bench.wait_at_the_gate()
    assert not many.done()
    bench.open(1)
    assert urgent[0].result(WAIT_S) == "flash"
    assert ran == ["a", "b", "flash"]
    assert not many.done()
    bench.open()
    results = many.result(WAIT_S)
    assert ran == ["a", "b", "flash", "c"]
    assert [str(r) for r in results] == ["a", "b", "not this", "c"]
    assert bench.commits == 3
    assert bench.writer.jobs_waiting == 0


def test_who_is_held_back_begins_nothing_and_flash_goes(bench: Bench) -> None:
    bench.open()
    ran: list[str] = []
    held = threading.Event()

    def job(name: str) -> Callable[[Transaction], Any]:
        def run(tx: Transaction) -> str:
            ran.append(name)
            if name == "first":
                bench.writer.hold_back(True)
                held.set()
            return name

        return run

    begun = bench.writer.submit_all([job("first"), job("second")], 3)
    assert held.wait(WAIT_S)
    flash = bench.writer.submit(job("flash"), 0)
    assert flash.result(WAIT_S) == "flash"
    other = bench.writer.submit(job("other"), 1)
    assert bench.writer.submit(job("more flash"), 0).result(WAIT_S) == "more flash"
    assert ran == ["first", "flash", "more flash"]
    bench.writer.hold_back(False)
    assert begun.result(WAIT_S) == ["first", "second"]
    assert other.result(WAIT_S) == "other"


def test_a_writer_that_closes_commits_also_what_was_held_back(bench: Bench) -> None:
    bench.open()
    bench.writer.hold_back(True)
    future = bench.writer.submit(put("a"))
    bench.writer.close()
    assert future.result(WAIT_S) == "a"


def test_what_is_urgent_but_no_flash_waits_for_the_commit_under_way(bench: Bench) -> None:
    ran: list[str] = []

    def first(tx: Transaction) -> None:
        ran.append("first")
        bench.writer.submit(lambda tx: ran.append("immediate"), 1)

    many = bench.writer.submit_all([first, lambda tx: ran.append("second")], 3)
    bench.open()
    assert many.result(WAIT_S) == [None, None]
    bench.writer.close()
    assert ran == ["first", "second", "immediate"]


def test_a_full_disk_after_a_part_was_durable_is_told_of_the_rest_alone(bench: Bench) -> None:
    bench.faults = [None, None, Fault.FULL]

    def first(tx: Transaction) -> str:
        bench.writer.submit(put("flash"), 0)
        return "first"

    many = bench.writer.submit_all([first, put("a")], 3)
    bench.open()
    results = many.result(WAIT_S)
    assert results[0] == "first"
    assert isinstance(results[1], StoreFull)
    assert (bench.value("flash"), bench.value("a")) == (b"1", None)


def test_jobs_that_are_asked_for_together_are_one_commit_each_with_its_own_result(
    bench: Bench,
) -> None:
    first = bench.writer.submit(put("held back"))
    bench.wait_at_the_gate()
    many = bench.writer.submit_all([put("a"), refuse, *[put("b")] * BATCH_MAX], 3)
    bench.open()
    assert first.result(WAIT_S)
    results = many.result(WAIT_S)
    assert results[0] == "a"
    assert str(results[1]) == "not this"
    assert results[2:] == ["b"] * BATCH_MAX
    assert bench.commits == 2
    assert bench.value("refused") is None


def test_there_is_a_place_for_flash_when_there_is_none_for_others(bench: Bench) -> None:
    first = bench.writer.submit(put("first"))
    bench.wait_at_the_gate()
    waiting = [bench.writer.submit(put("x"), 3) for _ in range(QUEUE_MAX)]
    assert bench.writer.jobs_waiting == QUEUE_MAX
    with pytest.raises(StoreFull):
        bench.writer.submit(put("y"), 1).result(WAIT_S)
    flash = [bench.writer.submit(put("x"), 0) for _ in range(QUEUE_URGENT_MAX - QUEUE_MAX)]
    with pytest.raises(StoreFull):
        bench.writer.submit(put("y"), 0).result(WAIT_S)
    bench.open()
    assert all(f.result(WAIT_S) for f in [first, *waiting, *flash])


def test_who_gives_up_before_the_commit_has_changed_nothing(bench: Bench) -> None:
    first = bench.writer.submit(put("first"))
    bench.wait_at_the_gate()
    given_up, kept = bench.writer.submit(put("a")), bench.writer.submit(put("b"))
    assert given_up.cancel()
    bench.open()
    assert first.result(WAIT_S)
    assert kept.result(WAIT_S) == "b"
    assert bench.value("a") is None


def test_who_gives_up_during_the_commit_has_its_job_done_all_the_same(bench: Bench) -> None:
    future = bench.writer.submit(put("a"))
    bench.wait_at_the_gate()
    assert not future.cancel()
    bench.open()
    assert future.result(WAIT_S) == "a"


def test_closing_finishes_what_waits() -> None:
    bench = Bench()
    first = bench.writer.submit(put("first"))
    bench.wait_at_the_gate()
    waiting = [bench.writer.submit(put(f"k{n}")) for n in range(300)]
    bench.open()
    bench.writer.close()
    assert first.done()
    assert [f.result(0) for f in waiting] == [f"k{n}" for n in range(300)]
