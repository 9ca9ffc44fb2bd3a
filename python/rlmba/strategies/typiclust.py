"""TypiClust: the most typical sample of each cluster that has no label yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.errors import UsageError
from rlmba.strategies.base import Choice, Stages
from rlmba.strategies.geometry import LLOYD_STEPS, UnitSpace, unit_features
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["TypiClust"]

_OFFSET = 1e-5


@dataclass(kw_only=True)
class TypiClust(UnitSpace):
    """Typical samples of the clusters that hold the fewest labels.

    The pool and the labeled samples are clustered by k-means, with one cluster for each labeled and
    each requested sample. Features are scaled to unit length. The clusters are ordered by their number
    of labeled samples, then by size, the largest first. A walk over them takes from each its most
    typical sample, and starts again at the first cluster until the batch is full. The typicality of a
    sample is the inverse of its mean distance to its nearest neighbors among the unlabeled samples of
    its cluster.

    Parameters
    ----------
    max_clusters : int
        Clusters at most.
    min_cluster_size : int
        Clusters with this many samples or fewer are used only when all others are exhausted.
    neighbors : int
        Nearest neighbors that determine typicality; all others in a smaller cluster.
    **options
        Those of :class:`~rlmba.strategies.geometry.UnitSpace`.

    Raises
    ------
    UsageError
        If an option is out of its range.

    References
    ----------
    Hacohen, Dekel and Weinshall, "Active learning on a budget: opposite strategies suit high and low
    budgets", ICML 2022. The number of clusters and the rule for small ones are those of its code.
    """

    name: ClassVar[str] = "typiclust"
    summary: ClassVar[str] = "most typical samples of clusters without labels (TypiClust)"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    max_clusters: int = 500
    min_cluster_size: int = 5
    neighbors: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        for option, low in (("max_clusters", 1), ("min_cluster_size", 0), ("neighbors", 1)):
            value = getattr(self, option)
            if value < low:
                raise UsageError(f"{self.name}: expected {option} >= {low}, got {value}")

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are typicalities within each sample's cluster, 1 for the only sample of a cluster.

        Clusters of equal size and ties of typicality are ordered by position. The seeding of k-means
        draws by position, so permuting the pool gives another draw from the same law.

        Raises
        ------
        NonFiniteError
            If features contain NaN or infinity.
        ShapeError, DataError
            If the features of labeled samples do not fit the pool, or are not finite.
        """
        with stages("kmeans"):
            features, labeled = unit_features(self.space, pool, context)
            rows = features if labeled is None else np.concatenate([features, labeled])
            k = min(len(rows) - len(features) + n, self.max_clusters, len(rows))
            clusters = kernels.kmeans(rows, k, rng=context.rng, max_iter=LLOYD_STEPS).labels
        with stages("typicality"):
            return self._walk(features, np.asarray(clusters), n)

    def _walk(self, features: NDArray[Any], clusters: NDArray[np.int64], n: int) -> Choice:
        """Take one sample from each cluster in order, until there are n.

        ``clusters`` has the pool's N entries first, then those of the labeled samples.
        """
        mine, theirs = clusters[: len(features)], clusters[len(features) :]
        sizes = np.bincount(clusters)
        labels = np.bincount(theirs, minlength=len(sizes))
        ids, first = np.unique(mine, return_index=True)
        order = ids[np.lexsort((first, -sizes[ids], labels[ids]))]
        by_cluster = np.argsort(mine, kind="stable")
        starts = np.searchsorted(mine[by_cluster], np.arange(len(sizes) + 1))
        members = {int(c): by_cluster[starts[c] : starts[c + 1]] for c in order}
        large = sizes[order] > self.min_cluster_size
        positions: list[int] = []
        scores: list[float] = []
        for group in (order[large], order[~large]):
            left = [int(c) for c in group]
            while left and len(positions) < n:
                for c in left[: n - len(positions)]:
                    best, score = _most_typical(features[members[c]], self.neighbors)
                    positions.append(int(members[c][best]))
                    scores.append(score)
                    members[c] = np.delete(members[c], best)
                left = [c for c in left if len(members[c])]
        return Choice(np.array(positions, dtype=np.int64), np.array(scores))


def _most_typical(rows: NDArray[Any], neighbors: int) -> tuple[int, float]:
    """Position and typicality of the most typical of ``rows`` [s, D], ties by position."""
    from sklearn.neighbors import NearestNeighbors

    if len(rows) == 1:
        return 0, 1.0
    k = min(neighbors, len(rows) - 1)
    distances, _ = NearestNeighbors(n_neighbors=k).fit(rows).kneighbors()
    typicality = 1 / (distances.mean(axis=1) + _OFFSET)
    best = int(typicality.argmax())
    return best, float(typicality[best])
