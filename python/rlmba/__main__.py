"""``python -m rlmba`` is the command ``rlmba``."""

from __future__ import annotations

import sys

from rlmba.cli import main

sys.exit(main())
