"""Naive NumPy implementation of :func:`rlmba.kernels.shapley_contributions`: one softmax per coalition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rlmba.kernels.shapley_contributions import Game


def shapley_contributions(game: Game) -> NDArray[np.float64]:
    """Values float64 [N, M]: sums of the weighted marginal worths in the game's plan."""
    game.require_finite()
    n, m = len(game.labels), len(game.parts)
    worth = [_probability(game, members) for members in game.plan.members()]
    values = np.zeros((n, m))
    for k, before, after, share in zip(*game.plan.terms(), strict=True):
        values[:, k] += share * (worth[after] - worth[before])
    return values


def _probability(game: Game, members: list[int]) -> NDArray[np.float64]:
    """p_y [N] when only ``members`` add to the bias."""
    logits = np.tile(game.bias, (len(game.labels), 1))
    for k in members:
        part = game.parts[k].astype(np.float64)
        if game.present is not None:
            part = np.where(game.present[:, k, None], part, 0.0)
        logits += part
    logits -= logits.max(axis=1, keepdims=True)
    e = np.exp(logits)
    return np.asarray(e[np.arange(len(e)), game.labels] / e.sum(axis=1))
