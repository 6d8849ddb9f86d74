"""What a decision costs: counted in calls, never in time."""

import gc
import random
import sys
from datetime import timedelta
from types import FrameType
from typing import Any

import pytest

from pact_checks import Pact
from relto.questions import Question
from strategies import EPOCH, Regime, random_question, random_regime


def calls(pact: Pact, question: Question) -> int:
    """How many functions, of Python or of C, are called for one decision."""
    count = 0

    def seen(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.disable()  # a collection calls what others hung on it
    sys.setprofile(seen)
    try:
        pact.engine.decide(question)
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def among_many(made: Regime) -> Regime:
    """The same regime among 60 agreements of other parties, each with a life of its own."""
    schemes, agreements, events = {}, {}, []
    for number in range(60):
        a, b = sorted((f"X{number}", f"X{(number + 1) % 60}"))
        name = f"other-{number}"
        marks = [{"code": "S", "banner": {"en": "S"}}]
        schemes[f"X{number}"] = {"party": f"X{number}", "name": {"en": "X"}, "mark": marks}
        share = {"from": [a, b], "to": [a, b], "consent": "label", "release": "review"}
        rows = [{a: ["S"], b: ["S"]}]
        agreements[name] = {
            "format": "relto-agreement/1",
            "id": name,
            "kind": "agreement",
            "parties": [a, b],
            "depositary": a,
            "title": {"en": "Other"},
            "clause": [
                {"article": "1", "text": {"en": "Shares."}, "share": share},
                {"article": "2", "text": {"en": "Equates."}, "equate": {"rows": rows}},
            ],
        }
        at = EPOCH + timedelta(hours=number)
        events.append({"agreement": name, "at": at, "event": "in-force"})
    return {
        "schemes": made["schemes"] | schemes,
        "vocabulary": made["vocabulary"],
        "agreements": made["agreements"] | agreements,
        "timeline": {"event": made["timeline"]["event"] + events},
    }


@pytest.mark.parametrize("seed", range(12))
def test_a_decision_does_not_grow_with_agreements_that_do_not_touch_its_parties(seed: int) -> None:
    rng = random.Random(seed)
    made = random_regime(rng)
    alone, crowded = Pact(made), Pact(among_many(made))
    for _ in range(20):
        asked = random_question(rng, made)
        one, other = alone.question(asked), crowded.question(asked)
        if one is None or other is None:
            continue
        assert alone.engine.decide(one) == crowded.engine.decide(other)
        assert calls(alone, one) == calls(crowded, other)
