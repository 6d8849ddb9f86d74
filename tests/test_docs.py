"""The documents are true: links, commands, settings, codes, limits, examples."""

import argparse
import ast
import dataclasses
import doctest
import hashlib
import importlib
import inspect
import json
import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import relto
from relto import canonical, config, seal, streams
from relto.answers import answer_line
from relto.apps.cli import make_parser
from relto.decisions import CODES, Engine
from relto.payloads import Payload, pad
from relto.ports import JOURNAL_START, journal_link
from relto.regime import load_regime
from relto.stores.folder import read_folder

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
SPEC = ROOT / "docs" / "spec"
ADRS = sorted((ROOT / "docs" / "adr").glob("*.md"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("vectors/**/*.md")])
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(relto.__path__, "relto.")
    if not module.name.endswith("__main__")
)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as hosting platforms make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.exists(), f"{_name(page)} links to {target}"
        assert found.is_relative_to(ROOT), f"{_name(page)} links out of the project: {target}"
        if anchor:
            assert anchor in _anchors(found), f"{_name(page)} links to {target}"


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


# Commands


def _commands(page: Path) -> Iterator[str]:
    """What looks like a command of ours: in backticks, or a line of a code block."""
    text = page.read_text(encoding="utf-8")
    fence = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`(relto [a-z][^`\n]*)`", fence.sub("", text))
    for block in fence.findall(text):
        yield from re.findall(r"^(?:\$ )?(?:\.venv/bin/)?(relto [a-z][^\n]*)$", block, re.MULTILINE)


def _inner(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _fault(command: str) -> str | None:
    """What in a command does not exist."""
    parser = make_parser()
    for word in shlex.split(command)[1:]:
        option = word.strip("[]").partition("=")[0]
        choices = _inner(parser)
        if option.startswith("--"):
            if option not in parser._option_string_actions:
                return option
        elif choices:
            if word not in choices:
                return word
            parser = choices[word]
    return None


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_command_named_exists(page: Path) -> None:
    for command in _commands(page):
        assert _fault(command) is None, f"{_name(page)}: {command}"


def test_a_command_that_does_not_exist_would_be_found() -> None:
    assert _fault("relto regime check regimes/tisa --json") is None
    assert _fault("relto regime burn regimes/tisa") == "burn"
    assert _fault("relto hold --to JPN --for-ever") == "--for-ever"


def test_the_documents_name_commands_at_all() -> None:
    assert sum(len(list(_commands(page))) for page in PAGES) > 20


def _leaves(parser: argparse.ArgumentParser, words: str) -> Iterator[str]:
    choices = _inner(parser)
    if not choices:
        yield words
    for name, child in choices.items():
        yield from _leaves(child, f"{words} {name}")


def test_every_command_is_named_somewhere() -> None:
    named = [command for page in PAGES for command in _commands(page)]
    for command in _leaves(make_parser(), "relto"):
        assert any(f"{n} ".startswith(f"{command} ") for n in named), command


# Modules


def test_every_module_is_on_the_map() -> None:
    """One of the top by its name, one of a package by the package's: on the map, or in a spec."""
    readme = README.read_text(encoding="utf-8")
    maps = [block for block in re.findall(r"```.*?```", readme, re.DOTALL) if "src/relto/" in block]
    documents = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for module in MODULES:
        parts = module.split(".")[1:]
        parts = parts[: 2 if parts[0] == "apps" else 1]
        on_map = any(re.search(rf"\b{'/'.join(parts)}\b", each) for each in maps)
        assert on_map or f"`{'.'.join(['relto', *parts])}" in documents, module


# ADRs


@pytest.mark.parametrize("adr", ADRS, ids=_name)
def test_an_adr_says_what_was_chosen_and_what_is_lost(adr: Path) -> None:
    text = adr.read_text(encoding="utf-8")
    assert re.match(rf"# {adr.name[:4]}: \S", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Context",
        "Options",
        "Choice",
        "What we lose",
    ]
    assert 30 <= len(text.splitlines()) <= 60


def test_adrs_are_numbered_without_a_gap() -> None:
    assert [int(adr.name[:4]) for adr in ADRS] == list(range(1, len(ADRS) + 1))


