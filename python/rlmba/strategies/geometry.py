"""What several strategies share: the space of distances, nearest samples, the head, labeled samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

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
    "UnitSpace",
    "fused_head",
    "input_features",
    "labeled_classes",
    "nearest_distinct",
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


def input_features(
    pool: PoolOutputs, context: QueryContext
) -> tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]] | None]:
    """Input features by modality of the pool [N, d_m] and of the labeled samples [L, d_m].

    The second is None without labeled samples.

    Raises
    ------
    UsageError
        If the pool has none.
    ShapeError, DataError
        From :meth:`~rlmba.types.QueryContext.labeled_inputs_for`.
    """
    if pool.input_features is None:
        raise UsageError(
            "expected PoolOutputs.input_features, got none; prepare them by "
            "rlmba.method.input_space.InputSpace"
        )
    return pool.input_features, context.labeled_inputs_for(pool)


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
    else:
        inputs, given = input_features(pool, context)
        features = np.concatenate([*inputs.values()], axis=1)
        labeled = None if given is None else np.concatenate([*given.values()], axis=1)
    features = unit_rows(features)
    return features, None if labeled is None else unit_rows(labeled).astype(features.dtype)


@dataclass(kw_only=True)
class UnitSpace(Strategy):
    """A strategy that measures distances between features of unit length.

    It reads fused features, or input features in the space "input".

    Parameters
    ----------
    space : {"fused", "input"}
        Where distances are measured: the model's fused features, or the input features of all
        modalities joined, such as those of a frozen encoder.

    Raises
    ------
    UsageError
        If the space is not one of :data:`SPACES`.
    """

    optional: ClassVar[frozenset[str]] = frozenset({"labeled"})

    space: str = "fused"

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise UsageError(f"{self.name}: space: expected one of {SPACES}, got {self.space!r}")
        if self.space == "input":
            self.needs = self.needs - {"features"} | {"input_features"}  # type: ignore[misc]


def nearest_distinct(centers: NDArray[Any], rows: NDArray[Any]) -> NDArray[np.int64]:
    """For each center in turn, the nearest row that no earlier center has taken.

    Parameters
    ----------
    centers : float array [k, D]
    rows : float array [K, D]
        Finite, K >= k.

    Returns
    -------
    int64 array [k]
        Distinct positions into ``rows``; ties by position.
    """
    indices = kernels.min_distance(centers, rows).indices.copy()
    taken = np.zeros(len(rows), np.bool_)
    for i, row in enumerate(indices):
        if taken[row]:
            left = np.flatnonzero(~taken)
            indices[i] = left[kernels.min_distance(centers[i : i + 1], rows[left]).indices[0]]
        taken[indices[i]] = True
    return np.asarray(indices, dtype=np.int64)


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
