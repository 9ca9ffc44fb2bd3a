"""Distance of each row to its nearest center."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, distances
from rlmba.kernels.min_distance import reference

__all__ = ["MinDistance", "min_distance"]


class MinDistance(NamedTuple):
    """Distance of each row to its nearest center: ``distances`` [N] and ``indices`` int64 [N]."""

    distances: Any
    indices: Any


def _cpu(
    x: arrays.Float, centers: arrays.Float, max_memory: int | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    core = dispatch.require_core()
    scratch = distances.scratch_bytes(x, max_memory)
    bad = core.first_bad_row(centers)
    if bad >= 0:
        raise arrays.non_finite(centers, "centers", bad)
    squared = np.full(x.shape[0], np.inf)
    labels = np.full(x.shape[0], -1, dtype=np.int64)
    bad = core.update_nearest(x, centers, scratch, squared, labels)
    if bad >= 0:
        raise arrays.non_finite(x, "x", bad)
    return squared, labels


def min_distance(
    x: arrays.ArrayLike,
    centers: arrays.ArrayLike,
    *,
    max_memory: int | None = None,
    precision: str = "exact",
    backend: str = "auto",
) -> MinDistance:
    """Euclidean distance of each row of ``x`` to its nearest center, and that center (Eq 5).

    Parameters
    ----------
    x : array [N, D]
        Finite real numbers, D >= 1. N = 0 gives empty results.
    centers : array [k, D]
        Finite real numbers, k >= 1. Where the dtypes differ, the narrower array is converted.
    max_memory : int, optional
        Bytes of scratch memory for packed centers and products, in addition to the input, the
        results and 8 bytes per row (backend ``"cpu"``); bytes of GPU memory for copies of rows
        stored in host memory (GPU backends). The result does not depend on it.
    precision : {"exact", "tf32", "bf16"}
        On a GPU, ``"exact"`` gives the CPU's result. ``"tf32"`` and ``"bf16"`` choose the center by
        one tensor-core product of at least that precision and then compute its distance exactly;
        where two centers are almost equally far, the farther one may be chosen. On a CPU every
        precision is exact.
    backend : {"auto", "cpu", "cuda", "triton", "reference"}
        See :mod:`rlmba.kernels`.

    Returns
    -------
    MinDistance
        ``distances`` [N], Euclidean (not squared), in the computation dtype, and ``indices`` int64
        [N], positions into ``centers``. Ties go to the lowest position.

    Raises
    ------
    UsageError
        If there is no center, or ``max_memory`` is too small.
    ShapeError
        If the widths differ or there are no columns.
    NonFiniteError
        If a value is NaN or infinite; ``.row`` is the first such row.
    DataError
        If a distance overflows.

    Notes
    -----
    Distances are sums of (x - c)^2 in float64, rounded once. A duplicate has distance exactly 0,
    and an offset common to all data does not reduce the precision. A matrix product of limited
    precision only preselects the centers that can be nearest, within a proven bound on its rounding
    error. O(N k D) time; the N x k distances are never stored.

    Examples
    --------
    >>> import numpy as np
    >>> min_distance(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 0.0], [6.0, 8.0]]))
    MinDistance(distances=array([0., 5.]), indices=array([0, 0]))
    """
    name = dispatch.choose(
        "min_distance", backend, arrays.device_of(x), ("triton", "cuda", "cpu", "reference")
    )
    distances.require_same_device(centers, "centers", x, "x")
    distances.check_precision(precision)
    if name in dispatch.ACCELERATED:
        from rlmba.kernels.min_distance import on_device

        return MinDistance(*on_device.min_distance(x, centers, max_memory, precision, name))
    rows = distances.as_rows(x, "x")
    c = distances.as_rows(centers, "centers")
    distances.check_centers(rows.shape, c.shape)
    distances.check_max_memory(max_memory)
    dtype = np.result_type(rows, c)
    squared, indices = (_cpu if name == "cpu" else reference.min_distance)(
        rows.astype(dtype, copy=False), c.astype(dtype, copy=False), max_memory
    )
    return MinDistance(arrays.like(distances.root(squared, dtype), x), arrays.like(indices, x))
