"""Reward, advantage and their moving averages: Eq 8, 9 and 13.

Top-1 is always measured on V, never on test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlmba.errors import DataError, UsageError

__all__ = ["RELATIVE_TO", "REWARDS", "Baseline", "Reward", "mean_curve"]

REWARDS = ("absolute", "incremental", "relative")
RELATIVE_TO = ("gcnal", "badge", "bmmal")
"""The strategies whose mean curve the relative reward is measured from (Eq 8)."""


def mean_curve(curves: Sequence[Mapping[int, float]], labels: int) -> float:
    """Mean Top-1 over baselines' curves at exactly ``labels`` labels (the reference of Eq 8).

    Parameters
    ----------
    curves : sequence of mappings from number of labels to Top-1
        One a baseline (a run).
    labels : int

    Raises
    ------
    DataError
        If there is no curve or one has no point at that number of labels.
    """
    if not curves:
        raise DataError("relative reward: expected at least one baseline curve, got none")
    for i, curve in enumerate(curves):
        if labels not in curve:
            raise DataError(
                f"relative reward: baseline curve {i} has no point at {labels} labels (it has "
                f"{sorted(curve)}); run the baseline under the same initial_labels, batch_size and rounds"
            )
    return math.fsum(curve[labels] for curve in curves) / len(curves)


@dataclass
class Reward:
    """The reward r_t, smoothed by an exponential moving average.

    Parameters
    ----------
    kind : {"absolute", "incremental", "relative"}
        Top1_t; Top1_t - Top1_{t-1}; or Top1_t minus the baselines' mean at the same number of labels
        (Eq 8-9).
    smoothing : float
        Weight of the past in [0, 1): s_t = smoothing s_{t-1} + (1 - smoothing) r_t, s_1 = r_1.
    curves : sequence of mappings
        Baselines' curves, for "relative".

    Raises
    ------
    UsageError
        If the kind is unknown, or "relative" without curves.
    """

    kind: str = "absolute"
    smoothing: float = 0.9
    curves: Sequence[Mapping[int, float]] = ()
    smoothed: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in REWARDS:
            raise UsageError(f"reward kind: expected one of {REWARDS}, got {self.kind!r}")
        if self.kind == "relative" and not self.curves:
            raise UsageError(
                "reward kind 'relative' needs the curves of baselines under the same protocol: "
                "`rlmba compare --strategies gcnal,badge,bmmal --output DIR` makes them, then "
                "`--set reward.curves=[DIR]`"
            )

    def raw(self, top1: float, previous_top1: float, labels: int) -> float:
        """r_t before smoothing; changes nothing."""
        if self.kind == "absolute":
            return top1
        if self.kind == "incremental":
            return top1 - previous_top1
        return top1 - mean_curve(self.curves, labels)

    def smooth(self, raw: float) -> float:
        """Take r_t into the moving average and return it."""
        if self.smoothed is None:
            self.smoothed = raw
        else:
            self.smoothed = self.smoothing * self.smoothed + (1 - self.smoothing) * raw
        return self.smoothed


@dataclass
class Baseline:
    """b_t, the exponential moving average of the rewards before t, and A_t = r_t - b_t (Eq 13).

    The first reward has nothing to be compared with: its advantage is 0.

    Parameters
    ----------
    momentum : float
        Weight of the past in [0, 1).
    clip : float or None
        Bound of the size of A_t; None leaves it as it is.
    """

    momentum: float = 0.9
    clip: float | None = 1.0
    value: float | None = None

    def advantage(self, reward: float) -> float:
        """A_t of this reward, which is then taken into the average."""
        if self.value is None:
            self.value = reward
            return 0.0
        a = reward - self.value
        self.value = self.momentum * self.value + (1 - self.momentum) * reward
        return a if self.clip is None else max(-self.clip, min(self.clip, a))
