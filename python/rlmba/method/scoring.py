"""Diversity, score and candidates: Eq 5 to 7."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.kernels.common.arrays import to_host
from rlmba.kernels.fused_score.within import score_rows
from rlmba.kernels.minmax.reference import rescaled
from rlmba.kernels.sharded import Group
from rlmba.method import efda
from rlmba.types import PoolOutputs

__all__ = [
    "Limits",
    "Score",
    "candidates",
    "diversity",
    "score",
    "score_within",
    "uncertainties",
]


class Score(NamedTuple):
    """Eq 6 and its parts, in pool order.

    ``q`` [N]; ``uncertainty`` [N, M] raw u_m; ``difficulty`` [N] raw U; ``normalized_uncertainty``
    [N, M] and ``normalized_distance`` [N] in [0, 1].
    """

    q: NDArray[Any]
    uncertainty: NDArray[Any]
    difficulty: NDArray[Any]
    normalized_uncertainty: NDArray[Any]
    normalized_distance: NDArray[Any]


class Limits(NamedTuple):
    """The smallest and largest values over a pool; (inf, -inf) if there is no value.

    ``uncertainty`` [M, 2] has those of the raw u_m of samples that have the modality, ``difficulty`` [2]
    those of the raw U, and ``distance`` [2] those of the distances.
    """

    uncertainty: NDArray[Any]
    difficulty: NDArray[Any]
    distance: NDArray[Any]

    @classmethod
    def of(
        cls,
        u: efda.Difficulty,
        present: NDArray[np.bool_] | None,
        distances: NDArray[Any] | None,
        group: Group,
    ) -> Limits:
        """Return the limits over the samples of all processes; the arguments are those of this process."""
        m = u.modality.shape[1]
        columns = [
            u.modality[:, j] if present is None else u.modality[present[:, j], j] for j in range(m)
        ]
        columns += [u.fused, np.empty(0, u.fused.dtype) if distances is None else distances]
        every = group.gather([(c.min(initial=np.inf), c.max(initial=-np.inf)) for c in columns])
        low, high = np.min(every, axis=0)[:, 0], np.max(every, axis=0)[:, 1]
        found = np.stack([low, high], axis=1)
        return cls(found[:m], found[m], found[m + 1])


def diversity(
    fused_features: NDArray[Any], clusters: int, *, rng: np.random.Generator, lloyd_steps: int = 5
) -> NDArray[Any]:
    """d(x) = min_k ||f(x) - c_k||_2 over the centroids of a budgeted k-means of the pool (Eq 5).

    Parameters
    ----------
    fused_features : float array [N, D]
    clusters : int
        k = b, at most N.
    rng : numpy.random.Generator
        Seeds k-means++.
    lloyd_steps : int
        The largest number of Lloyd iterations.

    Returns
    -------
    float array [N]
    """
    result = kernels.kmeans(fused_features, clusters, rng=rng, max_iter=lloyd_steps)
    distances: NDArray[Any] = result.distances
    return distances


def score(
    pool: PoolOutputs,
    weights: NDArray[np.float64],
    temperatures: NDArray[np.float64],
    distances: NDArray[Any] | None,
    *,
    beta: float = 1.0,
    evidence: str = "softplus",
    uncertainty: str = "variance",
) -> Score:
    """q(x) = sum_m w_m u~_m(x) + beta d~(x), u_m and d min-max normalized over the pool (Eq 6).

    Parameters
    ----------
    pool : PoolOutputs
    weights, temperatures : float array [M]
    distances : float array [N] or None
        Eq 5; None omits the term (the ablation without diversity).
    beta : float
        Weight of diversity, >= 0.
    evidence : {"softplus", "exp", "relu"}
        Used if the heads were not trained to output evidence (``pool.evidence`` is None).
    uncertainty : {"variance", "vacuity", "conflict", "vacuity+conflict", "entropy"}
        What u_m and U are: Dirichlet variances (Eq 4), another measure of
        :data:`rlmba.method.efda.UNCERTAINTY`, or the entropies of the heads' softmax.

    Notes
    -----
    A modality that a sample lacks has weight 0 for that sample and is excluded from the normalization;
    the weights of the others are renormalized.
    """
    if uncertainty == "variance":
        return _fused(pool, weights, temperatures, distances, beta=beta, evidence=evidence)
    u = _measured(pool, weights, temperatures, evidence, uncertainty)
    normalized = kernels.minmax(u.modality, mask=pool.present)
    near = None if distances is None else kernels.minmax(to_host(distances))
    return _sum(u, weights, pool.present, normalized=normalized, near=near, beta=beta)


def _fused(
    pool: PoolOutputs,
    weights: NDArray[np.float64],
    temperatures: NDArray[np.float64],
    distances: NDArray[Any] | None,
    *,
    beta: float,
    evidence: str,
) -> Score:
    s = kernels.fused_score(
        list(pool.logits.values()),
        weights,
        distances=distances,
        beta=beta,
        temperature=temperatures,
        evidence=pool.evidence or evidence,
        present=pool.present,
    )
    return Score(
        s.score, s.uncertainty, s.difficulty, s.normalized_uncertainty, s.normalized_distance
    )


def _measured(
    pool: PoolOutputs,
    weights: NDArray[np.float64],
    temperatures: NDArray[np.float64],
    evidence: str,
    uncertainty: str,
) -> efda.Difficulty:
    if uncertainty == "entropy":
        return efda.entropy(pool, temperatures)
    return efda.UNCERTAINTY[uncertainty](pool, weights, temperatures, evidence=evidence)


def _sum(
    u: efda.Difficulty,
    weights: NDArray[np.float64],
    present: NDArray[np.bool_] | None,
    *,
    normalized: NDArray[np.float64],
    near: NDArray[Any] | None,
    beta: float,
) -> Score:
    w = efda.sample_weights(weights, present)
    far = np.zeros(len(u.fused)) if near is None else np.asarray(near, dtype=np.float64)
    return Score((w * normalized).sum(axis=1) + beta * far, u.modality, u.fused, normalized, far)


def uncertainties(
    pool: PoolOutputs,
    weights: NDArray[np.float64],
    temperatures: NDArray[np.float64],
    *,
    evidence: str = "softplus",
    uncertainty: str = "variance",
) -> efda.Difficulty:
    """Compute U and u_m as in :func:`score`, for some samples of a pool."""
    if uncertainty == "variance":
        s = _fused(pool, weights, temperatures, None, beta=0.0, evidence=evidence)
        return efda.Difficulty(s.difficulty, s.uncertainty)
    return _measured(pool, weights, temperatures, evidence, uncertainty)


def score_within(
    u: efda.Difficulty,
    weights: NDArray[np.float64],
    present: NDArray[np.bool_] | None,
    distances: NDArray[Any] | None,
    limits: Limits,
    *,
    beta: float = 1.0,
    uncertainty: str = "variance",
) -> Score:
    """Compute :func:`score` for some samples of a pool.

    Parameters
    ----------
    u : Difficulty
        The result of :func:`uncertainties` for these samples.
    weights, present, beta, uncertainty
        See :func:`score`; the values of these samples.
    distances : float array [n] or None
        The distances. If ``uncertainty`` is "variance", they have the dtype of u, to which :func:`score`
        converts them.
    limits : Limits
        The limits over the whole pool.

    Returns
    -------
    Score
        The rows that :func:`score` returns for the whole pool.
    """
    if uncertainty == "variance":
        found = score_rows(
            u.modality,
            weights,
            present=present,
            distances=distances,
            beta=beta,
            limits=np.concatenate([limits.uncertainty, limits.distance[None]]),
        )
        return Score(found[0], u.modality, u.fused, *found[1:])
    normalized = np.zeros_like(u.modality)
    for j, (low, high) in enumerate(limits.uncertainty):
        normalized[:, j] = rescaled(u.modality[:, j], low, high)
    if present is not None:
        normalized[~present] = 0
    near = None if distances is None else rescaled(distances, *limits.distance)
    return _sum(u, weights, present, normalized=normalized, near=near, beta=beta)


def candidates(q: NDArray[Any], n: int, *, kappa: int = 5) -> NDArray[np.int64]:
    """C_t, the positions of the K = kappa n largest scores (Eq 7), K at most the size of the pool.

    Returns
    -------
    int64 array [K]
        A NumPy array, whatever the scores are. Largest first; ties by pool position, the lower first.
    """
    return to_host(kernels.top_k(q, min(kappa * n, len(q))).indices)
