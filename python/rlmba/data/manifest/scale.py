"""Mean and deviation of numbers, by which they are standardized."""

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

    def __call__(self, values: NDArray[np.float64], ids: Sequence[str]) -> NDArray[np.float32]:
        """Standardize [n, D]; NaN becomes the mean.

        Raises
        ------
        DataError
            If a number is so far from the mean that float32 cannot hold the result; the message names
            the sample of ``ids`` [n] and the column.
        """
        filled = np.where(np.isnan(values), self.mean, values)
        scaled = as_loaded((filled - self.mean) / self.deviation)
        beyond = np.argwhere(np.isinf(scaled))
        if len(beyond):
            row, column = beyond[0].tolist()
            raise DataError(
                f"sample {ids[row]!r}: expected numbers that float32 holds once standardized, got "
                f"{values[row, column]} in column {column} of mean {self.mean[column]:.6g} and deviation "
                f"{self.deviation[column]:.6g}; repair or drop the row"
            )
        return scaled

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scale:
        """Inverse of :meth:`to_dict`."""
        return cls(np.array(data["mean"], np.float64), np.array(data["deviation"], np.float64))
