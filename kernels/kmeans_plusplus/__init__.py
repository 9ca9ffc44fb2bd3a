"""k-means++ seeding: D^2 sampling of rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, distances
from rlmba.kernels.common.random import Rng, seed_from
from rlmba.kernels.kmeans_plusplus import reference, spec

__all__ = ["KMeansPlusPlus", "kmeans_plusplus"]


class KMeansPlusPlus(NamedTuple):
    """Rows drawn by D^2 sampling, and the nearest drawn row of every row.

    ``indices`` int64 [k] in drawn order; ``distances`` [N] to the nearest drawn row; ``labels``
    int64 [N], which of the k draws is nearest.
    """

    indices: Any
    distances: Any
    labels: Any


def seed_centers(
    x: arrays.Float,
    k: int,
    seed: int,
    first: int | None,
    scratch_bytes: int,
    *,
    block_min: int = spec.BLOCK_MIN,
    block_max: int = spec.BLOCK_MAX,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Run the compiled seeding and return positions [k], squared distances [N] and labels [N]."""
    core = dispatch.require_core()
    indices = np.empty(k, dtype=np.int64)
    squared = np.empty(x.shape[0])
    labels = np.empty(x.shape[0], dtype=np.int64)
    status = core.kmeans_plusplus(
        x,
        seed,
        -1 if first is None else first,
        block_min,
        block_max,
        scratch_bytes,
        indices,
        squared,
        labels,
    )
    if status == core.kmeans_overflow:
        raise distances.overflow()
    if status >= 0:
        raise arrays.non_finite(x, "x", status)
    return indices, squared, labels


def kmeans_plusplus(
    x: arrays.ArrayLike,
    k: int,
    *,
    rng: Rng,
    first: int | None = None,
    max_memory: int | None = None,
    backend: str = "auto",
) -> KMeansPlusPlus:
    """Draw ``k`` distinct rows by exact k-means++ sampling, with probability proportional to D^2.

    D is the Euclidean distance of a row to the nearest row drawn before it.

    Parameters
    ----------
    x : array [N, D]
        Finite real numbers, N >= 1 and D >= 1.
    k : int
        Number of rows to draw, 1 <= k <= N.
    rng : int, numpy.random.Generator, torch.Generator or None
        Source of one 64-bit seed: an int is the seed itself, a generator is advanced by one draw,
        and None takes fresh entropy.
    first : int, optional
        Position of the first row. By default the first row is drawn uniformly.
    max_memory : int, optional
        Bytes of scratch memory in addition to the input, the results and copies of 256 rows; on a
        GPU, bytes of device memory for copies of rows stored in host memory. The result does not
        depend on it.
    backend : {"auto", "triton", "cpu", "reference"}
        See :mod:`rlmba.kernels`.

    Returns
    -------
    KMeansPlusPlus
        ``indices`` int64 [k], distinct positions into ``x`` in drawn order; ``distances`` [N],
        Euclidean, in the computation dtype, exactly 0 for a drawn row and its duplicates;
        ``labels`` int64 [N] in 0..k-1, ties to the earliest draw.

    Raises
    ------
    UsageError
        If x has no row, k is not within 1..N, ``first`` is not within 0..N-1, or ``max_memory`` is
        too small.
    ShapeError
        If ``x`` is not a matrix of real numbers with at least one column.
    NonFiniteError
        If a value is NaN or infinite; ``.row`` is the first such row.
    DataError
        If the sum of squared distances overflows.

    Notes
    -----
    Once every row duplicates a drawn row (all D^2 are 0), the remaining draws are uniform without
    replacement among the rows not drawn yet.

    Rows are proposed in blocks from the distribution at the start of the block and accepted with
    probability D^2 now / D^2 then. This is exactly the distribution of drawing one row at a time.
    Randomness is a pure function of the seed, used in the order specified in
    ``kmeans_plusplus/spec.py``, and D^2 is computed in float64. A seed therefore gives the same
    rows on every backend and number of threads, except where a uniform number falls within rounding
    (about 1e-13 relative) of a boundary between two rows.

    O(N k D) time, and 16 bytes per row in addition to the results. On a GPU a block takes four
    launches, and the host waits for the draws once or a few times, so the operation cannot be
    captured in a CUDA graph.

    References
    ----------
    Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0], [0.0], [10.0], [10.0]])
    >>> result = kmeans_plusplus(x, 2, rng=0, first=3)
    >>> x[result.indices], result.labels
    (array([[10.],
           [ 0.]]), array([1, 1, 0, 0]))
    """
    name = dispatch.choose(
        "kmeans_plusplus", backend, arrays.device_of(x), ("triton", "cpu", "reference")
    )
    if name in dispatch.ACCELERATED:
        from rlmba.kernels.kmeans_plusplus import on_device

        return KMeansPlusPlus(*on_device.kmeans_plusplus(x, k, rng, first, max_memory))
    rows = distances.as_rows(x, "x")
    distances.require_rows(rows)
    k = arrays.as_count(k, "k", low=1, high=rows.shape[0])
    if first is not None:
        first = arrays.as_count(first, "first", low=0, high=rows.shape[0] - 1)
    distances.check_max_memory(max_memory)
    if name == "cpu":
        scratch = distances.scratch_bytes(rows, max_memory)
        indices, squared, labels = seed_centers(rows, k, seed_from(rng), first, scratch)
    else:
        indices, squared, labels = reference.kmeans_plusplus(rows, k, seed_from(rng), first)
    return KMeansPlusPlus(
        arrays.like(indices, x),
        arrays.like(distances.root(squared, rows.dtype), x),
        arrays.like(labels, x),
    )
