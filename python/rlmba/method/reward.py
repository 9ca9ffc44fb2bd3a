"""The reward, its baseline and the advantage: Eq 8, 9 and 13.

Everything is measured on the validation set, never on the test set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import DataError, UsageError
from rlmba.types import Evaluation

__all__ = [
    "BASELINES",
    "REWARDS",
    "Baseline",
    "Point",
    "Reward",
    "check_kind",
    "expected_reward",
    "mean_curve",
    "quality",
]

REWARDS = ("absolute", "incremental", "relative")
"""Rewards that a single run can have; "siblings" requires several runs (`rlmba train-policy`)."""
BASELINES = ("expected", "moving")
"""What a reward is compared with."""

Point = tuple[int, float]
"""A number of labels, and a reward."""

_LEAST_ERROR = 1e-3
"""Lower bound of 1 - r, whose logarithm the curve is fitted to."""


def quality(evaluation: Evaluation, measure: str) -> float:
    """What a reward judges a model by; larger is better, and 1 is perfect.

    Parameters
    ----------
    evaluation : Evaluation
        On the validation set.
    measure : {"top1", "nll"}
        The fused head's Top-1, or 1 - NLL with the NLL in nats. NLL depends on the confidence of every
        prediction, so it contains less noise than Top-1 on the same samples.
    """
    return evaluation.mm.top1 if measure == "top1" else 1 - evaluation.mm.nll


def check_kind(kind: str) -> None:
    """Raise unless a single run can have this kind of reward.

    Raises
    ------
    UsageError
        If the kind is unknown, or is "siblings", which compares several batches of the same state.
    """
    if kind == "siblings":
        raise UsageError(
            f"reward.kind: expected one of {', '.join(REWARDS)} for a run, got 'siblings', which needs the "
            "labels of several batches in each round; set another kind, or train a policy with "
            "`rlmba train-policy --set reward.kind=siblings --siblings 4 --baseline siblings`"
        )
    if kind not in REWARDS:
        raise UsageError(f"reward.kind: expected one of {', '.join(REWARDS)}, got {kind!r}")


def mean_curve(curves: Sequence[Mapping[int, float]], labels: int) -> float:
    """Mean quality over the baselines' curves at exactly ``labels`` labels (the reference of Eq 8).

    Parameters
    ----------
    curves : sequence of mappings from number of labels to quality
        One per baseline (a run).
    labels : int

    Raises
    ------
    DataError
        If there is no curve, or one has no point at that number of labels.
    """
    if not curves:
        raise DataError("relative reward: expected at least one baseline curve, got none")
    for i, curve in enumerate(curves):
        if labels not in curve:
            raise DataError(
                f"relative reward: baseline curve {i} has no point at {labels} labels (it has "
                f"{sorted(curve)}); run the baseline with the same numbers of labels"
            )
    return math.fsum(curve[labels] for curve in curves) / len(curves)


@dataclass
class Reward:
    """The reward r_t, optionally smoothed by an exponential moving average.

    Parameters
    ----------
    kind : {"absolute", "incremental", "relative"}
        The quality Q_t of the model on the validation set, Top-1 unless another measure is chosen
        (:func:`quality`); Q_t - Q_{t-1}; or Q_t minus the baselines' mean at the same number of labels
        (Eq 8-9).
    smoothing : float
        Weight of the past in [0, 1): s_t = smoothing s_{t-1} + (1 - smoothing) r_t, s_1 = r_1. With
        0, the default, a batch is judged by its own round alone.
    curves : sequence of mappings
        Baselines' curves, for "relative".

    Raises
    ------
    UsageError
        If the kind is unknown, or "relative" without curves.
    """

    kind: str = "absolute"
    smoothing: float = 0.0
    curves: Sequence[Mapping[int, float]] = ()
    smoothed: float | None = None

    def __post_init__(self) -> None:
        check_kind(self.kind)
        if self.kind == "relative" and not self.curves:
            raise UsageError(
                "reward kind 'relative' needs the curves of baselines under the same protocol: "
                "`rlmba compare --strategies gcnal,badge,bmmal --output DIR` makes them, then "
                "`--set reward.curves=[DIR]`"
            )

    def raw(self, now: float, before: float, labels: int) -> float:
        """r_t before smoothing, from the quality after and before the batch; changes nothing."""
        if self.kind == "absolute":
            return now
        if self.kind == "incremental":
            return now - before
        return now - mean_curve(self.curves, labels)

    def at_start(self, quality: float, labels: int) -> Point | None:
        """The reward of the model before the first batch; None where undefined.

        The first batch of a run is compared with it. It is undefined for the incremental reward, and
        for a relative reward whose baselines' curves have no point at that number of labels.
        """
        if self.kind == "incremental" or any(labels not in curve for curve in self.curves):
            return None
        return labels, self.raw(quality, quality, labels)

    def smooth(self, raw: float) -> float:
        """Update the moving average with r_t, and return it."""
        if self.smoothed is None:
            self.smoothed = raw
        else:
            self.smoothed = self.smoothing * self.smoothed + (1 - self.smoothing) * raw
        return self.smoothed


def expected_reward(points: Sequence[Point], labels: int, *, weight: float = 1.0) -> float | None:
    """Predict a reward from earlier ones, with 1 - r as a power of the number of labels.

    The error of a learning model decreases approximately as a power of its number of labels. The line
    through (log labels, log(1 - r)) is fitted by weighted least squares and evaluated at ``labels``.

    Parameters
    ----------
    points : sequence of (labels, reward)
        Oldest first; rewards of at most 1.
    labels : int
    weight : float
        The weight of each point relative to the next newer one, in (0, 1].

    Returns
    -------
    float or None
        None if fewer than two numbers of labels are known.

    Examples
    --------
    >>> round(expected_reward([(100, 0.6), (200, 0.8)], 400), 6)
    0.9
    """
    n = np.log([max(count, 1) for count, _ in points])
    if len(set(n.tolist())) < 2:
        return None
    error = np.log(np.maximum([1 - reward for _, reward in points], _LEAST_ERROR))
    w = weight ** np.arange(len(points))[::-1]
    w = w / w.sum()
    center = n - w @ n
    slope = (w * center) @ error / ((w * center) @ center)
    at = np.log(max(labels, 1)) - w @ n
    return float(1 - np.exp(w @ error + slope * at))


class Baseline:
    """b_t, the value that a reward is compared with, and the advantage A_t = r_t - b_t (Eq 13).

    Parameters
    ----------
    kind : {"expected", "moving"}
        "expected": the run's own rewards so far, extrapolated to the number of labels
        (:func:`expected_reward`). "moving": the exponential moving average of past rewards, as
        published. On a rising curve almost every reward is above that average.
    momentum : float
        Weight of the past, in [0, 1) for "moving", in (0, 1) for "expected".
    clip : float or None
        Bound of the absolute value of A_t; None: unbounded.

    Attributes
    ----------
    value : float or None
        "expected": b_t of the last reward. "moving": b_t of the next reward.

    Notes
    -----
    Without a prediction the advantage is 0: for the first reward with "moving", and until two numbers
    of labels are known with "expected".
    """

    def __init__(
        self, kind: str = "expected", momentum: float = 0.9, clip: float | None = 1.0
    ) -> None:
        if kind not in BASELINES:
            raise UsageError(f"baseline: expected one of {BASELINES}, got {kind!r}")
        low = "0 <=" if kind == "moving" else "0 <"
        if not 0 <= momentum < 1 or (kind == "expected" and momentum == 0):
            raise UsageError(f"baseline_momentum: expected {low} x < 1, got {momentum}")
        if clip is not None and not clip > 0:
            raise UsageError(f"advantage_clip: expected > 0 or null, got {clip}")
        self.kind, self.momentum, self.clip = kind, momentum, clip
        self.value: float | None = None
        self._points: list[Point] = []

    def advantage(self, reward: float, labels: int, start: Point | None = None) -> float:
        """Return A_t of this reward, and update the baseline with the reward.

        Parameters
        ----------
        reward : float
        labels : int
            The number of labels that the reward was measured with.
        start : (int, float) or None
            Labels and reward before the first batch (:meth:`Reward.at_start`); used for the first
            reward only.
        """
        if self.kind == "moving":
            expected = self.value
            past = reward if expected is None else expected
            self.value = self.momentum * past + (1 - self.momentum) * reward
        else:
            if start is not None and not self._points:
                self._points.append(start)
            expected = expected_reward(self._points, labels, weight=self.momentum)
            self.value = expected
            self._points.append((labels, reward))
        a = 0.0 if expected is None else reward - expected
        return a if self.clip is None else max(-self.clip, min(self.clip, a))

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Arrays that restore the baseline; empty before the first reward."""
        state = {}
        if self.value is not None:
            state["baseline"] = np.array([self.value])
        if self._points:
            state["baseline_points"] = np.array(self._points, dtype=np.float64)
        return state

    def load_state_dict(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.value = float(state["baseline"][0]) if "baseline" in state else None
        points = state.get("baseline_points", np.empty((0, 2)))
        self._points = [(int(labels), float(reward)) for labels, reward in points]
