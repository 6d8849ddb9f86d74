"""`python -m relto` is the command `relto`."""

import sys

from relto.apps.cli import main

sys.exit(main())
