"""A node whose store does not wait for the disk: what a power cut must be seen to break.

`python weak.py LEVEL node serve …`; LEVEL is SQLite's `synchronous`: 0 is OFF, 1 NORMAL.
"""

import sys

from relto.apps.cli import main
from relto.stores import sqlite

if __name__ == "__main__":
    level = int(sys.argv[1])
    sqlite.SETTINGS = tuple(
        (name, level if name == "synchronous" else value) for name, value in sqlite.SETTINGS
    )
    sys.exit(main(sys.argv[2:]))
