"""How each strategy chooses from a pool in shards: the same batch as from arrays in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.errors import UsageError
from rlmba.kernels.common.arrays import to_host
from rlmba.kernels.common.random import seed_from
from rlmba.kernels.sharded import Alone, agreed, gradient_kmeans_plusplus, k_center, top_k
from rlmba.kernels.sharded.top_k import merged
from rlmba.kernels.top_k import TopK
from rlmba.strategies.badge import Badge
from rlmba.strategies.base import Choice, Stages, Strategy, TopScore
from rlmba.strategies.bmmal import Bmmal
from rlmba.strategies.coreset import CoreSet
from rlmba.strategies.rlmba import Rlmba
from rlmba.strategies.rlmba_x import RlmbaX
from rlmba.strategies.sharded.query import Query
from rlmba.strategies.sharded.rlmba import choose_rlmba
from rlmba.strategies.uncertainty import margin_difficulty
from rlmba.types import PoolOutputs

__all__ = ["RULES", "rule_of", "why_not"]

_ALONE = Alone()


def _top_score(query: Query, n: int) -> Choice:
    state, best = query.context.rng.bit_generator.state, TopK(np.empty(0), np.empty(0, np.int64))

    def scored(pool: PoolOutputs) -> list[NDArray[Any]]:
        query.context.rng.bit_generator.state = copy.deepcopy(
            state
        )  # the same draws for each block
        return [np.asarray(to_host(query.strategy.score(pool, query.context)))]

    with agreed(query.group):
        for at, (scores,) in query.pool.each(scored):
            found = top_k(scores, min(n, len(scores)), begin=at, group=_ALONE)
            best = merged([best, found], n)
    best = merged(query.group.gather(best), n)
    return Choice(best.indices, best.values)


def _rlmba_x(query: Query, n: int) -> Choice:
    strategy = query.strategy
    if strategy.agent is not None:
        raise UsageError("rlmba-x: expected policy 'none' for a pool in shards, got 'learned'")
    count, best = strategy.kappa * n, TopK(np.empty(0), np.empty(0, np.int64))
    with agreed(query.group):
        for at, (q,) in query.pool.each(lambda pool: [margin_difficulty(pool.fused_logits)]):
            best = merged([best, top_k(q, min(count, len(q)), begin=at, group=_ALONE)], count)
    best = merged(query.group.gather(best), count)
    candidates = query.pool.pool_of(best.indices)
    choice = strategy.choose(candidates, query.context, n, Stages())
    return Choice(best.indices[to_host(choice.positions)], choice.scores)


def _coreset(query: Query, n: int) -> Choice:
    rows = query.stored(lambda pool: [pool.fused_features])
    labeled = query.context.labeled_features
    found = k_center(rows, n, group=query.group, labeled=labeled)
    return Choice(found.indices, found.distances)


def _badge(query: Query, n: int) -> Choice:
    def made(pool: PoolOutputs) -> list[NDArray[Any]]:
        return _factors(kernels.gradient_residuals(pool.fused_logits), [pool.fused_features])

    rows, seed = query.stored(made), seed_from(query.context.rng)
    drawn = gradient_kmeans_plusplus(rows, n, seed=seed, group=query.group)
    return Choice(drawn.indices, drawn.distances)


def _bmmal(query: Query, n: int) -> Choice:
    context = query.context
    state = copy.deepcopy(context.rng.bit_generator.state)
    parts = 0

    def made(pool: PoolOutputs) -> list[NDArray[Any]]:
        nonlocal parts
        context.rng.bit_generator.state = copy.deepcopy(state)  # the same draws for each block
        residuals, features, scales = query.strategy.embedding(pool, context)
        parts = len(features)
        return _factors(residuals, features, scales)

    rows = query.stored(made)
    # A process without rows has not drawn the random numbers that the others have drawn.
    parts, seed = max(query.group.gather((parts, seed_from(context.rng))))
    drawn = gradient_kmeans_plusplus(
        rows, n, seed=seed, group=query.group, parts=parts, scaled=True
    )
    return Choice(drawn.indices, drawn.distances)


def _factors(
    residuals: NDArray[Any], features: Sequence[NDArray[Any]], scales: Any = None
) -> list[NDArray[Any]]:
    """The factors of gradient embeddings in the type in which they are computed."""
    dtype = np.result_type(residuals, *features)
    given = [residuals, *features, *([] if scales is None else [scales])]
    return [np.asarray(a).astype(dtype, copy=False) for a in given]


RULES: dict[type[Strategy], Callable[[Query, int], Choice]] = {
    Badge: _badge,
    Bmmal: _bmmal,
    CoreSet: _coreset,
    Rlmba: choose_rlmba,
    RlmbaX: _rlmba_x,
}
"""Strategies that are exact over shards, beside those that score each sample alone."""

_WHY_NOT = {
    "gcnal": "trains a graph network on all rows in every step; use coreset",
    "rlmba-h": "covers the pool from its input features, which shards do not have; use coreset, or select "
    "candidates by margin first",
    "maxherding": "compares all pairs of samples; use coreset",
    "uherding": "compares all pairs of samples; use rlmba-x",
    "probcover": "compares all pairs of samples; use coreset",
    "typiclust": "clusters the whole pool; use coreset",
    "tcm": "clusters the whole pool; use margin",
    "dropquery": "clusters the whole pool; use rlmba-x",
    "alfa-mix": "clusters its candidates, which may be the whole pool; use rlmba-x",
    "galaxy": "builds a graph of all samples; use margin",
}


def rule_of(strategy: Strategy) -> Callable[[Query, int], Choice]:
    """How a strategy chooses from shards.

    Raises
    ------
    UsageError
        If it cannot; the message gives the reason, and what can be used instead.
    """
    if type(strategy) in RULES:
        return RULES[type(strategy)]
    if isinstance(strategy, TopScore) and strategy.by_row:
        return _top_score
    raise UsageError(
        f"strategy {strategy.name!r} cannot choose from shards: it {why_not(strategy)}"
    )


def why_not(strategy: Strategy) -> str:
    """Why a strategy cannot choose from shards; "" if it can."""
    if type(strategy) in RULES or (isinstance(strategy, TopScore) and strategy.by_row):
        return ""
    return _WHY_NOT.get(strategy.name, "needs the whole pool in memory; use margin or coreset")
