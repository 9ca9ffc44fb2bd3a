"""CoreSet: the samples that cover the pool best, beside the labeled ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rlmba import kernels
from rlmba.errors import DataError, UsageError
from rlmba.strategies.base import Choice, Stages, Strategy
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["CoreSet"]


@dataclass(kw_only=True)
class CoreSet(Strategy):
    """Greedy k-center on the fused features, with the labeled samples as the first centers.

    Each sample is the one farthest from all labeled samples and all chosen before it (Sener and
    Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018).
    Without labeled samples the first is the one nearest to the mean of the pool.

    Raises
    ------
    UsageError
        From :meth:`query`, if ``labeled_features`` have another width than the pool's fused features.
    DataError
        From :meth:`query`, if they hold NaN or infinity.
    """

    name: ClassVar[str] = "coreset"
    summary: ClassVar[str] = "greedy k-center: farthest from all labeled and chosen samples"

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are Euclidean distances at the moment of choice; ties by pool position."""
        labeled = context.labeled_features
        width = pool.fused_features.shape[1]
        if labeled is not None and (labeled.ndim != 2 or labeled.shape[1] != width):
            raise UsageError(
                f"coreset: expected QueryContext.labeled_features [L, {width}], as wide as the pool's "
                f"fused features, got shape {labeled.shape}; take both from the same model and fusion"
            )
        if labeled is not None and not np.isfinite(labeled).all():
            row = int(np.argmin(np.isfinite(labeled).all(axis=1)))
            raise DataError(
                f"coreset: expected finite QueryContext.labeled_features, row {row} holds NaN or "
                "infinity; drop or repair that labeled sample"
            )
        with stages("k_center"):
            result = kernels.k_center(pool.fused_features, n, labeled=labeled)
        return Choice(result.indices, result.distances)
