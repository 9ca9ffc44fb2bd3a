"""Batches by herding: samples whose neighborhoods in the input space cover what is uncertain."""

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
"""Share of the tile radius that is the radius of the first batch's kernel."""
TARGETS = 50_000
"""Samples to cover at most; of larger pools, this many evenly spaced ones."""
_BLOCK_VALUES = 2**22


def first_batch(
    inputs: Mapping[str, Any],
    n: int,
    *,
    labeled: Mapping[str, Any] | None = None,
    present: NDArray[np.bool_] | None = None,
    labeled_present: NDArray[np.bool_] | None = None,
) -> Herding:
    """Choose samples without a model: every sample counts alike, and so does every modality.

    Parameters
    ----------
    inputs : mapping of modality to float array [N, d_m]
        Input features of the pool: :class:`~rlmba.method.input_space.InputSpace`.
    n : int
        Number of samples to choose, 0 <= n <= N.
    labeled : mapping of modality to float array [L, d_m], optional
        Input features of samples that have labels already.
    present, labeled_present : bool arrays [N, M] and [L, M], optional
        Which modalities the samples have; default: all.

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
    radius = FIRST_RADIUS * kernels.tile_radius(inputs, _balls(n, labeled), present=present)
    return later_batch(
        inputs,
        n,
        labeled=labeled,
        present=present,
        labeled_present=labeled_present,
        radius=radius,
    )


def later_batch(
    features: Mapping[str, Any],
    n: int,
    *,
    weights: Sequence[float] | NDArray[np.float64] | None = None,
    utility: NDArray[np.float64] | None = None,
    labeled: Mapping[str, Any] | None = None,
    present: NDArray[np.bool_] | None = None,
    labeled_present: NDArray[np.bool_] | None = None,
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
    labeled, present, labeled_present
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
        balls = _balls(n if size is None else size, labeled)
        radius = kernels.tile_radius(features, balls, weights=weights, present=present)
    return kernels.herding(
        features,
        n,
        weights=weights,
        utility=utility,
        labeled=labeled,
        present=present,
        labeled_present=labeled_present,
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
    radius: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Choose as :func:`later_batch`, where labels cover only what is predicted to be of their class.

    A labeled sample does not cover samples that are predicted to be of another class. Each pick
    maximizes u(j) times its gain.

    Parameters
    ----------
    features, n, weights, utility, labeled
        As for :func:`later_batch`; every sample has all modalities.
    labels : int64 array [L]
        Classes of the labeled samples.
    predicted : int64 array [N]
        Class predicted for each sample of the pool.
    radius : float
        Of the kernel, from 0 to infinity.

    Returns
    -------
    (int64 array [n], float64 array [n])
        Positions in chosen order, and u(j) times the gain; ties go to the lowest position.
    """
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


def _balls(n: int, labeled: Mapping[str, Any] | None) -> int:
    """Balls that tile the pool: one for each sample of the batch and each labeled one, at least one."""
    return max(1, n + (0 if labeled is None else len(next(iter(labeled.values())))))


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
