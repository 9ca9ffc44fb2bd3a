"""The active-learning loop: the round, the run, the run folder."""

from __future__ import annotations

from rlmba.loop.store import RunView, read_run

__all__ = ["RunView", "read_run"]
