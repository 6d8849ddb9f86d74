"""A store's folder: who may open it, the blobs in it, and the ballast that a full disk gives back.

Every file is opened beside a folder's descriptor, without following links, and made for its owner
alone. The names are the store's own; nothing here looks into a file.
"""

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

from relto.errors import CallerError, StoreFull
from relto.stores import limits
from relto.stores.fuse import Fuse

__all__ = ["Ballast", "Blobs", "Folder"]

FOLDER_MODE = 0o700
FILE_MODE = 0o600
SAFELY = os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """A folder that this process alone has open, by a lock that ends with the process.

    A second process that opened the same database would have its own memory of what was sent and
    leased, and two nodes with one identity could promise different things.
    """

    def __init__(self, path: Path) -> None:
        """Open a folder, or make it; its parent must exist.

        Raises:
            CallerError: the folder is no folder, open to others, or in use.
        """
        self.path = path
        try:
            os.mkdir(path, FOLDER_MODE)
            _sync_folder(path.parent)
        except FileExistsError:
            pass
        except OSError as error:
            raise CallerError(f"cannot make the store '{path}': {error.strerror}") from error
        _refuse_others(path, os.stat(path), FOLDER_MODE)
        # The folder itself may be a link, as operators like to make; nothing inside it may.
        self.path = path.resolve()
        self._lock = _open(self.path / "lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise CallerError(
                f"the store '{path}' is open in another process: stop that one first"
            ) from error
        except OSError as error:
            os.close(self._lock)
            raise CallerError(
                f"cannot lock the store '{path}' ({error.strerror}): put it on a local disk"
            ) from error

    def reserve(self, name: str) -> Path:
        """The path of a file of this folder, made empty if it is absent.

        Called before SQLite opens it: closing any descriptor of a database drops the locks that
        this process holds on it (howtocorrupt §2.2).

        Raises:
            CallerError: the file is a link or no regular file, or others may read it.
        """
        path = self.path / name
        os.close(_open(path, os.O_RDWR | os.O_CREAT))
        return path

    def sync(self, fuse: Fuse) -> None:
        """Make the names in this folder durable."""
        file = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | SAFELY)
        try:
            _fsync(file, fuse)
        finally:
            os.close(file)

    def close(self) -> None:
        os.close(self._lock)


class Blobs:
    """Large contents, one file each. Any thread may use them, but one at a time for each name."""

    def __init__(self, folder: Path, fuse: Fuse) -> None:
        path = folder / "blobs"
        with suppress(FileExistsError):
            os.mkdir(path, FOLDER_MODE)
        _refuse_others(path, os.lstat(path), FOLDER_MODE)
        self._fuse = fuse
        self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | SAFELY)

    def append(self, name: str, offset: int, data: bytes) -> None:
        self._fuse.check()
        limits.blob_part(offset, data, size=self.size(name))
        with self._fuse.guard():
            file = self._open(name, os.O_WRONLY | os.O_CREAT)
            try:
                # One call writes less than asked when the disk fills up; the next one says so.
                part, at = memoryview(data), offset
                while part:
                    written = os.pwrite(file, part, at)
                    part, at = part[written:], at + written
            finally:
                os.close(file)

    def size(self, name: str) -> int:
        self._fuse.check()
        with self._fuse.guard():
            try:
                found = os.stat(limits.blob_name(name), dir_fd=self._folder, follow_symlinks=False)
            except FileNotFoundError:
                return 0
        return found.st_size

    def sync(self, name: str) -> None:
        self._fuse.check()
        with self._fuse.guard():
            try:
                file = self._open(name, os.O_RDONLY)
            except FileNotFoundError:
                raise CallerError(f"there is no blob '{name}' to sync") from None
            try:
                _fsync(file, self._fuse)
            finally:
                os.close(file)
            # The name is in the folder: without this the synced bytes may have none after a crash.
            _fsync(self._folder, self._fuse)

    def read(self, name: str, offset: int, length: int) -> bytes:
        self._fuse.check()
        limits.blob_range(offset, length)
        with self._fuse.guard():
            try:
                file = self._open(name, os.O_RDONLY)
            except FileNotFoundError:
                raise CallerError(f"there is no blob '{name}'") from None
            try:
                return os.pread(file, length, offset)
            finally:
                os.close(file)

    def remove(self, name: str) -> bool:
        self._fuse.check()
        with self._fuse.guard():
            try:
                os.unlink(limits.blob_name(name), dir_fd=self._folder)
            except FileNotFoundError:
                return False
            _fsync(self._folder, self._fuse)
        return True

    def names(self) -> list[str]:
        self._fuse.check()
        with self._fuse.guard():
            return sorted(os.listdir(self._folder))

    def close(self) -> None:
        os.close(self._folder)

    def _open(self, name: str, flags: int) -> int:
        return os.open(limits.blob_name(name), flags | SAFELY, FILE_MODE, dir_fd=self._folder)


class Ballast:
    """A file that only takes space, so that there is some to give back when the disk is full."""

    def __init__(self, folder: Path, size_bytes: int, fuse: Fuse) -> None:
        self._folder = folder
        self._path = folder / "ballast"
        self._size_bytes = size_bytes
        self._fuse = fuse
        if not size_bytes:
            self.release()  # what an earlier setting reserved
        with suppress(StoreFull):  # A node must be able to start on a full disk; `held` tells it.
            self.restore()

    @property
    def held(self) -> bool:
        if not self._size_bytes:
            return True
        try:
            return os.lstat(self._path).st_size == self._size_bytes
        except FileNotFoundError:
            return False

    def release(self) -> None:
        self._fuse.check()
        with self._fuse.guard():
            self._path.unlink(missing_ok=True)
            # Not durable, on purpose: fsync may need the very space that is missing.

    def restore(self) -> None:
        self._fuse.check()
        if self.held:
            return
        self.release()
        with self._fuse.guard():
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, FILE_MODE)
            try:
                # Blocks are reserved, not a sparse length that promises nothing.
                os.posix_fallocate(file, 0, self._size_bytes)
            except OSError:
                self._path.unlink()
                raise
            finally:
                os.close(file)


def _open(path: Path, flags: int) -> int:
    """A descriptor of a regular file of ours; made for its owner alone if it is absent."""
    try:
        file = os.open(path, flags | SAFELY, FILE_MODE)
    except OSError as error:
        raise CallerError(f"cannot open '{path}': {error.strerror}") from error
    try:
        _refuse_others(path, os.fstat(file), FILE_MODE)
    except CallerError:
        os.close(file)
        raise
    return file


def _refuse_others(path: Path, found: os.stat_result, mode: int) -> None:
    """Nothing, or CallerError: what is stored is for the user that the node runs as alone."""
    kind = stat.S_ISDIR if mode == FOLDER_MODE else stat.S_ISREG
    if not kind(found.st_mode):
        raise CallerError(f"'{path}' is not a {'folder' if mode == FOLDER_MODE else 'file'}")
    if found.st_uid != os.geteuid():
        raise CallerError(f"'{path}' belongs to another user: chown it to the one relto runs as")
    if found.st_mode & 0o077:
        raise CallerError(f"others may open '{path}': chmod {mode:o} '{path}'")


def _fsync(file: int, fuse: Fuse) -> None:
    """Make a file durable. Every failure is final, a full disk too: the pages are marked clean."""
    try:
        os.fsync(file)
    except OSError as error:
        raise fuse.blow(f"the disk failed to sync ({error.strerror})") from error


def _sync_folder(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
