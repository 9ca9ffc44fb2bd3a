"""Means of the rows of each label, which do not depend on the order of the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels import dispatch

__all__ = ["Means"]


class Means:
    """Sums and numbers of rows by label.

    Parameters
    ----------
    k, width : int
        Labels and columns.
    by : float64 array
        :func:`rlmba.kernels.common.exact_sums.constants` of the rows.

    Attributes
    ----------
    sums : float64 array [levels, k, width]
    counts : int64 array [k]
    """

    def __init__(self, k: int, width: int, by: NDArray[np.float64]) -> None:
        self._by, self._core = by, dispatch.require_core()
        self.sums = np.zeros((len(by), k, width))
        self.counts = np.zeros(k, dtype=np.int64)

    def add(self, x: NDArray[Any], labels: NDArray[np.int64]) -> None:
        """Add rows x [n, width] with their labels [n]."""
        self._core.cluster_sums(x, labels, self._by, self.sums, self.counts)

    def summed(self, over: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Means:
        """These sums after a function has added those of other processes to them."""
        every = over(np.concatenate([self.sums.ravel(), self.counts]))
        self.sums = every[: self.sums.size].reshape(self.sums.shape)
        self.counts = every[self.sums.size :].astype(np.int64)
        return self

    def move(self, centers: NDArray[Any]) -> None:
        """Set centers [k, width] to the means; one without rows keeps its value."""
        filled = self.counts > 0
        centers[filled] = self.sums.sum(axis=0)[filled] / self.counts[filled, None]
