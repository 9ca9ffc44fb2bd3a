"""Advice on when to stop: the expected gain of another batch, from the validation curve."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from rlmba.errors import ShapeError, UsageError

__all__ = ["LEVEL", "THRESHOLD", "Advice", "advise"]

LEVEL = 0.8
"""Probability of the interval from ``low`` to ``high``."""
THRESHOLD = 0.005
"""A batch whose gain in Top-1 is below this is not worth its labels."""

_Floats = NDArray[np.float64]

# Standard deviation in Top-1 of a round's accuracy from a smooth curve, and its prior: randomness of the
# training, not of the validation set. The large values are rare but let the model fit a curve that jumps.
_STRAY = np.array([0.0025, 0.005, 0.01, 0.02, 0.04])
_STRAY_PRIOR = np.array([0.3, 0.3, 0.25, 0.1, 0.05])
# Early rounds deviate more from any smooth curve (standard deviation in Top-1 of one batch's gain).
_STRAY_EARLY = 0.03
_EARLY = 3
_ROUNDS_TO_STOP = 3


@dataclass(frozen=True)
class Advice:
    """Expected gain of another batch. Gains are in Top-1: 0.01 is one point.

    Parameters
    ----------
    gain : float
        Expected gain of the smooth curve by the next batch, 0 or more, without fluctuations of single
        rounds.
    low, high : float
        80 % interval of the gain that the next round will measure, including fluctuations; ``low`` may
        be negative.
    trend : float
        90 % quantile of the gain of the smooth curve, without fluctuations.
    stop : bool
        True if ``trend`` is below the threshold, after three rounds or more.
    text : str
        The advice in one to three sentences.
    """

    gain: float
    low: float
    high: float
    trend: float
    stop: bool
    text: str


@dataclass(frozen=True)
class _Curves:
    """Power laws on a grid: the error is ``start (floor + (1 - floor) (n / n_1) ** -rate)``."""

    start: _Floats
    floor: _Floats
    rate: _Floats
    log_prior: _Floats

    def errors(self, ratio: _Floats) -> _Floats:
        """Errors [grid, len(ratio)] at multiples of the first number of labels."""
        floor = self.floor[:, None]
        return np.asarray(
            self.start[:, None] * (floor + (1 - floor) * ratio ** -self.rate[:, None])
        )


@cache
def _curves() -> _Curves:
    """Initial errors and floors on even grids over (0, 1); rates from 0.15 to 2.5, with a prior near 0.7."""
    start = (np.arange(30) + 0.5) / 30
    floor = (np.arange(12) + 0.5) / 12
    rate = np.geomspace(0.15, 2.5, 10)
    s, f, r = (a.ravel() for a in np.meshgrid(start, floor, rate, indexing="ij"))
    return _Curves(s, f, r, -0.5 * (np.log(r / 0.7) / 0.6) ** 2)


def advise(
    labels: _Floats,
    correct: NDArray[np.int64],
    size: NDArray[np.int64],
    *,
    batch: int,
    threshold: float = THRESHOLD,
) -> Advice:
    """Estimate the gain in Top-1 by another batch of labels, and whether to stop.

    Each power law of a grid is weighted by the likelihood of the observed counts on the validation
    set, with the size of a round's fluctuations as an additional unknown. The results are weighted
    means and quantiles. The computation is deterministic.

    Parameters
    ----------
    labels : float array [T]
        Numbers of training labels after each round, in order, positive; T is at least 1.
    correct : int array [T]
        Numbers of validation samples that the fused prediction classified correctly.
    size : int array [T]
        Sizes of the validation set, which may differ between rounds.
    batch : int
        Number of labels in the next batch.
    threshold : float
        A batch with a smaller gain is not worth its labels.

    Returns
    -------
    Advice

    Raises
    ------
    ShapeError
        If the arrays differ in length or are empty.
    UsageError
        If a number is out of range.

    Notes
    -----
    With one or two rounds, the result is determined almost entirely by the prior, which describes
    typical learning curves. ``stop`` requires three rounds.

    Examples
    --------
    >>> flat = advise([20, 40, 60, 80, 100, 120], [170, 188, 189, 189, 190, 189], [200] * 6, batch=20)
    >>> flat.stop
    True
    >>> flat.low < flat.gain < flat.trend < 0.005
    True
    """
    n, k, v = _checked(labels, correct, size, batch)
    curves = _curves()
    errors = curves.errors(np.append(n, n[-1] + batch) / n.min())
    gains = errors[:, -2] - errors[:, -1]
    # Half a sample is added on either side, because zero errors in a sample do not imply an error of 0.
    seen = (v - k + 0.5) / (v + 1)
    weights = _posterior(errors[:, :-1], seen, v, curves.log_prior)
    gain = float(weights.sum(1) @ gains)
    tail = (1 - LEVEL) / 2
    kept = weights.sum(1) > 1e-7 * weights.sum(1).max()
    stray = np.hypot(_STRAY * np.sqrt(2), _STRAY_EARLY if len(n) <= _EARLY else 0.0)
    low, high = (_quantile(gains[kept], weights[kept], stray, q) for q in (tail, 1 - tail))
    order = np.argsort(gains, kind="stable")
    reached = np.searchsorted(np.cumsum(weights.sum(1)[order]), 1 - tail)
    trend = float(gains[order[min(int(reached), len(order) - 1)]])
    stop = len(n) >= _ROUNDS_TO_STOP and trend < threshold
    text = _text(low, high, trend, stop, rounds=len(n), batch=batch, size=int(v[-1]))
    return Advice(gain, low, high, trend, stop, text)


def _posterior(errors: _Floats, seen: _Floats, size: _Floats, log_prior: _Floats) -> _Floats:
    """Weights [grid, strays] with sum 1: binomial counts as normal, plus the fluctuations of a round."""
    variance = (errors * (1 - errors) / size)[:, :, None] + _STRAY**2
    misfit = (seen - errors)[:, :, None] ** 2 / variance + np.log(variance)
    logs = log_prior[:, None] + np.log(_STRAY_PRIOR) - 0.5 * misfit.sum(1)
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())


def _quantile(gains: _Floats, weights: _Floats, deviation: _Floats, level: float) -> float:
    """Quantile of gains [grid] plus the difference of two rounds' fluctuations [strays]."""
    total = weights.sum()

    def beyond(x: float) -> float:
        below = ndtr((x - gains[:, None]) / deviation)
        return float((weights * below).sum() / total - level)

    reach = 6 * float(deviation.max())
    from scipy.optimize import brentq  # takes long to import

    return float(brentq(beyond, gains.min() - reach, gains.max() + reach, xtol=1e-6))


