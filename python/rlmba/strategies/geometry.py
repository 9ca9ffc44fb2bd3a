"""What several strategies share: the space of distances, samples near centers, the head and its labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.errors import ShapeError, UsageError
from rlmba.kernels.common.arrays import require_finite
from rlmba.method import input_space
from rlmba.strategies.base import Strategy
from rlmba.types import LinearHead, PoolOutputs, QueryContext

__all__ = [
    "LLOYD_STEPS",
    "SPACES",
    "fused_head",
    "labeled_classes",
    "nearest_distinct",
    "needs_in",
    "unit_features",
    "unit_rows",
]

SPACES = ("fused", "input")
"""Where a strategy may measure distances: the model's fused features, or its input features."""
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
    return input_space.unit_rows(x)


def needs_in(space: str, strategy: Strategy) -> frozenset[str]:
    """The needs of a strategy, with input features instead of the model's in the space "input".

    Raises
    ------
    UsageError
        If the space is not one of :data:`SPACES`.
    """
    if space not in SPACES:
        raise UsageError(f"{strategy.name}: space: expected one of {SPACES}, got {space!r}")
    needs = type(strategy).needs
    return needs if space == "fused" else needs - {"features"} | {"input_features"}


def unit_features(
    space: str, pool: PoolOutputs, context: QueryContext
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Features of the pool [N, D] and of the labeled samples [L, D] as rows of length 1.

    Parameters
    ----------
    space : {"fused", "input"}
        The fused features, or the input features of all modalities joined.
    pool : PoolOutputs
    context : QueryContext

    Returns
    -------
    (float array [N, D], float array [L, D] or None)
        None without labeled samples.

    Raises
    ------
    NonFiniteError
        If a row of the pool contains NaN or infinity.
    UsageError
        If input features are asked for and missing.
    ShapeError, DataError
        If the features of labeled samples do not fit the pool, or are not finite.
    """
    if space == "fused":
        features, labeled = pool.fused_features, context.labeled_for(pool)
    elif pool.input_features is None:
        raise UsageError(
            "space 'input': expected PoolOutputs.input_features, got none; prepare them by "
            "rlmba.method.input_space.InputSpace"
        )
    else:
        features = np.concatenate([*pool.input_features.values()], axis=1)
        given = context.labeled_inputs_for(pool)
        joined = [] if given is None else [given[m] for m in pool.input_features]
        labeled = np.concatenate(joined, axis=1) if joined else None
    features = unit_rows(features)
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


def fused_head(owner: str, pool: PoolOutputs, context: QueryContext) -> LinearHead:
    """The fused head, checked to fit the pool's logits and fused features.

    Raises
    ------
    UsageError
        If the context has none.
    ShapeError
        If it has another number of classes or another width. ``owner`` names the strategy.
    """
    head, width = context.head_for(pool), pool.fused_features.shape[1]
    if head.weight.shape[1] != width:
        raise ShapeError(
            f"{owner}: expected a head on fused features of width {width}, got weight {head.weight.shape}"
        )
    return head


def labeled_classes(
    owner: str, pool: PoolOutputs, context: QueryContext
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Fused features [L, D] and classes int64 [L] of the labeled samples, L >= 1.

    Raises
    ------
    UsageError
        If there are no labeled samples, or their classes are missing, not as many, or not within
        0..C-1. ``owner`` names the strategy.
    ShapeError, DataError
        From :meth:`~rlmba.types.QueryContext.labeled_for`.
    """
    features, labels = context.labeled_for(pool), context.labels
    if features is None or labels is None:
        lacking = "labeled_features" if features is None else "labels"
        raise UsageError(
            f"{owner}: expected the features of labeled samples and their classes, got no {lacking}; pass "
            "QueryContext.labeled_features [L, D] and labels [L] (in rlmba.select: labeled= and labels=)"
        )
    classes = np.asarray(labels)
    if (
        classes.shape != (len(features),)
        or classes.dtype.kind not in "iu"
        or not 0 <= classes.min() <= classes.max() < pool.n_classes
    ):
        raise UsageError(
            f"{owner}: expected {len(features)} labels within 0..{pool.n_classes - 1}, one for each labeled "
            f"sample, got shape {classes.shape}, dtype {classes.dtype} and values {np.unique(classes)[:10]}"
        )
    return features, classes.astype(np.int64)
