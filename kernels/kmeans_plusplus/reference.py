"""NumPy implementations of :func:`rlmba.kernels.kmeans_plusplus`: sequential and in blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common import arrays, d2_sampling
from rlmba.kernels.common.random import uniform01
from rlmba.kernels.kmeans_plusplus import spec
from rlmba.kernels.min_distance import reference as min_distance


def sequential(
    x: arrays.Float, k: int, rng: np.random.Generator, first: int | None = None
) -> NDArray[np.int64]:
    """Sample one center per pass, by the definition: positions int64 [k] in drawn order.

    The first center is uniform or given. Each further center is drawn with probability proportional
    to D^2, or uniformly from the rows not drawn yet if all D^2 are 0.
    """
    x = x.astype(np.float64)
    drawn = [int(rng.integers(len(x))) if first is None else first]
    squared = ((x - x[drawn[0]]) ** 2).sum(axis=1)
    while len(drawn) < k:
        weights = squared
        if not squared.any():
            weights = np.ones(len(x))
            weights[drawn] = 0
        drawn.append(int(rng.choice(len(x), p=weights / weights.sum())))
        squared = np.minimum(squared, ((x - x[drawn[-1]]) ** 2).sum(axis=1))
    return np.array(drawn, dtype=np.int64)


@dataclass
class Rows:
    """Rows of a matrix, for :mod:`rlmba.kernels.common.d2_sampling`."""

    x: arrays.Float

    def __len__(self) -> int:
        return len(self.x)

    def nearest(self, positions: list[int]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """See :class:`~rlmba.kernels.common.d2_sampling.Points`."""
        return min_distance.nearest(self.x, self.x[positions])

    def squared(self, position: int, others: list[int]) -> NDArray[np.float64]:
        """See :class:`~rlmba.kernels.common.d2_sampling.Points`."""
        difference = self.x[others].astype(np.float64) - self.x[position].astype(np.float64)
        return np.asarray((difference**2).sum(axis=1))


def blocked(
    x: arrays.Float,
    k: int,
    seed: int,
    first: int | None,
    *,
    block_min: int = spec.BLOCK_MIN,
    block_max: int = spec.BLOCK_MAX,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Sample in blocks, with exactly the random stream of the compiled kernel.

    Returns
    -------
    (int64 array [k], float64 array [N], int64 array [N])
        Positions in drawn order, squared distances to the nearest of them, and which it is.
    """
    if first is None:
        first = d2_sampling.place(float(uniform01(seed, 0, 1)[0]), len(x))
    drawn = d2_sampling.draw_blocks(
        Rows(x), k, seed, first, block_min=block_min, block_max=block_max
    )
    return drawn.indices, drawn.squared, drawn.labels


def kmeans_plusplus(
    x: arrays.Float, k: int, seed: int, first: int | None
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Check that the input is finite and call :func:`blocked`."""
    arrays.require_finite(x, "x")
    return blocked(x, k, seed, first)
