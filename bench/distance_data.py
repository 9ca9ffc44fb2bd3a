"""Data for the distance benches: Gaussian noise, and a mixture that resembles trained features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KINDS = ("normal", "mixture")
COMPONENTS = 100


def make(kind: str, rows: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    """Rows [rows, width] of standard normal noise; for a mixture, around one of 100 centers (s.d. 2)."""
    generator = np.random.default_rng(seed)
    x = np.empty((rows, width), dtype=np.float32)
    means = 2 * generator.standard_normal((COMPONENTS, width), dtype=np.float32)
    for begin in range(0, rows, 10_000):
        block = x[begin : begin + 10_000]
        generator.standard_normal(dtype=np.float32, out=block)
        if kind == "mixture":
            block += means[generator.integers(COMPONENTS, size=len(block))]
    return x


def potential(distances: NDArray[np.floating]) -> float:
    """Sum of squared distances."""
    return float(np.square(distances, dtype=np.float64).sum())
