"""Mean and deviation of numbers, by which they are standardized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scale"]


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of each of D columns: float64 [D]."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def fit(cls, values: NDArray[np.float64], rows: NDArray[np.int64]) -> Scale:
        """Of these rows [n, D], each column of those that have it (NaN: has not).

        A constant column keeps deviation 1; one that no row has mean 0.
        """
        taken = values[rows]
        there = ~np.isnan(taken)
        count = np.maximum(there.sum(axis=0), 1)
        mean = np.where(there, taken, 0.0).sum(axis=0) / count
        square = np.where(there, (taken - mean) ** 2, 0.0).sum(axis=0)
        deviation = np.sqrt(square / count)
        # Rounding leaves a constant column a tiny deviation, which would blow up what differs later.
        deviation[deviation <= 1e-9 * np.abs(mean)] = 1.0
        return cls(mean, deviation)

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Standardize [n, D]; NaN becomes the mean."""
        filled = np.where(np.isnan(values), self.mean, values)
        return ((filled - self.mean) / self.deviation).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scale:
        """Inverse of :meth:`to_dict`."""
        return cls(np.array(data["mean"], np.float64), np.array(data["deviation"], np.float64))
