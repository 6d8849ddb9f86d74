"""`relto decide`, `relto explain` and `relto regime` as real processes."""
# ruff: noqa: E501  # a case a line

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pact_checks import VECTORS, vectors
from regime_texts import FILES
from relto.apps.cli import main

TISA = Path(__file__).parent.parent / "regimes" / "tisa"
RELTO = [sys.executable, "-m", "relto"]
BATCH = ["decide", "--regime", str(TISA), "--batch", "-"]
LINE_BYTES_MAX = 1024 * 1024

ITEM: dict[str, Any] = {
    "id": "i1",
    "originator": "KOR",
    "mark": "KOR:II",
    "releasable_to": ["JPN", "USA"],
    "kind": "report",
    "topics": ["missile.launch"],
    "about": ["PRK"],
}
HOLDING = {
    "held_as": "USA:S",
    "basis": {"i1": [{"agreement": "tisa-2014", "article": "4"}]},
}
QUESTION: dict[str, Any] = {
    "id": "q1",
    "at": "2015-01-05T00:00:00Z",
    "holder": "USA",
    "to": "JPN",
    "item": ITEM,
    "holding": HOLDING,
}
ANSWER = (
    '{"id":"q1","decision":"allow","path":["USA","JPN"],"legs":[{"from":"USA","to":"JPN",'
    '"mark":"JPN:GOKUHI","protected_by":"gsomia-jpn-usa-2007"}],"cites":["tisa-2014/4"],'
    '"review":[{"party":"USA","officers":1}],"obligations":['
    '{"duty":"receipt_within_h","value":24,"party":"JPN","cites":"gsomia-jpn-usa-2007/receipt"},'
    '{"duty":"return_or_destroy","value":true,"party":"JPN",'
    '"cites":"gsomia-jpn-usa-2007/return"},'
    '{"duty":"report_compromise_within_h","value":0,"party":"JPN",'
    '"cites":"gsomia-jpn-usa-2007/loss"}]}'
)


def line(**changes: Any) -> bytes:
    return json.dumps(QUESTION | changes, ensure_ascii=False).encode() + b"\n"


def run(
    *arguments: str, data: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*RELTO, *arguments],
        input=data,
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
    )


def answers(data: bytes) -> list[dict[str, Any]]:
    """The answers of a batch, which never ends otherwise than well."""
    done = run(*BATCH, data=data)
    assert (done.returncode, done.stderr) == (0, b"")
    return [json.loads(text) for text in done.stdout.splitlines()]


def refused(*arguments: str, data: bytes = b"") -> str:
    """The one line in which a misuse is refused."""
    done = run(*arguments, data=data)
    assert done.returncode == 2
    assert done.stdout == b""
    text = done.stderr.decode()
    assert text.startswith("relto: ")
    assert text.endswith("\n")
    assert text.count("\n") == 1
    return text.removeprefix("relto: ").removesuffix("\n")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    documents = {"item": ITEM, "holding": HOLDING, "question": QUESTION, "empty": []}
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document, indent=2), encoding="utf-8")
    return folder


# A batch


def test_a_question_has_its_answer_to_the_byte() -> None:
    done = run(*BATCH, data=line())
    assert done.stdout.decode() == ANSWER + "\n"
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_batch_is_answered_in_order_one_a_line() -> None:
    data = b"".join(line(id=f"q{number}") for number in range(500))
    assert [each["id"] for each in answers(data)] == [f"q{number}" for number in range(500)]


def test_a_file_and_a_pipe_have_the_same_answers(tmp_path: Path) -> None:
    cases = [c for c in vectors() if c["regime"] == "pact"]
    data = b"".join(json.dumps(c["question"]).encode() + b"\n" for c in cases)
    (tmp_path / "questions").write_bytes(data)
    regime = str(VECTORS / "regimes" / "pact")
    file = run("decide", "--regime", regime, "--batch", str(tmp_path / "questions"))
    pipe = run("decide", "--regime", regime, "--batch", "-", data=data)
    assert file.stdout == pipe.stdout
    printed = [json.loads(text) for text in file.stdout.splitlines()]
    for case, found in zip(cases, printed, strict=True):
        found.pop("needs", None)
        if case["answer"] == {"error": True}:
            assert set(found) <= {"id", "error"}
        else:
            assert found == case["answer"]


