"""Files that people name on the command line."""

from pathlib import Path

from relto.errors import CallerError

__all__ = ["read_at_most"]


def read_at_most(path: Path, size_bytes_max: int) -> bytes:
    """All of a file. Raises CallerError where it cannot be read, or is larger."""
    try:
        with path.open("rb") as file:
            data = file.read(size_bytes_max + 1)
    except OSError as e:
        raise CallerError(f'cannot read "{path}": {e.strerror}') from None
    if len(data) > size_bytes_max:
        raise CallerError(f'"{path}" is larger than {size_bytes_max} bytes')
    return data
