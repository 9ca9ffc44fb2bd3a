"""NumPy implementation of :func:`rlmba.kernels.herding`: lazy greedy, one candidate at a time."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.herding.problem import ROUND, Problem

__all__ = ["affinity", "herding", "rounded"]


def affinity(squared: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Return k = exp(-D / radius^2) for the distances D in ``squared``."""
    if radius == 0:
        return np.asarray(squared == 0, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        k = np.exp(-(squared / radius) / radius)
    k[np.isinf(squared)] = 0.0
    return np.asarray(k, dtype=np.float64)


def rounded(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round numbers in [0, 1] to multiples of 2^-51, so that their sums are exact in any order."""
    return (terms + ROUND) - ROUND


def herding(problem: Problem, n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return positions int64 [n] and gains float64 [n], in units of the scaled utility."""
    problem.rows.require_finite()
    problem.labeled.require_finite()
    rows, targets = problem.rows, problem.rows.take(problem.targets)
    utility = problem.utility[problem.targets]
    covered = np.zeros(len(utility))

    def column(position: int) -> NDArray[np.float64]:
        return affinity(targets.squared_distances(rows, position), problem.radius)

    def gain(k: NDArray[np.float64]) -> float:
        return float(rounded(utility * np.maximum(0.0, k - covered)).sum())

    for row in range(problem.labeled.rows):
        k = affinity(targets.squared_distances(problem.labeled, row), problem.radius)
        covered = np.maximum(covered, k)
    # Gains only shrink, so a gain computed before is an upper bound.
    heap = [(-gain(column(p)), p, 0) for p in problem.candidates.tolist()]
    heapq.heapify(heap)
    indices, gains = np.empty(n, dtype=np.int64), np.empty(n)
    for done in range(n):
        while heap[0][2] < done and heap[0][0] < 0:
            _, position, _ = heap[0]
            heapq.heapreplace(heap, (-gain(column(position)), position, done))
        negative, position, _ = heapq.heappop(heap)
        indices[done], gains[done] = position, -negative
        covered = np.maximum(covered, column(position))
    return indices, gains