def _checked(
    labels: _Floats, correct: NDArray[np.int64], size: NDArray[np.int64], batch: int
) -> tuple[_Floats, _Floats, _Floats]:
    n, k, v = (np.asarray(a, np.float64) for a in (labels, correct, size))
    if n.ndim != 1 or not len(n) or n.shape != k.shape or n.shape != v.shape:
        raise ShapeError(
            "advise: expected one-dimensional labels, correct and size of the same length >= 1, got "
            f"shapes {n.shape}, {k.shape} and {v.shape}"
        )
    bad = ~(np.isfinite(n) & (n > 0) & (v >= 1) & (k >= 0) & (k <= v))
    if bad.any():
        i = int(np.argmax(bad))
        raise UsageError(
            f"advise: round {i} has {n[i]:g} labels and {k[i]:g} correct of {v[i]:g} validation samples; "
            "expected labels > 0, size >= 1 and 0 <= correct <= size"
        )
    if batch < 1:
        raise UsageError(f"advise: expected a batch of 1 label or more, got {batch}")
    return n, k, v


def _text(
    low: float,
    high: float,
    trend: float,
    stop: bool,
    *,
    rounds: int,
    batch: int,
    size: int,
) -> str:
    what = f"another {batch} labels add" if batch > 1 else "another label adds"
    interval = f"{100 * low:.1f} to {100 * high:.1f} points"
    says = [
        f"With a probability of 80 %, {what} {interval} of Top-1."
        if low > 0
        else f"It is uncertain whether {what} to Top-1 (80 %: {interval})."
    ]
    if rounds < _ROUNDS_TO_STOP:
        says.append(
            "This estimate relies on typical learning curves, because there are too few rounds to extend "
            "your own: continue labeling."
        )
    elif stop:
        says.append(
            f"The curve has flattened to at most {100 * trend:.1f} points per batch: consider stopping."
        )
    if 1 / size > 2 * THRESHOLD:
        says.append(
            f"The validation set of {size} samples is too small to show small gains, since each counts "
            f"{100 / size:.1f} points: label more validation samples."
        )
    return " ".join(says)
