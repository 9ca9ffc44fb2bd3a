"""Draws by the D^2 law in blocks, the NumPy twin of ``csrc/include/rlmba/d2_sampling.hpp``.

Uniforms of a seed (:mod:`rlmba.kernels.common.random`) are used in this order: number 0 is for placing
the first row, and left unused where it is given; proposal p (counted over all blocks) uses number
1 + 2 p for its place and 2 + 2 p for its acceptance; the draws of an exhausted pool follow, from
1 + 2 (proposals walked through) on, one each.

A block holds as many proposals as there are rows drawn at its start, within the bounds that the
operation's ``spec`` gives. Proposals left over when the last row is accepted are discarded.

A place is the first row whose cumulated D^2 exceeds u times the total. Sums run in order over chunks of
``REDUCTION_ROWS`` rows, and in order over the chunks.
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
    """Rows, wherever they lie and however their distances are computed."""

    def __len__(self) -> int: ...

    def nearest(self, positions: list[int]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Squared distance [N] of every row to the nearest of some, and which: ties to the first."""
        ...

    def squared(self, position: int, others: list[int]) -> NDArray[np.float64]:
        """Squared distance of one row to others."""
        ...


class Drawn(NamedTuple):
    """Rows in drawn order.

    ``indices`` int64 [k]; ``squared`` float64 [N] and ``labels`` int64 [N] say how far every row lies
    from the nearest of them, and which it is; ``at_draw`` float64 [k] is the D^2 that each had when it
    was drawn, infinity for the first.
    """

    indices: NDArray[np.int64]
    squared: NDArray[np.float64]
    labels: NDArray[np.int64]
    at_draw: NDArray[np.float64]


class WeightedDraw:
    """Draws positions in proportion to weights, summed chunk by chunk."""

    def __init__(self, weights: NDArray[np.float64]) -> None:
        self._weights = weights
        starts = range(0, len(weights), REDUCTION_ROWS)
        self._sums = np.array([np.cumsum(weights[s : s + REDUCTION_ROWS])[-1] for s in starts])
        self._ends = np.cumsum(self._sums)
        self.total = float(self._ends[-1])

    def draw(self, uniform: float) -> int:
        """The first position whose cumulated weight exceeds ``uniform`` times the total."""
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
    """Rows drawn so far, and each row's squared distance to and place of the nearest of them."""

    points: Points
    squared: NDArray[np.float64] = field(init=False)
    labels: NDArray[np.int64] = field(init=False)
    drawn: list[int] = field(default_factory=list)
    at_draw: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.squared = np.full(len(self.points), np.inf)
        self.labels = np.full(len(self.points), -1, dtype=np.int64)

    def extend(self, positions: list[int], at_draw: list[float]) -> None:
        """Take in rows just drawn."""
        squared, labels = self.points.nearest(positions)
        nearer = squared < self.squared
        self.labels[nearer] = labels[nearer] + len(self.drawn)
        self.squared[nearer] = squared[nearer]
        self.drawn += positions
        self.at_draw += at_draw


def place(uniform: float, count: int) -> int:
    """Position of a uniform among ``count`` equal parts of (0, 1)."""
    return min(int(uniform * count), count - 1)


def accept_block(
    state: State, proposals: list[int], uniforms: NDArray[np.float64], room: int
) -> tuple[list[int], list[float], int]:
    """Which proposals to keep (at most ``room``), their D^2 then, and how many were looked at."""
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
    """The draws of a pool of ``n`` rows that all duplicate drawn ones: one for each uniform."""
    free = sorted(set(range(n)) - set(drawn)) if len(uniforms) else []
    return [free.pop(place(u, len(free))) for u in uniforms.tolist()]


def draw_blocks(
    points: Points, k: int, seed: int, first: int, *, block_min: int, block_max: int
) -> Drawn:
    """Draw ``k`` distinct rows, draw for draw the stream that the compiled form uses.

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
