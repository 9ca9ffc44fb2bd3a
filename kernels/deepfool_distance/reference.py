"""Naive NumPy implementation of :func:`rlmba.kernels.deepfool_distance`: float64, one sample at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common import arrays


def deepfool_distance(
    logits: arrays.Float, weight: arrays.Float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distances [N] and classes [N], directly from the definition."""
    arrays.require_finite(logits, "logits")
    f, w = logits.astype(np.float64), weight.astype(np.float64)
    distances = np.full(len(f), np.inf)
    classes = np.full(len(f), -1, dtype=np.int64)
    for i, row in enumerate(f):
        y = int(np.argmax(row))
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            gap = row[y] - row
            d = np.where(gap == 0, 0.0, gap / np.sqrt(((w - w[y]) ** 2).sum(axis=1)))
        d[y] = np.inf
        k = int(np.argmin(d))
        if d[k] < np.inf:
            distances[i], classes[i] = d[k], k
    return distances, classes
