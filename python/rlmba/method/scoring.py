"""Diversity, score and candidates: Eq 5 to 7."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.kernels.common.arrays import to_host
from rlmba.method import efda
from rlmba.types import PoolOutputs

__all__ = ["Score", "candidates", "diversity", "score"]


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
    if uncertainty == "entropy":
        u = efda.entropy(pool, temperatures)
    else:
        u = efda.UNCERTAINTY[uncertainty](pool, weights, temperatures, evidence=evidence)
    normalized = kernels.minmax(u.modality, mask=pool.present)
    w = efda.sample_weights(weights, pool.present)
    if distances is None:
        near = np.zeros(len(pool))
    else:
        near = np.asarray(kernels.minmax(to_host(distances)), dtype=np.float64)
    q = (w * normalized).sum(axis=1) + beta * near
    return Score(q, u.modality, u.fused, normalized, near)


def candidates(q: NDArray[Any], n: int, *, kappa: int = 5) -> NDArray[np.int64]:
    """C_t, the positions of the K = kappa n largest scores (Eq 7), K at most the size of the pool.

    Returns
    -------
    int64 array [K]
        A NumPy array, whatever the scores are. Largest first; ties by pool position, the lower first.
    """
    return to_host(kernels.top_k(q, min(kappa * n, len(q))).indices)
