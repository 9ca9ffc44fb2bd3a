"""Sums that depend neither on the order of their terms nor on how the terms are divided among processes.

Every term is split into parts. The first part is a multiple of a power of two, the second part is a
multiple of a much smaller power of two, and so on. The powers are computed from the largest term and the
number of terms, so that sums of first parts have no rounding error, and neither have sums of second parts,
and so on. The remainder of a term after the last part is below 2^-46 of the largest term (float32, up to
2^30 terms) or 2^-69 of it (float64).

A number is rounded to a multiple of a power of two by adding and subtracting a large constant.

References
----------
Demmel and Nguyen, "Parallel reproducible summation", IEEE Transactions on Computers, 2015.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common import distances

__all__ = ["LEVELS", "add_up", "constants", "exponent_of", "largest_of"]

LEVELS = {"float32": 2, "float64": 3}
"""Number of parts of a term, by its dtype."""


def exponent_of(count: int) -> int:
    """Return a number e >= 1 with ``count`` <= 2^e."""
    return max(1, (count - 1).bit_length())


def largest_of(x: NDArray[Any]) -> float:
    """Return the largest absolute value of an array; 0 if it is empty."""
    return max(float(x.max(initial=0)), -float(x.min(initial=0)))


def constants(largest: float, count: int, dtype: Any) -> NDArray[np.float64]:
    """Return the constants that are added to a term and subtracted again, one for each part.

    Parameters
    ----------
    largest : float
        An upper bound of the absolute values of the terms; finite.
    count : int
        The largest number of terms in a sum, below 2^31.
    dtype : float32 or float64
        The dtype of the terms.

    Returns
    -------
    float64 array [LEVELS]

    Raises
    ------
    DataError
        If a sum could overflow.
    """
    size = exponent_of(count)
    first = math.frexp(largest)[1] + size
    if first > 1021:
        raise distances.overflow()
    levels = LEVELS[np.dtype(dtype).name]
    return np.array([math.ldexp(1.5, first + level * (size - 53)) for level in range(levels)])


def add_up(terms: NDArray[Any], by: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum terms over the first axis.

    Parameters
    ----------
    terms : float array [n, ...]
    by : float64 array [L]
        The result of :func:`constants` for these terms and all others that belong to the sum.

    Returns
    -------
    float64 array [L, ...]
        One sum for each part of the terms. If the terms are divided among several calls, add the results.
        The sum over the first axis is the total.
    """
    rest = np.asarray(terms, dtype=np.float64)
    sums = np.zeros((len(by), *rest.shape[1:]))
    for level, constant in enumerate(by.tolist()):
        part = (rest + constant) - constant
        sums[level] = part.sum(axis=0)
        rest = rest - part
    return sums
