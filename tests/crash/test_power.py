"""The power of one node is cut under load: what it acknowledged is there, and with a store that
does not wait for the disk it is not, which the checker must see."""

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from crash.checker import Findings
from crash.nodes import Victims, under_load, victims
from crash.power import Disk, why_not
from e2e.nodes import PARTIES

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is a disk to cut off")


@contextmanager
def on_disks(level: int | None) -> Iterator[tuple[Victims, dict[str, Disk]]]:
    """Nodes whose stores lie on file systems of their own, with SQLite's `synchronous` if given."""
    with victims() as nodes, ExitStack() as stack:
        disks = {}
        for party in PARTIES:
            nodes.stop(party)
            for left in sorted(nodes.store(party).rglob("*"), reverse=True):
                left.rmdir() if left.is_dir() else left.unlink()
            disks[party] = Disk(nodes.folder / f"{party}.img", nodes.store(party))
            stack.callback(disks[party].close)
            if level is not None:
                nodes.module[party] = ["crash.weak", str(level)]
        nodes.start_all()
        try:
            yield nodes, disks
        finally:
            for party in list(nodes.processes):
                nodes.kill(party)


def cut(level: int | None, cuts: int, seed: int) -> Findings:
    """The findings after power cuts of random nodes at random moments."""
    chance = random.Random(seed)
    with on_disks(level) as (nodes, disks):
        with under_load(nodes):
            for _ in range(cuts):
                time.sleep(chance.uniform(0.5, 1.5))
                party = chance.choice(sorted(PARTIES))
                disks[party].cut_power()
                nodes.kill(party)
                disks[party].repair()
                try:
                    nodes.start(party)
                except RuntimeError as e:  # it does not serve what it cannot read
                    return Findings(lost=[f"the store of {party} is damaged: {e}"])
        nodes.settle()
        return nodes.verdict()


def test_after_power_cuts_nothing_that_was_acknowledged_is_missing() -> None:
    findings = cut(None, 4, seed=1)
    assert findings.is_clean, findings
    assert findings.seen["delivered"] > 20


@pytest.mark.parametrize("level", [0, 1], ids=["OFF", "NORMAL"])
def test_a_store_that_does_not_wait_for_the_disk_is_found_out(level: int) -> None:
    findings = cut(level, 2, seed=1)
    assert findings.lost, "power was cut, nothing was synced, and the checker found nothing"


def test_a_disk_that_lost_its_power_takes_nothing_more(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "image", tmp_path / "folder")
    try:
        (disk.folder / "synced").write_bytes(b"kept")
        with (disk.folder / "synced").open("rb") as file:
            os.fsync(file.fileno())
        (disk.folder / "unsynced").write_bytes(b"gone")
        disk.cut_power()
        with pytest.raises(OSError, match="error"):
            (disk.folder / "later").write_bytes(b"never")
        disk.repair()
        assert (disk.folder / "synced").read_bytes() == b"kept"
        assert not (disk.folder / "later").exists()
    finally:
        disk.close()
