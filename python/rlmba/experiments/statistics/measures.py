"""Measures of a run: the area under its curve, and the labels it needs."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlmba.errors import NonFiniteError, ShapeError, UsageError
from rlmba.experiments.group import Array

__all__ = ["AubcRule", "aubc", "deepal_summary", "labels_to_reach"]

AubcRule = Literal["mean", "trapezoid", "deepal"]


def aubc(labels: ArrayLike, top1: ArrayLike, *, rule: AubcRule = "mean") -> Array:
    """Area under the budget curve of each run.

    Parameters
    ----------
    labels : int array [T]
        Labeled samples after each round, ascending; T >= 1.
    top1 : float array [S, T]
        Accuracy of S runs.
    rule : {"mean", "trapezoid", "deepal"}
        - "mean": (1/T) sum_t a_t, the mean over rounds, round 0 included.
        - "trapezoid": sum_t (n_t - n_{t-1}) (a_t + a_{t-1}) / 2, divided by n_{T-1} - n_0.
        - "deepal": the definition of DeepAL+. With b labels per round and a quota of Q queried labels
          (without the initial ones), it sums b (a_t + a_{t-1}) / 2, with Q mod b instead of b in the last
          round if b does not divide Q, divides by Q, and rounds each run to three decimals. This equals
          the rounded trapezoid. If earlier steps are uneven, DeepAL+ has no definition, and the result is
          the rounded trapezoid as well.

        For T = 1 all rules return the single accuracy ("deepal": rounded).

    Returns
    -------
    float array [S]

    Raises
    ------
    ShapeError
        If the shapes do not match or there is no round.
    UsageError
        If ``labels`` do not ascend or the rule is unknown.
    NonFiniteError
        If an accuracy is NaN or infinite.

    Examples
    --------
    >>> [float(aubc([20, 40, 80], [[0.3, 0.5, 0.6]], rule=r)[0]) for r in ("trapezoid", "deepal")]
    [0.5, 0.5]
    >>> round(float(aubc([20, 40, 80], [[0.3, 0.5, 0.6]])[0]), 4)
    0.4667
    """
    n, a = _curves(labels, top1)
    if rule == "mean":
        mean: Array = a.mean(axis=1)
        return mean
    if rule not in ("trapezoid", "deepal"):
        raise UsageError(f'aubc: expected rule "mean", "trapezoid" or "deepal", got {rule!r}')
    if len(n) == 1:
        area = a[:, 0].copy()
    else:
        # Summed in order like DeepAL+: another order could round to a different third decimal.
        parts = (a[:, 1:] + a[:, :-1]) * np.diff(n) / 2
        area = parts.cumsum(axis=1)[:, -1] / (n[-1] - n[0])
    rounded: Array = np.round(area, 3) if rule == "deepal" else area
    return rounded


def deepal_summary(aubcs: ArrayLike) -> tuple[float, float]:
    """Mean and standard deviation over runs as DeepAL+ prints them.

    Parameters
    ----------
    aubcs : float array [S]
        Results of :func:`aubc` with rule "deepal".

    Returns
    -------
    mean, sd : float
        Rounded to four decimals; the standard deviation divides by S instead of S - 1.

    Raises
    ------
    UsageError
        If there is no run.
    """
    values = np.asarray(aubcs, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise UsageError(
            f"deepal_summary: expected one AUBC per run [S], S >= 1, got shape {values.shape}"
        )
    return float(np.round(values.mean(), 4)), float(np.round(values.std(), 4))


def labels_to_reach(labels: ArrayLike, top1: ArrayLike, target: ArrayLike) -> Array:
    """Number of labels at which each run first reaches an accuracy, interpolated linearly between rounds.

    Parameters
    ----------
    labels : int array [T]
        Labeled samples after each round, ascending; T >= 1.
    top1 : float array [S, T]
    target : float or float array [S]
        The accuracy to reach: one for all runs, or one for each.

    Returns
    -------
    float array [S]
        Between ``labels[0]`` (if round 0 reaches the target) and ``labels[-1]``; NaN if the run never
        reaches it. A curve that falls below the target later has still reached it.

    Raises
    ------
    ShapeError, UsageError, NonFiniteError
        As for :func:`aubc`; also if ``target`` is NaN or has another shape.

    Examples
    --------
    >>> labels_to_reach([20, 40, 80], [[0.25, 0.5, 0.75], [0.25, 0.5, 0.5]], 0.625).tolist()
    [60.0, nan]
    """
    n, a = _curves(labels, top1)
    goal = np.asarray(target, dtype=np.float64)
    if goal.shape not in ((), (len(a),)):
        raise ShapeError(
            f"labels_to_reach: expected one target, or one per run [{len(a)}], got shape {goal.shape}"
        )
    if np.isnan(goal).any():
        raise UsageError("labels_to_reach: expected accuracies as targets, got NaN")
    goal = np.broadcast_to(goal, len(a))
    reached = a >= goal[:, None]
    first = reached.argmax(axis=1)
    answer = np.full(len(a), np.nan)
    for s in np.flatnonzero(reached.any(axis=1)):
        t = first[s]
        if t == 0:
            answer[s] = n[0]
        else:
            share = (goal[s] - a[s, t - 1]) / (a[s, t] - a[s, t - 1])
            answer[s] = n[t - 1] + share * (n[t] - n[t - 1])
    return answer


def _curves(labels: ArrayLike, top1: ArrayLike) -> tuple[NDArray[np.float64], Array]:
    n, a = np.asarray(labels, dtype=np.float64), np.asarray(top1, dtype=np.float64)
    if n.ndim != 1 or a.ndim != 2 or a.shape[1] != len(n) or not len(n):
        raise ShapeError(
            f"expected labels [T] and top1 [S, T] with T >= 1, got shapes {n.shape} and {a.shape}"
        )
    if not (np.diff(n) > 0).all():
        raise UsageError(f"expected numbers of labels that ascend from round to round, got {n}")
    finite = np.isfinite(a)
    if not finite.all():
        s, t = (int(i) for i in np.argwhere(~finite)[0])
        raise NonFiniteError(
            f"top1[{s}, {t}]: expected an accuracy, got {a[s, t]}; leave that run out", s
        )
    return n, a
