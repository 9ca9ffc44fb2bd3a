"""Naive NumPy implementation of :func:`rlmba.kernels.min_distance`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common import arrays

_BLOCK_VALUES = 2**20


def nearest(
    x: arrays.Float, centers: arrays.Float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Squared distance to the nearest center and its index, from differences in float64.

    Parameters
    ----------
    x : float array [N, D]
    centers : float array [k, D]
        k >= 1.

    Returns
    -------
    (float64 array [N], int64 array [N])
        Ties go to the lowest index.
    """
    n = x.shape[0]
    squared = np.empty(n, dtype=np.float64)
    labels = np.empty(n, dtype=np.int64)
    c = centers.astype(np.float64)
    step = max(1, _BLOCK_VALUES // c.size)
    with np.errstate(over="ignore"):
        for begin in range(0, n, step):
            rows = x[begin : begin + step].astype(np.float64)
            d = ((rows[:, None, :] - c[None, :, :]) ** 2).sum(axis=2)
            labels[begin : begin + step] = d.argmin(axis=1)
            squared[begin : begin + step] = d.min(axis=1)
    return squared, labels


def min_distance(
    x: arrays.Float, centers: arrays.Float, max_memory: int | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Check that the input is finite and call :func:`nearest`; ``max_memory`` has no effect."""
    del max_memory
    arrays.require_finite(centers, "centers")
    arrays.require_finite(x, "x")
    return nearest(x, centers)
