"""Paired tests, and the correction for several tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from rlmba.errors import NonFiniteError, ShapeError, UsageError
from rlmba.experiments.group import Array

__all__ = ["EQUAL", "PairedTest", "holm", "paired", "signed_rank", "tied"]

EQUAL = 1e-7
"""Smaller differences of accuracies count as zero.

Accuracies are recorded in single precision, so that equal numbers of hits may differ by about 1e-8. One
hit in a mean over T rounds and n samples is 1 / (T n).
"""


@dataclass(frozen=True)
class PairedTest:
    """The difference between a and b over n pairs.

    Attributes
    ----------
    n : int
    difference : float
        Mean of a - b; NaN if n is 0.
    sd : float or None
        Sample standard deviation of the differences; None if n < 2.
    statistic : float or None
        Student's t = difference / (sd / sqrt(n)) with n - 1 degrees of freedom; infinite if all
        differences are equal and not 0; None if n < 2.
    p : float or None
        Two-sided, of the t test; 1 if all differences are 0. If they are all equal and not 0, the t test
        is not defined, and this is ``p_signed_rank``. None if n < 2.
    p_signed_rank : float or None
        Two-sided, of Wilcoxon's exact signed-rank test; None if n < 2.
    """

    n: int
    difference: float
    sd: float | None
    statistic: float | None
    p: float | None
    p_signed_rank: float | None = None


def paired(a: ArrayLike, b: ArrayLike) -> PairedTest:
    """Test whether paired values a and b differ.

    Differences below :data:`EQUAL` count as 0.

    Parameters
    ----------
    a, b : float arrays [S]
        Measures of two strategies on the same S seeds, in the same order.

    Returns
    -------
    PairedTest

    Raises
    ------
    ShapeError
        If their lengths differ.
    NonFiniteError
        If a value is NaN or infinite.

    Examples
    --------
    >>> test = paired([0.52, 0.55, 0.51], [0.50, 0.52, 0.50])
    >>> test.n, round(test.difference, 3), round(test.p, 3)
    (3, 0.02, 0.074)
    >>> paired([0.5], [0.4]).p is None
    True
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ShapeError(
            f"paired: expected two arrays [S] of the same length, got shapes {x.shape} and {y.shape}; use "
            "only the seeds that both have"
        )
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.all():
        row = int(np.argmin(finite))
        raise NonFiniteError(
            f"paired: pair {row} is ({x[row]}, {y[row]}), expected finite numbers; leave it out",
            row,
        )
    d = x - y
    d[np.abs(d) < EQUAL] = 0.0
    n = len(d)
    difference = float(d.mean()) if n else float("nan")
    if n < 2:
        return PairedTest(n, difference, None, None, None, None)
    exact = signed_rank(d)
    if np.ptp(d) < EQUAL:
        statistic = float(np.copysign(np.inf, difference)) if difference else 0.0
        return PairedTest(n, difference, 0.0, statistic, exact, exact)
    sd = float(d.std(ddof=1))
    statistic = difference / (sd / np.sqrt(n))
    p = float(2 * stats.t.sf(abs(statistic), n - 1))
    return PairedTest(n, difference, sd, float(statistic), p, exact)


def signed_rank(differences: ArrayLike) -> float:
    """Exact two-sided p of Wilcoxon's signed-rank test.

    Zeros are dropped, and ties share their mean rank. The distribution of the rank sum over all 2^n signs
    is computed by dynamic programming, so n may be in the hundreds. p is twice the smaller tail,
    including the observed sum, and at most 1.

    Parameters
    ----------
    differences : float array [n]
        Magnitudes that agree to :data:`EQUAL` are ties.

    Returns
    -------
    float
        The p value; 1 if all differences are zero.
    """
    d = np.asarray(differences, dtype=np.float64)
    d = d[np.abs(d) >= EQUAL]
    if not len(d):
        return 1.0
    # Mean ranks are multiples of 1/2, so twice the ranks are integers.
    ranks = np.rint(2 * stats.rankdata(tied(np.abs(d)))).astype(np.int64)
    law = np.zeros(int(ranks.sum()) + 1)
    law[0] = 1.0
    top = 0
    for rank in ranks:
        shifted = law[: top + 1] / 2
        law[: top + 1] = shifted
        law[rank : top + rank + 1] += shifted
        top += int(rank)
    observed = int(ranks[d > 0].sum())
    return float(min(1.0, 2 * min(law[: observed + 1].sum(), law[observed:].sum())))


def tied(values: Array) -> Array:
    """Make values [n] equal that differ by less than :data:`EQUAL` from the next smaller value."""
    order = np.argsort(values)
    rising = values[order]
    starts = np.diff(rising, prepend=-np.inf) >= EQUAL
    answer = np.empty_like(values)
    answer[order] = rising[np.maximum.accumulate(np.where(starts, np.arange(len(rising)), 0))]
    return answer


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Correct a family of p values by Holm's step-down method.

    For m sorted values p_(1) <= ... <= p_(m), the corrected p_(i) is the maximum of (m - j + 1) p_(j) over
    j <= i, limited to 1. Rejecting those below alpha bounds the probability of any false rejection by
    alpha, however the tests depend on each other.

    Parameters
    ----------
    ps : sequence of float or None
        None stands for a test that could not be made; it stays None and is not counted.

    Returns
    -------
    list of float or None
        In the order given.

    Raises
    ------
    UsageError
        If a value is not within [0, 1].

    Examples
    --------
    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    known = [i for i, p in enumerate(ps) if p is not None]
    values: Array = np.array([ps[i] for i in known], dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise UsageError(f"holm: expected p values in [0, 1] or None, got {list(ps)}")
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    corrected: list[float | None] = [None] * len(ps)
    for place, p in zip(order, np.minimum(np.maximum.accumulate(steps), 1.0), strict=True):
        corrected[known[place]] = float(p)
    return corrected
