""":func:`rlmba.kernels.kmeans` on a GPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlmba.kernels.common import arrays, device, distances, exact_sums
from rlmba.kernels.common.random import Rng, seed_from
from rlmba.kernels.kmeans.triton_impl import Means
from rlmba.kernels.min_distance import on_device as nearest
from rlmba.kernels.min_distance.assignment import Assignment

LOOK_EVERY = 16
"""Number of Lloyd steps launched before the host checks whether labels still change."""


class Clusters(NamedTuple):
    """State of the iteration, on the device: see :func:`lloyd`."""

    centers: Tensor
    squared: Tensor
    labels: Tensor


def lloyd(
    rows: device.Rows,
    row_dtype: torch.dtype,
    clusters: Clusters,
    max_iter: int,
    *,
    precision: str,
    bad: Tensor,
) -> Tensor:
    """Do at most ``max_iter`` Lloyd steps in place; return their number, int64 [1] on the device.

    ``clusters.labels`` must belong to ``clusters.centers``. Once labels no longer change, further
    launches do nothing.
    """
    centers, squared, labels = clusters
    done = torch.zeros(1, dtype=torch.int64, device=rows.device)
    if max_iter == 0:
        return done
    work = Assignment(rows, row_dtype, centers, centers.dtype, precision=precision, bad=bad)
    active = work.active
    means = Means(len(centers), centers.shape[1], _constants(rows, centers.dtype))
    for tile in rows:
        means.add(tile.parts[0], labels[tile.begin : tile.end], active)
    before = torch.empty_like(labels)
    for step in range(max_iter):
        means.move(centers, active)
        work.refresh()
        before.copy_(labels)
        for tile in rows:
            work.assign(tile, squared, labels)
            if step + 1 < max_iter:
                means.add(tile.parts[0], labels[tile.begin : tile.end], active)
        done += active
        active *= (labels != before).any()
        if _should_wait(rows, step) and not int(active.item()):
            break
    return done


def _constants(rows: device.Rows, dtype: torch.dtype) -> Tensor:
    """:func:`rlmba.kernels.common.exact_sums.constants` for rows, without waiting for the device."""
    largest = torch.zeros((), dtype=torch.float64, device=rows.device)
    for tile in rows:
        low, high = tile.parts[0].aminmax()
        largest = torch.maximum(largest, torch.maximum(high, -low).to(torch.float64))
    size = exact_sums.exponent_of(rows.count)
    levels = exact_sums.LEVELS[str(dtype).removeprefix("torch.")]
    steps = torch.arange(levels, dtype=torch.int64, device=rows.device) * (size - 53)
    exponents = torch.frexp(largest).exponent.to(torch.int64) + size + steps
    powers = ((exponents + 1023).clamp(1, 2045) << 52).view(torch.float64)  # exact
    return 1.5 * powers


def _should_wait(rows: device.Rows, step: int) -> bool:
    """Whether to wait for the device, which saves passes over host memory or many idle launches."""
    if device.capturing(rows.device):
        return False
    return not rows.resident or (step + 1) % LOOK_EVERY == 0


def kmeans(
    x: arrays.ArrayLike,
    k: int,
    rng: Rng,
    max_iter: int,
    *,
    max_memory: int | None,
    precision: str,
) -> tuple[Any, Any, Any, int, Any]:
    """Return the fields of the public function's result for unchecked arguments."""
    from rlmba.kernels.kmeans_plusplus.on_device import seed_rows

    given = device.as_rows(x, "x")
    distances.require_rows(given)
    k = arrays.as_count(k, "k", low=1, high=given.shape[0])
    max_iter = arrays.as_count(max_iter, "max_iter", low=0)
    distances.check_max_memory(max_memory)
    where = device.compute_device(given)
    dtype = device.result_dtype(given)
    rows = device.Rows([given], where, max_memory)
    bad = device.flag(where)
    with device.on(where):
        indices, squared, labels = seed_rows(rows, k, seed_from(rng), None)
        centers = rows.take(indices)[0].to(dtype).contiguous()
        clusters = Clusters(centers, squared, labels)
        done = lloyd(rows, given.dtype, clusters, max_iter, precision=precision, bad=bad)
        found = nearest.root(squared, dtype, bad)
    nearest.raise_for(device.read_flag(bad), given, None)
    return (
        device.like(centers, x),
        device.like(labels, x),
        device.like(found, x),
        int(done.item()),
        device.like(indices, x),
    )
