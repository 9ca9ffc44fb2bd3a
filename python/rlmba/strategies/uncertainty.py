"""Entropy, margin and confidence of the fused head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from rlmba.kernels.common.arrays import require_finite, to_host
from rlmba.strategies.base import TopScore
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["UNCERTAINTIES", "Entropy", "Margin", "entropy", "margin_difficulty", "uncertainty"]

UNCERTAINTIES = ("margin", "entropy", "confidence")
"""Kinds of :func:`uncertainty`."""


def margin_difficulty(logits: Any) -> Any:
    """1 - (p_(1) - p_(2)): one minus the gap between the two largest softmax probabilities.

    Parameters
    ----------
    logits : float array or torch tensor [N, C]

    Returns
    -------
    float64 array or tensor [N]
        In [0, 1]; 0 for a single class.

    Raises
    ------
    NonFiniteError
        If a row contains NaN or infinity; it names the first one.
    """
    _require_finite(logits, "logits")
    if not isinstance(logits, np.ndarray):
        two = logits.double().softmax(dim=1).topk(min(2, logits.shape[1]), dim=1).values
        return 1.0 - (two[:, 0] - two[:, 1]) if two.shape[1] == 2 else 0.0 * two[:, 0]
    if logits.shape[1] < 2:
        return np.zeros(len(logits))
    p = softmax(np.asarray(logits, dtype=np.float64), axis=1)
    two = np.partition(p, -2, axis=1)[:, -2:]
    return np.asarray(1.0 - (two[:, 1] - two[:, 0]), dtype=np.float64)


def entropy(logits: Any) -> Any:
    """Entropy of the softmax in nats.

    Parameters
    ----------
    logits : float array or torch tensor [N, C]

    Returns
    -------
    float64 array or tensor [N]

    Raises
    ------
    NonFiniteError
        If a row contains NaN or infinity; it names the first one.
    """
    _require_finite(logits, "fused_logits")
    if not isinstance(logits, np.ndarray):
        lp = logits.double().log_softmax(dim=1)
        return -(lp.exp() * lp).sum(dim=1)
    lp = log_softmax(np.asarray(logits, dtype=np.float64), axis=1)
    return -(np.exp(lp) * lp).sum(axis=1)


def uncertainty(kind: str, logits: NDArray[Any]) -> NDArray[np.float64]:
    """Uncertainty u(x) >= 0 of a softmax, by which coverage is weighted.

    Parameters
    ----------
    kind : {"margin", "entropy", "confidence"}
        1 - (p_(1) - p_(2)), the entropy in nats, or 1 - p_(1).
    logits : float array [N, C]

    Returns
    -------
    float64 array [N]

    Raises
    ------
    NonFiniteError
        If a row contains NaN or infinity; it names the first one.
    """
    if kind == "margin":
        return np.asarray(margin_difficulty(logits))
    if kind == "entropy":
        return np.maximum(np.asarray(entropy(logits), dtype=np.float64), 0.0)  # 0, not -1e-17
    _require_finite(logits, "fused_logits")
    return np.asarray(1 - softmax(logits, axis=1).max(axis=1))


def _require_finite(logits: Any, name: str) -> None:
    if isinstance(logits, np.ndarray):
        require_finite(logits, name)
        return
    bad = ~logits.isfinite().all(dim=1)
    if bad.any():
        require_finite(to_host(logits[: int(bad.int().argmax()) + 1]), name)


@dataclass(kw_only=True)
class Entropy(TopScore):
    """The n samples with the largest entropy of the fused softmax."""

    name: ClassVar[str] = "entropy"
    summary: ClassVar[str] = "largest entropy of the fused softmax"
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})

    def score(self, pool: PoolOutputs, context: QueryContext) -> Any:
        """Entropy in nats of softmax(fused logits)."""
        del context
        return entropy(pool.fused_logits)


@dataclass(kw_only=True)
class Margin(TopScore):
    """The n samples with the smallest gap between their two most likely classes."""

    name: ClassVar[str] = "margin"
    summary: ClassVar[str] = "smallest gap between the two most likely classes"
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})

    def score(self, pool: PoolOutputs, context: QueryContext) -> Any:
        """1 - (p_(1) - p_(2)) of the fused softmax."""
        del context
        return margin_difficulty(pool.fused_logits)
