"""Decisions a second: the compiled engine beside the plain reference, and through the command line.

Absolute times mean little on a shared machine: the reference, answering the same questions in the
same run, is what to compare with. `python bench/decide.py [--questions N]`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from reference import Reference  # noqa: E402  # it lies with the tests
from relto.answers import answer_line  # noqa: E402
from relto.apps.cli.regime import regime_at  # noqa: E402
from relto.decisions import Engine  # noqa: E402
from relto.questions import decode_question  # noqa: E402

REGIME = ROOT / "regimes" / "tisa"


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


def rate(count: int, work: Callable[[], object]) -> float:
    """The best of three runs, in questions a second."""
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        work()
        best = max(best, count / (time.perf_counter() - start))
    return best


def drain(values: Iterable[object]) -> None:
    for _ in values:
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=60_000)
    count = parser.parse_args().questions
    regime = regime_at(str(REGIME))
    engine = Engine(regime)
    asked = questions(count)
    lines = [json.dumps(question).encode() for question in asked]
    decoded = [decode_question(question, regime) for question in asked]
    few = asked[: max(1, count // 50)]
    plain = Reference(
        {
            "schemes": _folder("schemes"),
            "vocabulary": _toml(REGIME / "vocabulary.toml"),
            "agreements": _folder("agreements"),
            "timeline": _toml(REGIME / "timeline.toml"),
        }
    )
    rates = {
        "engine, decoded questions": rate(count, lambda: drain(map(engine.decide, decoded))),
        "engine, JSON lines in memory": rate(
            count, lambda: drain(answer_line(engine, line) for line in lines)
        ),
        "relto decide --batch, whole process": rate(count, lambda: batch(lines)),
        "plain reference": rate(len(few), lambda: drain(map(plain.answer, few))),
    }
    print(f"{count} questions, regimes/tisa, one process, best of three")
    for name, value in rates.items():
        print(f"  {name:<38}{value:>12,.0f} a second{value / rates['plain reference']:>9.1f} ×")
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
