"""RL-MBA on pools in shards."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common.random import seed_from
from rlmba.kernels.minmax.reference import rescaled
from rlmba.kernels.sharded import Group, agreed, kmeans, top_k
from rlmba.kernels.sharded.rows import Span, taken
from rlmba.method import scoring
from rlmba.method.efda import Difficulty
from rlmba.method.state import Candidates, Moments, candidate_features, state_vector
from rlmba.strategies.base import Choice
from rlmba.strategies.rlmba import Rlmba
from rlmba.strategies.sharded.query import Query
from rlmba.types import PoolOutputs

__all__ = ["choose_rlmba"]


class _Measured(NamedTuple):
    """Values of this process's samples: arrays [n] and [n, M], and bool [n, M] or None."""

    u: Difficulty
    present: NDArray[np.bool_] | None


def choose_rlmba(query: Query, n: int) -> Choice:
    """Make the choice of :meth:`rlmba.strategies.rlmba.Rlmba.choose`."""
    strategy: Rlmba = query.strategy
    context, group, pool = query.context, query.group, query.pool
    model = pool.pool_of(np.zeros(1, np.int64))
    weights, temperatures = context.weights_for(model), context.temperatures_for(model)
    parts: list[_Measured] = []

    def measured(some: PoolOutputs) -> list[NDArray[Any]]:
        u = scoring.uncertainties(
            some, weights, temperatures, evidence=strategy.evidence, uncertainty=strategy.measure
        )
        parts.append(_Measured(u, some.present))
        return [some.fused_features] if strategy.diversity else []

    distances = None
    if strategy.diversity:
        rows, seed = query.stored(measured), seed_from(context.rng)
        steps = strategy.lloyd_steps
        distances = kmeans(rows, n, seed=seed, group=group, max_iter=steps).distances
        del rows
    else:
        with agreed(group):
            for _ in pool.each(measured):
                pass
    if not parts:
        measured(model.take(np.empty(0, np.int64)))
    here = _joined(parts)
    if distances is not None and strategy.measure == "variance":
        distances = distances.astype(here.u.modality.dtype, copy=False)
    limits = scoring.Limits.of(here.u, here.present, distances, group)
    score = scoring.score_within(
        here.u, weights, here.present, distances, limits, beta=strategy.beta,
        uncertainty=strategy.measure,
    )  # fmt: skip
    best = top_k(score.q, min(strategy.kappa * n, pool.rows), begin=pool.begin, group=group)
    if strategy.policy == "greedy":
        picks = np.arange(n)
    elif strategy.agent is None:
        picks = context.rng.permutation(len(best.indices))[:n]
    else:
        found = Moments.of(score, here.present, distances, group)
        state = state_vector(context, weights, model.n_classes, found)
        candidates = _candidates(score, here.present, limits, best.indices, group)
        features = candidate_features(weights, candidates)
        picks = strategy.agent.draw(state, features, n, rng=context.rng)
    return Choice(best.indices[picks], best.values[picks])


def _joined(parts: list[_Measured]) -> _Measured:
    if len(parts) == 1:
        return parts[0]
    u = Difficulty(*(np.concatenate(a) for a in zip(*(part.u for part in parts), strict=True)))
    present = [part.present for part in parts if part.present is not None]
    return _Measured(u, np.concatenate(present) if present else None)


def _candidates(
    score: scoring.Score,
    present: NDArray[np.bool_] | None,
    limits: scoring.Limits,
    positions: NDArray[np.int64],
    group: Group,
) -> Candidates:
    """Collect the values of the candidates of all processes in every process."""
    hard = score.difficulty
    low, high = limits.difficulty.astype(hard.dtype)
    kept = [
        score.q,
        score.normalized_uncertainty,
        rescaled(hard, low, high),
        score.normalized_distance,
    ]
    kept += [] if present is None else [present]
    span = Span(group.gather(len(score.q)), group.rank)
    found = taken(lambda rows: [a[rows] for a in kept], positions, span, group)
    q, uncertainty, difficulty, distance = found[:4]
    return Candidates(q, uncertainty, difficulty, distance, found[4] if len(found) > 4 else None)
