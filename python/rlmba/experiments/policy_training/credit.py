"""Advantages from rewards: returns, baselines, standardization."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlmba.experiments.policy_training.episodes import Episode
from rlmba.experiments.policy_training.settings import PolicyTraining

__all__ = ["advantages", "returns"]

Floats = NDArray[np.float64]


def returns(rewards: Floats, *, rule: str, discount: float) -> Floats:
    """The return that each round's draw is credited with.

    Parameters
    ----------
    rewards : float array [T]
    rule : {"immediate", "to-go"}
        r_t, or r_t + discount r_{t+1} + discount^2 r_{t+2} + ...
    discount : float

    Examples
    --------
    >>> returns(np.array([1.0, 0.0, 4.0]), rule="to-go", discount=0.5)
    array([2., 2., 4.])
    """
    g = np.array(rewards, dtype=np.float64)
    if rule == "to-go":
        for t in range(len(g) - 2, -1, -1):
            g[t] += discount * g[t + 1]
    return g


def advantages(
    episodes: Sequence[Episode], settings: PolicyTraining, moving: dict[str, Floats]
) -> list[Floats]:
    """Advantages [T] of each episode's rounds.

    Parameters
    ----------
    episodes : sequence of Episode
        The episodes of one step; those of a task have the same number of rounds.
    settings : PolicyTraining
    moving : dict of task to float64 array [T]
        Moving averages of the returns before this step; they are updated. A task without one starts with
        the mean of this step.
    """
    by_task: dict[str, list[int]] = defaultdict(list)
    for i, episode in enumerate(episodes):
        by_task[episode.task].append(i)
    out: list[Floats] = [np.empty(0)] * len(episodes)
    for task, members in by_task.items():
        g = np.stack(
            [
                returns(episodes[i].rewards, rule=settings.returns, discount=settings.discount)
                for i in members
            ]
        )
        mean = g.mean(axis=0)
        before = moving.get(task, mean)
        moving[task] = settings.momentum * before + (1 - settings.momentum) * mean
        if settings.baseline == "siblings":
            a = g - _of_siblings(g, [episodes[i].start for i in members])
        else:
            a = g - before
        if settings.standardize:
            scale = float(np.sqrt((a**2).mean()))
            a = a / scale if scale > 1e-12 else np.zeros_like(a)
        for i, row in zip(members, a, strict=True):
            out[i] = row
    return out


def _of_siblings(g: Floats, starts: Sequence[int]) -> Floats:
    """Mean over the other episodes with the same start [E, T]; without siblings, the episode itself."""
    baseline = g.copy()
    for start in set(starts):
        family = [i for i, s in enumerate(starts) if s == start]
        if len(family) > 1:
            total = g[family].sum(axis=0)
            baseline[family] = (total - g[family]) / (len(family) - 1)
    return baseline
