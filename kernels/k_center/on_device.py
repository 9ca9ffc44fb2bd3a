""":func:`rlmba.kernels.k_center` on a GPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlmba.kernels.common import arrays, device, distances
from rlmba.kernels.common.triton_nearest import Centers, nearest_pass, prepare, split_dtype
from rlmba.kernels.k_center import checks, triton_impl

_BLOCKS = 8
"""Maximum number of blocks between two reads of the number of picks. A CUDA graph cannot read it, so it
contains as many blocks as picks; each block makes at least one pick."""


class Picked(NamedTuple):
    """The fields of :class:`rlmba.kernels.KCenter`."""

    indices: Any
    distances: Any
    radius: Any


class Progress(NamedTuple):
    """The state of the search, as read by the host."""

    done: int
    bad: int
    bad_labeled: int
    radius: float
    farthest: float


class _Search:
    """Rows, their squared distances to the nearest center, and the picks so far."""

    def __init__(self, rows: device.Rows, width: int, n: int) -> None:
        where = rows.device
        self._rows, self._n = rows, n
        self._squared = torch.full((rows.count,), torch.inf, dtype=torch.float64, device=where)
        self._labels = torch.full((rows.count,), -1, dtype=torch.int64, device=where)
        self._one = torch.ones(1, dtype=torch.int64, device=where)
        self._bad, self._bad_labeled = device.flag(where), device.flag(where)
        self.block = triton_impl.Block(self._squared, n, width, triton_impl.MEMBERS)

    def _pass(self, centers: Tensor, count: Tensor, squared: Tensor, labels: Tensor) -> None:
        ready: tuple[Centers, Tensor] | None = None
        for begin, end, (part,) in self._rows:
            ready = ready or prepare(centers, count, split_dtype(part, centers))
            nearest_pass(
                part, ready[0], ready[1], count, self.block.done,
                squared[begin:end], labels[begin:end], most=len(centers),
            )  # fmt: skip

    def _update(self, centers: Tensor, count: Tensor) -> None:
        self._pass(centers, count, self._squared, self._labels)

    def _nearest_to(self, center: Tensor) -> Tensor:
        squared = torch.full_like(self._squared, torch.inf)
        self._pass(center, self._one, squared, torch.full_like(self._labels, -1))
        return squared.argmin()[None]

    def start(self, labeled: Tensor, first: int | None) -> None:
        """Check the rows, compute distances to labeled rows, and make the first pick if there are none."""
        sums = [
            triton_impl.check_and_sum(part, begin, self._bad) for begin, _, (part,) in self._rows
        ]
        if len(labeled):
            triton_impl.check_and_sum(labeled, 0, self._bad_labeled)
            self._update(labeled, self._one * len(labeled))
        if self._n == 0 or (first is None and len(labeled)):
            return
        if first is None:
            mean = torch.stack(sums).sum(0) / self._rows.count
            position = self._nearest_to(mean[None])
        else:
            position = torch.full_like(self._one, first)
        self.block.force(position)
        self._update(self._rows.take(position)[0], self._one)
        if not len(labeled):
            self.block.distances[0] = self._squared.max()

    def step(self) -> None:
        """Launch a block and a pass with its picks; both do nothing once all picks are made."""
        picked = self.block.pick(self._rows.take(self.block.members())[0])
        self._update(picked, self.block.accepted)

    def radius(self) -> Tensor:
        """The greatest squared distance of a row to its nearest center."""
        return torch.cat([self._squared, self._squared.new_zeros(1)]).max()

    def progress(self) -> Progress:
        """Wait for the device and read the state of the search."""
        picks = torch.arange(self._n, device=self._one.device)
        reach = torch.where(picks < self.block.done, self.block.distances, 0.0)
        extremes = torch.stack([self.radius(), torch.cat([reach, reach.new_zeros(1)]).max()])
        state = [self.block.done, self._bad, self._bad_labeled, extremes.view(torch.int64)]
        seen = torch.cat(state).cpu()
        return Progress(*seen[:3].tolist(), *seen[3:].view(torch.float64).tolist())


def _run(search: _Search, n: int, done: int, *, resident: bool) -> Progress:
    """Launch blocks until all picks are made or a row is found not to be finite."""
    if done == n:
        return search.progress()
    batch, launched = 1 + (2 * n // triton_impl.MEMBERS if resident else 0), 0
    while True:
        for _ in range(batch):
            search.step()
        launched += batch
        seen = search.progress()
        if seen.done == n or min(seen.bad, seen.bad_labeled) < device.ALL_VALID:
            return seen
        if resident:  # otherwise every block waits for the host
            left = (n - seen.done) * launched
            batch = min(_BLOCKS, -(-left // (seen.done - done)))


def k_center(
    features: arrays.ArrayLike,
    n: int,
    labeled: arrays.ArrayLike | None,
    first: int | None,
    max_memory: int | None,
) -> Picked:
    """Implement the public function for unchecked arguments."""
    x = device.as_rows(features, "features")
    count, width = x.shape
    n = arrays.as_count(n, "n", low=0, high=count)
    if first is not None:
        distances.require_rows(x)
        first = arrays.as_count(first, "first", low=0, high=count - 1)
    given = x[:0]
    if labeled is not None:
        distances.require_same_device(labeled, "labeled", features, "features")
        given = device.as_rows(labeled, "labeled")
        checks.require_width(given.shape, width)
    distances.check_max_memory(max_memory)
    where, dtype = device.compute_device(x, given), device.result_dtype(x)
    rows = device.Rows([x], where, max_memory)
    centers = device.to_device(given, where)
    if given.dtype != x.dtype:
        centers = device.cast(centers, dtype, "labeled")
    centers = centers.contiguous()
    picks_given = int(n > 0 and (first is not None or not len(centers)))
    with device.on(where):
        search = _Search(rows, width, n)
        search.start(centers, first)
        if device.capturing(where):
            for _ in range(n - picks_given):
                search.step()
            radius: Any = search.radius().sqrt()
        else:
            seen = _run(search, n, picks_given, resident=rows.resident)
            if seen.bad_labeled < device.ALL_VALID:
                device.raise_non_finite(centers, "labeled", seen.bad_labeled)
            if seen.bad < device.ALL_VALID:
                device.raise_non_finite(x, "features", seen.bad)
            radius = seen.radius
            if n > 0 or len(centers):
                wide = np.dtype(np.float64 if dtype == torch.float64 else np.float32)
                squares = np.array([radius, seen.farthest])
                radius = float(distances.root(squares, wide)[0])
    reach = search.block.distances.sqrt().to(dtype)
    return Picked(device.like(search.block.indices, features), device.like(reach, features), radius)
