"""Decisions a second on generated regimes of three sizes, beside Cedar on the same questions.

Both sides answer the same questions and must say the same, allow or deny. relto's answer also says
which articles, path, mark on each leg, officers and duties, or why not; Cedar's does not.
"""

import json
import random
import sys
from time import process_time
from typing import Any

import tomli_w

from bench.cedar import Cedar, request
from bench.pacts import generated_files, generated_questions
from bench.rates import drain, rate
from relto.answers import answer_line
from relto.decisions import Allow, Engine
from relto.questions import decode_question
from relto.regime import load_regime

SIZES = ((3, 3, 2000), (50, 300, 500), (200, 3000, 60))  # parties, agreements, questions to Cedar
QUESTIONS = 3000
ROUNDS = 5  # relto is asked all of them so often in a run
SEED = 1


def run() -> list[dict[str, Any]]:
    return [_measure(*size) for size in SIZES]


def _measure(parties: int, agreements: int, to_cedar: int) -> dict[str, Any]:
    files = generated_files(random.Random(SEED), parties, agreements)
    regime = load_regime({name: tomli_w.dumps(file).encode() for name, file in files.items()})
    engine = Engine(regime)
    asked = generated_questions(random.Random(SEED), regime, QUESTIONS)
    decoded = [decode_question(question, regime) for question in asked]
    lines = [json.dumps(question).encode() for question in asked]
    allowed = [isinstance(engine.decide(question), Allow) for question in decoded]
    cedar = Cedar(regime)
    requests = [request(question) for question in asked[:to_cedar]]
    if cedar.allowed(requests) != allowed[:to_cedar]:
        sys.exit(f"Cedar and relto answer differently at {parties} parties: no comparison")
    many = decoded * ROUNDS
    relto_per_s = rate(len(many), lambda: drain(map(engine.decide, many)), process_time)
    cedar_per_s = rate(to_cedar, lambda: cedar.allowed(requests), process_time)
    return {
        "parties": parties,
        "agreements": agreements,
        "relto_per_s": round(relto_per_s),
        "cedar_per_s": round(cedar_per_s),
        "ratio": round(relto_per_s / cedar_per_s, 1),
        "relto_us": round(1e6 / relto_per_s, 2),
        "relto_json_per_s": round(
            rate(
                len(lines),
                lambda: drain(answer_line(engine, line) for line in lines),
                process_time,
            )
        ),
        "allowed_share": round(sum(allowed) / len(allowed), 2),
        "cedar_policies": cedar.policies_count,
        "questions_compared": to_cedar,
    }


def table(figures: list[dict[str, Any]]) -> str:
    lines = [
        f"{QUESTIONS:,} questions each, seed {SEED}, best of three, a second of processor time; "
        "the same answers from both",
        f"  {'parties':>7} {'agreements':>10} {'allowed':>8} {'relto/s':>10} {'µs each':>8} "
        f"{'from JSON/s':>12} {'Cedar/s':>8} {'policies':>8} {'ratio':>7}",
    ]
    for f in figures:
        lines.append(
            f"  {f['parties']:>7} {f['agreements']:>10} {f['allowed_share']:>8.0%} "
            f"{f['relto_per_s']:>10,} {f['relto_us']:>8.2f} {f['relto_json_per_s']:>12,} "
            f"{f['cedar_per_s']:>8,} {f['cedar_policies']:>8,} {f['ratio']:>6,.0f}×"
        )
    return "\n".join(lines)
