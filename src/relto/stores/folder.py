"""Reads a regime folder from disk; what cannot be read becomes a problem like any other."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from relto.errors import CallerError
from relto.tables import FILE_BYTES_MAX, Problems

__all__ = ["read_folder"]

ENTRIES_MAX = 20_000


def read_folder(folder: Path) -> tuple[dict[str, bytes], Problems]:
    """The files below `folder` by relative path, and a problem for each that is unfit.

    Raises CallerError if there is no such folder. Links are never followed; dot files are not
    part of a regime.
    """
    problems = Problems()
    files: dict[str, bytes] = {}
    try:
        is_folder = folder.is_dir()
    except OSError as e:
        raise CallerError(f'cannot read the regime folder "{folder}": {e.strerror}') from None
    if not is_folder:
        raise CallerError(f'no regime folder "{folder}"; name a folder with vocabulary.toml')
    for count, (name, path) in enumerate(_entries(folder, "", problems)):
        if count >= ENTRIES_MAX:
            problems.error(name, 1, f"the folder holds more than {ENTRIES_MAX} entries")
            break
        data = _read(name, path, problems)
        if data is not None:
            files[name] = data
    return files, problems


def _entries(folder: Path, prefix: str, problems: Problems) -> Iterator[tuple[str, Path]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError as e:
        problems.error(prefix.rstrip("/") or ".", 1, f"cannot be read: {e.strerror}")
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        name = f"{prefix}{entry.name}"
        if not name.isprintable():  # not UTF-8, a line break, or what turns the reading direction
            problems.error(ascii(name)[1:-1], 1, "the file's name is not plain text; rename it")
        elif not prefix and entry.name in ("schemes", "agreements", "signed"):
            if entry.is_symlink() or not entry.is_dir(follow_symlinks=False):
                problems.error(name, 1, "is a link or no folder; make it a folder of its own")
            else:
                yield from _entries(Path(entry.path), f"{name}/", problems)
        elif entry.is_dir(follow_symlinks=False):
            if prefix:
                problems.error(name, 1, "is a folder; a regime has no folder below its own")
            else:
                problems.warn(name, 1, "is not part of the regime and was not read")
        else:
            yield name, Path(entry.path)


def _read(name: str, path: Path, problems: Problems) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        why = "is a symbolic link" if path.is_symlink() else f"cannot be read: {e.strerror}"
        problems.error(name, 1, f"{why}; put a regular file in its place")
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            problems.error(name, 1, "is not a regular file; put one in its place")
            return None
        try:
            return file.read(FILE_BYTES_MAX + 1)  # one byte more shows that it is too large
        except OSError as e:
            problems.error(
                name, 1, f"cannot be read: {e.strerror}; put a regular file in its place"
            )
            return None
