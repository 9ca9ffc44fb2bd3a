"""Shared by the distance operations: checks, bounded scratch memory and square roots."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import BackendError, DataError, ShapeError, UsageError
from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays

UNBOUNDED = 2**62
"""Number of scratch bytes that means "no bound"."""

BAD_CENTER = -(2**62)
"""Added in a row flag to the position of a center that is not finite, so that it is below every row."""

OVERFLOW = 2**62
"""Row flag for distances beyond the range of the computation dtype; it is above every row."""


def as_rows(x: arrays.ArrayLike, name: str) -> arrays.Float:
    """Return a float matrix [N, D] with D >= 1.

    Raises
    ------
    ShapeError
        For another rank or dtype, or no columns.
    """
    a = arrays.as_float(x, name, ndim=2)
    require_columns(a.shape, name)
    return a


def require_same_device(
    x: arrays.ArrayLike, name: str, other: arrays.ArrayLike, other_name: str
) -> None:
    """Raise :class:`BackendError` unless both arrays are in the same kind of memory."""
    expected, found = arrays.device_of(other), arrays.device_of(x)
    if found != expected:
        raise BackendError(
            f"{name}: expected an array on {expected!r}, the device of {other_name}, "
            f"got one on {found!r}; move one of them"
        )


def require_columns(shape: tuple[int, ...], name: str) -> None:
    """Raise :class:`ShapeError` for a matrix without columns."""
    if shape[1] == 0:
        raise ShapeError(f"{name}: expected at least one column, got shape {shape}")


def check_centers(x: tuple[int, ...], centers: tuple[int, ...]) -> None:
    """Raise ShapeError if the centers have another width, UsageError if there is no center."""
    if x[1] != centers[1]:
        raise ShapeError(f"centers: expected {x[1]} columns as in x, got shape {centers}")
    if centers[0] == 0:
        raise UsageError("centers: expected at least one row, got none")


PRECISIONS = ("exact", "tf32", "bf16")


def check_precision(precision: str) -> None:
    """Raise :class:`UsageError` for an unknown precision of products."""
    if precision not in PRECISIONS:
        raise UsageError(f"precision: expected one of {list(PRECISIONS)}, got {precision!r}")


def scratch_bytes(x: arrays.Float, max_memory: int | None) -> int:
    """Return the bound on scratch memory of the compiled kernels for rows like those of ``x``.

    Raises
    ------
    UsageError
        If ``max_memory`` is less than they need.
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
    """Return the square roots of ``squared`` in ``dtype``; ``squared`` is overwritten.

    Raises
    ------
    DataError
        If a root is beyond the range of the dtype.
    """
    with np.errstate(over="ignore"):
        distances = np.sqrt(squared, out=squared).astype(dtype, copy=False)
    if distances.size and not np.isfinite(distances.max()):
        raise overflow()
    return distances


def overflow(name: str = "x") -> DataError:
    """Return the error for distances that overflow."""
    return DataError(
        f"{name}: expected distances within floating-point range, got an overflow; scale the data"
    )


def require_rows(x: Any) -> None:
    """Raise :class:`UsageError` if there is no row to draw from."""
    if x.shape[0] == 0:
        raise UsageError("x: expected at least one row to draw centers from, got none")
