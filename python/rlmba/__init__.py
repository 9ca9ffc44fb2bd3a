"""Modality-balanced, difficulty-aware multimodal active learning (RL-MBA).

Importing this package loads neither torch nor the compiled extension; its parts are loaded when they
are first used:

``rlmba.select``
    Any strategy in one call on arrays.
``rlmba.kernels``
    Acquisition operations on NumPy arrays and torch tensors.
``rlmba.strategies``
    Query strategies on arrays.
``rlmba.method``
    RL-MBA's own equations.
``rlmba.loop``
    The active-learning loop and its run store.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlmba.strategies.direct import select

__all__ = [
    "__version__",
    "config",
    "data",
    "errors",
    "experiments",
    "kernels",
    "loop",
    "method",
    "models",
    "select",
    "strategies",
    "training",
    "types",
]

try:
    __version__ = version("rlmba")
except PackageNotFoundError:
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name == "select":
        return importlib.import_module("rlmba.strategies.direct").select
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
