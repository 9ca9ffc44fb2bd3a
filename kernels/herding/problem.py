"""Checks of the arguments of :func:`rlmba.kernels.herding`, and their form for every backend."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import DataError, ShapeError, UsageError
from rlmba.kernels.common import arrays
from rlmba.kernels.common.modality_rows import ModalityRows

__all__ = [
    "ROUND",
    "Problem",
    "as_positions",
    "as_radius",
    "as_utility",
    "choose_targets",
    "scaled",
]

ROUND = 3.0
"""Adding and subtracting it rounds a number in [0, 1] to a multiple of 2^-51."""


@dataclass(frozen=True)
class Problem:
    """What to pick from, and what the picks are to cover.

    ``targets`` and ``candidates`` are increasing positions int64 into ``rows``. ``utility`` is
    float64 [N], scaled by a power of two so that its sum over the targets is at most 1.
    """

    rows: ModalityRows
    labeled: ModalityRows
    radius: float
    utility: NDArray[np.float64]
    targets: NDArray[np.int64]
    candidates: NDArray[np.int64]


def as_radius(radius: Any) -> float:
    """Return a radius from 0 to infinity.

    Raises
    ------
    UsageError
        If it is negative, NaN or not a number.
    """
    if isinstance(radius, bool) or not isinstance(radius, (int, float, np.number)):
        raise UsageError(f"radius: expected a number >= 0 or None, got {radius!r}")
    value = float(radius)
    if not value >= 0:
        raise UsageError(f"radius: expected a number >= 0 or None, got {value}")
    return value


def as_utility(value: arrays.ArrayLike | None, rows: int) -> NDArray[np.float64]:
    """Return utilities as float64 [N], all 1 by default.

    Raises
    ------
    ShapeError, NonFiniteError
        For another shape, or a number that is not finite.
    DataError
        If one is negative, or their sum overflows.
    """
    if value is None:
        return np.ones(rows)
    host = arrays.to_host(value, "utility")
    u = np.ascontiguousarray(arrays.as_float(host, "utility", ndim=1), dtype=np.float64)
    if u.shape != (rows,):
        raise ShapeError(f"utility: expected shape ({rows},), got {u.shape}")
    arrays.require_finite(u, "utility")
    if (u < 0).any():
        row = int(np.argmax(u < 0))
        raise DataError(f"utility[{row}] is {u[row]}: expected numbers >= 0; use 0 to ignore a row")
    with np.errstate(over="ignore"):
        if u.sum() > np.finfo(np.float64).max / 4:
            raise DataError("utility: expected a finite sum, got an overflow; scale the utilities")
    return u


def as_positions(value: Any, rows: int) -> NDArray[np.int64]:
    """Return candidates as increasing positions int64, all rows by default.

    Raises
    ------
    ShapeError
        If it is not a one-dimensional array of integers.
    DataError
        If a position is out of range or repeated.
    """
    if value is None:
        return np.arange(rows, dtype=np.int64)
    given = arrays.to_host(value, "candidates") if arrays.is_array(value) else np.asarray(value)
    if given.size == 0 and given.ndim == 1:
        return np.empty(0, dtype=np.int64)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise ShapeError(
            f"candidates: expected integer positions [K], got {given.dtype} {given.shape}; "
            "for a mask, pass numpy.flatnonzero(mask)"
        )
    outside = (given < 0) | (given >= rows)
    if outside.any():
        i = int(np.argmax(outside))
        raise DataError(
            f"candidates[{i}] is {given[i]}: expected 0 to {rows - 1}, positions into features"
        )
    values, counts = np.unique(given, return_counts=True)
    if (counts > 1).any():
        raise DataError(
            f"candidates: expected distinct positions, got {values[counts > 1][0]} more than once; "
            "remove duplicates with numpy.unique(candidates)"
        )
    return values.astype(np.int64)


def choose_targets(
    utility: NDArray[np.float64], most: int | None
) -> tuple[NDArray[np.int64], float, bool]:
    """Return the rows to cover, the factor of their gains, and whether they are a sample.

    Rows of utility 0 are left out. If more than ``most`` are left, evenly spaced ones are kept.
    """
    useful = np.flatnonzero(utility).astype(np.int64)
    count = len(useful)
    if most is None or count <= most:
        return useful, 1.0, False
    return useful[np.arange(most, dtype=np.int64) * count // most], count / most, True


def scaled(
    utility: NDArray[np.float64], targets: NDArray[np.int64]
) -> tuple[NDArray[np.float64], float]:
    """Scale utilities by a power of two to a sum in [1/2, 1) over the targets.

    Returns the scaled utilities and the unit that a gain must be multiplied by.
    """
    exponent = math.frexp(float(utility[targets].sum()))[1]
    return np.ldexp(utility, -exponent), math.ldexp(1.0, exponent)
