"""`python -m rlmba`, the same as the command `rlmba`."""

from __future__ import annotations

import sys

from rlmba.cli import main

if __name__ == "__main__":
    sys.exit(main())
