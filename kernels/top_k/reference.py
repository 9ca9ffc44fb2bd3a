"""Naive NumPy implementation of :func:`rlmba.kernels.top_k`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common import arrays


def top_k(values: arrays.Float, k: int) -> NDArray[np.int64]:
    """Stable sort of the negated values, first k positions."""
    arrays.require_finite(values, "values")
    return np.argsort(-values, kind="stable")[:k].astype(np.int64)
