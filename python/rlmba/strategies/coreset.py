"""CoreSet: the samples that, together with the labeled ones, cover the pool best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlmba import kernels
from rlmba.kernels.common.arrays import match_kind
from rlmba.strategies.base import Choice, Stages, Strategy
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["CoreSet"]


@dataclass(kw_only=True)
class CoreSet(Strategy):
    """Greedy k-center on the fused features, with the labeled samples as the first centers.

    Each chosen sample is the one with the largest distance to all labeled samples and all samples chosen
    before it (Sener and Savarese, "Active learning for convolutional neural networks: a core-set
    approach", ICLR 2018). Without labeled samples, the first is the one nearest to the mean of the pool.

    Raises
    ------
    ShapeError, DataError
        From :meth:`query`, if the width of ``labeled_features`` differs from that of the pool's fused
        features, or they contain NaN or infinity.
    """

    name: ClassVar[str] = "coreset"
    summary: ClassVar[str] = "greedy k-center: farthest from all labeled and chosen samples"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    optional: ClassVar[frozenset[str]] = frozenset({"labeled"})
    on_device: ClassVar[bool] = True

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are the Euclidean distances when each sample was chosen; ties by pool position."""
        labeled = context.labeled_for(pool)
        if labeled is not None:
            labeled = match_kind(labeled, pool.fused_features)
        with stages("k_center"):
            result = kernels.k_center(pool.fused_features, n, labeled=labeled)
        return Choice(result.indices, result.distances)
