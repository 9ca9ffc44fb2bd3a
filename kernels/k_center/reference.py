"""Naive NumPy implementation of :func:`rlmba.kernels.k_center`: one pass over all rows per center."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common import arrays

_BLOCK_ROWS = 4096


def _squared(x: arrays.Float, center: NDArray[np.float64]) -> NDArray[np.float64]:
    out = np.empty(len(x))
    with np.errstate(over="ignore"):
        for begin in range(0, len(x), _BLOCK_ROWS):
            rows = x[begin : begin + _BLOCK_ROWS].astype(np.float64)
            out[begin : begin + _BLOCK_ROWS] = ((rows - center) ** 2).sum(axis=1)
    return out


def _nearest_to_mean(x: arrays.Float) -> int:
    return int(_squared(x, x.mean(axis=0, dtype=np.float64)).argmin())


def k_center(
    x: arrays.Float,
    n: int,
    labeled: arrays.Float,
    first: int | None,
    max_memory: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """Positions int64 [n], squared distances [n] and the squared radius."""
    del max_memory
    arrays.require_finite(labeled, "labeled")
    arrays.require_finite(x, "features")
    nearest = np.full(len(x), np.inf)
    for center in labeled.astype(np.float64):
        nearest = np.minimum(nearest, _squared(x, center))
    free = np.ones(len(x), dtype=bool)
    indices = np.empty(n, dtype=np.int64)
    squared = np.empty(n)
    for j in range(n):
        if j == 0 and first is not None:
            pick = first
        elif j == 0 and len(labeled) == 0:
            pick = _nearest_to_mean(x)
        else:
            pick = int(np.where(free, nearest, -1.0).argmax())
        indices[j], squared[j] = pick, nearest[pick]
        free[pick] = False
        nearest = np.minimum(nearest, _squared(x, x[pick].astype(np.float64)))
        if j == 0 and len(labeled) == 0:
            squared[0] = nearest.max()
    return indices, squared, float(nearest.max(initial=0.0))
