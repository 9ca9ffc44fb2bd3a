""":func:`rlmba.kernels.k_center` over several processes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, distances
from rlmba.kernels.sharded.group import Group, agreed
from rlmba.kernels.sharded.rows import ALIGNMENT, RowBlocks, span_of, taken

__all__ = ["CANDIDATES", "Centers", "k_center"]

CANDIDATES = 4096
"""Most candidates of a round, from which the next picks are made."""


class Centers(NamedTuple):
    """Picked rows in order.

    ``indices`` int64 [n], positions among the rows of all processes, and ``distances`` [n] to the nearest
    center when each was picked.
    """

    indices: NDArray[np.int64]
    distances: NDArray[Any]


class _Search:
    """The squared distance of every row of this process to its nearest center."""

    def __init__(self, rows: RowBlocks, group: Group) -> None:
        self.rows, self.group = rows, group
        self.span = span_of(rows, group)
        self.squared = np.full(len(rows), np.inf)
        self._core = dispatch.require_core()

    def update(self, centers: NDArray[Any]) -> None:
        """Take further centers [c, D] into account."""
        with agreed(self.group):
            for at, (x,) in self.rows.blocks():
                squared = self.squared[at : at + len(x)]
                labels = np.where(np.isinf(squared), -1, 0)
                bad = self._core.update_nearest(x, centers, distances.UNBOUNDED, squared, labels)
                if bad >= 0:
                    raise arrays.non_finite(x, "features", bad, offset=self.span.begin + at)
            if not np.isfinite(self.squared.max(initial=0.0)):
                raise distances.overflow()

    def farthest(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[Any]]:
        """The rows of all processes that are farthest from their centers: distances, positions, rows."""
        best = np.empty(min(count, len(self.squared)), dtype=np.int64)
        self._core.top_k(self.squared, best)
        best = best[self.squared[best] > 0]
        every = self.group.gather((self.squared[best], best + self.span.begin))
        squared, positions = (np.concatenate(part) for part in zip(*every, strict=True))
        order = np.lexsort((positions, -squared))[:count]
        if not len(order):
            return np.empty(0), np.empty(0, np.int64), np.empty(0)
        (found,) = taken(self.rows.take, positions[order], self.span, self.group)
        return squared[order], positions[order], found

    def nearest_to_mean(self) -> int:
        """The row of all processes that is nearest to their mean."""
        sums: list[NDArray[np.float64]] = []
        with agreed(self.group):
            for at, (x,) in self.rows.blocks():
                if (bad := self._core.first_bad_row(x)) >= 0:
                    raise arrays.non_finite(x, "features", bad, offset=self.span.begin + at)
                for start in range(0, len(x), ALIGNMENT):
                    sums.append(np.empty(x.shape[1]))
                    self._core.column_sums(x[start : start + ALIGNMENT], sums[-1])
        every = [chunk for part in self.group.gather(sums) for chunk in part]
        mean = np.zeros_like(every[0])
        for chunk in every:
            mean += chunk
        mean /= self.span.total
        if not np.isfinite(mean).all():
            raise distances.overflow()
        nearest = (np.inf, self.span.total)
        for at, (x,) in self.rows.blocks():
            position, squared = self._core.nearest_to(x, mean)
            nearest = min(nearest, (squared, self.span.begin + at + position))
        return int(min(self.group.gather(nearest))[1])


def k_center(
    rows: RowBlocks, n: int, *, group: Group, labeled: NDArray[Any] | None = None
) -> Centers:
    """Pick ``n`` rows by greedy k-center.

    Parameters
    ----------
    rows : RowBlocks
        One array [N, D] of float32 or float64, the same in all processes.
    n : int
        1 <= n <= the number of rows of all processes.
    group : Group
    labeled : array [L, D] or None
        Centers from the start: finite, with the dtype of the rows, the same in all processes.

    Returns
    -------
    Centers
        As :func:`rlmba.kernels.k_center`.

    Raises
    ------
    NonFiniteError
        If a row contains NaN or infinity; ``.row`` is its position.
    DataError
        If distances overflow.

    Notes
    -----
    A round gathers the rows that are farthest from their centers, at most 4,096. Every process makes the
    same picks among them, for as long as a candidate is farther than all other rows can be. One pass over
    the rows then takes the picks into account. Memory: 8 bytes a row, and the candidates of all processes.
    """
    search = _Search(rows, group)
    picks: list[NDArray[np.int64]] = []
    reach: list[NDArray[np.float64]] = []
    first_reach = None
    if labeled is None or len(labeled) == 0:
        first = search.nearest_to_mean()
        (centers,) = taken(rows.take, np.array([first]), search.span, group)
        picks, reach = [np.array([first])], [np.array([np.nan])]
        first_reach = 0
    else:
        centers = labeled
    core = dispatch.require_core()
    while True:
        search.update(centers)
        if first_reach is not None:
            reach[0] = np.array([max(group.gather(search.squared.max(initial=0.0)))])
            first_reach = None
        left = n - sum(map(len, picks))
        if left == 0:
            break
        count = min(max(CANDIDATES, 2), search.span.total)
        squared, positions, found = search.farthest(count)
        if not len(positions):
            picks.append(_lowest_free(np.concatenate([np.empty(0, np.int64), *picks]), left))
            reach.append(np.zeros(left))
            break
        order = np.argsort(positions)
        floor = (-1.0, 0)
        if len(positions) == count < search.span.total:
            floor = (float(squared[-1]), int(np.flatnonzero(order == count - 1)[0]))
        some, far = np.empty(left, np.int64), np.empty(left)
        made = core.pick_farthest(
            np.ascontiguousarray(found[order]), squared[order], *floor, some, far
        )
        picks.append(positions[order][some[:made]])
        reach.append(far[:made])
        centers = np.ascontiguousarray(found[order][some[:made]])
        if made == left:
            break
    dtype = centers.dtype
    return Centers(np.concatenate(picks), distances.root(np.concatenate(reach), dtype))


def _lowest_free(taken: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The lowest positions that are not taken."""
    free = np.setdiff1d(np.arange(len(taken) + count), taken)
    return np.asarray(free[:count], dtype=np.int64)
