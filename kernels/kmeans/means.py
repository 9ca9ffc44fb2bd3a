"""Mean of the rows with each label, which does not depend on the order of the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels import dispatch

__all__ = ["Means"]


class Means:
    """Sums of rows and numbers of rows, by label.

    Parameters
    ----------
    k, width : int
        Number of labels and number of columns.
    by : float64 array
        The result of :func:`rlmba.kernels.common.exact_sums.constants` for the rows.

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
        """Add the rows ``x`` [n, width], which have the labels ``labels`` [n]."""
        self._core.cluster_sums(x, labels, self._by, self.sums, self.counts)

    def summed(self, over: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Means:
        """Return these sums plus those of other processes, which the function ``over`` adds."""
        every = over(np.concatenate([self.sums.ravel(), self.counts]))
        self.sums = every[: self.sums.size].reshape(self.sums.shape)
        self.counts = every[self.sums.size :].astype(np.int64)
        return self

    def move(self, centers: NDArray[Any]) -> None:
        """Set ``centers`` [k, width] to the means; a center without rows keeps its value."""
        filled = self.counts > 0
        centers[filled] = self.sums.sum(axis=0)[filled] / self.counts[filled, None]
