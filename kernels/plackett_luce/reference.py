"""Naive NumPy implementation of :mod:`rlmba.kernels.plackett_luce`, one draw at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common import random


def draw(logits: NDArray[np.float64], n: int, seed: int) -> NDArray[np.int64]:
    """The n largest of logits + Gumbel noise."""
    with np.errstate(over="ignore"):
        below = logits - logits.max(initial=-np.finfo(np.float64).max)
    # Adding noise to logits of 1e17 and more would lose it, so the largest logit is subtracted.
    below = np.maximum(below, -np.finfo(np.float64).max)
    keys = below - np.log(-np.log(random.uniform01(seed, 0, len(logits))))
    return np.argsort(-keys, kind="stable")[:n].astype(np.int64)


def log_prob(
    logits: NDArray[np.float64], indices: NDArray[np.int64]
) -> tuple[float, NDArray[np.float64]]:
    """Product of the softmaxes over the remaining positions, and its gradient: O(n K)."""
    remaining = np.ones(len(logits), dtype=bool)
    total = 0.0
    gradient = np.zeros(len(logits))
    for i in indices:
        z = logits - logits[remaining].max()
        odds = np.where(remaining, np.exp(np.where(remaining, z, 0.0)), 0.0)
        others = odds.sum() - odds[i] if odds[i] < odds.sum() / 2 else np.delete(odds, i).sum()
        total -= np.log1p(others / odds[i]) if odds[i] > others else -z[i] + np.log(odds.sum())
        gradient -= odds / odds.sum()
        gradient[i] += 1
        remaining[i] = False
    return float(total), gradient
