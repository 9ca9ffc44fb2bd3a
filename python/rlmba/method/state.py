"""The state s_t = [g, phi, u, d, rho] and the candidates' features.

Neither depends on the number of classes or modalities: quantities with one entry per modality are
summarized over the modalities, so that a policy can be used on any data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.errors import CheckpointError
from rlmba.kernels.sharded import Alone, Group, moments
from rlmba.method.efda import sample_weights
from rlmba.method.scoring import Score
from rlmba.types import QueryContext

__all__ = [
    "CANDIDATE_FEATURES",
    "STATE_FEATURES",
    "Candidates",
    "Moments",
    "RunningStandardizer",
    "candidate_features",
    "state_vector",
]

_ALONE = Alone()

STATE_FEATURES = (
    "top1",
    "nll",
    "ece",
    "delta_mean",
    "delta_std",
    "delta_min",
    "delta_max",
    "weight_balance",
    "weight_max",
    "uncertainty_mean",
    "uncertainty_std",
    "uncertainty_spread",
    "difficulty_mean",
    "difficulty_std",
    "distance_mean",
    "distance_std",
    "loss_slope",
    "gradient_norm",
)
"""Names of the state's entries; ``spread`` is the standard deviation over modalities of their means.
Modalities that no sample of the pool has are excluded from ``uncertainty_*``."""

CANDIDATE_FEATURES = (
    "score",
    "score_rank",
    "uncertainty_weighted",
    "uncertainty_max",
    "uncertainty_spread",
    "difficulty",
    "distance",
)
"""Names of the columns of the candidates' features; ``spread`` is the standard deviation over the
modalities that the candidate has, 0 for one or none."""


class Moments(NamedTuple):
    """Means and standard deviations over the pool that enter the state.

    ``uncertainty`` float64 [M', 2]: of the raw u_m, for the M' modalities that some sample has.
    ``difficulty`` and ``distance`` float64 [2]: of U and of d; ``distance`` is 0 without distances.
    """

    uncertainty: NDArray[np.float64]
    difficulty: NDArray[np.float64]
    distance: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        score: Score,
        present: NDArray[np.bool_] | None,
        distances: NDArray[np.floating] | None,
        group: Group = _ALONE,
    ) -> Moments:
        """Return the moments over the samples of all processes; the arguments are those of this process."""
        u = np.asarray(score.uncertainty, dtype=np.float64)
        known = np.ones(u.shape, dtype=bool) if present is None else present
        columns = [u[known[:, j], j] for j in range(u.shape[1])]
        columns.append(np.asarray(score.difficulty, dtype=np.float64))
        columns.append(np.zeros(1) if distances is None else np.asarray(distances, np.float64))
        found = moments(columns, group=group)
        modality = found[:-2][~np.isnan(found[:-2, 0])]
        return cls(modality if len(modality) else np.zeros((1, 2)), found[-2], found[-1])


def state_vector(
    context: QueryContext, weights: NDArray[np.float64], classes: int, pool: Moments
) -> NDArray[np.float64]:
    """s_t before standardization.

    The validation NLL is divided by log C and clipped to [0, 1] (a uniform guess gives 1); Top-1 and
    ECE are within [0, 1] anyway. Parts of the context that are None (validation, contributions) are 0.

    Parameters
    ----------
    context : QueryContext
    weights : float array [M]
    classes : int
        C, the number of classes.
    pool : Moments

    Returns
    -------
    float64 array [18]
        In the order of :data:`STATE_FEATURES`.
    """
    m = len(weights)
    w = weights
    delta = np.zeros(m) if context.contributions is None else np.asarray(context.contributions)
    if context.validation is None:
        g = [0.0, 0.0, 0.0]
    else:
        mm = context.validation.mm
        g = [mm.top1, min(max(mm.nll / np.log(max(classes, 2)), 0.0), 1.0), mm.ece]
    balance = -(w * np.log(np.maximum(w, 1e-300))).sum() / np.log(m) if m > 1 else 1.0
    means, stds = pool.uncertainty.T
    return np.array(
        [
            *g,
            delta.mean(),
            delta.std(),
            delta.min(),
            delta.max(),
            balance,
            w.max(),
            means.mean(),
            stds.mean(),
            means.std(),
            *pool.difficulty,
            *pool.distance,
            context.training.loss_slope,
            context.training.gradient_norm,
        ],
        dtype=np.float64,
    )


class Candidates(NamedTuple):
    """Values of the K candidates, best first.

    ``q`` [K]; ``uncertainty`` [K, M], ``difficulty`` [K] and ``distance`` [K], which are min-max
    normalized over the pool; ``present`` bool [K, M] or None.
    """

    q: NDArray[Any]
    uncertainty: NDArray[Any]
    difficulty: NDArray[Any]
    distance: NDArray[Any]
    present: NDArray[np.bool_] | None

    @classmethod
    def of(
        cls, score: Score, present: NDArray[np.bool_] | None, positions: NDArray[np.int64]
    ) -> Candidates:
        """Return the candidates at some positions of a pool, from the score of the whole pool."""
        return cls(
            score.q[positions],
            score.normalized_uncertainty[positions],
            kernels.minmax(score.difficulty)[positions],
            score.normalized_distance[positions],
            None if present is None else present[positions],
        )


def candidate_features(
    weights: NDArray[np.float64],
    candidates: Candidates,
    *,
    base: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Features of the candidates, each within [0, 1] except the standardized ``score``.

    Parameters
    ----------
    weights : float array [M]
    candidates : Candidates
    base : float array [K] or None
        Used instead of q for ``score``, if an untrained policy is to follow another order.

    Returns
    -------
    float64 array [K, 7]
        In the order of :data:`CANDIDATE_FEATURES`. ``score`` is q, or ``base``, standardized over the
        candidates (all 0 if they are equal); ``score_rank`` decreases from 1 to 0.
    """
    q = np.asarray(candidates.q, dtype=np.float64) if base is None else base
    spread = q.std()
    u = np.asarray(candidates.uncertainty, dtype=np.float64)
    present = candidates.present
    w = sample_weights(weights, present)
    known = np.ones(u.shape, dtype=bool) if present is None else present
    k = len(q)
    return np.stack(
        [
            (q - q.mean()) / spread if spread > 0 else np.zeros(k),
            np.linspace(1.0, 0.0, k) if k > 1 else np.ones(k),
            (w * u).sum(axis=1),
            u.max(axis=1, initial=0.0, where=known),
            _spread(u, known),
            np.asarray(candidates.difficulty, dtype=np.float64),
            np.asarray(candidates.distance, dtype=np.float64),
        ],
        axis=1,
    )


def _spread(u: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Standard deviation [K] over the known columns of ``u`` [K, M]; 0 in rows without any."""
    if known.all():
        return np.asarray(u.std(axis=1), dtype=np.float64)
    count = np.maximum(known.sum(axis=1), 1)
    mean = u.sum(axis=1, where=known) / count
    squares = ((u - mean[:, None]) ** 2).sum(axis=1, where=known)
    return np.asarray(np.sqrt(squares / count), dtype=np.float64)


class RunningStandardizer:
    """Running mean and variance of a vector (Welford), for states across rounds.

    The first vector maps to 0, because its scale is unknown. Results are clipped to [-5, 5].
    """

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean = np.zeros(size)
        self.m2 = np.zeros(size)

    def update(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Update the statistics with ``x``, then return it standardized by them."""
        self.count += 1
        step = x - self.mean
        self.mean = self.mean + step / self.count
        self.m2 = self.m2 + step * (x - self.mean)
        return self.apply(x)

    def apply(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """``x`` standardized by the current statistics, 0 before the first update; changes nothing."""
        std = np.sqrt(self.m2 / max(self.count, 1))
        z = np.divide(x - self.mean, std, out=np.zeros_like(self.mean), where=std > 1e-12)
        return np.clip(z, -5.0, 5.0)

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Arrays that restore the statistics."""
        return {"count": np.array([float(self.count)]), "mean": self.mean, "m2": self.m2}

    def load_state_dict(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Inverse of :meth:`state_dict`.

        Raises
        ------
        CheckpointError
            If the sizes differ, because another version saved the state.
        """
        if state["mean"].shape != self.mean.shape:
            raise CheckpointError(
                f"policy state: expected {self.mean.size} state features, got {state['mean'].size}; "
                "another version saved it"
            )
        self.count = int(state["count"][0])
        self.mean = state["mean"].copy()
        self.m2 = state["m2"].copy()
