"""Greedy k-center: pick rows that cover all others."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, distances
from rlmba.kernels.k_center import checks, reference

__all__ = ["KCenter", "k_center"]


class KCenter(NamedTuple):
    """Rows picked by greedy k-center.

    ``indices`` int64 [n] in picked order; ``distances`` [n] of each pick to its nearest center
    before it was picked; ``radius``, the largest distance of any row to its nearest center after
    all picks.
    """

    indices: Any
    distances: Any
    radius: float


def _cpu(
    x: arrays.Float, n: int, labeled: arrays.Float, first: int | None, max_memory: int | None
) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    core = dispatch.require_core()
    scratch = distances.UNBOUNDED
    if max_memory is not None:
        low = int(core.k_center_scratch(x))
        scratch = arrays.as_count(max_memory, "max_memory", low=low)
    bad = core.first_bad_row(labeled)
    if bad >= 0:
        raise arrays.non_finite(labeled, "labeled", bad)
    indices = np.empty(n, dtype=np.int64)
    squared = np.empty(n)
    status, radius = core.k_center(
        x, labeled, -1 if first is None else first, scratch, indices, squared
    )
    if status == core.k_center_overflow:
        raise distances.overflow()
    if status >= 0:
        raise arrays.non_finite(x, "features", status)
    return indices, squared, float(radius)


def _centers(
    labeled: arrays.ArrayLike | None, features: arrays.ArrayLike, x: arrays.Float
) -> NDArray[Any]:
    if labeled is None:
        return np.empty((0, x.shape[1]), dtype=x.dtype)
    distances.require_same_device(labeled, "labeled", features, "features")
    rows = distances.as_rows(labeled, "labeled")
    checks.require_width(rows.shape, x.shape[1])
    return arrays.cast(rows, x.dtype, "labeled")


def k_center(
    features: arrays.ArrayLike,
    n: int,
    *,
    labeled: arrays.ArrayLike | None = None,
    first: int | None = None,
    max_memory: int | None = None,
    backend: str = "auto",
) -> KCenter:
    """Pick ``n`` rows, each the farthest from all previous centers (greedy k-center, CoreSet).

    Parameters
    ----------
    features : array [N, D]
        Finite real numbers, D >= 1. Read in place, also if memory-mapped.
    n : int
        Number of rows to pick, 0 <= n <= N.
    labeled : array [L, D], optional
        Rows that are centers from the start, such as the labeled samples of active learning. They
        are never returned. L = 0 is the same as None. Converted to the dtype of ``features``.
    first : int, optional
        Position of the first pick. By default, the row farthest from the labeled rows; without
        labeled rows, the row nearest to the mean of all rows.
    max_memory : int, optional
        Bytes for copies of rows and packed centers, in addition to the input, the results and 16
        bytes per row (compiled backend); on a GPU, bytes of its memory for copies of rows stored in
        host memory. The result does not depend on it.
    backend : {"auto", "triton", "cpu", "reference"}
        See :mod:`rlmba.kernels`.

    Returns
    -------
    KCenter
        ``indices`` int64 [n], distinct positions into ``features`` in picked order; ties go to the
        lowest position. ``distances`` [n], in the computation dtype, are Euclidean distances of
        each pick to its nearest center before it was picked. They never increase, except after a
        ``first`` that was not the farthest row. Without labeled rows the first pick has no previous
        center; ``distances[0]`` is then the radius after this pick, which equals ``distances[1]``.
        ``radius``, a float, is the largest distance of any row to its nearest center after all
        picks: 0 if there is no row, infinite if there is no center.

    Raises
    ------
    UsageError
        If n is not within 0..N, ``first`` is not within 0..N-1, or ``max_memory`` is too small.
    ShapeError
        If an array is not a matrix of real numbers with at least one column, or the widths differ.
    NonFiniteError
        If a value is NaN or infinite; ``.row`` is the first such row.
    DataError
        If a distance overflows.

    Notes
    -----
    Once every remaining row duplicates a center, all distances are 0 and the lowest positions not
    yet picked follow. No position is picked twice.

    Distances are sums of (x - c)^2 in float64, so duplicates have distance exactly 0. Picks are the
    same on every backend, instruction set and number of threads, except where two distances differ
    by no more than rounding (about 1e-15 relative). The mean for the first pick is also summed in
    float64.

    Distances only shrink as centers are added. A row's last known distance is therefore an upper
    bound, and only the rows with the largest bounds are compared with the centers added since. All
    rows are read once in order, or three times without labeled rows and ``first``; later passes
    read few of them. Memory is 16 bytes per row and copies of at most a sixteenth of the rows plus
    a few thousand, up to about 100 MiB.

    On a GPU, each pass over the rows yields a block of picks: they come from the 1,024 rows with
    the largest distances, for as long as no other row can be farther. Memory is 25 bytes per row,
    scratch for selecting those rows, and a few megabytes. During CUDA graph capture the host cannot
    wait for results: ``radius`` is a zero-dimensional tensor, n blocks are recorded, and neither
    finite numbers nor overflow are checked.

    The n picks cover the rows within ``radius``, at most twice the least radius that any n centers can
    have (without labeled rows).

    References
    ----------
    Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985. Sener and Savarese,
    "Active learning for convolutional neural networks: a core-set approach", ICLR 2018.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0], [1.0], [7.0], [10.0]])
    >>> k_center(x, 2, labeled=np.array([[0.0]]))
    KCenter(indices=array([3, 2]), distances=array([10.,  3.]), radius=1.0)
    """
    name = dispatch.choose(
        "k_center", backend, arrays.device_of(features), ("triton", "cpu", "reference")
    )
    if name in dispatch.ACCELERATED:
        from rlmba.kernels.k_center import on_device

        return KCenter(*on_device.k_center(features, n, labeled, first, max_memory))
    implementation = _cpu if name == "cpu" else reference.k_center
    x = distances.as_rows(features, "features")
    n = arrays.as_count(n, "n", low=0, high=x.shape[0])
    if first is not None:
        distances.require_rows(x)
        first = arrays.as_count(first, "first", low=0, high=x.shape[0] - 1)
    centers = _centers(labeled, features, x)
    distances.check_max_memory(max_memory)
    indices, squared, radius = implementation(x, n, centers, first, max_memory)
    if n > 0 or len(centers) > 0:
        radius = float(distances.root(np.array([radius]), x.dtype)[0])
    return KCenter(
        arrays.like(indices, features),
        arrays.like(distances.root(squared, x.dtype), features),
        radius,
    )
