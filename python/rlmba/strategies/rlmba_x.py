"""RLMBA-X: the paper's pipeline with margin for difficulty and clusters among the candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.errors import UsageError
from rlmba.kernels.common.arrays import beside, to_host
from rlmba.method import scoring
from rlmba.strategies.base import Choice, Stages, Strategy
from rlmba.strategies.uncertainty import margin_difficulty
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["RlmbaX", "one_per_cluster"]


def one_per_cluster(labels: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Walk candidates in order, take one whose cluster is unused, fill up from the front.

    Parameters
    ----------
    labels : int64 array [K]
        Cluster of each candidate, best candidate first.
    n : int
        0 <= n <= K.

    Returns
    -------
    int64 array [n]
        Indices into the candidates: first of each cluster in rising order, then the rest in rising
        order until there are n.
    """
    first = np.sort(np.unique(labels, return_index=True)[1])[:n]
    rest = np.setdiff1d(np.arange(len(labels)), first, assume_unique=True)
    return np.concatenate([first, rest[: n - len(first)]]).astype(np.int64)


@dataclass(kw_only=True)
class RlmbaX(Strategy):
    """Most ambiguous candidates, at most one per cluster while clusters last.

    q = 1 - (p_(1) - p_(2)) of the fused softmax; the kappa n best by q are clustered into n by
    k-means on their fused features; candidates are taken by falling q where their cluster is unused,
    then by q. Close in spirit to Cluster-Margin (Citovsky et al., 2021).

    Parameters
    ----------
    kappa : int
        Candidates per sample of the batch, >= 1.
    lloyd_steps : int
        Lloyd iterations at most, >= 0.

    Raises
    ------
    UsageError
        If an option is out of its range.
    """

    name: ClassVar[str] = "rlmba-x"
    summary: ClassVar[str] = "margin difficulty, one sample per cluster of the candidates"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "logits"})
    on_device: ClassVar[bool] = True

    kappa: int = 5
    lloyd_steps: int = 5

    def __post_init__(self) -> None:
        if self.kappa < 1 or self.lloyd_steps < 0:
            raise UsageError(
                f"rlmba-x: expected kappa >= 1 and lloyd_steps >= 0, got {self.kappa}, {self.lloyd_steps}"
            )

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are q; permuting the pool permutes the answer where q has no ties."""
        with stages("score"):
            q = margin_difficulty(pool.fused_logits)
        with stages("candidates"):
            candidates = scoring.candidates(q, n, kappa=self.kappa)
        with stages("kmeans"):
            features = pool.fused_features[beside(candidates, pool.fused_features)]
            clusters = kernels.kmeans(features, n, rng=context.rng, max_iter=self.lloyd_steps)
        with stages("walk"):
            positions = candidates[one_per_cluster(to_host(clusters.labels), n)]
        return Choice(positions, q[beside(positions, q)])
