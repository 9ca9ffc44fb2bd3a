"""Modality-balanced, difficulty-aware multimodal active learning (RL-MBA).

Importing this package loads neither torch nor the compiled extension; its parts are loaded when they
are first used:

``rlmba.ActiveLearner``
    Ask for a batch, tell its labels: on arrays, a data set, or a model of your own.
``rlmba.load``
    A trained network from a folder or the hub.
``rlmba.select``
    Any strategy in one call on arrays.
``rlmba.kernels``
    Acquisition operations on NumPy arrays and torch tensors.
``rlmba.strategies``
    Query strategies on arrays.
``rlmba.method``
    RL-MBA's own equations.
``rlmba.learner``
    The active-learning loop, experiments, trained networks.
"""

# Nothing else is imported here: `python -m rlmba` imports this with the current folder first on the path,
# where a file csv.py would be taken for the module; `rlmba.__main__` then takes the folder off it.
import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rlmba.learner.active_learner import ActiveLearner
    from rlmba.project.loaded import load
    from rlmba.strategies.direct import select

    __version__: str

__all__ = [
    "ActiveLearner",
    "__version__",
    "config",
    "data",
    "errors",
    "experiments",
    "kernels",
    "learner",
    "load",
    "method",
    "models",
    "select",
    "strategies",
    "training",
    "types",
]


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("rlmba")
    except PackageNotFoundError:
        return "0+unknown"


def __getattr__(name: str) -> "Any":
    if name == "__version__":
        return _version()
    if name == "ActiveLearner":
        return importlib.import_module("rlmba.learner").ActiveLearner
    if name == "load":
        return importlib.import_module("rlmba.project.loaded").load
    if name == "select":
        return importlib.import_module("rlmba.strategies.direct").select
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> "list[str]":
    return sorted(__all__)
