"""RLMBA-X: the paper's pipeline with margins as difficulty, and clusters of the candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.kernels.common.arrays import match_kind, to_host
from rlmba.method import scoring
from rlmba.strategies.base import Choice, Stages
from rlmba.strategies.learned import ClusteredDraw, policy_inputs
from rlmba.strategies.uncertainty import margin_difficulty
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["RlmbaX", "one_per_cluster"]


def one_per_cluster(labels: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Take the first candidate of each cluster in order, then fill up with the others in order.

    Parameters
    ----------
    labels : int64 array [K]
        Cluster of each candidate, best candidate first.
    n : int
        0 <= n <= K.

    Returns
    -------
    int64 array [n]
        Indices into the candidates: the first of each cluster in ascending order, then the rest in
        ascending order until there are n.
    """
    first = np.sort(np.unique(labels, return_index=True)[1])[:n]
    rest = np.setdiff1d(np.arange(len(labels)), first, assume_unique=True)
    return np.concatenate([first, rest[: n - len(first)]]).astype(np.int64)


@dataclass(kw_only=True)
class RlmbaX(ClusteredDraw):
    """The most ambiguous candidates, at most one per cluster until every cluster has been used.

    The difficulty is q = 1 - (p_(1) - p_(2)) of the fused softmax. The kappa n best by q are clustered
    into n clusters by k-means on their fused features. A walk over the candidates by descending q takes
    those whose cluster is unused, and then the others by q. Similar to Cluster-Margin (Citovsky et al.,
    2021).

    Parameters
    ----------
    policy : {"none", "learned"}
        "learned" draws by a residual over the order of that walk. Before it has learned anything, and
        with ``explore=False``, it takes exactly the samples of the walk, in the order of the walk.
    **options
        Those of :class:`~rlmba.strategies.learned.ClusteredDraw`.
    """

    name: ClassVar[str] = "rlmba-x"
    summary: ClassVar[str] = "margin difficulty, one sample per cluster of the candidates"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "logits"})
    policies: ClassVar[tuple[str, ...]] = ("none", "learned")

    policy: str = "none"
    sharpness: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.agent is not None:
            # Only the policy reads the modalities separately.
            self.needs = self.needs | {"modality_logits"}  # type: ignore[misc]

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are q; permuting the pool permutes the result if q has no ties."""
        with stages("score"):
            q = margin_difficulty(pool.fused_logits)
        with stages("candidates"):
            candidates = scoring.candidates(q, n, kappa=self.kappa)
        with stages("kmeans"):
            features = pool.fused_features[match_kind(candidates, pool.fused_features)]
            clusters = kernels.kmeans(features, n, rng=context.rng, max_iter=self.lloyd_steps)
        with stages("walk"):
            walk = one_per_cluster(to_host(clusters.labels), len(candidates))
        picks = walk[:n]
        if self.agent is not None:
            with stages("policy"):
                distances = to_host(clusters.distances).astype(np.float64, copy=False)
                inputs = policy_inputs(
                    pool, context, to_host(q), candidates, order=walk, distances=distances
                )
                picks = self.agent.draw(*inputs, n, rng=context.rng)
        positions = candidates[picks]
        return Choice(positions, q[match_kind(positions, q)])
