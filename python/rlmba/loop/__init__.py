"""The active-learning loop: the round, the run, the run folder."""

from __future__ import annotations

from rlmba.loop.cohort import Cohort, run_together, together_key
from rlmba.loop.frozen import write_features
from rlmba.loop.run import Observer, RunResult, configure, default_output, run
from rlmba.loop.store import RunView, read_run
from rlmba.loop.trained import Trained

__all__ = [
    "Cohort",
    "Observer",
    "RunResult",
    "RunView",
    "Trained",
    "configure",
    "default_output",
    "read_run",
    "run",
    "run_together",
    "together_key",
    "write_features",
]
