""":func:`rlmba.kernels.herding` on a GPU.

Gains only shrink as rows are picked, so the last known gain of a candidate is an upper bound. The
candidates with the largest bounds are evaluated together. The best of them is the pick if no other
candidate can be better: none has a larger bound, or the same bound and a lower position.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlmba.kernels.common import device, distances, modality_columns
from rlmba.kernels.herding import triton_impl
from rlmba.kernels.herding.problem import Problem

__all__ = ["herding"]

_FIRST, _MOST = 64, 1024
"""How many candidates are evaluated together: first for each pick, and at most."""


class _Cover:
    """The targets, how well they are covered, and the candidates."""

    def __init__(self, problem: Problem) -> None:
        rows, labeled = problem.rows, problem.labeled
        where = modality_columns.compute_device(rows, labeled)
        partial = not all(some.present is None or some.present.all() for some in (rows, labeled))
        given = modality_columns.pack(labeled, where, partial=partial)
        every = modality_columns.pack(rows, where, partial=partial)

        def take(positions: NDArray[np.int64]) -> modality_columns.ModalityColumns:
            if len(positions) == every.rows:
                return every
            return every.take(torch.from_numpy(positions).to(where))

        self.targets, self.candidates = take(problem.targets), take(problem.candidates)
        self._utility = torch.from_numpy(problem.utility[problem.targets]).to(where)
        self._radius = torch.full((1,), problem.radius, dtype=torch.float64, device=where)
        self.covered = torch.zeros_like(self._utility)
        triton_impl.cover(given, self.targets, self.covered, self._radius)

    def gains(self, some: Tensor | None = None) -> Tensor:
        """Gains of some candidates, or of all."""
        rows = self.candidates if some is None else self.candidates.take(some)
        return triton_impl.gains(rows, self.targets, self._utility, self.covered, self._radius)

    def pick(self, candidate: Tensor) -> None:
        """Cover targets by the candidate at ``candidate`` [1]."""
        center = self.candidates.take(candidate)
        triton_impl.cover(center, self.targets, self.covered, self._radius)


def _best(bounds: Tensor, gains: Tensor, order: Tensor, size: int) -> tuple[int, float, bool]:
    """Return the best of the evaluated candidates, its gain, and whether it is the best of all.

    ``gains`` are those of the first ``size`` candidates of ``order``. Waits for the device once.
    """
    most = gains.max()
    best = torch.where(gains == most, order[:size], len(bounds)).min()
    first = order[size : size + 1]  # of all others; none if all are evaluated
    numbers = torch.cat([torch.stack([most, best.double()]), bounds[first], first.double()])
    gain, at, *others = numbers.tolist()
    return int(at), gain, not others or (-gain, at) < (-others[0], others[1])


def herding(problem: Problem, n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return positions int64 and gains float64 of the picks: ``n``, or fewer if gains become 0."""
    indices: list[int] = []
    reached: list[float] = []
    with device.on(modality_columns.compute_device(problem.rows, problem.labeled)):
        cover = _Cover(problem)
        bounds = cover.gains()
        if bool(torch.cat([bounds, cover.covered]).isinf().any()):
            raise distances.overflow("features")
        size = _FIRST
        while len(indices) < n:
            size = min(size, len(bounds))
            order = bounds.sort(descending=True, stable=True).indices  # ties by position
            some = order[:size]
            gains = torch.minimum(bounds[some], cover.gains(some))
            bounds[some] = gains
            at, gain, certain = _best(bounds, gains, order, size)
            if not certain:
                size = min(2 * size, _MOST)
                continue
            if not gain > 0:
                break
            indices.append(int(problem.candidates[at]))
            reached.append(gain)
            place = torch.full((1,), at, dtype=torch.int64, device=bounds.device)
            cover.pick(place)
            bounds.index_fill_(0, place, 0.0)
            size = _FIRST
    return np.array(indices, dtype=np.int64), np.array(reached, dtype=np.float64)
