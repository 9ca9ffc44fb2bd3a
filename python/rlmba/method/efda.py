"""Difficulty-aware evidential fusion: Dirichlet parameters, Eq 3 and 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from rlmba import kernels
from rlmba.errors import UsageError
from rlmba.kernels.common import evidential
from rlmba.kernels.common.arrays import to_host
from rlmba.types import PoolOutputs

__all__ = ["EVIDENCE", "Difficulty", "difficulty", "dirichlet", "entropy", "fuse", "sample_weights"]

EVIDENCE = evidential.EVIDENCE
"""Evidence functions: log(1 + exp(z)), exp(z) and max(z, 0)."""


class Difficulty(NamedTuple):
    """U(x) of the fused Dirichlet, ``fused`` [N], and u_m(x), ``modality`` [N, M]."""

    fused: NDArray[Any]
    modality: NDArray[Any]


def dirichlet(
    logits: NDArray[Any], temperature: float = 1.0, evidence: str = "softplus"
) -> NDArray[np.float64]:
    """alpha = 1 + evidence(logits / T): float64, every entry >= 1, shape of ``logits``.

    Raises
    ------
    UsageError
        If the temperature is not positive or the evidence function is unknown.
    """
    if not temperature > 0:
        raise UsageError(f"temperature: expected a number > 0, got {temperature}")
    if evidence not in EVIDENCE:
        raise UsageError(f"evidence: expected one of {EVIDENCE}, got {evidence!r}")
    return 1.0 + evidential.evidence(np.asarray(logits), evidence, temperature)


def fuse(alphas: Sequence[NDArray[Any]], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """alpha_f = 1 + sum_m w_m (alpha_m - 1) (Eq 3).

    Parameters
    ----------
    alphas : M arrays [N, C]
    weights : float array [M] or [N, M]
        On the simplex, for all samples or for each sample.

    Returns
    -------
    float64 array [N, C]
        Each entry is between the smallest and the largest alpha_m of the modalities with weight.
    """
    w = np.asarray(weights, dtype=np.float64)
    total = np.zeros_like(np.asarray(alphas[0], dtype=np.float64))
    for m, alpha in enumerate(alphas):
        total += w[..., m, None] * (np.asarray(alpha, dtype=np.float64) - 1.0)
    return total + 1.0


def sample_weights(
    weights: NDArray[np.float64], present: NDArray[np.bool_] | None
) -> NDArray[np.float64]:
    """Weights by sample: absent modalities get 0 and the rest are renormalized.

    Returns
    -------
    float64 array [M] without ``present``, else [N, M]; rows sum to 1. If all present modalities of a
    sample have weight 0, they get equal weights.
    """
    if present is None:
        return weights
    w = np.where(present, weights, 0.0)
    total = w.sum(axis=1, keepdims=True)
    equal = present / np.maximum(present.sum(axis=1, keepdims=True), 1)
    return np.where(total > 0, w / np.where(total > 0, total, 1.0), equal)


def difficulty(
    pool: PoolOutputs,
    weights: NDArray[np.float64],
    temperatures: NDArray[np.float64],
    *,
    evidence: str = "softplus",
) -> Difficulty:
    """U(x) and u_m(x): mean Dirichlet variances of alpha_f and of each alpha_m (Eq 3-4), in one pass.

    Parameters
    ----------
    pool : PoolOutputs
    weights, temperatures : float array [M]
    evidence : {"softplus", "exp", "relu"}
        Used if the heads were not trained to output evidence (``pool.evidence`` is None).

    Returns
    -------
    Difficulty
        In pool order.
    """
    result = kernels.dirichlet_variance(
        list(pool.logits.values()),
        kind="logits",
        temperature=temperatures,
        evidence=pool.evidence or evidence,
        weights=sample_weights(weights, pool.present),
    )
    return Difficulty(result.fused, result.modality)


def entropy(pool: PoolOutputs, temperatures: NDArray[np.float64]) -> Difficulty:
    """Shannon entropies in nats instead of Eq 4: the ablation without EFDA.

    ``fused`` [N] is the entropy of the fused head's softmax, and ``modality`` [N, M] that of each
    modality head's softmax at its temperature.
    """

    def of(logits: NDArray[Any], temperature: float) -> NDArray[np.float64]:
        lp = log_softmax(to_host(logits).astype(np.float64) / temperature, axis=1)
        return np.asarray(-(np.exp(lp) * lp).sum(axis=1), dtype=np.float64)

    heads = [of(a, t) for a, t in zip(pool.logits.values(), temperatures, strict=True)]
    return Difficulty(of(pool.fused_logits, 1.0), np.stack(heads, axis=1))
