"""NumPy forms of :func:`rlmba.kernels.kmeans_plusplus`: the law, and the stream of draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common import arrays, distances
from rlmba.kernels.common.random import uniform01
from rlmba.kernels.kmeans_plusplus import spec
from rlmba.kernels.min_distance import reference as min_distance


def sequential(
    x: arrays.Float, k: int, rng: np.random.Generator, first: int | None = None
) -> NDArray[np.int64]:
    """The law itself, one center per pass: positions int64 [k] in drawn order.

    The first center is uniform or given, each next one is drawn with probability proportional to D^2,
    and uniformly from the rows not drawn yet where all D^2 are 0.
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


class _WeightedDraw:
    """Draws positions in proportion to weights, summed chunk by chunk as ``spec`` says."""

    def __init__(self, weights: NDArray[np.float64]) -> None:
        self._weights = weights
        starts = range(0, len(weights), spec.REDUCTION_ROWS)
        self._sums = np.array([np.cumsum(weights[s : s + spec.REDUCTION_ROWS])[-1] for s in starts])
        self._ends = np.cumsum(self._sums)
        self.total = float(self._ends[-1])

    def draw(self, uniform: float) -> int:
        target = uniform * self.total
        chunk = min(int(np.searchsorted(self._ends, target, side="right")), len(self._ends) - 1)
        while not self._sums[chunk] > 0:
            chunk -= 1
        rest = target - self._ends[chunk - 1] if chunk > 0 else target
        start = chunk * spec.REDUCTION_ROWS
        weights = self._weights[start : start + spec.REDUCTION_ROWS]
        inside = int(np.searchsorted(np.cumsum(weights), rest, side="right"))
        if inside == len(weights):
            inside = int(np.flatnonzero(weights)[-1])
        return start + inside


@dataclass
class _State:
    """Centers so far, and each row's squared distance to and place of the nearest of them."""

    x: arrays.Float
    drawn: list[int]
    squared: NDArray[np.float64]
    labels: NDArray[np.int64]

    def extend(self, positions: list[int]) -> None:
        squared, labels = min_distance.nearest(self.x, self.x[positions])
        nearer = squared < self.squared
        self.labels[nearer] = labels[nearer] + len(self.drawn)
        self.squared[nearer] = squared[nearer]
        self.drawn += positions


def _place(uniform: float, count: int) -> int:
    return min(int(uniform * count), count - 1)


def _accept_block(
    state: _State, proposals: list[int], uniforms: NDArray[np.float64], room: int
) -> tuple[list[int], int]:
    """Which proposals to keep (at most ``room``), and how many were looked at."""
    rows = state.x[proposals].astype(np.float64)
    before = state.squared[proposals]
    now = before.copy()
    kept: list[int] = []
    for j, position in enumerate(proposals):
        if len(kept) == room:
            return kept, j
        if now[j] > 0 and uniforms[j] * before[j] <= now[j]:
            kept.append(position)
            now = np.minimum(now, ((rows - rows[j]) ** 2).sum(axis=1))
    return kept, len(proposals)


def blocked(
    x: arrays.Float,
    k: int,
    seed: int,
    first: int | None,
    *,
    block_min: int = spec.BLOCK_MIN,
    block_max: int = spec.BLOCK_MAX,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """The blocked form, draw for draw the stream that the compiled one uses.

    Returns
    -------
    (int64 array [k], float64 array [N], int64 array [N])
        Positions in drawn order, squared distances to the nearest of them, and its place.
    """
    n = len(x)
    state = _State(x, [], np.full(n, np.inf), np.full(n, -1, dtype=np.int64))
    state.extend([_place(float(uniform01(seed, 0, 1)[0]), n) if first is None else first])
    counter = 1
    while len(state.drawn) < k:
        law = _WeightedDraw(state.squared)
        if not np.isfinite(law.total):
            raise distances.overflow()
        if law.total == 0:
            break
        size = min(max(len(state.drawn), block_min), block_max)
        uniforms = uniform01(seed, counter, 2 * size)
        proposals = [law.draw(u) for u in uniforms[::2].tolist()]
        kept, walked = _accept_block(state, proposals, uniforms[1::2], k - len(state.drawn))
        state.extend(kept)
        counter += 2 * walked
    free = sorted(set(range(n)) - set(state.drawn)) if len(state.drawn) < k else []
    for uniform in uniform01(seed, counter, k - len(state.drawn)).tolist():
        state.drawn.append(free.pop(_place(uniform, len(free))))
    return np.array(state.drawn, dtype=np.int64), state.squared, state.labels


def kmeans_plusplus(
    x: arrays.Float, k: int, seed: int, first: int | None
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """:func:`blocked` of finite input."""
    arrays.require_finite(x, "x")
    return blocked(x, k, seed, first)
