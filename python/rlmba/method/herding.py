"""Batches by herding: samples that cover uncertain samples in the input space."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.kernels import Herding
from rlmba.kernels.herding.reference import affinity

__all__ = [
    "FIRST_RADIUS",
    "TARGETS",
    "first_batch",
    "later_batch",
    "nearest_labeled",
    "squared_distances",
    "trusted_batch",
]

FIRST_RADIUS = 0.7
"""Radius of the first batch's kernel, as a share of the tile radius."""
TARGETS = 50_000
"""Maximum number of samples to cover; of a larger pool, this many evenly spaced samples are covered."""
_BLOCK_VALUES = 2**22


def first_batch(
    inputs: Mapping[str, Any],
    n: int,
    *,
    labeled: Mapping[str, Any] | None = None,
) -> Herding:
    """Choose samples without a model: all samples and all modalities have equal weight.

    Parameters
    ----------
    inputs : mapping of modality to float array [N, d_m]
        Input features of the pool (:class:`~rlmba.method.input_space.InputSpace`), with missing
        modalities completed (:func:`~rlmba.method.completing.completed_features`).
    n : int
        Number of samples to choose, 0 <= n <= N.
    labeled : mapping of modality to float array [L, d_m], optional
        Input features of samples that have labels already.

    Returns
    -------
    rlmba.kernels.Herding
        ``indices`` are positions into the pool, in chosen order; ties go to the lowest position. The
        radius is 0.7 times the tile radius of L + n balls. There is no randomness.

    Raises
    ------
    UsageError, ShapeError, NonFiniteError
        As for :func:`rlmba.kernels.herding`.
    """
    radius = FIRST_RADIUS * _tile(inputs, n, labeled)
    return later_batch(inputs, n, labeled=labeled, radius=radius)


def later_batch(
    features: Mapping[str, Any],
    n: int,
    *,
    weights: Sequence[float] | NDArray[np.float64] | None = None,
    utility: NDArray[np.float64] | None = None,
    labeled: Mapping[str, Any] | None = None,
    radius: float | None = None,
    size: int | None = None,
) -> Herding:
    """Choose samples that cover uncertain samples which no labeled sample covers.

    Parameters
    ----------
    features : mapping of modality to float array [N, d_m]
        Of the pool, usually its input features.
    n : int
        Number of samples to choose, 0 <= n <= N.
    weights : float array [M], optional
        Weights w_m >= 0 of the modalities' squared distances; default: uniform.
    utility : float array [N], optional
        u(x) >= 0, how much it is worth to cover each sample; default: 1.
    labeled
        As for :func:`first_batch`.
    radius : float, optional
        Radius of the kernel; default: the tile radius of L + ``size`` balls.
    size : int, optional
        The size of the batch, if ``n`` is larger because a policy chooses among the picks; default: n.

    Returns
    -------
    rlmba.kernels.Herding
        As for :func:`first_batch`, with the radius above.

    Raises
    ------
    UsageError, ShapeError, NonFiniteError, DataError
        As for :func:`rlmba.kernels.herding`.
    """
    if radius is None:
        radius = _tile(features, n if size is None else size, labeled, weights)
    return kernels.herding(
        features,
        n,
        weights=weights,
        utility=utility,
        labeled=labeled,
        radius=radius,
        targets=TARGETS,
    )


