"""TOML text into tables that know the line of every key, and a decoder that reports every error.

`tomllib` decides what the text means; the scanner here only finds where each key stands, so that
a message can name file and line. Strings are checked once, on the way in.
"""

import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from relto.instants import instant

__all__ = [
    "FILE_BYTES_MAX",
    "Document",
    "Problem",
    "Problems",
    "Table",
    "check_text",
    "parse",
    "quoted",
]

FILE_BYTES_MAX = 1024 * 1024
DEPTH_MAX = 16
PROBLEMS_PER_FILE_MAX = 100
SHOWN_CHARS_MAX = 60

Path = tuple[str | int, ...]

# A dotted key of absurd length, which would cost tomllib the square of it.
_DEEP_KEY = re.compile(
    r"""(?:((?<![\w-])[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){200}"""
)

# Unicode UAX #9: controls that make text read in another order than it is stored.
BIDI_CONTROLS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, where, and the fix, in one line."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


@dataclass(slots=True)
class Problems:
    """Every error and warning found so far; nothing stops at the first."""

    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def error(self, file: str, line: int, message: str) -> None:
        """Add an error, unless this file has had its fill of them."""
        same_file = sum(1 for p in self.errors if p.file == file)
        if same_file < PROBLEMS_PER_FILE_MAX:
            self.errors.append(Problem(file, line, message))

    def warn(self, file: str, line: int, message: str) -> None:
        self.warnings.append(Problem(file, line, message))


def quoted(value: object) -> str:
    """The offending value for a message: quoted, printable, cut to a readable length.

    >>> quoted("KOR:IV")
    '"KOR:IV"'
    """
    if isinstance(value, str):
        text = value
        if not text.isprintable():
            text = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in value)
    elif isinstance(value, bool):
        return "true" if value else "false"
    elif isinstance(value, dict):
        return "a table"
    elif isinstance(value, list):
        return "a list"
    elif isinstance(value, int) and abs(value) > 10**18:
        return "a huge number"
    else:
        return str(value)
    if len(text) > SHOWN_CHARS_MAX:
        text = text[:SHOWN_CHARS_MAX] + "…"
    return f'"{text}"'


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed file: its data, and the line of every path in it."""

    file: str
    data: dict[str, Any]
    lines: dict[Path, int]

    def line(self, path: Path) -> int:
        """Line of `path`, or of the nearest table around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def parse(file: str, data: bytes, problems: Problems) -> Document | None:
    """A document, or None with at least one problem reported."""
    if len(data) > FILE_BYTES_MAX:
        problems.error(file, 1, f"the file is larger than {FILE_BYTES_MAX} bytes; split or trim it")
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        problems.error(file, line, f"not UTF-8 at byte {e.start}; save the file as UTF-8 text")
        return None
    if text.startswith("\ufeff"):
        problems.error(file, 1, "starts with a byte order mark; save it as UTF-8 without one")
        return None
    if deep := _DEEP_KEY.search(text):
        line = text.count("\n", 0, deep.start()) + 1
        problems.error(file, line, f"nested more than {DEPTH_MAX} levels deep; flatten it")
        return None
    try:
        tree = tomllib.loads(text)
        lines = _Scanner(text).run()
        document = Document(file, tree, lines)
        sound = check_text(document, problems)
    except tomllib.TOMLDecodeError as e:
        message, line = _toml_error(str(e), text)
        problems.error(file, line, f"not TOML: {message}")
        return None
    except _TooDeep as e:
        problems.error(file, e.line, f"nested more than {DEPTH_MAX} levels deep; flatten it")
        return None
    except (RecursionError, ValueError, OverflowError):
        # tomllib passes on what int() and datetime() say of absurd values
        problems.error(file, 1, "nested too deeply, or holds a number or date out of range")
        return None
    return document if sound else None


def _toml_error(text: str, source: str) -> tuple[str, int]:
    """tomllib ends its messages with `(at line 3, column 5)` or `(at end of document)`."""
    message, _, place = text.rpartition(" (at ")
    if place.startswith("line "):
        return message.lower(), int(place[5:].split(",")[0])
    return (message or text).lower(), source.count("\n") + 1


