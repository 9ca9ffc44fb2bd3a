"""DropQuery: cluster the samples whose prediction does not survive dropout of their features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.errors import UsageError
from rlmba.kernels.common.arrays import require_finite
from rlmba.strategies.base import Choice, Stages, Strategy
from rlmba.strategies.geometry import LLOYD_STEPS, fused_head, nearest_distinct
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["DropQuery"]

_BLOCK = 2**22
"""Numbers that are dropped at a time, at most."""


@dataclass(kw_only=True)
class DropQuery(Strategy):
    """The samples nearest to the centers of those whose predicted class changes under dropout.

    The fused head classifies each sample ``passes`` times with a share ``dropout`` of its fused
    features set to zero. The candidates are the samples for which more than half of the passes differ
    from the prediction without dropout; if these are fewer than the batch, the samples with the most
    differing passes are added. Candidates are clustered by k-means, one cluster for each sample of the
    batch. Each center takes the nearest candidate that no earlier center has taken.

    Parameters
    ----------
    passes : int
        >= 1.
    dropout : float
        The probability that a feature is dropped, within (0, 1). As in training, the remaining
        features are divided by 1 - dropout.

    Raises
    ------
    UsageError
        If an option is out of its range; from :meth:`query`, if the context has no head.
    ShapeError
        From :meth:`query`, if the head does not fit the pool.

    References
    ----------
    Gupte, Aklilu, Nirschl and Yeung-Levy, "Revisiting active learning in the era of vision foundation
    models", TMLR 2024.
    """

    name: ClassVar[str] = "dropquery"
    summary: ClassVar[str] = "centers of the samples that dropout of features changes (DropQuery)"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "logits", "head"})

    passes: int = 3
    dropout: float = 0.75

    def __post_init__(self) -> None:
        if self.passes < 1:
            raise UsageError(f"dropquery: expected passes >= 1, got {self.passes}")
        if not 0 < self.dropout < 1:
            raise UsageError(f"dropquery: expected dropout within (0, 1), got {self.dropout}")

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are the shares of passes that differ; the order is that of the clusters.

        Dropout and the seeding of k-means draw by position, so permuting the pool gives another draw
        from the same law.

        Raises
        ------
        NonFiniteError
            If fused features or logits contain NaN or infinity.
        """
        with stages("dropout"):
            differing = self._differing(pool, context)
            ranked = kernels.top_k(differing.astype(np.float64), len(pool)).indices
            enough = max(n, int((2 * differing > self.passes).sum()))
            candidates = np.sort(ranked[:enough])
        with stages("kmeans"):
            rows = pool.fused_features[candidates]
            found = kernels.kmeans(rows, n, rng=context.rng, max_iter=LLOYD_STEPS)
            positions = candidates[nearest_distinct(found.centers, rows)]
        return Choice(positions, differing[positions] / self.passes)

    def _differing(self, pool: PoolOutputs, context: QueryContext) -> NDArray[np.int64]:
        """Number of passes [N] whose predicted class is not that of the fused logits."""
        head, x = fused_head(self.name, pool, context), pool.fused_features
        require_finite(pool.fused_logits, "fused_logits")
        require_finite(x, "fused_features")
        predicted = pool.fused_logits.argmax(axis=1)
        differing = np.zeros(len(pool), dtype=np.int64)
        size = max(1, _BLOCK // max(1, x.shape[1]))
        for start in range(0, len(pool), size):
            block = slice(start, start + size)
            for _ in range(self.passes):
                kept = context.rng.random(x[block].shape, dtype=np.float32) >= self.dropout
                logits = (x[block] * kept) @ (head.weight.T / (1 - self.dropout)) + head.bias
                differing[block] += logits.argmax(axis=1) != predicted[block]
        return differing
