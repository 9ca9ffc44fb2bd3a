"""BADGE: rows drawn by the k-means++ law from gradient embeddings of the fused head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.kernels.common.arrays import require_finite
from rlmba.strategies.base import Choice, Stages, Strategy
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["Badge", "gradient_residuals"]


def gradient_residuals(logits: NDArray[Any]) -> NDArray[Any]:
    """Softmax minus the one-hot vector of its largest entry: the loss gradient at the pseudo-label.

    Parameters
    ----------
    logits : float array [N, C]

    Returns
    -------
    float array [N, C]
        Of the same dtype. The entry of the pseudo-label (ties: the lowest class) is minus the sum of
        the others, so that it keeps its precision where the model is sure.

    Raises
    ------
    NonFiniteError
        Naming the first row with NaN or infinity.
    """
    require_finite(logits, "fused_logits")
    rows, y = np.arange(len(logits)), logits.argmax(axis=1)
    e = np.exp(logits - logits[rows, y][:, None])
    e[rows, y] = 0
    others = e.sum(axis=1)
    e /= (1 + others)[:, None]
    e[rows, y] = -others / (1 + others)
    return np.asarray(e)


@dataclass(kw_only=True)
class Badge(Strategy):
    """Batch Active learning by Diverse Gradient Embeddings (Ash et al., ICLR 2020).

    The embedding of a sample is (p - onehot(argmax p)) (x) f, the gradient of the fused head's loss at
    its own prediction. The first sample has the largest norm; each next one is drawn with probability
    proportional to the squared distance to the nearest one drawn. Exact, without forming an embedding.
    """

    name: ClassVar[str] = "badge"
    summary: ClassVar[str] = "k-means++ on gradient embeddings of the fused head"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "logits"})

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are distances to the nearest sample drawn before; for the first, its norm."""
        with stages("embed"):
            residuals = gradient_residuals(pool.fused_logits)
        with stages("draw"):
            drawn = kernels.gradient_kmeans_plusplus(
                residuals, pool.fused_features, n, rng=context.rng
            )
        return Choice(drawn.indices, drawn.distances)