def _strings(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    if len(path) > DEPTH_MAX:
        raise RecursionError
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key), key
            yield from _strings(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _strings(inner, (*path, index))


def check_text(document: Document, problems: Problems) -> bool:
    """Whether all its text is plain and in normal form; what is not is reported.

    Raises RecursionError where it is nested more than `DEPTH_MAX` levels deep.
    """
    sound = True
    for path, text in _strings(document.data, ()):
        fault = _text_fault(text)
        if fault:
            problems.error(document.file, document.line(path), f"{quoted(text)} {fault}")
            sound = False
    return sound


def _text_fault(text: str) -> str | None:
    if text.isascii() and text.isprintable():
        return None
    if any(unicodedata.category(c) == "Cc" for c in text):
        return "has a control character; write it in one line without tabs"
    if not BIDI_CONTROLS.isdisjoint(text):
        return "has a character that changes the reading direction; remove it"
    if unicodedata.normalize("NFC", text) != text:
        return "is not in Unicode normal form NFC; save it normalised"
    return None


class _TooDeep(Exception):
    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class _Scanner:
    """Where every key and element stands. Only for text that tomllib has accepted."""

    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.line = 1
        self.lines: dict[Path, int] = {(): 1}
        self.last_index: dict[Path, int] = {}

    def run(self) -> dict[Path, int]:
        prefix: Path = ()
        while self._skip_blank(newlines=True):
            if self.text[self.at] == "[":
                prefix = self._header()
            else:
                self._key_value(prefix)
        return self.lines

    def _header(self) -> Path:
        line = self.line
        is_array = self.text.startswith("[[", self.at)
        self.at += 2 if is_array else 1
        parts = self._key()
        self._check_depth(len(parts))
        self.at = self.text.index("]", self.at) + (2 if is_array else 1)
        path: Path = ()
        for number, part in enumerate(parts):
            path = (*path, part)
            if is_array and number == len(parts) - 1:
                self.last_index[path] = self.last_index.get(path, -1) + 1
                self.lines.setdefault(path, line)
            if path in self.last_index:
                path = (*path, self.last_index[path])
            self.lines.setdefault(path, line)
        return path

    def _key_value(self, prefix: Path) -> None:
        line = self.line
        path = prefix
        parts = self._key()
        self._check_depth(len(prefix) + len(parts))
        for part in parts:
            path = (*path, part)
            self.lines.setdefault(path, line)
        self._skip_blank(newlines=False)
        self.at += 1  # the equals sign
        self._value(path)

    def _key(self) -> list[str]:
        parts = []
        while True:
            self._skip_blank(newlines=False)
            if self.text[self.at] in "\"'":
                start = self.at
                self._string()
                literal = self.text[start : self.at]
                parts.append(tomllib.loads(f"k = {literal}")["k"])
            else:
                start = self.at
                while self.text[self.at] not in " \t.=]":
                    self.at += 1
                parts.append(self.text[start : self.at])
            self._skip_blank(newlines=False)
            if self.text[self.at] != ".":
                return parts
            self.at += 1

    def _check_depth(self, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise _TooDeep(self.line)

    def _value(self, path: Path) -> None:
        self._check_depth(len(path))
        self._skip_blank(newlines=False)
        self.lines[path] = self.line
        opening = self.text[self.at]
        if opening in "\"'":
            self._string()
        elif opening == "[":
            self.at += 1
            index = 0
            while self._skip_blank(newlines=True) and self.text[self.at] != "]":
                self._value((*path, index))
                index += 1
                self._skip_blank(newlines=True)
                if self.text[self.at] == ",":
                    self.at += 1
            self.at += 1
        elif opening == "{":
            self.at += 1
            while self._skip_blank(newlines=True) and self.text[self.at] != "}":
                self._key_value(path)
                self._skip_blank(newlines=True)
                if self.text[self.at] == ",":
                    self.at += 1
            self.at += 1
        else:
            while self.at < len(self.text) and self.text[self.at] not in ",]}#\n":
                self.at += 1

    def _string(self) -> None:
        quote = self.text[self.at]
        if self.text.startswith(quote * 3, self.at):
            end = quote * 3
            self.at += 3
            while not self.text.startswith(end, self.at):
                if self.text[self.at] == "\\" and quote == '"':
                    self.at += 1
                self.line += self.text[self.at] == "\n"
                self.at += 1
            self.at += 3
            while self.text.startswith(quote, self.at):  # up to two quotes may precede the end
                self.at += 1
            return
        self.at += 1
        while self.text[self.at] != quote:
            self.at += 2 if self.text[self.at] == "\\" and quote == '"' else 1
        self.at += 1

    def _skip_blank(self, *, newlines: bool) -> bool:
        """Pass white space (and, with `newlines`, line ends and comments); False at the end."""
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in " \t":
                self.at += 1
            elif newlines and char == "\n":
                self.line += 1
                self.at += 1
            elif newlines and char == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            else:
                return True
        return False


class Table:
    """One table under decoding: takes typed values by key, and reports what does not fit.

    Every `take_*` returns None after reporting, so that decoding goes on to the next error.
    """

    def __init__(self, document: Document, path: Path, data: object, problems: Problems) -> None:
        self.document = document
        self.path = path
        self.problems = problems
        self.data: dict[str, Any] = data if isinstance(data, dict) else {}
        if not isinstance(data, dict):
            self.error(None, f"{quoted(data)} stands where a table belongs")

    def error(self, key: str | None, message: str, *, index: int | None = None) -> None:
        """Report at the line of `key` (of its element `index`), or at the table's own."""
        path = self.path if key is None else (*self.path, key)
        if index is not None:
            path = (*path, index)
        self.problems.error(self.document.file, self.document.line(path), message)

    def warn(self, key: str | None, message: str) -> None:
        path = self.path if key is None else (*self.path, key)
        self.problems.warn(self.document.file, self.document.line(path), message)

    @property
    def line(self) -> int:
        return self.document.line(self.path)

    def only(self, *known: str) -> None:
        """Report every key that is not one of `known`."""
        for key in self.data:
            if key not in known:
                names = ", ".join(known)
                self.error(key, f"unknown key {quoted(key)}; the keys here are {names}")

    def _take(
        self, key: str, kind: type | tuple[type, ...], what: str, *, required: bool
    ) -> Any | None:
        value = self.data.get(key)
        if value is None:
            if required:
                self.error(None, f'missing key "{key}"; add {what}')
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.error(key, f"{key} = {quoted(value)} is not {what}")
            return None
        return value

    def take_text(
        self,
        key: str,
        what: str,
        *,
        accept: Callable[[str], bool] = bool,
        required: bool = True,
    ) -> str | None:
        """A string that `accept` takes; `what` says in words what belongs here."""
        value = self._take(key, str, what, required=required)
        if value is not None and not accept(value):
            self.error(key, f"{key} = {quoted(value)} is not {what}")
            return None
        return value

    def take_choice(self, key: str, choices: Sequence[str]) -> str | None:
        options = " or ".join(f'"{c}"' for c in choices)
        return self.take_text(key, options, accept=lambda value: value in choices)

    def take_bool(self, key: str, *, default: bool | None = None) -> bool | None:
        value = self._take(key, bool, "true or false", required=False)
        return default if value is None else bool(value)

    def take_number(self, key: str, what: str, least: int, most: int) -> int | None:
        """A whole number from `least` to `most`; `what` says in words what belongs here."""
        value = self._take(key, int, what, required=False)
        if value is not None and not least <= value <= most:
            self.error(key, f"{key} = {quoted(value)} is not {what}")
            return None
        return value

    def take_hours(self, key: str) -> int | None:
        return self.take_number(key, "a number of hours, 0 or more", 0, 10**6)

    def take_instant(self, key: str, *, required: bool = True) -> datetime | None:
        what = "an instant with its offset, such as 2014-12-29T00:00:00+09:00"
        value = self._take(key, datetime, what, required=required)
        if value is not None and value.tzinfo is None:
            self.error(key, f"{key} = {quoted(str(value))} is not {what}")
            return None
        try:
            if value is not None:
                instant(value)
        except OverflowError:
            self.error(key, f"{key} = {quoted(str(value))} lies outside the years 1 to 9999 of UTC")
            return None
        return value

    def take_names(
        self, key: str, what: str, *, required: bool = False, may_be_empty: bool = False
    ) -> tuple[str, ...] | None:
        """A list of different strings. An empty list is never the same as an absent one."""
        value = self._take(key, list, f"a list of {what}", required=required)
        if value is None:
            return None
        if not value and not may_be_empty:
            otherwise = "" if required else ", or leave the key out"
            self.error(key, f"{key} is an empty list; name {what}{otherwise}")
            return None
        names: dict[str, None] = {}  # in order
        for index, name in enumerate(value):
            if not isinstance(name, str) or not name:
                self.error(key, f"{quoted(name)} in {key} is not text", index=index)
            elif name in names:
                self.error(key, f"{quoted(name)} stands twice in {key}; remove one", index=index)
            else:
                names[name] = None
        return tuple(names)

    def take_texts(self, key: str) -> dict[str, str]:
        """Words by language code, in at least one language."""
        what = 'words by language, such as { en = "…", ko = "…" }'
        value = self._take(key, dict, what, required=True)
        if value is None:
            return {}
        if not value:
            self.error(key, f"{key} has no language; add {what}")
        texts = {}
        for language, words in value.items():
            if not (2 <= len(language) <= 8 and language.isascii() and language.isalpha()):
                self.error(key, f"{quoted(language)} is not a language code such as en, ko, ja")
            elif not isinstance(words, str) or not words.strip():
                self.error(key, f"{key}.{language} = {quoted(words)} is not text")
            else:
                texts[language] = words
        return texts

    def tables(self, key: str, *, required: bool, what: str) -> list["Table"]:
        """The tables of `[[key]]`."""
        value = self._take(key, list, what, required=required)
        if value is None:
            return []
        if not value:
            self.error(key, f"{key} is an empty list; add {what}")
        return [
            Table(self.document, (*self.path, key, index), inner, self.problems)
            for index, inner in enumerate(value)
        ]

    def table(self, key: str) -> "Table":
        return Table(self.document, (*self.path, key), self.data[key], self.problems)
