"""A question put to the prover's model instead of to the engine, and where the two differ."""

import random
from collections.abc import Iterator
from functools import reduce
from typing import Any

from reference import Case, Malformed, Reference, check_question
from relto.clauses import Citation
from relto.decisions import Allow, Engine
from relto.proofs.model import Classes, Held, Model
from relto.questions import decode_question
from relto.regime import Regime, load_regime
from relto.timeline import stands_at
from strategies import random_question, random_regime, regime_files


def model_allows(regime: Regime, case: Case, at: str) -> bool:
    """Whether the model has, for every source, a move to the recipient by one and the same path.

    Who reads by labels and records, and what is in force, is taken from the reference, which
    shares no code with either side. Without status records.
    """
    if case.to in (case.holder, case.maker):
        return False
    ways = [set(_ways(regime, case, source, at)) for source in case.sources]
    common = reduce(set.intersection, ways)
    return any(_item_list_lets(case, path, hub_reads) for path, _, hub_reads in common)


def _ways(
    regime: Regime, case: Case, source: dict[str, Any], at: str
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], bool]]:
    originator, ids = source["originator"], case.ids(source)
    parties = regime.parties - {originator}
    readers = {
        p for p in parties if not case.exclusion(p, originator, ids, source["releasable_to"])
    }
    granted = set()
    for party in parties:
        record = case.record(originator, ids, party)
        if record is not None and record["grant"] and not case.expired(record):
            granted.add((originator, party))
    model = Model(regime, frozenset(granted), frozenset(readers))
    topics, about = frozenset(source["topics"]), frozenset(source["about"])
    classes = Classes(originator, [source["mark"]], [topics], [about], [case.item["kind"]])
    receipts = case.basis.get(source["item"], [])
    for basis in [_citation(receipt) for receipt in receipts] or _elsewhere(case):
        held = Held(case.holder, basis, case.mark_as_held(), made=case.maker != originator)
        for turns, move, bits in model.moves(classes, held):
            if not bits or move.path[-1] != case.to:
                continue
            needed = {Citation.parse(move.cites).agreement, *move.guards}
            stands = all(case.regime.in_force(agreement, case.at) for agreement in needed)
            assert stands_at(turns, at) == stands, (move, at)
            if stands:
                yield move.path, move.guards, len(move.path) == 3 and move.target.reads


def _elsewhere(case: Case) -> list[str]:
    """For a source without a receipt, how the item's others came: as what opens nothing.

    The model knows no source without one; a question may have it, and whether the holder reads
    follows from the others then.
    """
    others = [_citation(receipt) for receipts in case.basis.values() for receipt in receipts]
    return [f"consent+{cites.rpartition('+')[2]}" for cites in others] or [""]


def _citation(receipt: dict[str, str]) -> str:
    if "agreement" in receipt:
        return f"{receipt['agreement']}/{receipt['article']}"
    ((how, cites),) = receipt.items()
    return f"{how}+{cites}"


def _item_list_lets(case: Case, path: tuple[str, ...], hub_reads: bool) -> bool:
    """The item's own list; and every list for a holder of whose receipts one was to read.

    The model has one receipt at a time, so it does not know of the others.
    """
    if not case.holds_only_as_a_hub_that_does_not_read() and not case.reads(case.holder):
        return False
    owner, ids, listed = case.maker, {case.item["id"]}, case.item["releasable_to"]
    readers = [case.to, *([path[1]] if hub_reads else [])]
    return not case.derived or not any(case.exclusion(p, owner, ids, listed) for p in readers)


def compared(seed: int, questions: int) -> Iterator[tuple[dict[str, Any], bool, bool]]:
    """Well-formed questions to a random regime: whether the engine and the model allow each."""
    rng = random.Random(seed)
    data = random_regime(rng)
    regime, reference = load_regime(regime_files(data)), Reference(data)
    engine = Engine(regime)
    for _ in range(questions):
        question = random_question(rng, data)
        question.pop("status", None)
        try:
            check_question(reference, question)
        except Malformed:
            continue
        decoded = decode_question(question, regime)
        by_model = model_allows(regime, Case(reference, question), decoded.at)
        yield question, isinstance(engine.decide(decoded), Allow), by_model


def engine_equals_model(seeds: range, questions: int = 40) -> None:
    for seed in seeds:
        for question, by_engine, by_model in compared(seed, questions):
            assert by_engine == by_model, f"seed {seed}: the engine says {by_engine}: {question}"
