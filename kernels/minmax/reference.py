"""Naive NumPy implementation of :func:`rlmba.kernels.minmax`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import NonFiniteError
from rlmba.kernels.common import arrays


def columns(a: NDArray[Any]) -> NDArray[Any]:
    """A view of [N] as [N, 1]; [N, M] unchanged."""
    return a[:, None] if a.ndim == 1 else a


def bad_row(x: arrays.Float, mask: NDArray[np.bool_] | None, row: int) -> NonFiniteError:
    """Return the error for a row with an unmasked number that is not finite."""
    if mask is not None:
        x = np.where(mask if mask.ndim == x.ndim else mask[:, None], x, x.dtype.type(0))
    return arrays.non_finite(x, "x", row)


def minmax(x: arrays.Float, mask: NDArray[np.bool_] | None, out: arrays.Float) -> None:
    """Map each column of x [N] or [N, M] to [0, 1], into ``out``."""
    x2, out2 = columns(x), columns(out)
    kept = np.ones(x2.shape, dtype=bool)
    if mask is not None:
        kept &= columns(mask)
    bad = (kept & ~np.isfinite(x2)).any(axis=1)
    if bad.any():
        raise bad_row(x, mask, int(np.argmax(bad)))
    for j in range(x2.shape[1]):
        values = x2[kept[:, j], j]
        out2[:, j] = 0
        if values.size:
            out2[kept[:, j], j] = rescaled(values, values.min(), values.max())


def rescaled(values: arrays.Float, low: Any, high: Any) -> arrays.Float:
    """Map ``low`` to 0 and ``high`` to 1 (both have the dtype of ``values``); all 0 unless low < high."""
    if not low < high:
        return np.zeros_like(values)
    with np.errstate(over="ignore"):
        if not np.isfinite(high - low):
            half = values.dtype.type(0.5)
            values, low, high = values * half, low * half, high * half
    return np.asarray((values - low) / (high - low))