def test_every_dependency_names_its_adr() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.split("dependencies = [", 1)[1].split("]", 1)[0]
    numbers = re.findall(r"ADR (\d{4})", block)
    assert len(numbers) == len([line for line in block.splitlines() if line.strip()])
    assert set(numbers) <= {adr.name[:4] for adr in ADRS}


# Logs


def _logged() -> set[str]:
    """The first text of every call of a log in the sources."""
    events = set()
    for path in (ROOT / "src" / "relto").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "log"
                and node.func.attr in ("debug", "info", "warning", "error", "critical", "log")
            ):
                event = node.args[node.func.attr == "log"]
                assert isinstance(event, ast.Constant), f"{path}: {node.lineno}"
                events.add(str(event.value))
    return events


def test_every_event_that_is_logged_has_a_row_and_is_an_event() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = page.split("## Logs", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    described = {event for row in rows for event in re.findall(r"`([a-z-]+)`", row)}
    logged = _logged()
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", event) for event in logged)
    assert described == {*logged, "library"}


# The threat model


def _claims() -> list[str]:
    """The last cell of each row of the claims: the tests that show it."""
    page = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    claims = page.split("## Claims", 1)[1].split("\n## ", 1)[0]
    rows = [row for row in claims.splitlines() if row.startswith("| ")]
    return [row.strip("|").split(" | ")[-1] for row in rows if "shown by" not in row]


def _missing(cell: str) -> list[str]:
    """What a cell names and is not there."""
    missing = []
    for named in re.findall(r"`([^`]+)`", cell):
        file, _, test = named.partition("::")
        path = ROOT / file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if not text or (test and not re.search(rf"^(?:async )?def {test}\(", text, re.MULTILINE)):
            missing.append(named)
    return missing


def test_every_claim_of_the_threat_model_names_tests_that_exist() -> None:
    cells = _claims()
    assert len(cells) > 30
    for cell in cells:
        assert re.search(r"`tests/\S+\.py", cell), cell
        assert _missing(cell) == []


def test_a_claim_whose_test_is_gone_would_be_found() -> None:
    here = "tests/test_docs.py"
    assert _missing(f"`{here}`, `{here}::test_a_claim_whose_test_is_gone_would_be_found`") == []
    assert _missing(f"`{here}::test_nothing`, `tests/none.py`") == [
        f"{here}::test_nothing",
        "tests/none.py",
    ]


# Settings, codes, limits


def test_every_setting_has_a_row() -> None:
    """Read from the decoder itself: the keys that it takes, table by table."""
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(?:peer\.)?([a-z_]+)`", page, re.MULTILINE))
    keys = {
        argument.value
        for call in ast.walk(ast.parse(inspect.getsource(config)))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "only"
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }
    assert len(keys) >= 10
    assert keys <= rows


def test_the_example_configuration_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    example = page.split("```toml\n", 1)[1].split("```", 1)[0]
    decoded = config.decode_config(example.encode(), tmp_path / "node.toml")
    assert (decoded.party, decoded.people, sorted(decoded.peers)) == (
        "KOR",
        {1001: "kim"},
        ["JPN", "USA"],
    )


def test_every_code_of_a_refusal_has_a_row() -> None:
    page = (SPEC / "decision.md").read_text(encoding="utf-8")
    table = page.split("## The codes", 1)[1].split("\n## ", 1)[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)) == set(CODES)


def test_every_code_that_a_node_adds_is_described() -> None:
    page = (SPEC / "records.md").read_text(encoding="utf-8")
    for code in (
        "too-large",
        "malformed",
        "marks-differ",
        "agreement-differs",
        "approval-missing",
        "refused-by-officer",
        "on-hold",
    ):
        assert f"`{code}`" in page, code


def _value(path: str) -> object:
    """The value of `module.NAME`, or of a field of a class with defaults."""
    module, _, name = path.rpartition(".")
    try:
        found: object = getattr(importlib.import_module(f"relto.{module}"), name)
    except ModuleNotFoundError:
        module, _, owner = module.rpartition(".")
        values = getattr(importlib.import_module(f"relto.{module}"), owner)
        fields = {field.name: field.default for field in dataclasses.fields(values)}
        found = fields[name]
    return found


LIMITS = [
    (page.name, *row)
    for page in sorted(SPEC.glob("*.md"))
    for row in re.findall(
        r"^\| `([a-z_.]+\.(?:Limits\.[a-z_]+|[A-Z_]+))` \| (\d+) \|",
        page.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
]


@pytest.mark.parametrize(("page", "name", "value"), LIMITS)
def test_a_limit_has_the_value_that_is_documented(page: str, name: str, value: str) -> None:
    assert _value(name) == int(value)


# The modules whose limits another implementation has to know.
LIMITED = (
    *("agreements", "answers", "canonical", "certificates", "comparing", "envelope", "exchange"),
    "hop",
    *("items", "labels", "marks", "payloads", "peering", "questions", "records", "regime"),
    *("streams", "tables", "timeline", "trust"),
)


def test_every_limit_of_the_formats_is_documented() -> None:
    documented = {name for _, name, _ in LIMITS}
    for module in LIMITED:
        tree = ast.parse(inspect.getsource(importlib.import_module(f"relto.{module}")))
        for statement in tree.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                name = statement.targets[0].id
                if name.endswith("_MAX") and not name.startswith("_"):
                    assert f"{module}.{name}" in documented


# Examples


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_are_true(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_the_example_of_a_manifest_has_the_id_given() -> None:
    page = (SPEC / "records.md").read_text(encoding="utf-8")
    payload = page.split("### Example", 1)[1].split("```json\n", 1)[1].split("\n", 1)[0]
    value = canonical.decode(payload.encode(), size_bytes_max=10_000)
    assert f"the item is `{canonical.digest(value)}`" in page


def test_the_example_of_a_regime_digest_is_true() -> None:
    page = (SPEC / "regime.md").read_text(encoding="utf-8")
    found = re.search(r'`(\{"files":\{"vocabulary[^`]+)` has the digest `([0-9a-f]{64})`', page)
    assert found is not None
    assert canonical.digest(json.loads(found[1])) == found[2]


def test_the_example_of_a_journal_is_a_chain() -> None:
    page = (SPEC / "journal.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| \d \| 32 × `([0-9a-f]{2})` \| `([^`]+)` \| `([0-9a-f]{64})` \|$", page, re.MULTILINE
    )
    assert len(rows) == 2
    link = JOURNAL_START
    for salt, entry, expected in rows:
        link = journal_link(link, salt=bytes.fromhex(salt) * 32, entry=entry.encode())
        assert link.hex() == expected


def test_the_example_of_a_payload_is_true() -> None:
    page = (SPEC / "wire.md").read_text(encoding="utf-8")
    payload = Payload({"media_type": "text/plain", "title": "Launch"}, b"seen at 06:10Z\n")
    key = bytes(range(32))
    padded = pad(payload.encode())
    ciphertext = streams.encrypt(key, padded)
    sizes = (len(payload.encode()), len(padded), len(ciphertext))
    assert "{} bytes of plaintext, {} padded, {} of ciphertext".format(*sizes) in page
    assert hashlib.sha256(ciphertext).hexdigest() in page
    assert streams.commitment(key).hex() in page


def test_the_example_of_an_hpke_info_is_true() -> None:
    page = (SPEC / "wire.md").read_text(encoding="utf-8")
    key_id = seal.HpkePrivateKey(bytes(range(32))).public_key.key_id
    info = seal.hop_info(version=1, sender="KOR", recipient="USA", key_id=key_id)
    assert f"    info = {info.decode()}\n" in page


def test_the_examples_of_answers_are_true() -> None:
    engine = Engine(load_regime(read_folder(ROOT / "regimes" / "tisa")[0]))
    question = json.loads((ROOT / "docs" / "examples" / "question.json").read_bytes())
    item = question["item"]
    page = (SPEC / "decision.md").read_text(encoding="utf-8")
    shown = page.split("## The answer", 1)[1].split("```json\n", 1)[1].split("```", 1)[0]
    asked = (
        {**question, "id": "q1"},
        {**question, "id": "q2", "item": {**item, "topics": ["cyber.intrusion"]}},
        {**question, "id": "q3", "item": {**item, "mark": "KOR:IV"}},
    )
    answers = [answer_line(engine, json.dumps(each).encode()) for each in asked]
    assert [json.loads(line) for line in shown.splitlines()] == answers
