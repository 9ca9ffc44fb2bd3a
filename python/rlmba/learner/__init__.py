"""The learner: propose a batch, have it answered, learn from it, evaluate."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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

_HOMES = {
    "rlmba.learner.active_learner": ("ActiveLearner", "Predictions"),
    "rlmba.learner.experiment": ("Observer", "RunResult", "run"),
    "rlmba.learner.frozen": ("write_features",),
    "rlmba.learner.own_model": ("FitAndOutputs",),
    "rlmba.learner.settings": ("configure", "default_output"),
    "rlmba.learner.together": ("TrainedTogether", "run_together", "together_key"),
    "rlmba.learner.trained": ("Trained",),
    "rlmba.runfolder.store": ("RunView", "read_run"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    # Parts are imported when they are first used: many commands need no torch.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
