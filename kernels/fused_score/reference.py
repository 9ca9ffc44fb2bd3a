"""Naive NumPy implementation of :func:`rlmba.kernels.fused_score`: its two parts, one after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rlmba.kernels.common import arrays
from rlmba.kernels.common.evidential import Modalities
from rlmba.kernels.dirichlet_variance import reference as variance
from rlmba.kernels.minmax import reference as scaling

if TYPE_CHECKING:
    from rlmba.kernels.fused_score import FusedScore


def fused_score(inputs: Modalities, distances: arrays.Float | None, beta: float) -> FusedScore:
    """Eq 3 and 4, then Eq 6."""
    from rlmba.kernels.fused_score import FusedScore

    assert inputs.weights is not None
    shape = (inputs.rows, len(inputs.arrays))
    weights = np.broadcast_to(inputs.weights, shape)
    if inputs.present is not None:
        weights = np.where(inputs.present, weights, 0.0)
        left_out = weights.sum(axis=1) == 0
        weights = np.where(left_out[:, None], inputs.present * 1.0, weights)
        weights = weights / weights.sum(axis=1, keepdims=True)
    u, difficulty = variance.dirichlet_variance(replace(inputs, weights=weights))
    assert difficulty is not None
    u_unit = np.zeros_like(u)
    scaling.minmax(u, inputs.present, u_unit)
    d_unit = np.zeros(inputs.rows, dtype=inputs.dtype)
    if distances is not None:
        scaling.minmax(distances, None, d_unit)
    score = (weights * u_unit).sum(axis=1) + beta * d_unit.astype(np.float64)
    return FusedScore(score.astype(inputs.dtype), u, difficulty, u_unit, d_unit)
