"""A power cut of one node: its file system, on a loop device, stops at once.

EXT4_IOC_SHUTDOWN without flushing the log leaves on the disk what was synced, and nothing else.
Needs root, loop devices and mkfs.ext4; `why_not` says what is missing.
"""

import fcntl
import os
import random
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from crash.checker import Findings
from crash.nodes import Victims, under_load, victims
from e2e.nodes import PARTIES

__all__ = ["Disk", "cut", "why_not"]

SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), linux/fs/ext4/ext4.h
NO_LOG_FLUSH = 2
SIZE_BYTES = 96 * 1024 * 1024


def why_not() -> str:
    """Why there can be no such disk here; empty if there can."""
    if os.geteuid() != 0:
        return "forced shutdown of a file system needs root"
    for tool in ("mkfs.ext4", "mount", "umount", "fsck.ext4"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (Debian: e2fsprogs, mount)"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices here"
    return ""


class Disk:
    """An ext4 file system in a file, mounted at a folder."""

    def __init__(self, file: Path, folder: Path) -> None:
        self.file = file
        self.folder = folder
        with file.open("wb") as image:
            image.truncate(SIZE_BYTES)
        _run("mkfs.ext4", "-q", "-F", str(file))
        folder.mkdir(exist_ok=True)
        self.mount()
        shutil.rmtree(folder / "lost+found")
        folder.chmod(0o700)

    def mount(self) -> None:
        _run("mount", "-o", "loop", str(self.file), str(self.folder))

    def cut_power(self) -> None:
        """From here on every write fails, and what was not synced is gone."""
        place = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(place, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(place)

    def repair(self) -> None:
        """What a machine does when it starts again. Nobody may have a file open."""
        _run("umount", str(self.folder))
        subprocess.run(["fsck.ext4", "-y", str(self.file)], capture_output=True, check=False)
        self.mount()

    def close(self) -> None:
        subprocess.run(["umount", str(self.folder)], capture_output=True, check=False)


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
                nodes.weak[party] = level
        nodes.start_all()
        try:
            yield nodes, disks
        finally:
            for party in list(nodes.processes):
                nodes.kill(party)


def cut(level: int | None, cuts: int, seed: int) -> tuple[Findings, int]:
    """The findings after power cuts of random nodes at random moments, and the count of items."""
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
                    return Findings(lost=[f"the store of {party} is damaged: {e}"]), 0
        if level is None:  # who has forgotten what it signed may owe for ever
            nodes.settle()
        return nodes.verdict(), len(nodes.acknowledged)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
