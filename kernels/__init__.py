"""Acquisition kernels: operations on arrays, useful without the rest of the package.

Every operation takes NumPy arrays, torch tensors or any object that supports DLPack, and returns
the same kind of array. Positions are int64. ``backend`` is ``"auto"``, ``"cpu"`` (the compiled
extension), ``"reference"`` (NumPy) or, where an operation has a GPU implementation, ``"cuda"`` or
``"triton"``. A backend that is requested by name and cannot serve the call raises
:class:`~rlmba.errors.BackendError`. :func:`record` tells which backend ran.

The computation dtype on a CPU is that of the input, float32 or float64. Other input is converted
once: float16 and bfloat16 to float32, integers and booleans to float64. On a GPU, half precision is
read without conversion and computed in float32.
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
from rlmba.kernels.herding import Herding, herding
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
from rlmba.kernels.tile_radius import tile_radius
from rlmba.kernels.top_k import TopK, top_k

__all__ = [
    "Call",
    "DeepFoolDistance",
    "DirichletVariance",
    "FusedScore",
    "GradientKMeansPlusPlus",
    "GraphPropagate",
    "Herding",
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
    "herding",
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
    "tile_radius",
    "top_k",
]
