"""Acquisition kernels: operations on arrays, useful without the rest of the package.

Every operation takes NumPy arrays, torch tensors or anything with DLPack and returns the same kind,
with int64 positions. ``backend`` is ``"auto"``, ``"cpu"`` (the compiled extension), ``"reference"``
(NumPy) or, where an operation has a GPU side, ``"cuda"`` or ``"triton"``; an explicit backend that
cannot serve raises :class:`~rlmba.errors.BackendError`. Which one ran is recorded: see :func:`record`.

CPU computation is float32 or float64, as the input. float16, bfloat16, integer and boolean input is
converted once (half precision to float32, the rest to float64). On a GPU half precision is read as it
lies and computed in float32.
"""

from __future__ import annotations

from rlmba.kernels.bald_score import bald_score
from rlmba.kernels.deepfool_distance import DeepFoolDistance, deepfool_distance
from rlmba.kernels.dirichlet_variance import DirichletVariance, dirichlet_variance
from rlmba.kernels.dispatch import (
    Call,
    backends,
    instruction_set,
    num_threads,
    record,
    set_num_threads,
)
from rlmba.kernels.fused_score import FusedScore, fused_score
from rlmba.kernels.gradient_kmeans_plusplus import (
    GradientKMeansPlusPlus,
    gradient_kmeans_plusplus,
)
from rlmba.kernels.gradient_residuals import gradient_residuals
from rlmba.kernels.graph_propagate import GraphPropagate, graph_propagate
from rlmba.kernels.k_center import KCenter, k_center
from rlmba.kernels.kmeans import KMeans, kmeans
from rlmba.kernels.kmeans_plusplus import KMeansPlusPlus, kmeans_plusplus
from rlmba.kernels.min_distance import MinDistance, min_distance
from rlmba.kernels.minmax import minmax
from rlmba.kernels.plackett_luce import (
    PlackettLuce,
    PlackettLuceLogProb,
    plackett_luce,
    plackett_luce_log_prob,
)
from rlmba.kernels.sequential_gcn import SequentialGcn, sequential_gcn
from rlmba.kernels.shapley_contributions import shapley_contributions
from rlmba.kernels.top_k import TopK, top_k

__all__ = [
    "Call",
    "DeepFoolDistance",
    "DirichletVariance",
    "FusedScore",
    "GradientKMeansPlusPlus",
    "GraphPropagate",
    "KCenter",
    "KMeans",
    "KMeansPlusPlus",
    "MinDistance",
    "PlackettLuce",
    "PlackettLuceLogProb",
    "SequentialGcn",
    "TopK",
    "backends",
    "bald_score",
    "deepfool_distance",
    "dirichlet_variance",
    "fused_score",
    "gradient_kmeans_plusplus",
    "gradient_residuals",
    "graph_propagate",
    "instruction_set",
    "k_center",
    "kmeans",
    "kmeans_plusplus",
    "min_distance",
    "minmax",
    "num_threads",
    "plackett_luce",
    "plackett_luce_log_prob",
    "record",
    "sequential_gcn",
    "set_num_threads",
    "shapley_contributions",
    "top_k",
]
