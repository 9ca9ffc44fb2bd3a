"""NumPy implementation of :func:`rlmba.kernels.tile_radius`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common.modality_rows import ModalityRows

__all__ = ["squared_to_neighbors"]


def squared_to_neighbors(
    rows: ModalityRows, sampled: NDArray[np.int64], rank: int
) -> NDArray[np.float64]:
    """D from each sampled row to its ``rank``-th nearest other row: float64 [S]."""
    rows.require_finite()
    out = np.empty(len(sampled))
    for i, position in enumerate(sampled):
        squared = np.delete(rows.squared_distances(rows, int(position)), position)
        out[i] = np.partition(squared, rank - 1)[rank - 1]
    return out
