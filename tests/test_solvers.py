"""What the prover says, Z3 says too, and cvc5 finds Z3's invariants to be ones."""

import random
from pathlib import Path

import pytest

from relto.proofs.properties import default_properties
from relto.proofs.proving import prove
from relto.regime import Regime, load_regime
from relto.stores.folder import read_folder
from solvers import by_cvc5, opinions
from strategies import random_regime, regime_files

WHERE = "has no wheel here (requirements/solvers.txt)"
pytest.importorskip("z3", reason=f"z3-solver {WHERE}")
pytest.importorskip("cvc5", reason=f"cvc5 {WHERE}")

ROOT = Path(__file__).parent.parent
SMALL = 4  # parties of a random regime that is played in every run of the tests


def agree(regime: Regime, consents: frozenset[tuple[str, str]] = frozenset()) -> tuple[int, int]:
    """How many properties hold and how many do not; solvers say the same of each."""
    found = list(opinions(prove(regime, default_properties(regime), consents=consents)))
    assert [(o.id, o.holds) for o in found] == [(o.id, o.by_spacer) for o in found]
    holding = sum(o.holds for o in found)
    return holding, len(found) - holding


@pytest.mark.parametrize(("name", "holding", "broken"), [("health-cert", 10, 1), ("tisa", 17, 1)])
def test_of_every_shipped_regime_they_say_the_same(name: str, holding: int, broken: int) -> None:
    shipped = {path.name for path in (ROOT / "regimes").iterdir() if path.is_dir()}
    assert shipped == {"health-cert", "tisa"}
    regime = load_regime(read_folder(ROOT / "regimes" / name)[0])
    assert agree(regime) == (holding, broken)


def test_of_random_regimes_they_say_the_same() -> None:
    kept = lost = 0
    for seed in range(12):
        rng = random.Random(seed)
        regime = load_regime(regime_files(random_regime(rng)))
        parties = sorted(regime.parties)
        pairs = [(a, b) for a in parties for b in parties if a != b]
        if len(parties) <= SMALL:
            holding, broken = agree(regime, frozenset(p for p in pairs if rng.random() < 0.2))
            kept, lost = kept + holding, lost + broken
    assert kept > 20
    assert lost > 2


def test_an_invariant_that_is_none_is_found_out() -> None:
    from relto.proofs.fixpoint import Instants
    from relto.proofs.horn import horn_of
    from relto.proofs.model import Model

    regime = load_regime(read_folder(ROOT / "regimes/health-cert")[0])
    form = default_properties(regime)[0].form
    horn = horn_of(Model(regime), sorted(regime.parties)[0], Instants.of(regime), form)
    every = " ".join(f"(x{n} Int)" for n in range(5))
    nothing = "\n".join(f"(define-fun {name} ({every}) Bool false)" for name in horn.predicates)
    with pytest.raises(AssertionError, match="cvc5 says"):
        by_cvc5(horn, nothing)
