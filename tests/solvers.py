"""Second opinions on proofs: Z3's Spacer answers the Horn clauses, cvc5 checks its invariant."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from relto.proofs.fixpoint import Instants
from relto.proofs.horn import Horn, horn_of
from relto.proofs.model import Model
from relto.proofs.properties import Possible
from relto.proofs.proving import Proof

__all__ = ["Opinion", "opinions"]

PATIENCE_MS = 600_000


@dataclass(frozen=True)
class Opinion:
    """On one property: what the prover found, what Spacer did, and what cvc5 checked of that."""

    id: str
    holds: bool
    by_spacer: bool
    obligations: int


def opinions(proof: Proof) -> Iterator[Opinion]:
    """One for each property of a proof over the whole timeline. Raises AssertionError where a
    solver gives none, or where an invariant is not one."""
    instants = Instants.of(proof.regime)
    for verdict in proof.verdicts:
        form = verdict.property.form
        possible = isinstance(form, Possible)
        readers = form.releasable_to if isinstance(form, Possible) else None
        model = Model(proof.regime, proof.consents, readers)
        derived, checked = False, 0
        for party in sorted(proof.regime.parties):
            if isinstance(form, Possible) and party != form.originator:
                continue
            horn = horn_of(model, party, instants, form)
            if any(head == "false" for _, head in horn.clauses):
                invariant = by_spacer(horn)
                derived |= invariant is None
                checked += 0 if invariant is None else by_cvc5(horn, invariant)
        yield Opinion(verdict.property.id, verdict.holds, derived == possible, checked)


def by_spacer(horn: Horn) -> str | None:
    """Definitions of the predicates under which all clauses hold; None: `false` is derived."""
    import z3

    solver: Any = z3.SolverFor("HORN")
    solver.set("timeout", PATIENCE_MS)
    solver.from_string(horn.text().removesuffix("(check-sat)\n"))
    answer = str(solver.check())
    assert answer in ("sat", "unsat"), f"Z3 says {answer}: {solver.reason_unknown()}"
    return str(solver.model().sexpr()) if answer == "sat" else None


def by_cvc5(horn: Horn, definitions: str) -> int:
    """How many clauses cvc5 found to be kept by the definitions: all of them, or it raises."""
    import cvc5

    solver = cvc5.Solver()
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, horn.obligations(definitions), "horn")
    symbols = parser.getSymbolManager()
    answers = []
    while not (command := parser.nextCommand()).isNull():
        answers += command.invoke(solver, symbols).split()
    assert answers == ["unsat"] * len(horn.clauses), f"cvc5 says {answers}"
    return len(answers)
