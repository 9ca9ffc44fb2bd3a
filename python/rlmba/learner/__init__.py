"""The active-learning loop: the round, the run, the run folder."""

from __future__ import annotations

from rlmba.learner.cohort import Cohort, run_together, together_key
from rlmba.learner.frozen import write_features
from rlmba.learner.run import Observer, RunResult, configure, default_output, run
from rlmba.learner.trained import Trained
from rlmba.runfolder.store import RunView, read_run

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