def trusted_batch(
    features: Mapping[str, Any],
    n: int,
    *,
    weights: NDArray[np.float64],
    utility: NDArray[np.float64],
    labeled: Mapping[str, Any],
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    radius: float | None = None,
    size: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Choose samples like :func:`later_batch`, but let labels cover only samples of their class.

    A labeled sample does not cover samples that are predicted to be of another class. Each pick j
    maximizes u(j) times its gain.

    Parameters
    ----------
    features, n, weights, utility, labeled, size
        As for :func:`later_batch`; every sample has all modalities.
    labels : int64 array [L]
        Classes of the labeled samples.
    predicted : int64 array [N]
        Class predicted for each sample of the pool.
    radius : float, optional
        Radius of the kernel, from 0 to infinity; default: the tile radius of L + ``size`` balls.

    Returns
    -------
    (int64 array [n], float64 array [n])
        Positions in chosen order, and u(j) times the gain; ties go to the lowest position.
    """
    if radius is None:
        radius = _tile(features, n if size is None else size, labeled, weights)
    rows, known = _joined(features, weights), _joined(labeled, weights)
    targets = np.arange(len(rows))
    if len(rows) > TARGETS:
        targets = np.arange(TARGETS) * len(rows) // TARGETS
    covered_rows, u = rows[targets], np.asarray(utility, dtype=np.float64)
    cover = np.zeros(len(targets))
    for c in np.unique(labels):
        mine = np.flatnonzero(predicted[targets] == c)
        if len(mine):
            near = kernels.min_distance(covered_rows[mine], known[labels == c]).distances
            cover[mine] = affinity(np.asarray(near, dtype=np.float64) ** 2, radius)

    def values(positions: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        k = affinity(squared_distances(rows[positions], covered_rows), radius)
        return u[positions] * (np.maximum(0, k - cover) @ u[targets]), k

    step = max(1, _BLOCK_VALUES // max(1, len(targets)))
    blocks = [np.arange(i, min(i + step, len(rows))) for i in range(0, len(rows), step)]
    first = np.concatenate([values(block)[0] for block in blocks])
    # Gains only shrink, so a gain computed before is an upper bound.
    heap = [(-value, position, 0) for position, value in enumerate(first.tolist())]
    heapq.heapify(heap)
    indices, gains = np.empty(n, dtype=np.int64), np.empty(n)
    for done in range(n):
        while heap[0][2] < done and heap[0][0] < 0:
            position = heap[0][1]
            value = float(values(np.array([position]))[0][0])
            heapq.heapreplace(heap, (-value, position, done))
        negative, position, _ = heapq.heappop(heap)
        indices[done], gains[done] = position, -negative
        cover = np.maximum(cover, values(np.array([position]))[1][0])
    return indices, gains


def _tile(
    features: Mapping[str, Any],
    n: int,
    labeled: Mapping[str, Any] | None,
    weights: Sequence[float] | NDArray[np.float64] | None = None,
) -> float:
    """The tile radius of one ball for each of n samples and each labeled sample, at least one ball."""
    size = 0 if labeled is None else len(next(iter(labeled.values())))
    return kernels.tile_radius(features, max(1, n + size), weights=weights)


def _joined(parts: Mapping[str, Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows [n, sum of widths] whose squared distances are D."""
    share = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    scaled = [
        np.asarray(a, dtype=np.float64) * w**0.5 for w, a in zip(share, parts.values(), strict=True)
    ]
    return np.concatenate(scaled, axis=1)


def squared_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances [n, m] between rows [n, D] and [m, D], exactly 0 between equal rows."""
    sums = np.einsum("nd,nd->n", a, a)[:, None] + np.einsum("md,md->m", b, b)
    squared = sums - 2 * (a @ b.T)
    # Rounding must not separate equal rows: a ball of radius 0 contains them.
    return np.where(squared > 1e-13 * sums, squared, 0.0)


def nearest_labeled(
    labeled: Mapping[str, Any],
    *,
    weights: NDArray[np.float64],
) -> float | None:
    """The smallest positive distance between labeled samples; None if no two samples differ.

    This is the radius of Uncertainty Herding (Bae et al., ICLR 2025).

    Parameters
    ----------
    labeled : mapping of modality to float array [L, d_m]
    weights : float array [M]
        >= 0, with a positive sum.
    """
    rows = _joined(labeled, weights)
    smallest = np.inf
    for row in range(1, len(rows)):
        squared = ((rows[:row] - rows[row]) ** 2).sum(axis=1)
        smallest = min(smallest, squared[squared > 0].min(initial=np.inf))
    return float(np.sqrt(smallest)) if np.isfinite(smallest) else None
