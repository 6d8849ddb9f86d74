"""What a change of regime does to a million items held: `relto regime diff --items`, whole.

The floor is the same command without `--items`: starting Python, reading both regimes, proving.
The documents are as short as an item's may be (its envelopes left out, a tenth of a usual one), so
that the store is made in minutes: one document a class is read, and no other.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any

from relto.holdings import note_class
from relto.items import Item
from relto.ports import Transaction
from relto.records import Manifest, digest_of
from relto.stores import SqliteStore

ITEMS = int(os.environ.get("BENCH_HELD_ITEMS", "1000000"))
COMMIT_ITEMS = 20_000
SEED = 1
AT = "2015-03-02T01:00:00Z"
TISA = Path(__file__).parent.parent / "regimes" / "tisa"
COMMAND = """if True:
    import sys
    from relto.apps.cli import main
    code = main(sys.argv[1:])
    with open("/proc/self/status") as status:  # rusage would count what this process was before
        sys.stderr.writelines(line for line in status if line.startswith("VmHWM:"))
    sys.exit(code)
"""
CHANGE = (b'kinds = ["report", ', b"kinds = [")  # no reports under the arrangement any more
MARKS = ("KOR:I", "KOR:II", "KOR:III")
TOPICS = ("missile", "missile.launch", "nuclear", "nuclear.test")
KINDS = ("report", "warning", "assessment", "imagery", "rfi")
READERS: tuple[list[str], ...] = (["JPN"], ["JPN", "USA"], ["USA"], [])
CLASSES = tuple(product(MARKS, TOPICS, KINDS, READERS))


def run() -> list[dict[str, Any]]:
    """Figures of a store with a tenth of the items, and with all of them."""
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _write_regime(folder / "after")
        (folder / "node.toml").write_text(
            'party = "KOR"\nregime = "after"\nkeys = "keys"\nlisten = "127.0.0.1:1"\n'
        )
        found = []
        for before, items in ((0, ITEMS // 10), (ITEMS // 10, ITEMS)):
            _fill(folder / "store", rng, items - before)
            found.append(_measure(folder, items))
        return found


def _write_regime(folder: Path) -> None:
    for file in TISA.rglob("*.toml"):
        data = file.read_bytes()
        target = folder / file.relative_to(TISA)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data.replace(*CHANGE))


def _fill(folder: Path, rng: random.Random, count: int) -> None:
    store = SqliteStore(folder)
    made = _items(rng)
    while count:
        items = list(islice(made, min(COMMIT_ITEMS, count)))
        store.commit([partial(_keep, items)])
        count -= len(items)
    store.close()


def _keep(items: list[Item], tx: Transaction) -> None:
    """As a node keeps new items."""
    for item in items:
        tx.put("item", item.id, item.encode(), state=item.state, rank=item.at)
        note_class(tx, None, item)


def _items(rng: random.Random) -> Iterator[Item]:
    """Items of Seoul's own, as many as are wanted, of every class in turn."""
    while True:
        for mark, topic, kind, readers in CLASSES:
            label = {
                "originator": "KOR", "mark": mark, "releasable_to": readers,
                "kind": kind, "topics": [topic], "about": ["PRK"],
            }  # fmt: skip
            manifest = Manifest(label, f"{rng.getrandbits(256):064x}", 4096, "0" * 64, AT)
            yield Item(digest_of(manifest), manifest.encode(), (), "ROUTINE", AT, made_here=True)


def _measure(folder: Path, items: int) -> dict[str, Any]:
    figures: dict[str, Any] = {"items": items, "classes": len(CLASSES)}
    ids = folder / f"ids-{items}"
    options = {
        "floor": (),
        "with_items": ("--items", "--node", str(folder)),
        "with_ids": ("--items", "--node", str(folder), "--ids", str(ids)),
    }
    for name, more in options.items():
        command = ("regime", "diff", str(TISA), str(folder / "after"), "--at", AT, *more)
        figures[name] = _run(*command)
    with ids.open("rb") as lines:
        figures["shifted"] = sum(1 for _ in lines)
    return figures


def _run(*command: str) -> dict[str, float]:
    """Seconds on the wall and of the processor, and most KiB in memory, of one command."""
    began_s, before = time.monotonic(), os.times()
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *command], capture_output=True, text=True, check=True
    )
    wall_s, after = time.monotonic() - began_s, os.times()
    user_s = after.children_user - before.children_user
    system_s = after.children_system - before.children_system
    return {"wall_s": wall_s, "cpu_s": user_s + system_s, "rss_kib": int(done.stderr.split()[-2])}


def table(figures: list[dict[str, Any]]) -> str:
    lines = ["      items  classes  shifted          s  processor s      KiB"]
    for f in figures:
        lines += [
            f"{f['items']:>11,}{f['classes']:>9}{f['shifted']:>9,}{f[name]['wall_s']:>11.2f}"
            f"{f[name]['cpu_s']:>13.2f}{f[name]['rss_kib']:>9,}  {what}"
            for name, what in (
                ("floor", "without --items"),
                ("with_items", "--items"),
                ("with_ids", "--items --ids FILE"),
            )
        ]
    return "\n".join(lines)
