""":func:`rlmba.kernels.kmeans` over several processes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels import dispatch
from rlmba.kernels.common import distances, exact_sums
from rlmba.kernels.kmeans.means import Means
from rlmba.kernels.sharded.d2 import kmeans_plusplus
from rlmba.kernels.sharded.group import Group, agreed
from rlmba.kernels.sharded.rows import RowBlocks, span_of, taken

__all__ = ["Clusters", "kmeans"]


class Clusters(NamedTuple):
    """Clusters of the rows of all processes.

    ``centers`` [k, D]; ``seed_indices`` int64 [k], positions among the rows of all processes;
    ``iterations``, the number of Lloyd steps; and ``labels`` int64 [n] and ``distances`` [n] for the rows of
    this process only.
    """

    centers: NDArray[Any]
    labels: NDArray[np.int64]
    distances: NDArray[Any]
    iterations: int
    seed_indices: NDArray[np.int64]


def kmeans(rows: RowBlocks, k: int, *, seed: int, group: Group, max_iter: int = 5) -> Clusters:
    """Cluster the rows of all processes like :func:`rlmba.kernels.kmeans`.

    Parameters
    ----------
    rows : RowBlocks
        One array [n, D] of this process, float32 or float64; D and the dtype are the same in all processes.
    k : int
        1 <= k <= the number of rows of all processes.
    seed : int
        The result of :func:`rlmba.kernels.common.random.seed_from`.
    group : Group
    max_iter : int
        The largest number of Lloyd steps, >= 0.

    Raises
    ------
    NonFiniteError
        If a row contains NaN or infinity; ``.row`` is its position.
    DataError
        If distances overflow.

    Notes
    -----
    A Lloyd step takes two passes over the rows, and one sum over the processes of arrays with 16 k D bytes
    (float64: 24 k D bytes), which has no rounding error. It needs 24 bytes of memory for each row.
    """
    drawn = kmeans_plusplus(rows, k, seed=seed, group=group)
    squared, labels, before = drawn.squared, drawn.labels, np.empty_like(drawn.labels)
    span = span_of(rows, group)
    (centers,) = taken(rows.take, drawn.indices, span, group)
    largest = max((exact_sums.largest_of(x) for _, (x,) in rows.blocks()), default=0.0)
    by = exact_sums.constants(max(group.gather(largest)), span.total, centers.dtype)
    core = dispatch.require_core()
    iterations = 0
    while iterations < max_iter:
        means = Means(len(centers), centers.shape[1], by)
        for at, (x,) in rows.blocks():
            means.add(x, labels[at : at + len(x)])
        means.summed(group.add_up).move(centers)
        before, labels = labels, before
        squared.fill(np.inf)
        labels.fill(-1)
        for at, (x,) in rows.blocks():
            part = slice(at, at + len(x))
            core.update_nearest(x, centers, distances.UNBOUNDED, squared[part], labels[part])
        iterations += 1
        if all(group.gather(np.array_equal(labels, before))):
            break
    with agreed(group):
        found = distances.root(squared, centers.dtype)
    return Clusters(centers, labels, found, iterations, drawn.indices)
