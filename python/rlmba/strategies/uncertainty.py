"""Entropy and margin of the fused head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from rlmba import kernels
from rlmba.kernels.common.arrays import require_finite
from rlmba.strategies.base import Choice, Stages, Strategy
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["Entropy", "Margin", "margin_difficulty"]


def _top(scores: NDArray[Any], n: int) -> Choice:
    values, indices = kernels.top_k(scores, n)
    return Choice(indices, values)


def margin_difficulty(logits: NDArray[Any]) -> NDArray[np.float64]:
    """1 - (p_(1) - p_(2)): one minus the gap between the two largest softmax probabilities.

    Parameters
    ----------
    logits : float array [N, C]

    Returns
    -------
    float64 array [N]
        In [0, 1]; 0 everywhere for one class.

    Raises
    ------
    NonFiniteError
        Naming the first row with NaN or infinity.
    """
    require_finite(logits, "logits")
    if logits.shape[1] < 2:
        return np.zeros(len(logits))
    p = softmax(np.asarray(logits, dtype=np.float64), axis=1)
    two = np.partition(p, -2, axis=1)[:, -2:]
    return np.asarray(1.0 - (two[:, 1] - two[:, 0]), dtype=np.float64)


@dataclass(kw_only=True)
class Entropy(Strategy):
    """The n samples of largest entropy of the fused softmax, ties by pool position."""

    name: ClassVar[str] = "entropy"
    summary: ClassVar[str] = "largest entropy of the fused softmax"
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Entropy in nats of softmax(fused logits); scores are the entropies."""
        del context
        with stages("score"):
            require_finite(pool.fused_logits, "fused_logits")
            lp = log_softmax(np.asarray(pool.fused_logits, dtype=np.float64), axis=1)
            return _top(-(np.exp(lp) * lp).sum(axis=1), n)


@dataclass(kw_only=True)
class Margin(Strategy):
    """The n samples with the smallest gap between their two likeliest classes."""

    name: ClassVar[str] = "margin"
    summary: ClassVar[str] = "smallest gap between the two likeliest classes"
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are 1 - (p_(1) - p_(2)) of the fused softmax; ties by pool position."""
        del context
        with stages("score"):
            return _top(margin_difficulty(pool.fused_logits), n)
