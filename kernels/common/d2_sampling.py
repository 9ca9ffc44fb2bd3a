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

from dataclasses import dataclass, field
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


class WeightedDraw:
    """Draws positions with probability proportional to weights, which are summed by chunk."""

    def __init__(self, weights: NDArray[np.float64]) -> None:
        self._weights = weights
        starts = range(0, len(weights), REDUCTION_ROWS)
        self._sums = np.array([np.cumsum(weights[s : s + REDUCTION_ROWS])[-1] for s in starts])
        self._ends = np.cumsum(self._sums)
        self.total = float(self._ends[-1])

    def draw(self, uniform: float) -> int:
        """Return the first position whose cumulative weight exceeds ``uniform`` times the total."""
        target = uniform * self.total
        chunk = min(int(np.searchsorted(self._ends, target, side="right")), len(self._ends) - 1)
        while not self._sums[chunk] > 0:
            chunk -= 1
        rest = target - self._ends[chunk - 1] if chunk > 0 else target
        start = chunk * REDUCTION_ROWS
        weights = self._weights[start : start + REDUCTION_ROWS]
        inside = int(np.searchsorted(np.cumsum(weights), rest, side="right"))
        if inside == len(weights):
            inside = int(np.flatnonzero(weights)[-1])
        return start + inside


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
    state: State, proposals: list[int], uniforms: NDArray[np.float64], room: int
) -> tuple[list[int], list[float], int]:
    """Accept at most ``room`` proposals; return them, their D^2 and the number examined."""
    kept: list[int] = []
    at_draw: list[float] = []
    for j, position in enumerate(proposals):
        if len(kept) == room:
            return kept, at_draw, j
        before = float(state.squared[position])
        now = min([before, *state.points.squared(position, kept).tolist()])
        if now > 0 and uniforms[j] * before <= now:
            kept.append(position)
            at_draw.append(now)
    return kept, at_draw, len(proposals)


def draw_exhausted(n: int, drawn: list[int], uniforms: NDArray[np.float64]) -> list[int]:
    """Draw one row per uniform number from ``n`` rows that all duplicate drawn rows."""
    free = sorted(set(range(n)) - set(drawn)) if len(uniforms) else []
    return [free.pop(place(u, len(free))) for u in uniforms.tolist()]


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
        kept, at_draw, walked = accept_block(state, proposals, uniforms[1::2], k - len(state.drawn))
        state.extend(kept, at_draw)
        counter += 2 * walked
    rest = draw_exhausted(n, state.drawn, uniform01(seed, counter, k - len(state.drawn)))
    state.drawn += rest
    state.at_draw += [0.0] * len(rest)
    return Drawn(
        np.array(state.drawn, dtype=np.int64), state.squared, state.labels, np.array(state.at_draw)
    )
