"""A proof as a certificate: the closed sets, for whoever wants to check them without the prover.

Canonical JSON (docs/spec/proof.md). `relto.proofs.checker` verifies it and shares no code with
what made it.
"""

from typing import Any

from relto.proofs.fixpoint import Reach
from relto.proofs.properties import Possible
from relto.proofs.proving import Proof

__all__ = ["certificate_of"]

FORMAT = "relto-proof/1"


def certificate_of(proof: Proof) -> dict[str, Any]:
    """What was found never to happen, and the sets that show it. What is broken is left out.

    So is what must be possible: a chain shows that, and the decision itself repeats it.
    """
    labels: dict[str, int] = {}
    certificate: dict[str, Any] = {
        "format": FORMAT,
        "regime": proof.regime.digest,
        "consents": [list(pair) for pair in sorted(proof.consents)],
        "properties": [
            verdict.property.shown()
            for verdict in proof.verdicts
            if verdict.holds and not isinstance(verdict.property.form, Possible)
        ],
        "held": {party: _held(reach, labels) for party, reach in proof.reaches.items()},
        "labels": list(labels),
    }
    if proof.at is not None:
        certificate["at"] = proof.at
    return certificate


def _held(reach: Reach, labels: dict[str, int]) -> list[list[Any]]:
    """[holder, basis, mark, reads, made, [[instant, labels], …]]: both by their numbers."""
    return [
        [
            held.holder,
            held.basis,
            held.mark,
            held.reads,
            held.made,
            [[now, labels.setdefault(f"{bits:x}", len(labels))] for now, bits in since.items()],
        ]
        for held, since in reach.held.items()
    ]
