"""Provers against each other on random regimes: `make soak SOLVERS=N`, for evidence/."""

import argparse
import json
import random
import sys
import time

from commits import present_commit
from relto.proofs.properties import default_properties
from relto.proofs.proving import prove
from relto.regime import load_regime
from solvers import opinions
from strategies import random_regime, regime_files


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak_solvers", description=__doc__)
    parser.add_argument("regimes", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    commit = present_commit()
    start = time.monotonic()
    holding = broken = differ = silent = obligations = 0
    for seed in range(args.seed, args.seed + args.regimes):
        rng = random.Random(seed)
        regime = load_regime(regime_files(random_regime(rng)))
        parties = sorted(regime.parties)
        pairs = [(a, b) for a in parties for b in parties if a != b]
        consents = frozenset(pair for pair in pairs if rng.random() < 0.2)
        proof = prove(regime, default_properties(regime), consents=consents)
        try:
            for opinion in opinions(proof):
                holding += opinion.holds
                broken += not opinion.holds
                obligations += opinion.obligations
                if opinion.holds != opinion.by_spacer:
                    differ += 1
                    print(f"seed {seed}: {opinion}", file=sys.stderr)
        except AssertionError as e:
            silent += 1
            print(f"seed {seed}: {e}", file=sys.stderr)
    result = {
        "commit": commit, "seeds": [args.seed, args.seed + args.regimes - 1], "holding": holding,
        "broken": broken, "different": differ, "without_answer": silent,
        "obligations_checked": obligations, "seconds": round(time.monotonic() - start),
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    return int(differ > 0 or silent > 0)


if __name__ == "__main__":
    sys.exit(main())
