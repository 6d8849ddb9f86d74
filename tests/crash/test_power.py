"""The power of one node is cut under load: what it acknowledged is there, and with a store that
does not wait for the disk it is not, which the checker must see."""

import os
from pathlib import Path

import pytest

from crash.power import Disk, cut, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is a disk to cut off")


def test_after_power_cuts_nothing_that_was_acknowledged_is_missing() -> None:
    findings, _ = cut(None, 4, seed=1)
    assert findings.is_clean, findings
    assert findings.seen["delivered"] > 20


@pytest.mark.parametrize("level", [0, 1], ids=["OFF", "NORMAL"])
def test_a_store_that_does_not_wait_for_the_disk_is_found_out(level: int) -> None:
    findings, _ = cut(level, 2, seed=1)
    assert not findings.is_clean, "nothing was synced, and the checker found nothing"


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
