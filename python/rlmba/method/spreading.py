"""Classes of unlabeled samples, spread from labeled ones over a graph of neighbors."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

__all__ = ["spread_classes"]

NEIGHBORS = 10
"""Number of nearest neighbors of a sample in the graph."""
_SHARE = 0.9
"""Weight of the neighbors' classes against a sample's own label in every step."""
_STEPS = 30
_BLOCK_VALUES = 2**22


def spread_classes(
    features: NDArray[np.float32], labels: NDArray[np.int64], n_classes: int
) -> NDArray[np.float32]:
    """Class probabilities of every sample, by label spreading on the graph of nearest neighbors.

    Neighbors at the squared distance d² have the weight exp(-d² / m), where m is the mean of d² over all
    of them. Every class starts with the same mass, so frequent labels do not win by their number alone.

    Parameters
    ----------
    features : float32 array [N, D]
        Finite, N >= 1. Time grows with N² D, memory with N D.
    labels : int64 array [N]
        Class of a labeled sample, -1 of an unlabeled one; at least one sample is labeled.
    n_classes : int
        C.

    Returns
    -------
    float32 array [N, C]
        Rows sum to 1. A row that no label reaches is uniform. Among equally near samples, it is not
        specified which are neighbors.

    References
    ----------
    D. Zhou et al., Learning with Local and Global Consistency, NIPS 2003.
    """
    n = len(features)
    graph = _graph(features, min(NEIGHBORS, n - 1))
    start = np.zeros((n, n_classes))
    known = np.flatnonzero(labels >= 0)
    start[known, labels[known]] = 1
    start /= np.maximum(start.sum(axis=0), 1)
    found = start
    for _ in range(_STEPS):
        found = _SHARE * (graph @ found) + (1 - _SHARE) * start
    mass = found.sum(axis=1, keepdims=True)
    uniform = np.full_like(found, 1 / n_classes)
    np.divide(found, mass, out=uniform, where=mass > 0)
    return uniform.astype(np.float32)


def _graph(features: NDArray[np.float32], k: int) -> scipy.sparse.csr_array:
    """Symmetric normalized adjacency [N, N] of the k nearest neighbors."""
    n = len(features)
    if k == 0:
        return scipy.sparse.csr_array((n, n))
    norms = np.einsum("nd,nd->n", features, features)
    neighbors, squared = np.empty((n, k), np.int64), np.empty((n, k))
    step = max(1, _BLOCK_VALUES // n)
    for first in range(0, n, step):
        rows = np.arange(first, min(n, first + step))
        gaps = norms[rows, None] + norms - 2 * (features[rows] @ features.T)
        gaps[np.arange(len(rows)), rows] = np.inf
        near = np.argpartition(gaps, k - 1, axis=1)[:, :k]
        neighbors[rows] = near
        squared[rows] = np.maximum(np.take_along_axis(gaps, near, axis=1), 0)
    mean = squared.mean()
    weights = np.exp(-squared / mean) if mean > 0 else np.ones_like(squared)
    places = np.repeat(np.arange(n), k), neighbors.ravel()
    directed = scipy.sparse.csr_array((weights.ravel(), places), shape=(n, n))
    graph = directed.maximum(directed.T)
    scale = scipy.sparse.diags_array(1 / np.sqrt(np.maximum(graph.sum(axis=1), 1e-30)))
    return scipy.sparse.csr_array(scale @ graph @ scale)
