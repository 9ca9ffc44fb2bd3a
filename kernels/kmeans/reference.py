"""Naive NumPy implementation of :func:`rlmba.kernels.kmeans`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common import arrays
from rlmba.kernels.kmeans_plusplus import reference as seeding
from rlmba.kernels.min_distance import reference as min_distance


def update(x: arrays.Float, labels: NDArray[np.int64], centers: NDArray[Any]) -> NDArray[Any]:
    """Mean of the rows of each label; a center without rows is unchanged."""
    moved = centers.copy()
    for label in np.unique(labels):
        moved[label] = x[labels == label].mean(axis=0, dtype=np.float64)
    return moved


def kmeans(
    x: arrays.Float, k: int, seed: int, max_iter: int, max_memory: int | None
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.float64], int, NDArray[np.int64]]:
    """Centers, labels, squared distances, iterations and seed positions."""
    del max_memory
    indices, squared, labels = seeding.kmeans_plusplus(x, k, seed, None)
    centers = x[indices]
    iterations = 0
    while iterations < max_iter:
        before = labels
        centers = update(x, labels, centers)
        squared, labels = min_distance.nearest(x, centers)
        iterations += 1
        if np.array_equal(labels, before):
            break
    return centers, labels, squared, iterations, indices
