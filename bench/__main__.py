"""`make bench`: measures every part and prints its table.

A part is a module with `run() -> dict | list`, the figures as JSON, and `table(figures) -> str`,
the same for people. `--part NAME` runs one alone; `--json FILE` also writes `{part: figures}`.
"""

import argparse
import importlib
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

# name of the part (and its key in the JSON) -> module
PARTS = {
    "decisions": "bench.decisions",
    "decide": "bench.decide",
    "flash": "bench.flash",
    "throughput": "bench.throughput",
    "memory": "bench.memory",
    "prove": "bench.prove",
    "held": "bench.held",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    args = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    figures: dict[str, Any] = {}
    for name in args.part or PARTS:
        part = importlib.import_module(PARTS[name])
        print(f"\n== {name}", flush=True)
        figures[name] = part.run()
        print(part.table(figures[name]), flush=True)
        if args.json:  # after each, so that a part that fails does not cost the others' figures
            args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
