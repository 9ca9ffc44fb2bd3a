"""What strategies that measure distances share: the space, clusters, and the samples nearest to centers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.kernels.common.arrays import require_finite
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["LLOYD_STEPS", "nearest_distinct", "unit_features", "unit_rows"]

LLOYD_STEPS = 100
"""Lloyd steps at most where a published method clusters until convergence."""


def unit_rows(x: NDArray[Any]) -> NDArray[Any]:
    """Rows of Euclidean length 1, with the dtype of ``x``; rows of zeros remain zero.

    Parameters
    ----------
    x : float array [N, D]

    Raises
    ------
    NonFiniteError
        If a row contains NaN or infinity; it names the first one.
    """
    require_finite(x, "features")
    # Squares of very large or very small numbers would overflow or vanish.
    largest = np.abs(x).max(axis=1, keepdims=True, initial=0)
    scaled = x / np.where(largest > 0, largest, 1)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.asarray(scaled / np.where(length > 0, length, 1), dtype=x.dtype)


def unit_features(
    pool: PoolOutputs, context: QueryContext
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Fused features of the pool [N, D] and of the labeled samples [L, D] as rows of length 1.

    Returns
    -------
    (float array [N, D], float array [L, D] or None)
        None without labeled samples.

    Raises
    ------
    NonFiniteError
        If a row of the pool contains NaN or infinity.
    ShapeError, DataError
        From :meth:`~rlmba.types.QueryContext.labeled_for`.
    """
    labeled = context.labeled_for(pool)
    features = unit_rows(pool.fused_features)
    return features, None if labeled is None else unit_rows(labeled).astype(features.dtype)


def nearest_distinct(
    centers: NDArray[Any], rows: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each center in turn, the nearest row that no earlier center has taken.

    Parameters
    ----------
    centers : float array [k, D]
    rows : float array [K, D]
        Finite, K >= k.

    Returns
    -------
    (int64 array [k], float64 array [k])
        Distinct positions into ``rows``, ties by position, and their Euclidean distances.
    """
    nearest = kernels.min_distance(centers, rows)
    taken = np.zeros(len(rows), np.bool_)
    indices, distances = nearest.indices.copy(), nearest.distances.astype(np.float64)
    for i, row in enumerate(nearest.indices):
        if taken[row]:
            left = np.flatnonzero(~taken)
            again = kernels.min_distance(centers[i : i + 1], rows[left])
            indices[i], distances[i] = left[again.indices[0]], again.distances[0]
        taken[indices[i]] = True
    return indices, distances
