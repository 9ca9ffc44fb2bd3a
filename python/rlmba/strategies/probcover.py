"""ProbCover: balls around samples that cover as many uncovered samples as possible."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.errors import UsageError
from rlmba.method.herding import squared_distances
from rlmba.strategies.base import Choice, Stages
from rlmba.strategies.geometry import LLOYD_STEPS, UnitSpace, unit_features
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["ProbCover", "pure_radius"]

_BLOCK = 2**22
"""Distances of a block of rows to all others, at most."""


def pure_radius(rows: NDArray[Any], clusters: NDArray[np.int64], purity: float) -> float:
    """The largest radius at which the balls around a share ``purity`` of the rows are pure.

    A ball is pure if all rows within the radius are of its center's cluster.

    Parameters
    ----------
    rows : float array [N, D]
    clusters : int64 array [N]
    purity : float
        Within (0, 1].

    Returns
    -------
    float
        At most this radius, exactly: the largest float below the smallest distance at which purity
        falls under the given share; 0 if no positive radius is pure enough. Infinite for a
        single cluster.
    """
    other = np.full(len(rows), np.inf)
    for c in np.unique(clusters):
        mine = clusters == c
        if not mine.all():
            other[mine] = kernels.min_distance(rows[mine], rows[~mine]).distances
    # A ball stops being pure at the distance to the nearest row of another cluster.
    impure = math.floor((1 - purity) * len(rows) + 1e-9)
    first = float(np.sort(other)[impure]) if impure < len(rows) else math.inf
    return first if math.isinf(first) else max(0.0, float(np.nextafter(first, 0)))


@dataclass(kw_only=True)
class ProbCover(UnitSpace):
    """Greedy maximum coverage by balls of a fixed radius.

    Samples within ``delta`` of a labeled sample are covered. Each pick is the sample with the most
    uncovered samples of the pool within ``delta``, which it covers. Features are scaled to unit length,
    so distances are within [0, 2].

    Parameters
    ----------
    delta : float or None
        The radius. None: the largest one at which the share ``purity`` of the balls around the pool's
        and the labeled samples is pure, where k-means clusters, one for each class, replace the
        classes (:func:`pure_radius`).
    purity : float
        Within (0, 1].
    **options
        Those of :class:`~rlmba.strategies.geometry.UnitSpace`.

    Raises
    ------
    UsageError
        If an option is out of its range.

    References
    ----------
    Yehuda, Dekel, Hacohen and Weinshall, "Active learning through a covering lens", NeurIPS 2022.
    """

    name: ClassVar[str] = "probcover"
    summary: ClassVar[str] = "balls of a fixed radius that cover the most samples (ProbCover)"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "logits"})

    delta: float | None = None
    purity: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.delta is not None and not self.delta >= 0:
            raise UsageError(f"probcover: expected delta >= 0 or None, got {self.delta}")
        if not 0 < self.purity <= 1:
            raise UsageError(f"probcover: expected purity within (0, 1], got {self.purity}")

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are the numbers of samples that each pick newly covers; ties by pool position.

        The logits only give the number of classes. With ``delta=None``, the seeding of k-means draws by
        position. Time is O(N^2 D), memory O(N).

        Raises
        ------
        NonFiniteError
            If features contain NaN or infinity.
        ShapeError, DataError
            If the features of labeled samples do not fit the pool, or are not finite.
        """
        with stages("radius"):
            features, labeled = unit_features(self.space, pool, context)
            delta = self.delta
            if delta is None:
                rows = features if labeled is None else np.concatenate([features, labeled])
                k = min(pool.n_classes, len(rows))
                found = kernels.kmeans(rows, k, rng=context.rng, max_iter=LLOYD_STEPS)
                delta = pure_radius(rows, found.labels, self.purity)
        with stages("cover"):
            uncovered = np.ones(len(features), np.bool_)
            if labeled is not None:
                uncovered = kernels.min_distance(features, labeled).distances > delta
            return _cover(features, uncovered, delta, n)


def _cover(features: NDArray[Any], uncovered: NDArray[np.bool_], delta: float, n: int) -> Choice:
    """Pick the sample with the most uncovered ones within delta, n times.

    Each row is compared with all others at most three times: to count it, when it is picked, and when
    it is covered.
    """
    x = np.asarray(features, dtype=np.float64)
    degree = np.zeros(len(x), dtype=np.int64)
    for near in _balls(x, np.flatnonzero(uncovered), delta):
        degree += near.sum(axis=0)
    positions, scores = np.empty(n, dtype=np.int64), np.empty(n)
    for i in range(n):
        best = positions[i] = degree.argmax()
        scores[i] = degree[best]
        if degree[best] > 0:
            ball = next(_balls(x, np.array([best]), delta))[0]
            covered = np.flatnonzero(ball & uncovered)
            uncovered[covered] = False
            for near in _balls(x, covered, delta):
                degree -= near.sum(axis=0)
        degree[positions[: i + 1]] = -1
    return Choice(positions, scores)


def _balls(
    x: NDArray[np.float64], centers: NDArray[np.int64], delta: float
) -> Iterator[NDArray[np.bool_]]:
    """Which rows are within delta of each center: bool [block, N] for one block of centers at a time."""
    size = max(1, _BLOCK // len(x))
    for start in range(0, len(centers), size):
        block = centers[start : start + size]
        yield squared_distances(x[block], x) <= delta * delta
