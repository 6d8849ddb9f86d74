"""Proving generated regimes of four sizes: the default properties, the certificate, its check.

The floor is reading the regime: what whoever wants to prove anything does first.
"""

import json
import random
from time import process_time
from typing import Any

import tomli_w

from bench.pacts import generated_files
from relto.canonical import encode
from relto.proofs.certificates import certificate_of
from relto.proofs.checker import check
from relto.proofs.properties import default_properties
from relto.proofs.proving import prove
from relto.regime import load_regime

SIZES = ((3, 3), (10, 30), (50, 300), (100, 600))
SEED = 1


def run() -> list[dict[str, Any]]:
    return [_measure(*size) for size in SIZES]


def _measure(parties: int, agreements: int) -> dict[str, Any]:
    files = generated_files(random.Random(SEED), parties, agreements)
    texts = {name: tomli_w.dumps(file).encode() for name, file in files.items()}
    start = process_time()
    regime = load_regime(texts)
    loaded = process_time()
    proof = prove(regime, default_properties(regime))
    proved = process_time()
    certificate = encode(certificate_of(proof))
    written = process_time()
    check(json.loads(certificate), regime)
    return {
        "parties": parties,
        "agreements": agreements,
        "properties": len(proof.verdicts),
        "broken": sum(not verdict.holds for verdict in proof.verdicts),
        "ways_of_holding": sum(len(reach.held) for reach in proof.reaches.values()),
        "moves": sum(len(reach.moves) for reach in proof.reaches.values()),
        "load_s": loaded - start,
        "prove_s": proved - loaded,
        "check_s": process_time() - written,
        "certificate_bytes": len(certificate),
    }


def table(figures: list[dict[str, Any]]) -> str:
    lines = ["parties / agreements  properties  ways of holding  moves  load s  prove s  check s"]
    lines += [
        f"{f['parties']:>7} / {f['agreements']:<10}{f['properties']:>12}{f['ways_of_holding']:>17}"
        f"{f['moves']:>7}{f['load_s']:>8.2f}{f['prove_s']:>9.2f}{f['check_s']:>9.2f}"
        for f in figures
    ]
    return "\n".join(lines)
