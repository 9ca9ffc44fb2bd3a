"""The learner: propose a batch, have it answered, learn from it, evaluate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmba.lazy import lazy_names

if TYPE_CHECKING:
    from rlmba.learner.active_learner import ActiveLearner, Predictions
    from rlmba.learner.experiment import Observer, RunResult, run
    from rlmba.learner.frozen import write_features
    from rlmba.learner.own_model import FitAndOutputs
    from rlmba.learner.settings import configure, default_output
    from rlmba.learner.together import TrainedTogether, run_together, together_key
    from rlmba.learner.trained import Trained
    from rlmba.runfolder.store import RunView, read_run

__all__ = [
    "ActiveLearner",
    "FitAndOutputs",
    "Observer",
    "Predictions",
    "RunResult",
    "RunView",
    "Trained",
    "TrainedTogether",
    "configure",
    "default_output",
    "read_run",
    "run",
    "run_together",
    "together_key",
    "write_features",
]

__getattr__ = lazy_names(
    __name__,
    {
        "rlmba.learner.active_learner": ("ActiveLearner", "Predictions"),
        "rlmba.learner.experiment": ("Observer", "RunResult", "run"),
        "rlmba.learner.frozen": ("write_features",),
        "rlmba.learner.own_model": ("FitAndOutputs",),
        "rlmba.learner.settings": ("configure", "default_output"),
        "rlmba.learner.together": ("TrainedTogether", "run_together", "together_key"),
        "rlmba.learner.trained": ("Trained",),
        "rlmba.runfolder.store": ("RunView", "read_run"),
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