@pytest.fixture
def talking() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([*RELTO, *BATCH], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as peer:
        yield peer
        assert peer.stdin is not None
        peer.stdin.close()
        assert peer.wait(timeout=30) == 0


def test_a_pipe_is_answered_after_each_line_without_waiting_for_the_next(
    talking: subprocess.Popen[bytes],
) -> None:
    assert talking.stdin is not None
    assert talking.stdout is not None
    for number in range(5):
        talking.stdin.write(line(id=f"q{number}"))
        talking.stdin.flush()
        assert json.loads(talking.stdout.readline())["id"] == f"q{number}"


def test_a_last_line_without_its_end_is_answered_and_blank_lines_are_passed_over() -> None:
    data = b"\n" + line(id="q1") + b"  \n\r\n" + line(id="q2").rstrip(b"\n") + b"\r\n"
    data += line(id="q3").rstrip(b"\n")
    assert [each["id"] for each in answers(data)] == ["q1", "q2", "q3"]
    assert answers(b"") == []


ODD: list[tuple[str, bytes, dict[str, str]]] = [
    ("no JSON", b"{nonsense}", {"error": "the question is not JSON: "}),
    ("no object", b"[1]", {"error": "question is a list, not an object"}),
    ("null", b"null", {"error": "question is None, not an object"}),
    ("two objects", b"{} {}", {"error": "the question is not JSON: "}),
    ("key twice", b'{"id":"q7","id":"q8"}', {"error": "a key stands twice in one object; write it once"}),
    ("key twice below", b'{"id":"q7","item":{"id":"a","id":"b"}}', {"error": "a key stands twice in one object; write it once"}),
    ("NaN", b'{"id":"q7","at":NaN}', {"error": '"NaN" is not a JSON number'}),
    ("infinity", b'{"id":"q7","at":-Infinity}', {"error": '"-Infinity" is not a JSON number'}),
    ("beyond all floats", b'{"id":"q7","at":1e999}', {"id": "q7", "error": 'question has no "holder"'}),
    ("bad UTF-8", b'{"id":"\xff"}', {"error": "the question is not UTF-8"}),
    ("surrogate in UTF-8", b'{"id":"\xed\xa0\x80"}', {"error": "the question is not UTF-8"}),
    ("byte order mark", b"\xef\xbb\xbf{}", {"error": "the question is not JSON: "}),
    ("deep", b"[" * 100_000, {"error": "the question is nested too deeply"}),
    ("endless number", b'{"id":"q7","at":' + b"9" * 5000 + b"}", {"error": "the question is not JSON: "}),
    ("id no text", b'{"id":7}', {"error": 'question has no "at"'}),
    ("half a pair", b'{"id":"\\ud800"}', {"id": "\ud800", "error": 'question has no "at"'}),
    ("control character", b'{"id":"a\\u0007\\nb"}', {"id": "a\x07\nb", "error": 'question has no "at"'}),
    ("NUL", b"\x00", {"error": "the question is not JSON: "}),
]  # fmt: skip


def test_an_odd_line_is_an_answer_of_its_own_and_the_next_is_answered() -> None:
    found = answers(b"".join(data + b"\n" + line() for _, data, _ in ODD))
    assert len(found) == 2 * len(ODD)
    for (name, _, expected), first, second in zip(ODD, found[::2], found[1::2], strict=True):
        if "not JSON" in expected["error"]:  # why not, is the JSON reader's own word
            first["error"] = first["error"][: len("the question is not JSON: ")]
        assert first == expected, name
        assert second["decision"] == "allow"


def padded(size: int) -> bytes:
    """A good question of just that many bytes."""
    text = line().rstrip(b"\n")
    return text + b" " * (size - len(text))


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_of_just_one_mebibyte_is_answered_and_one_byte_more_is_refused(end: bytes) -> None:
    over = {"error": "the question is longer than 1048576 bytes"}
    data = end.join(
        [
            padded(LINE_BYTES_MAX - 1) + b"\t",
            padded(LINE_BYTES_MAX) + b"\t",
            padded(LINE_BYTES_MAX) + b"\t\t",
            b"x" * (3 * LINE_BYTES_MAX + 5),
            line(id="last").rstrip(b"\n"),
        ]
    )
    first, *long, last = answers(data)
    assert first["decision"] == "allow"
    assert long == [over, over, over]
    assert last["id"] == "last"


def test_text_is_utf_8_whatever_the_terminal_speaks() -> None:
    asked = line(id="군사II급비밀", to="USA")
    for environment in ({"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}):
        done = run(*BATCH, data=asked, **environment)
        assert done.returncode == 0
        assert json.loads(done.stdout.decode("utf-8"))["id"] == "군사II급비밀"


# One question


def single(parts: Path) -> list[str]:
    return [
        *("--regime", str(TISA), "--item", str(parts / "item.json"), "--holder", "USA"),
        *("--to", "JPN", "--at", "2015-01-05T00:00:00Z", "--holding", str(parts / "holding.json")),
    ]


def test_a_single_question_prints_the_same_object_for_json(parts: Path) -> None:
    done = run("decide", *single(parts), "--json")
    expected = json.loads(ANSWER)
    del expected["id"]
    assert json.loads(done.stdout) == expected
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_single_question_is_explained_in_the_readers_language(parts: Path) -> None:
    for language, word in {"en": "may go", "ko": "제공할 수 있음", "ja": "提供できる"}.items():
        done = run("decide", *single(parts), "--lang", language)
        assert done.returncode == 0
        text = done.stdout.decode()
        assert text.startswith(f"USA → JPN: {word}\n")
        assert "군사II급비밀 → SECRET → 極秘" in text
        assert run("explain", *single(parts), "--lang", language).stdout == done.stdout
    whole = run("explain", "--regime", str(TISA), "--question", str(parts / "question.json"))
    assert whole.stdout == run("explain", *single(parts)).stdout


def test_a_refusal_is_a_decision_and_exits_0(parts: Path) -> None:
    late = ["2014-12-28T00:00:00Z" if a.startswith("2015") else a for a in single(parts)]
    done = run("decide", *late)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().startswith("USA → JPN: may not go\n")


def test_an_item_may_come_from_standard_input(parts: Path) -> None:
    words = ["-" if a.endswith("item.json") else a for a in single(parts)]
    done = run("decide", *words, "--json", data=json.dumps(ITEM).encode())
    assert json.loads(done.stdout)["decision"] == "allow"


def test_an_error_of_a_single_question_is_one_line_and_exits_2(parts: Path) -> None:
    for old, new, expected in (
        ("JPN", "XXX", 'unknown party "XXX" in to of question; parties are JPN, KOR, USA'),
        ("2015-01-05T00:00:00Z", "yesterday", 'at of question is "yesterday", not an instant such as 2015-01-05T00:00:00Z'),
        (str(parts / "holding.json"), str(parts / "empty.json"), "holding is a list, not an object"),
        (str(parts / "item.json"), str(parts / "holding.json"), 'unknown key "basis" in item; its keys are about, exercise, id, kind, mark, originator, releasable_to, sources, topics'),
    ):  # fmt: skip
        words = [new if a == old else a for a in single(parts)]
        for command in ("decide", "explain"):
            assert refused(command, *words) == expected


@pytest.mark.parametrize("left_out", ["--item", "--holder", "--to", "--at"])
def test_a_part_that_is_missing_is_named(left_out: str, parts: Path) -> None:
    words = single(parts)
    place = words.index(left_out)
    assert refused("decide", *words[:place], *words[place + 2 :]) == (
        f"missing {left_out}; a question needs --item FILE --holder PARTY --to PARTY --at INSTANT, "
        "or --question FILE"
    )


PARTS = ("item", "holder", "to", "at", "holding", "consents", "status")


@pytest.mark.parametrize("whole", ["--question", "--batch"])
@pytest.mark.parametrize("part", PARTS)
def test_a_part_beside_a_whole_question_is_refused_and_not_left_unread(
    whole: str, part: str, parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(parts / "question.json")
    words = ["decide", "--regime", str(TISA), whole, file, f"--{part}", str(parts / "empty.json")]
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"relto: --{part} stands beside {whole}, which stands alone: ")


def test_records_beside_an_item_count(parts: Path, tmp_path: Path) -> None:
    recall = {"by": "KOR", "item": "i1", "at": "2015-01-01T00:00:00Z", "seq": 1, "recalled": True}
    (tmp_path / "status").write_text(json.dumps([recall]), encoding="utf-8")
    done = run("decide", *single(parts), "--status", str(tmp_path / "status"), "--json")
    assert json.loads(done.stdout)["reasons"] == [{"code": "recalled"}]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the question is not JSON: expecting value: line 1 column 1 (char 0)"),
        (b"\xff", "the question is not UTF-8"),
        (b" " * (LINE_BYTES_MAX + 1), "the question is longer than 1048576 bytes"),
        (b" " * (16 * LINE_BYTES_MAX + 1), 'is larger than 16777216 bytes'),
        (b'{"id":"a","id":"b"}', "a key stands twice in one object; write it once"),
    ],
    ids=["empty", "binary", "large", "huge", "key twice"],
)  # fmt: skip
def test_a_file_that_is_no_item_is_refused(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "item").write_bytes(content)
    words = ["--regime", str(TISA), "--item", str(tmp_path / "item"), "--holder", "USA"]
    found = refused("decide", *words, "--to", "JPN", "--at", "2015-01-05T00:00:00Z")
    assert expected in found


def test_what_cannot_be_read_is_named(tmp_path: Path, parts: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, why in (
        ("absent", "No such file or directory"),
        ("", "Is a directory"),
        ("loop", "Too many levels of symbolic links"),
        ("n" * 300, "File name too long"),
    ):
        path = str(tmp_path / name)
        for option in ("--batch", "--question"):
            found = refused("decide", "--regime", str(TISA), option, path)
            assert found == f'cannot read "{path}": {why}'


# Streams that are not there


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    program = " ".join([sys.executable, "-m", "relto"])
    return subprocess.run(
        ["sh", "-c", script.replace("relto", program, 1)],
        capture_output=True,
        check=False,
        env={**os.environ, "TISA": str(TISA), **environment},
    )


@pytest.mark.parametrize(
    ("script", "code", "expected"),
    [
        ('relto decide --regime "$TISA" --batch - <&-', 2, "standard input is closed; give it a file or a pipe"),
        ('echo {} | relto decide --regime "$TISA" --batch - >&-', 2, "standard output is closed; give it a file or a pipe"),
        ('relto regime digest "$TISA" >&-', 2, "standard output is closed; give it a file or a pipe"),
        ('echo {} | relto decide --regime "$TISA" --batch - >/dev/full', 1, "cannot write the answer: No space left on device"),
        ('relto regime digest "$TISA" >/dev/full', 1, "cannot write the answer: No space left on device"),
    ],
)  # fmt: skip
def test_a_stream_that_is_closed_or_full_is_one_line(script: str, code: int, expected: str) -> None:
    done = shell(script)
    assert done.stderr.decode() == f"relto: {expected}\n"
    assert done.returncode == code


def test_a_reader_that_has_gone_ends_the_batch_without_a_word() -> None:
    with subprocess.Popen(
        [*RELTO, *BATCH],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as peer:
        assert peer.stdin is not None
        assert peer.stdout is not None
        assert peer.stderr is not None
        peer.stdin.write(line())
        peer.stdin.flush()
        assert peer.stdout.readline()
        peer.stdout.close()
        peer.stdin.write(line() * 3)
        peer.stdin.close()
        assert peer.stderr.read() == b""
        assert peer.wait(timeout=30) == 1


# The regime


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace("receipt_within_h = 24", "receipt_within_h = -1"))
    (tmp_path / "vocabulary.toml").write_bytes(b"\xff")
    return tmp_path


FAULTS = [
    {
        "file": "agreements/ko-us.toml",
        "line": 19,
        "message": "receipt_within_h = -1 is not a number of hours, 0 or more",
    },
    {
        "file": "vocabulary.toml",
        "line": 1,
        "message": "not UTF-8 at byte 0; save the file as UTF-8 text",
    },
]


def test_check_prints_every_error_and_exits_2(broken: Path) -> None:
    done = run("regime", "check", str(broken))
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.decode().splitlines() == [
        *(f"error: {fault['file']}:{fault['line']}: {fault['message']}" for fault in FAULTS),
        f"{broken}: 2 errors, 0 warnings",
    ]
    done = run("regime", "check", "--json", str(broken))
    assert done.returncode == 2
    assert json.loads(done.stdout) == {"ok": False, "errors": FAULTS, "warnings": []}


def test_check_of_a_sound_regime_exits_0_and_says_what_it_holds() -> None:
    done = run("regime", "check", str(TISA))
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert lines[0] == f"{TISA}: sound: 3 parties, 6 agreements, 23 clauses, 1 warnings"
    assert lines[1] == "digest " + run("regime", "digest", str(TISA)).stdout.decode().strip()
    warnings = json.loads(run("regime", "check", "--json", str(TISA)).stdout)["warnings"]
    assert [f"warning: {w['file']}:{w['line']}: {w['message']}" for w in warnings] == (
        done.stderr.decode().splitlines()
    )


def test_what_needs_a_regime_says_its_first_error_and_where_to_see_all(broken: Path) -> None:
    expected = (
        f"{broken} is no sound regime: vocabulary.toml:1: not UTF-8 at byte 0; save the file as "
        f"UTF-8 text (2 in all; see relto regime check {broken})"
    )
    assert refused("regime", "digest", str(broken)) == expected
    assert refused("decide", "--regime", str(broken), "--batch", "-") == expected


@pytest.mark.parametrize("command", [("regime", "check"), ("regime", "digest")])
def test_a_folder_that_is_none_is_one_line(command: tuple[str, str], tmp_path: Path) -> None:
    for name in ("absent", "n" * 300, "a\u202eb"):
        assert str(tmp_path / name) in refused(*command, str(tmp_path / name))
