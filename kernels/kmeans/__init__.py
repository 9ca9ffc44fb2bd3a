"""k-means clustering with a limited number of iterations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, distances, exact_sums
from rlmba.kernels.common.random import Rng, seed_from
from rlmba.kernels.kmeans import reference
from rlmba.kernels.kmeans.means import Means
from rlmba.kernels.kmeans_plusplus import seed_centers

__all__ = ["KMeans", "kmeans"]


class KMeans(NamedTuple):
    """Clusters of N rows.

    ``centers`` [k, D]; ``labels`` int64 [N]; ``distances`` [N] to the nearest center;
    ``iterations``, an int; ``seed_indices`` int64 [k], the rows from which the centers started.
    """

    centers: Any
    labels: Any
    distances: Any
    iterations: int
    seed_indices: Any


def _cpu(
    x: arrays.Float, k: int, seed: int, max_iter: int, max_memory: int | None
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.float64], int, NDArray[np.int64]]:
    core = dispatch.require_core()
    scratch = distances.scratch_bytes(x, max_memory)
    indices, squared, labels = seed_centers(x, k, seed, None, scratch)
    centers: NDArray[Any] = np.ascontiguousarray(x[indices])
    before = np.empty_like(labels)
    by = exact_sums.constants(exact_sums.largest_of(x), len(x), x.dtype)
    iterations = 0
    # The seeding has already assigned every row to its nearest initial center.
    while iterations < max_iter:
        means = Means(len(centers), centers.shape[1], by)
        means.add(x, labels)
        means.move(centers)
        before, labels = labels, before
        squared.fill(np.inf)
        labels.fill(-1)
        core.update_nearest(x, centers, scratch, squared, labels)
        iterations += 1
        if np.array_equal(labels, before):
            break
    return centers, labels, squared, iterations, indices


def kmeans(
    x: arrays.ArrayLike,
    k: int,
    *,
    rng: Rng,
    max_iter: int = 5,
    max_memory: int | None = None,
    precision: str = "exact",
    backend: str = "auto",
) -> KMeans:
    """Cluster rows: k-means++ seeding and at most ``max_iter`` Lloyd steps, with distances (Eq 5).

    Parameters
    ----------
    x : array [N, D]
        Finite real numbers, N >= 1 and D >= 1. It is not changed.
    k : int
        Number of clusters, 1 <= k <= N.
    rng : int, numpy.random.Generator, torch.Generator or None
        Randomness of the seeding; see :func:`rlmba.kernels.kmeans_plusplus`.
    max_iter : int
        Maximum number of Lloyd steps, >= 0. A step moves every center to the mean of its rows and
        reassigns all rows. The steps end early once the assignment no longer changes.
    max_memory : int, optional
        Bytes of scratch memory for packed centers and products, in addition to the input, the
        results and 24 bytes per row (backend ``"cpu"``); bytes of GPU memory for copies of rows
        stored in host memory (``"triton"``). The result does not depend on it.
    precision : {"exact", "tf32", "bf16"}
        How a GPU assigns rows; see :func:`rlmba.kernels.min_distance`. Seeding and means are always
        exact. It has no effect on a CPU.
    backend : {"auto", "cpu", "triton", "reference"}
        See :mod:`rlmba.kernels`.

    Returns
    -------
    KMeans
        ``centers`` [k, D], in the computation dtype; ``labels`` int64 [N] in 0..k-1, the nearest of
        the returned centers, the lowest on ties; ``distances`` [N], Euclidean, to that center;
        ``iterations``, the number of Lloyd steps; ``seed_indices`` int64 [k], positions into ``x``.
        A cluster that loses all its rows keeps its center.

    Raises
    ------
    UsageError
        If x has no row, k is not within 1..N, ``max_iter`` is negative, or ``max_memory`` is too
        small.
    ShapeError
        If ``x`` is not a matrix of real numbers with at least one column.
    NonFiniteError
        If a value is NaN or infinite; ``.row`` is the first such row.
    DataError
        If distances overflow.

    Notes
    -----
    A seed gives the same clusters for any number of threads and any ``max_memory``, and on every
    backend up to rounding. Means are computed in float64 by sums without rounding errors, so they do not
    depend on the order of the rows. Each step takes O(N k D) time; the N x k distances are never stored.

    Examples
    --------
    >>> import numpy as np
    >>> result = kmeans(np.array([[0.0], [1.0], [10.0], [11.0]]), 2, rng=0)
    >>> sorted(result.centers.ravel().tolist()), result.distances
    ([0.5, 10.5], array([0.5, 0.5, 0.5, 0.5]))
    """
    name = dispatch.choose("kmeans", backend, arrays.device_of(x), ("triton", "cpu", "reference"))
    distances.check_precision(precision)
    if name in dispatch.ACCELERATED:
        from rlmba.kernels.kmeans import on_device

        return KMeans(
            *on_device.kmeans(x, k, rng, max_iter, max_memory=max_memory, precision=precision)
        )
    rows = distances.as_rows(x, "x")
    distances.require_rows(rows)
    k = arrays.as_count(k, "k", low=1, high=rows.shape[0])
    max_iter = arrays.as_count(max_iter, "max_iter", low=0)
    distances.check_max_memory(max_memory)
    implementation = _cpu if name == "cpu" else reference.kmeans
    centers, labels, squared, iterations, indices = implementation(
        rows, k, seed_from(rng), max_iter, max_memory
    )
    return KMeans(
        arrays.like(centers, x),
        arrays.like(labels, x),
        arrays.like(distances.root(squared, rows.dtype), x),
        iterations,
        arrays.like(indices, x),
    )
