"""D^2 sampling in blocks; the NumPy counterpart of ``csrc/include/rlmba/d2_sampling.hpp``.

The uniform numbers of a seed (:mod:`rlmba.kernels.common.random`) are used in this order. Number 0
chooses the first row; it is unused if that row is given. Proposal p, counted over all blocks, uses
number 1 + 2 p for its position and 2 + 2 p for its acceptance. Draws from an exhausted pool follow,
one number each, from 1 + 2 (number of examined proposals) on.

A block has as many proposals as rows were drawn before it, within the bounds in the operation's
``spec``. Proposals that remain when the last row is accepted are discarded.

A uniform number u chooses the first row whose cumulative D^2 exceeds u times the total. Sums are
taken in order over chunks of ``REDUCTION_ROWS`` rows, and then in order over the chunks.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common import distances
from rlmba.kernels.common.random import uniform01

REDUCTION_ROWS = 4096


class Points(Protocol):
    """Interface to rows whose pairwise distances can be computed."""

    def __len__(self) -> int: ...

    def nearest(self, positions: list[int]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Squared distance [N] of every row to the nearest of some rows, and which; ties to the first."""
        ...

    def squared(self, position: int, others: list[int]) -> NDArray[np.float64]:
        """Squared distances of one row to other rows."""
        ...


class Drawn(NamedTuple):
    """Rows in drawn order.

    ``indices`` int64 [k]; ``squared`` float64 [N] and ``labels`` int64 [N], the squared distance of
    every row to the nearest drawn row and which that is; ``at_draw`` float64 [k], the D^2 of each
    drawn row when it was drawn, infinity for the first.
    """

    indices: NDArray[np.int64]
    squared: NDArray[np.float64]
    labels: NDArray[np.int64]
    at_draw: NDArray[np.float64]


