"""Columns mapped to [0, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import ShapeError
from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays
from rlmba.kernels.minmax import reference

__all__ = ["minmax"]


def _cpu(x: arrays.Float, mask: NDArray[np.bool_] | None, out: arrays.Float) -> None:
    x2, out2 = reference.columns(x), reference.columns(out)
    bad = dispatch.require_core().minmax(x2, mask, out2)
    if bad >= 0:
        raise reference.bad_row(x, mask, bad)


def _mask(mask: arrays.ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    m = arrays.to_numpy(mask, "mask")
    if m.dtype != np.bool_ or m.shape not in (shape, shape[:1]):
        raise ShapeError(
            f"mask: expected a bool array of shape {shape[:1]} or {shape}, got {m.dtype} {m.shape}"
        )
    return np.ascontiguousarray(m)


def _output(out: arrays.ArrayLike, x: arrays.Float) -> arrays.Float:
    o = arrays.view(out, "out")
    fits = o.shape == x.shape and o.dtype == x.dtype and o.flags.carray
    if not (fits and arrays.address(out) in (None, o.ctypes.data)):
        raise ShapeError(
            f"out: expected a contiguous, aligned, writable {x.dtype} array of shape {x.shape}, "
            f"got {getattr(out, 'dtype', o.dtype)} {o.shape}"
        )
    return o


def minmax(
    x: arrays.ArrayLike,
    *,
    mask: arrays.ArrayLike | None = None,
    out: Any = None,
    backend: str = "auto",
) -> Any:
    """Map each column linearly so that its smallest value becomes 0 and its largest 1 (for Eq 6).

    Parameters
    ----------
    x : array [N] or [N, M]
        Finite real numbers; [N] is a single column.
    mask : bool array [N] or of x's shape, optional
        Entries where it is False are ignored, may hold anything, and become 0.
    out : array of x's shape, optional
        Array for the result: contiguous, of the computation dtype (float32 or float64). It may be
        ``x`` itself. Reusing memory for a large result is several times faster than new memory,
        whose pages the operating system has to clear.
    backend : {"auto", "cpu", "cuda", "triton", "reference"}
        See :mod:`rlmba.kernels`.

    Returns
    -------
    array of x's shape
        In [0, 1], exactly 0 at the smallest and 1 at the largest value of each column. A column
        that is constant, or in which the mask leaves at most one value, becomes 0, never NaN.
        ``out`` if given.

    Raises
    ------
    ShapeError
        If ``x`` has another number of dimensions, or ``mask`` or ``out`` does not match it.
    NonFiniteError
        If a value that is not masked out is NaN or infinite; ``.row`` is the first such row.
        ``out`` is then unchanged.

    Notes
    -----
    The result is (x - low) / (high - low) in x's dtype, with one rounding per operation; numbers
    are halved first where high - low overflows. It takes two passes over memory, or one where the
    array fits in a cache. Every backend and thread count gives the same result.

    Examples
    --------
    >>> import numpy as np
    >>> minmax(np.array([[1.0, 7.0], [2.0, 7.0], [3.0, 7.0]]))
    array([[0. , 0. ],
           [0.5, 0. ],
           [1. , 0. ]])
    """
    name = dispatch.choose(
        "minmax", backend, arrays.device_of(x), ("cuda", "triton", "cpu", "reference")
    )
    if name in dispatch.ACCELERATED:
        from rlmba.kernels.minmax import on_device

        return on_device.minmax(x, mask, out, name)
    v = arrays.as_float(x, "x", ndim=(1, 2))
    m = None if mask is None else _mask(mask, v.shape)
    result = np.empty(v.shape, dtype=v.dtype) if out is None else _output(out, v)
    (_cpu if name == "cpu" else reference.minmax)(v, m, result)
    return arrays.like(result, x) if out is None else out
