"""What a node logs: one line an event, with ids and codes and never contents.

A record of ours names its event (`log.warning("message-refused", extra={"peer": "USA", …})`), and
only the fields in `FIELDS` come out. What a peer or a person wrote stands in double quotes in our
error messages, and is left out here: a label, a title or a name that was refused is not logged.
Of other libraries' records, and of exceptions, only the kind and the place are told.
"""

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

__all__ = ["FIELDS", "JsonFormatter", "PlainFormatter", "set_up"]

FIELDS = (
    *("party", "peer", "item", "release", "record", "approval", "receipt", "sender", "to", "by"),
    *(
        "entry",
        "decision",
        "asked",
        "codes",
        "regime",
        "key",
        "address",
        "precedence",
        "due",
        "limit",
        "why",
    ),
)
VALUE_CHARS_MAX = 500
FRAMES_MAX = 12  # innermost ones, of an exception
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\Z)', re.DOTALL)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `event`, and what fields the event has."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_fields(record), ensure_ascii=True)


class PlainFormatter(logging.Formatter):
    """The same for people: time, level, event, then `field=value`."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        head = f"{fields.pop('time')} {fields.pop('level').upper()} {fields.pop('event')}"
        return " ".join([head, *(f"{key}={_shown(value)}" for key, value in fields.items())])


def set_up(*, form: str, level: str, stream: TextIO = sys.stderr) -> None:
    """Send all logs of this process to `stream`: `form` is json or plain, `level` info or debug."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else PlainFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.raiseExceptions = False  # a full disk below the log ends nothing


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    ours = record.name.partition(".")[0] == "relto"
    fields: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        # A library's text may quote anything once it is formatted: only its template is told.
        "event": record.msg if ours else "library",
    }
    if ours:
        given = ((key, record.__dict__[key]) for key in FIELDS if key in record.__dict__)
        fields |= {key: _safe(value) for key, value in given}
    else:
        fields |= {"logger": record.name, "why": _safe(str(record.msg).partition("\n")[0])}
    if record.exc_info and record.exc_info[0] is not None:
        fields["error"] = record.exc_info[0].__name__
        frames = traceback.extract_tb(record.exc_info[2])[-FRAMES_MAX:]
        fields["at"] = [f"{f.filename.rpartition('/')[2]}:{f.lineno} {f.name}" for f in frames]
    return fields


def _safe(value: Any) -> Any:
    if isinstance(value, bool | int):
        return value
    if isinstance(value, list | tuple):
        return [_safe(part) for part in value]
    return _QUOTED.sub('"…"', str(value))[:VALUE_CHARS_MAX]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_shown(part) for part in value)
    text = str(value)
    plain = text.isascii() and text.isprintable() and not set(text) & set(' "=,')
    return text if plain and text else json.dumps(text)