def chunk_sums(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sums of weights [n] over chunks of ``REDUCTION_ROWS``, each taken in order."""
    whole = len(weights) // REDUCTION_ROWS * REDUCTION_ROWS
    rows, sums = (
        weights[:whole].reshape(-1, REDUCTION_ROWS),
        np.empty(-(-len(weights) // REDUCTION_ROWS)),
    )
    for start in range(0, len(rows), 64):  # a cumulative sum takes as much memory as its chunks
        sums[start : min(start + 64, len(rows))] = np.cumsum(rows[start : start + 64], axis=1)[
            :, -1
        ]
    if whole < len(weights):
        sums[-1] = np.cumsum(weights[whole:])[-1]
    return sums


class ChunkLaw:
    """Chooses the chunk of a drawn position, from the sums of all chunks."""

    def __init__(self, sums: NDArray[np.float64]) -> None:
        self._sums = sums
        self._ends = np.cumsum(sums)
        self.total = float(self._ends[-1])

    def draw(self, uniform: float) -> tuple[int, float]:
        """The chunk, and the weight that remains within it up to ``uniform`` times the total."""
        target = uniform * self.total
        chunk = min(int(np.searchsorted(self._ends, target, side="right")), len(self._ends) - 1)
        while not self._sums[chunk] > 0:
            chunk -= 1
        return chunk, float(target - self._ends[chunk - 1] if chunk > 0 else target)


def draw_within(weights: NDArray[np.float64], start: int, rest: float) -> int:
    """The first position of the chunk at ``start`` whose cumulative weight in it exceeds ``rest``."""
    chunk = weights[start : start + REDUCTION_ROWS]
    inside = int(np.searchsorted(np.cumsum(chunk), rest, side="right"))
    return start + (int(np.flatnonzero(chunk)[-1]) if inside == len(chunk) else inside)


class WeightedDraw:
    """Draws positions with probability proportional to weights, which are summed by chunk."""

    def __init__(self, weights: NDArray[np.float64]) -> None:
        self._weights = weights
        self._law = ChunkLaw(chunk_sums(weights))
        self.total = self._law.total

    def draw(self, uniform: float) -> int:
        """Return the first position whose cumulative weight exceeds ``uniform`` times the total."""
        chunk, rest = self._law.draw(uniform)
        return draw_within(self._weights, chunk * REDUCTION_ROWS, rest)


@dataclass
class State:
    """Rows drawn so far, with the nearest of them for every row and its squared distance."""

    points: Points
    squared: NDArray[np.float64] = field(init=False)
    labels: NDArray[np.int64] = field(init=False)
    drawn: list[int] = field(default_factory=list)
    at_draw: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.squared = np.full(len(self.points), np.inf)
        self.labels = np.full(len(self.points), -1, dtype=np.int64)

    def extend(self, positions: list[int], at_draw: list[float]) -> None:
        """Add rows that were just drawn."""
        squared, labels = self.points.nearest(positions)
        nearer = squared < self.squared
        self.labels[nearer] = labels[nearer] + len(self.drawn)
        self.squared[nearer] = squared[nearer]
        self.drawn += positions
        self.at_draw += at_draw


def place(uniform: float, count: int) -> int:
    """Return which of ``count`` equal parts of (0, 1) contains a uniform number."""
    return min(int(uniform * count), count - 1)


def accept_block(
    before: Sequence[float],
    between: Callable[[int, list[int]], NDArray[np.float64]],
    uniforms: NDArray[np.float64],
    room: int,
) -> tuple[list[int], list[float], int]:
    """Accept at most ``room`` proposals of a block.

    Parameters
    ----------
    before : sequence of float
        The D^2 of each proposal at the start of the block.
    between : callable
        The squared distances of a proposal to other proposals, by their numbers in the block.
    uniforms : float64 array
        One for each proposal.
    room : int

    Returns
    -------
    (list of int, list of float, int)
        The numbers of the accepted proposals, their D^2 when they were drawn, and how many proposals were
        examined.
    """
    kept: list[int] = []
    at_draw: list[float] = []
    for j, least in enumerate(before):
        if len(kept) == room:
            return kept, at_draw, j
        now = min([least, *between(j, kept).tolist()])
        if now > 0 and uniforms[j] * least <= now:
            kept.append(j)
            at_draw.append(now)
    return kept, at_draw, len(before)


def draw_exhausted(n: int, drawn: list[int], uniforms: NDArray[np.float64]) -> list[int]:
    """Draw one row per uniform number from ``n`` rows that all duplicate drawn rows."""
    taken, found = sorted(drawn), []
    for u in uniforms.tolist():
        position = place(u, n - len(taken))
        for one in taken:
            position += one <= position
        bisect.insort(taken, position)
        found.append(position)
    return found


def _between(
    points: Points, proposals: list[int], j: int, others: list[int]
) -> NDArray[np.float64]:
    return points.squared(proposals[j], [proposals[o] for o in others])


def draw_blocks(
    points: Points, k: int, seed: int, first: int, *, block_min: int, block_max: int
) -> Drawn:
    """Draw ``k`` distinct rows with exactly the random stream of the compiled kernel.

    Raises
    ------
    DataError
        If the sum of squared distances overflows.
    """
    n = len(points)
    state = State(points)
    state.extend([first], [np.inf])
    counter = 1
    while len(state.drawn) < k:
        law = WeightedDraw(state.squared)
        if not np.isfinite(law.total):
            raise distances.overflow()
        if law.total == 0:
            break
        size = min(max(len(state.drawn), block_min), block_max)
        uniforms = uniform01(seed, counter, 2 * size)
        proposals = [law.draw(u) for u in uniforms[::2].tolist()]
        kept, at_draw, walked = accept_block(
            state.squared[proposals].tolist(),
            partial(_between, points, proposals),
            uniforms[1::2],
            k - len(state.drawn),
        )
        state.extend([proposals[j] for j in kept], at_draw)
        counter += 2 * walked
    rest = draw_exhausted(n, state.drawn, uniform01(seed, counter, k - len(state.drawn)))
    state.drawn += rest
    state.at_draw += [0.0] * len(rest)
    return Drawn(
        np.array(state.drawn, dtype=np.int64), state.squared, state.labels, np.array(state.at_draw)
    )
