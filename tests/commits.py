"""Of which commit the results of a campaign are."""

import subprocess
from pathlib import Path

__all__ = ["present_commit"]

ROOT = Path(__file__).parent.parent


def present_commit() -> str:
    """The abbreviated id of the commit that is checked out; empty where there is no repository."""
    return subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
