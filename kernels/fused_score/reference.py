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


def fused_score(given: Modalities, distances: arrays.Float | None, beta: float) -> FusedScore:
    """Eq 3 and 4, then Eq 6."""
    from rlmba.kernels.fused_score import FusedScore

    assert given.weights is not None
    shape = (given.rows, len(given.arrays))
    weights = np.broadcast_to(given.weights, shape)
    if given.present is not None:
        weights = np.where(given.present, weights, 0.0)
        left_out = weights.sum(axis=1) == 0
        weights = np.where(left_out[:, None], given.present * 1.0, weights)
        weights = weights / weights.sum(axis=1, keepdims=True)
    u, difficulty = variance.dirichlet_variance(replace(given, weights=weights))
    assert difficulty is not None
    u_unit = np.zeros_like(u)
    scaling.minmax(u, given.present, u_unit)
    d_unit = np.zeros(given.rows, dtype=given.dtype)
    if distances is not None:
        scaling.minmax(distances, None, d_unit)
    score = (weights * u_unit).sum(axis=1) + beta * d_unit.astype(np.float64)
    return FusedScore(score.astype(given.dtype), u, difficulty, u_unit, d_unit)
