"""Scores of some rows of a pool, normalized by the ranges of all rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels import dispatch

__all__ = ["score_rows"]


def score_rows(
    uncertainty: NDArray[Any],
    weights: NDArray[np.float64],
    *,
    present: NDArray[np.bool_] | None,
    distances: NDArray[Any] | None,
    beta: float,
    limits: NDArray[Any],
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Compute Eq 6 with the arithmetic of :func:`rlmba.kernels.fused_score` on the CPU.

    Parameters
    ----------
    uncertainty : float array [N, M]
        u_m as ``fused_score`` returns it, contiguous.
    weights, present, beta
        See :func:`rlmba.kernels.fused_score`.
    distances : array [N] or None
        The distances, with the dtype of ``uncertainty``.
    limits : array [M + 1, 2]
        The smallest and largest value, over all rows, of each column of u and then of the distances. If a
        column has no value, its first number is larger than its second one.

    Returns
    -------
    (array [N], array [N, M], array [N])
        q, u~ and d~, with the dtype of ``uncertainty``.
    """
    n, m = uncertainty.shape
    dtype = uncertainty.dtype
    found = np.empty(n, dtype), np.empty((n, m), dtype), np.empty(n, dtype)
    dispatch.require_core().score_within(
        uncertainty,
        np.ascontiguousarray(weights, dtype=np.float64),
        None if present is None else np.ascontiguousarray(present),
        distances,
        beta,
        np.ascontiguousarray(limits, dtype=dtype),
        *found,
    )
    return found
