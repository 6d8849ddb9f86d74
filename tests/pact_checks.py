"""Checks of the decision that tests and planted bugs share: silent, or an AssertionError."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from reference import Reference
from relto.answers import answer
from relto.decisions import Allow, Deny, Engine
from relto.errors import QuestionError
from relto.questions import Question, decode_question
from relto.regime import check_regime, load_regime
from strategies import random_question, random_regime, regime_files

VECTORS = Path(__file__).parent.parent / "vectors" / "decide"
QUESTIONS_EACH = 25


class Pact:
    """A regime, as data and as the engine that decides by it."""

    def __init__(self, made: dict[str, Any]) -> None:
        self.made = made
        self.engine = Engine(load_regime(regime_files(made)))

    def question(self, asked: dict[str, Any]) -> Question | None:
        """None if it is malformed."""
        try:
            return decode_question(asked, self.engine.regime)
        except QuestionError:
            return None

    def decide(self, asked: dict[str, Any]) -> Allow | Deny | None:
        question = self.question(asked)
        return None if question is None else self.engine.decide(question)

    def allows(self, asked: dict[str, Any]) -> bool:
        return isinstance(self.decide(asked), Allow)

    def denies(self, asked: dict[str, Any], code: str) -> bool:
        decision = self.decide(asked)
        return isinstance(decision, Deny) and code in {r.code for r in decision.reasons}


def asked(
    seed: int, count: int = 8
) -> Iterator[tuple[Pact, dict[str, Any], Question, random.Random]]:
    """Well-formed questions to one random regime, as JSON and decoded; with chance for more."""
    rng = random.Random(seed)
    pact = Pact(random_regime(rng))
    for _ in range(count):
        data = random_question(rng, pact.made)
        question = pact.question(data)
        if question is not None:
            yield pact, data, question, rng


def printed(engine: Engine, question: Any) -> dict[str, Any]:
    """What `decide` answers, without its wording."""
    try:
        found = answer(engine, question)
    except QuestionError:
        return {"error": True}
    return {key: value for key, value in found.items() if key != "needs"}


@cache
def case(seed: int) -> tuple[dict[str, bytes], list[tuple[dict[str, Any], dict[str, Any]]]]:
    """Files of a random regime, and questions to it with the answers of the reference."""
    rng = random.Random(seed)
    made = random_regime(rng)
    reference = Reference(made)
    pairs = []
    for _ in range(QUESTIONS_EACH):
        question = random_question(rng, made)
        expected = reference.answer(question)
        pairs.append((question, {"error": True} if "error" in expected else expected))
    return regime_files(made), pairs


def engine_equals_reference(seeds: range) -> None:
    for seed in seeds:
        files, pairs = case(seed)
        engine = Engine(load_regime(files))
        for number, (question, expected) in enumerate(pairs):
            found = printed(engine, question)
            assert found == expected, (
                f"seed {seed}, question {number}: {json.dumps(question, ensure_ascii=False)}"
            )


@cache
def vectors() -> list[dict[str, Any]]:
    return [c for file in sorted(VECTORS.glob("*.json")) for c in json.loads(file.read_bytes())]


@cache
def vector_files(regime: str) -> dict[str, bytes]:
    folder = VECTORS / "regimes" / regime
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def vectors_hold() -> None:
    """Every case of vectors/decide/, by engines compiled anew."""
    names = {case["regime"] for case in vectors()}
    engines = {}
    for name in names:
        regime, problems = check_regime(vector_files(name))
        assert regime is not None, problems.errors
        engines[name] = Engine(regime)
    for each in vectors():
        assert printed(engines[each["regime"]], each["question"]) == each["answer"], each["name"]
