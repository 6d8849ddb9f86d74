"""Many questions put to the decision and to the prover's model: `make soak MOVES=N`.

Results are for evidence/: how many questions, what was allowed, and where the two differ.
"""

import argparse
import json
import sys
import time

from commits import present_commit
from pact_moves import compared

QUESTIONS_OF_A_REGIME = 50


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak_moves", description=__doc__)
    parser.add_argument("questions", type=int)
    parser.add_argument("--seed", type=int, default=1000)
    args = parser.parse_args()
    commit = present_commit()
    start = time.monotonic()
    asked = allowed = differ = 0
    seed = args.seed
    while asked < args.questions:
        for question, by_engine, by_model in compared(seed, QUESTIONS_OF_A_REGIME):
            asked += 1
            allowed += by_engine
            if by_engine != by_model:
                differ += 1
                print(f"seed {seed}: {question}", file=sys.stderr)
        seed += 1
    result = {
        "commit": commit, "seeds": [args.seed, seed - 1], "questions": asked, "allowed": allowed,
        "different": differ, "seconds": round(time.monotonic() - start),
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main())
