"""What the distance operations share: checks, bounded scratch memory, and roots of exact squares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import DataError, ShapeError, UsageError
from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays

UNBOUNDED = 2**62
"""Scratch bytes that stand for no bound."""


def as_rows(x: arrays.ArrayLike, name: str) -> arrays.Float:
    """A float matrix [N, D] with D >= 1.

    Raises
    ------
    ShapeError
        For another rank or dtype, or no columns.
    """
    a = arrays.as_float(x, name, ndim=2)
    if a.shape[1] == 0:
        raise ShapeError(f"{name}: expected at least one column, got shape {a.shape}")
    return a


def scratch_bytes(x: arrays.Float, max_memory: int | None) -> int:
    """The bound that the compiled kernels are to keep for rows like those of ``x``.

    Raises
    ------
    UsageError
        If ``max_memory`` is less than they can work with.
    """
    if max_memory is None:
        return UNBOUNDED
    return arrays.as_count(
        max_memory, "max_memory", low=int(dispatch.require_core().nearest_scratch(x))
    )


def check_max_memory(max_memory: int | None) -> None:
    """Raise :class:`UsageError` unless ``max_memory`` is None or a positive integer."""
    if max_memory is not None:
        arrays.as_count(max_memory, "max_memory", low=1)


def root(squared: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Square roots of ``squared`` (which is overwritten) in ``dtype``.

    Raises
    ------
    DataError
        If one is beyond the range of the dtype.
    """
    with np.errstate(over="ignore"):
        distances = np.sqrt(squared, out=squared).astype(dtype, copy=False)
    if distances.size and not np.isfinite(distances.max()):
        raise overflow()
    return distances


def overflow(name: str = "x") -> DataError:
    """The error for distances that floating point cannot hold."""
    return DataError(
        f"{name}: expected distances within floating-point range, got an overflow; scale the data"
    )


def require_rows(x: Any) -> None:
    """Raise :class:`UsageError` where there is nothing to draw from."""
    if x.shape[0] == 0:
        raise UsageError("x: expected at least one row to draw centers from, got none")
