"""Logs are one line an event, with ids and never contents, for people and for programs."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from relto import logs

CANARY = "canary-51c0ffee"
log = logging.getLogger("relto.test")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:], logging.raiseExceptions = before, raising
    root.setLevel(level)


def lines(form: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.set_up(form=form, level=level, stream=stream)
    return stream


def test_an_event_is_one_json_object_with_its_fields() -> None:
    stream = lines("json")
    log.warning("message-refused", extra={"peer": "USA", "why": "no release waits for this range"})
    [line] = stream.getvalue().splitlines()
    told = json.loads(line)
    time = told.pop("time")
    assert time.endswith("+00:00")
    assert told == {
        "level": "warning",
        "event": "message-refused",
        "peer": "USA",
        "why": "no release waits for this range",
    }


def test_people_get_the_same_in_words() -> None:
    stream = lines("plain")
    log.info("listening", extra={"party": "KOR", "address": "[::1]:7401", "codes": ["a", "b c"]})
    [line] = stream.getvalue().splitlines()
    assert line.partition(" ")[2] == 'INFO listening party=KOR codes=a,"b c" address=[::1]:7401'


@pytest.mark.parametrize("form", ["json", "plain"])
@pytest.mark.parametrize(
    "why",
    [
        f'unknown topic "{CANARY}"; see vocabulary.toml',
        f'title is "{CANARY}',
        f'title is "a \\" {CANARY}"',
        f'key "{CANARY}\n2026 INFO forged" stands twice',
    ],
)
def test_what_somebody_wrote_is_not_told(form: str, why: str) -> None:
    stream = lines(form, "debug")
    log.error("message-refused", extra={"peer": "USA", "why": why})
    assert CANARY not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 1
    assert why.partition('"')[0].strip() in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "plain"])
def test_fields_that_nobody_named_do_not_come_out(form: str) -> None:
    stream = lines(form)
    log.info("x", extra={"title": CANARY, "mark": CANARY, "peer": "USA"})
    assert CANARY not in stream.getvalue()
    assert "USA" in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "plain"])
def test_of_an_exception_only_kind_and_place_are_told(form: str) -> None:
    stream = lines(form)
    secret = CANARY
    try:
        raise ValueError(f"bad title {secret}")
    except ValueError as error:
        log.error("request-failed", exc_info=error)
    assert CANARY not in stream.getvalue()
    assert "ValueError" in stream.getvalue()
    assert "test_of_an_exception_only_kind_and_place_are_told" in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "plain"])
def test_of_a_library_only_the_template_is_told(form: str) -> None:
    stream = lines(form, "debug")
    logging.getLogger("asyncio").error("Task failed: %r\nsecond line", CANARY)
    assert CANARY not in stream.getvalue()
    assert "second" not in stream.getvalue()
    assert "Task failed" in stream.getvalue()


def test_debug_is_told_only_when_asked_for() -> None:
    for level, count in (("info", 0), ("debug", 1)):
        stream = lines("json", level)
        log.debug("journal", extra={"entry": "read"})
        assert len(stream.getvalue().splitlines()) == count


def test_a_value_has_a_limit() -> None:
    stream = lines("json")
    log.info("x", extra={"why": "a" * 10_000})
    assert len(json.loads(stream.getvalue())["why"]) == logs.VALUE_CHARS_MAX
