"""Decisions a second on regimes/tisa: in process, through the command line, by the plain reference.

Absolute times mean little on a shared machine: the reference, answering the same questions in the
same run, is what to compare with.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from bench.rates import drain, rate
from relto.answers import answer_line
from relto.apps.cli.regime import regime_at
from relto.decisions import Engine
from relto.questions import decode_question

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from reference import Reference  # noqa: E402  # it lies with the tests

REGIME = ROOT / "regimes" / "tisa"
QUESTIONS = 60_000


def questions(count: int) -> list[dict[str, Any]]:
    """Questions of the daily kind: some allowed, some refused for one of several reasons."""
    label = {
        "id": "i1",
        "originator": "KOR",
        "mark": "KOR:II",
        "releasable_to": ["JPN", "USA"],
        "kind": "report",
        "topics": ["missile.launch"],
        "about": ["PRK"],
    }
    basis = {"i1": [{"agreement": "tisa-2014", "article": "4"}]}
    at_hub = {"holder": "USA", "to": "JPN", "holding": {"held_as": "USA:S", "basis": basis}}
    in_force, before = "2015-01-05T00:00:00Z", "2014-12-20T00:00:00Z"
    kinds: list[dict[str, Any]] = [
        {"at": in_force, "item": label, **at_hub},
        {"at": before, "holder": "KOR", "to": "JPN", "item": label},
        {"at": in_force, "holder": "KOR", "to": "JPN", "item": label},
        {"at": in_force, "item": {**label, "topics": ["cyber.intrusion"]}, **at_hub},
        {"at": in_force, "holder": "KOR", "to": "USA", "item": label},
        {"at": in_force, "item": {**label, "releasable_to": ["USA"]}, **at_hub},
    ]
    return [{"id": f"q{i}", **kinds[i % len(kinds)]} for i in range(count)]


def run() -> dict[str, float]:
    """Questions a second, by who answers."""
    regime = regime_at(str(REGIME))
    engine = Engine(regime)
    asked = questions(QUESTIONS)
    lines = [json.dumps(question).encode() for question in asked]
    decoded = [decode_question(question, regime) for question in asked]
    few = asked[: QUESTIONS // 50]
    plain = Reference(
        {
            "schemes": _folder("schemes"),
            "vocabulary": _toml(REGIME / "vocabulary.toml"),
            "agreements": _folder("agreements"),
            "timeline": _toml(REGIME / "timeline.toml"),
        }
    )
    return {
        "engine, decoded questions": rate(QUESTIONS, lambda: drain(map(engine.decide, decoded))),
        "engine, JSON lines in memory": rate(
            QUESTIONS, lambda: drain(answer_line(engine, line) for line in lines)
        ),
        "relto decide --batch, whole process": rate(QUESTIONS, lambda: batch(lines)),
        "plain reference": rate(len(few), lambda: drain(map(plain.answer, few))),
    }


def table(rates: dict[str, float]) -> str:
    lines = [f"{QUESTIONS:,} questions, regimes/tisa, one process, best of three"]
    for name, value in rates.items():
        times = value / rates["plain reference"]
        lines.append(f"  {name:<38}{value:>12,.0f} a second{times:>9.1f} ×")
    return "\n".join(lines)


def batch(lines: list[bytes]) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"\n".join(lines) + b"\n")
        file.flush()
        command = [sys.executable, "-m", "relto", "decide", "--regime", str(REGIME)]
        subprocess.run(  # our own command
            [*command, "--batch", file.name], stdout=subprocess.DEVNULL, check=True
        )


def _toml(file: Path) -> dict[str, Any]:
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _folder(name: str) -> dict[str, Any]:
    return {file.stem: _toml(file) for file in sorted((REGIME / name).glob("*.toml"))}
