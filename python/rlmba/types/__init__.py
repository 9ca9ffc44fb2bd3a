"""The four types that carry everything between rooms, and the small ones they are made of.

All hold NumPy arrays and plain numbers (:class:`PoolOutputs` also torch tensors), without a reference to
a model or a data set. M is the number of modalities, C of classes, d the shared feature width, N the
size of the pool, L the size of the labeled set.
"""

from __future__ import annotations

from rlmba.types.metrics import (
    MULTIMODAL,
    Evaluation,
    HeadMetrics,
    RoundRecord,
    TrainingDiagnostics,
)
from rlmba.types.pool import PoolOutputs
from rlmba.types.query import (
    LinearHead,
    QueryContext,
    Selection,
    require_finite_labeled,
    simplex_weights,
)

__all__ = [
    "MULTIMODAL",
    "Evaluation",
    "HeadMetrics",
    "LinearHead",
    "PoolOutputs",
    "QueryContext",
    "RoundRecord",
    "Selection",
    "TrainingDiagnostics",
    "require_finite_labeled",
    "simplex_weights",
]
