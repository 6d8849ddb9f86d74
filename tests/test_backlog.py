"""The backlog: what waits, beside what went lately; only what taking less would make shorter."""

from relto.backlog import LATELY_MS, WAITING_MIN, Backlog


class Paced(Backlog):
    """One whose clock a test sets."""

    def __init__(self) -> None:
        self.now_ms = 0
        super().__init__(lambda: self.now_ms)

    def wait(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            self.add(number)


def test_some_rows_may_wait_whatever_the_pace() -> None:
    backlog = Paced()
    backlog.wait(1, WAITING_MIN)
    found = [backlog.is_long]
    backlog.wait(1_000, 1)
    assert [*found, backlog.is_long] == [False, True]


def test_as_many_may_wait_as_went_lately() -> None:
    backlog = Paced()
    for number in range(500):
        backlog.went(number)
    backlog.wait(1_000, 500)
    found = [backlog.is_long]
    backlog.wait(2_000, 1)
    found.append(backlog.is_long)
    backlog.went(1_000)
    found.append(backlog.is_long)
    backlog.now_ms = LATELY_MS
    found.append(backlog.is_long)
    backlog.now_ms = LATELY_MS + 1  # all that went is long ago
    found.append(backlog.is_long)
    assert found == [False, True, False, False, True]


def test_what_waits_for_something_else_does_not_count() -> None:
    backlog = Paced()
    backlog.wait(0, WAITING_MIN + 2)
    backlog.drop(0)
    found = [backlog.is_long]
    backlog.drop(1)
    backlog.drop(1)
    assert [*found, backlog.is_long] == [True, False]
    assert len(backlog) == WAITING_MIN
