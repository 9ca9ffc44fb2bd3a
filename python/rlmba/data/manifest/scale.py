"""Mean and standard deviation of numbers, which standardize them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.data.checks import as_loaded
from rlmba.errors import DataError

__all__ = ["Scale"]


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each of D columns: float64 [D]."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def fit(cls, values: NDArray[np.float64], rows: NDArray[np.int64]) -> Scale:
        """Fit to some rows of values [n, D]; NaN marks a missing value and is ignored.

        A constant column gets deviation 1. A column without any value also gets mean 0.
        """
        taken = values[rows]
        there = ~np.isnan(taken)
        count = np.maximum(there.sum(axis=0), 1)
        mean = np.where(there, taken, 0.0).sum(axis=0) / count
        square = np.where(there, (taken - mean) ** 2, 0.0).sum(axis=0)
        deviation = np.sqrt(square / count)
        # Rounding gives a constant column a tiny deviation, which would magnify later differences.
        deviation[deviation <= 1e-9 * np.abs(mean)] = 1.0
        return cls(mean, deviation)

    def __call__(self, values: NDArray[np.float64], ids: Sequence[str]) -> NDArray[np.float32]:
        """Standardize [n, D]; NaN becomes the mean.

        Raises
        ------
        DataError
            If a number is so far from the mean that the result exceeds float32. The message names the
            sample by ``ids`` [n], and the column.
        """
        filled = np.where(np.isnan(values), self.mean, values)
        scaled = as_loaded((filled - self.mean) / self.deviation)
        beyond = np.argwhere(np.isinf(scaled))
        if len(beyond):
            row, column = beyond[0].tolist()
            raise DataError(
                f"sample {ids[row]!r}: expected numbers within float32 after standardization, got "
                f"{values[row, column]} in column {column} with mean {self.mean[column]:.6g} and standard "
                f"deviation {self.deviation[column]:.6g}; repair or drop the row"
            )
        return scaled

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scale:
        """Inverse of :meth:`to_dict`."""
        return cls(np.array(data["mean"], np.float64), np.array(data["deviation"], np.float64))
