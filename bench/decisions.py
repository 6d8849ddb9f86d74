"""Decisions a second on generated regimes of three sizes, beside Cedar on the same questions.

Both sides answer the same questions and must say the same, allow or deny. relto's answer also says
which articles, path, mark on each leg, officers and duties, or why not; Cedar's does not. Made
beforehand are: the engine, and its questions decoded; for Cedar, in whichever of its forms,
policies and entities parsed, and requests as it takes them. `cedar_per_s` is the fastest form.
"""

import json
import random
import sys
from time import process_time
from typing import Any

import tomli_w

from bench.cedar import forms
from bench.pacts import generated_files, generated_questions
from bench.rates import Work, drain, rates
from relto.answers import answer_line
from relto.decisions import Allow, Engine
from relto.questions import decode_question
from relto.regime import load_regime

# parties, agreements, questions to the form of Cedar whose time grows with the regime
SIZES = ((3, 3, 2000), (50, 300, 500), (200, 3000, 60))
QUESTIONS = 3000
SEED = 1
RELTO, FROM_JSON = "relto", "relto from JSON"


def run() -> list[dict[str, Any]]:
    return [_measure(*size) for size in SIZES]


def _measure(parties: int, agreements: int, few: int) -> dict[str, Any]:
    files = generated_files(random.Random(SEED), parties, agreements)
    regime = load_regime({name: tomli_w.dumps(file).encode() for name, file in files.items()})
    engine = Engine(regime)
    asked = generated_questions(random.Random(SEED), regime, QUESTIONS)
    decoded = [decode_question(question, regime) for question in asked]
    lines = [json.dumps(question).encode() for question in asked]
    allowed = [isinstance(engine.decide(question), Allow) for question in decoded]
    works: dict[str, Work] = {
        RELTO: (QUESTIONS, lambda: drain(map(engine.decide, decoded))),
        FROM_JSON: (QUESTIONS, lambda: drain(answer_line(engine, line) for line in lines)),
    }
    for form, (count, answers) in forms(regime, asked, few).items():
        if answers() != allowed[:count]:
            sys.exit(f'{parties} parties: Cedar in the form "{form}" and relto answer differently')
        works[form] = (count, answers)
    per_s = {name: round(rate) for name, rate in rates(works, process_time).items()}
    relto_per_s, from_json_per_s = per_s.pop(RELTO), per_s.pop(FROM_JSON)
    fastest = max(per_s, key=per_s.__getitem__)
    return {
        "parties": parties,
        "agreements": agreements,
        "relto_per_s": relto_per_s,
        "cedar_per_s": per_s[fastest],
        "ratio": round(relto_per_s / per_s[fastest], 1),
        "relto_us": round(1e6 / relto_per_s, 2),
        "relto_json_per_s": from_json_per_s,
        "cedar_fastest": fastest,
        "cedar_forms_per_s": per_s,
        "allowed_share": round(sum(allowed) / len(allowed), 2),
    }


def table(figures: list[dict[str, Any]]) -> str:
    lines = [
        f"{QUESTIONS:,} questions each, seed {SEED}, the best of interleaved rounds, a second of "
        "processor time; the same answers from all",
    ]
    for f in figures:
        lines.append(
            f"{f['parties']} parties, {f['agreements']:,} agreements, {f['allowed_share']:.0%} "
            f"allowed: relto {f['relto_per_s']:,} a second ({f['relto_us']:.2f} µs each), "
            f"from JSON {f['relto_json_per_s']:,}"
        )
        for form, per_s in f["cedar_forms_per_s"].items():
            lines.append(f"  Cedar, {form:<42} {per_s:>8,}  {f['relto_per_s'] / per_s:>8,.1f} ×")
    return "\n".join(lines)
