"""Batches by herding: samples whose neighborhoods in the input space cover what is uncertain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.kernels import Herding

__all__ = ["FIRST_RADIUS", "TARGETS", "first_batch", "later_batch", "nearest_labeled"]

FIRST_RADIUS = 0.7
"""Share of the tile radius that is the radius of the first batch's kernel."""
TARGETS = 50_000
"""Samples to cover at most; of larger pools, this many evenly spaced ones."""


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
    size = n + (0 if labeled is None else len(next(iter(labeled.values()))))
    radius = FIRST_RADIUS * kernels.tile_radius(inputs, max(size, 1), present=present)
    return kernels.herding(
        inputs,
        n,
        labeled=labeled,
        present=present,
        labeled_present=labeled_present,
        radius=radius,
        targets=TARGETS,
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
    """Choose samples that cover the uncertain ones that no labeled sample covers.

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
        The size of the batch where ``n`` also counts further candidates; default: n.

    Returns
    -------
    rlmba.kernels.Herding
        As :func:`first_batch`.

    Raises
    ------
    UsageError, ShapeError, NonFiniteError, DataError
        As for :func:`rlmba.kernels.herding`.
    """
    if radius is None:
        balls = (n if size is None else size) + (
            0 if labeled is None else len(next(iter(labeled.values())))
        )
        radius = kernels.tile_radius(features, max(balls, 1), weights=weights, present=present)
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
    share = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    parts = [
        np.asarray(a, dtype=np.float64) * w**0.5
        for w, a in zip(share, labeled.values(), strict=True)
    ]
    rows = np.concatenate(parts, axis=1)
    smallest = np.inf
    for row in range(1, len(rows)):
        squared = ((rows[:row] - rows[row]) ** 2).sum(axis=1)
        smallest = min(smallest, squared[squared > 0].min(initial=np.inf))
    return float(np.sqrt(smallest)) if np.isfinite(smallest) else None
