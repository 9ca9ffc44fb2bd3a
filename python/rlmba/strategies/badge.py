"""BADGE: samples drawn by the k-means++ law from gradient embeddings of the fused head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlmba import kernels
from rlmba.strategies.base import Choice, Stages, Strategy
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["Badge"]


@dataclass(kw_only=True)
class Badge(Strategy):
    """Batch Active learning by Diverse Gradient Embeddings (Ash et al., ICLR 2020).

    The embedding of a sample is (p - onehot(argmax p)) (x) f, the gradient of the fused head's loss for
    the predicted class. The first sample has the largest norm; each further one is drawn with
    probability proportional to its squared distance to the nearest one drawn before. The computation is
    exact, but never forms an embedding.
    """

    name: ClassVar[str] = "badge"
    summary: ClassVar[str] = "k-means++ on gradient embeddings of the fused head"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "logits"})
    on_device: ClassVar[bool] = True

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are distances to the nearest sample drawn before; for the first sample, its norm."""
        with stages("embed"):
            residuals = kernels.gradient_residuals(pool.fused_logits)
        with stages("draw"):
            drawn = kernels.gradient_kmeans_plusplus(
                residuals, pool.fused_features, n, rng=context.rng
            )
        return Choice(drawn.indices, drawn.distances)
