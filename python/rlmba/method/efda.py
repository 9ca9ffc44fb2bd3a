"""Difficulty-aware evidential fusion: Dirichlet parameters, Eq 3 and 4, and other uncertainties.

References
----------
Xu, Si, Guan, Zhao, Wu and Gao, "Reliable Conflictive Multi-View Learning", AAAI 2024.
Zhao, Zhang, Pan, Xu and Pelusi, "Evidential Deep Active Learning for Semi-Supervised Classification",
2025.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from rlmba import kernels
from rlmba.errors import UsageError
from rlmba.kernels.common import evidential
from rlmba.kernels.common.arrays import to_host
from rlmba.types import PoolOutputs

__all__ = [
    "EVIDENCE",
    "UNCERTAINTY",
    "Difficulty",
    "conflict",
    "difficulty",
    "dirichlet",
    "entropy",
    "fuse",
    "sample_weights",
    "vacuity",
    "vacuity_and_conflict",
]

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


def vacuity(
    pool: PoolOutputs,
    weights: NDArray[np.float64],
    temperatures: NDArray[np.float64],
    *,
    evidence: str = "softplus",
) -> Difficulty:
    """C / alpha_0 of alpha_f and of each alpha_m: 1 without any evidence, towards 0 with much.

    Parameters and result are those of :func:`difficulty`; float64 arrays.
    """
    alphas = _alphas(pool, temperatures, evidence)
    fused = fuse(alphas, sample_weights(weights, pool.present))
    return Difficulty(_vacuity(fused), np.stack([_vacuity(a) for a in alphas], axis=1))


def conflict(
    pool: PoolOutputs,
    weights: NDArray[np.float64],
    temperatures: NDArray[np.float64],
    *,
    evidence: str = "softplus",
) -> Difficulty:
    """How much modalities contradict each other, in [0, 1].

    The degree of conflict of two modalities (Xu et al. 2024) is half the l1 distance of their expected
    class probabilities alpha / alpha_0, times (1 - vacuity) of both, so that modalities without
    evidence contradict nothing.

    Parameters
    ----------
    pool, temperatures, evidence
        As in :func:`difficulty`.
    weights : float array [M]
        Not used, because every pair counts equally.

    Returns
    -------
    Difficulty
        float64 arrays. ``fused`` is the mean over all pairs of modalities that a sample has, and
        ``modality`` the mean over the pairs with that modality; 0 without such a pair.
    """
    del weights
    alphas = _alphas(pool, temperatures, evidence)
    n, m = len(pool), len(alphas)
    there = np.ones((n, m), np.bool_) if pool.present is None else pool.present
    p = [a / a.sum(axis=1, keepdims=True) for a in alphas]
    sure = [1.0 - _vacuity(a) for a in alphas]
    total, pairs = np.zeros((n, m)), np.zeros((n, m))
    for i, j in itertools.combinations(range(m), 2):
        both = there[:, i] & there[:, j]
        degree = 0.5 * np.abs(p[i] - p[j]).sum(axis=1) * sure[i] * sure[j] * both
        for k in (i, j):
            total[:, k] += degree
            pairs[:, k] += both
    fused = total.sum(axis=1) / np.maximum(pairs.sum(axis=1), 1)
    return Difficulty(fused, total / np.maximum(pairs, 1))


def vacuity_and_conflict(
    pool: PoolOutputs,
    weights: NDArray[np.float64],
    temperatures: NDArray[np.float64],
    *,
    evidence: str = "softplus",
) -> Difficulty:
    """Vacuity v and conflict c combined by the T-conorm v + c - v c, as by Zhao et al. (2025).

    Parameters and result are those of :func:`vacuity`.
    """
    v = vacuity(pool, weights, temperatures, evidence=evidence)
    c = conflict(pool, weights, temperatures, evidence=evidence)
    return Difficulty(*(a + b - a * b for a, b in zip(v, c, strict=True)))


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


UNCERTAINTY: Mapping[str, Callable[..., Difficulty]] = {
    "variance": difficulty,
    "vacuity": vacuity,
    "conflict": conflict,
    "vacuity+conflict": vacuity_and_conflict,
}
"""Measures of a sample's uncertainty under its Dirichlet distributions, by name."""


def _alphas(
    pool: PoolOutputs, temperatures: NDArray[np.float64], evidence: str
) -> list[NDArray[np.float64]]:
    kind = pool.evidence or evidence
    pairs = zip(pool.logits.values(), temperatures, strict=True)
    return [dirichlet(to_host(logits), float(t), kind) for logits, t in pairs]


def _vacuity(alpha: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(alpha.shape[1] / alpha.sum(axis=1), dtype=np.float64)
