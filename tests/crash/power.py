"""A power cut of one node: its file system, on a loop device, stops at once.

EXT4_IOC_SHUTDOWN without flushing the log leaves on the disk what was synced, and nothing else.
Needs root, loop devices and mkfs.ext4; `why_not` says what is missing.
"""

import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

__all__ = ["Disk", "why_not"]

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


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
