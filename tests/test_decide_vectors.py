"""The decision procedure against cases written out from DESIGN §§2-4: vectors/decide/."""

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from relto.answers import answer
from relto.decisions import Engine
from relto.errors import QuestionError
from relto.regime import load_regime

VECTORS = Path(__file__).parent.parent / "vectors" / "decide"

# Every code of DESIGN §4 but `error`: no question can ask for a fault inside a rule.
CODES = {
    "already-holds",
    "recalled",
    "mark-stale",
    "not-releasable",
    "consent-withdrawn",
    "consent-expired",
    "consent-required",
    "not-in-force",
    "outside-kind",
    "outside-topic",
    "outside-subject",
    "mark-not-covered",
    "no-equivalent-mark",
    "no-agreement",
    "third-party-rule",
    "no-common-path",
}

CASES: list[dict[str, Any]] = [
    case for file in sorted(VECTORS.glob("*.json")) for case in json.loads(file.read_bytes())
]


@cache
def engine(regime: str) -> Engine:
    folder = VECTORS / "regimes" / regime
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    return Engine(load_regime(files))


def decide(regime: str, question: dict[str, Any]) -> dict[str, Any]:
    try:
        printed = answer(engine(regime), question)
    except QuestionError:
        return {"error": True}
    return {key: value for key, value in printed.items() if key != "needs"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_answer_is_the_one_written_out(case: dict[str, Any]) -> None:
    assert decide(case["regime"], case["question"]) == case["answer"]


def test_there_are_at_least_a_hundred_cases() -> None:
    assert len(CASES) >= 100


def test_every_case_has_exactly_the_five_keys() -> None:
    keys = {"name", "step", "regime", "question", "answer"}
    assert [case["name"] for case in CASES if set(case) != keys] == []


def test_every_name_and_every_id_of_a_question_is_unique() -> None:
    names = Counter(case["name"] for case in CASES)
    ids = Counter(case["question"]["id"] for case in CASES if "id" in case["question"])
    assert [text for text, count in (names + ids).items() if count > 1] == []


def test_every_code_is_an_expectation_and_no_other_is() -> None:
    expected = {r["code"] for case in CASES for r in case["answer"].get("reasons", [])}
    assert expected == CODES


def test_every_regime_is_used() -> None:
    folders = {path.name for path in (VECTORS / "regimes").iterdir()}
    assert folders == {case["regime"] for case in CASES}
