"""Triton kernels of :func:`rlmba.kernels.herding`: gains of candidates, and the cover of targets.

A program computes distances and kernels of a tile of candidates and targets in float64 and adds up
their terms, so that no matrix of kernels is stored. Terms are rounded to multiples of 2^-51 as in
the reference, so that their sum is exact in any order, including that of atomic additions.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common.modality_columns import ModalityColumns, launch_arguments
from rlmba.kernels.common.triton_device import programs
from rlmba.kernels.common.triton_modalities import squared_distances
from rlmba.kernels.herding.problem import ROUND

__all__ = ["cover", "gains"]

_TILE, _WARPS = 64, 16
_ROUND = tl.constexpr(ROUND)


@triton.jit
def _affinity(squared, radius):
    """k = exp(-D / radius^2); 0 without a common modality, and infinite if D overflowed."""
    divisor = tl.where(radius > 0, radius, 1.0)
    k = tl.exp(-(tl.where(squared < float("inf"), squared, 0.0) / divisor) / divisor)
    k = tl.where(radius > 0, k, tl.where(squared == 0, 1.0, 0.0))
    k = tl.where(squared < 0, 0.0, k)
    return tl.where(squared == float("inf"), float("inf"), k)


@triton.jit
def _gains(
    x,
    x_has,
    x_count,
    y,
    y_has,
    y_count,
    ends,
    weights,
    modalities,
    radius,
    utility,
    covered,
    out,
    parts,
    PARTIAL: tl.constexpr,
    UNROLL: tl.constexpr,
    TILE: tl.constexpr,
):
    """Add to the gains of TILE candidates x the terms of every ``parts``-th tile of targets y."""
    i = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    part = tl.program_id(1).to(tl.int64)
    size = tl.load(radius)
    total = tl.zeros((TILE,), tl.float64)
    for start in range(part * TILE, y_count, parts * TILE):
        j = start + tl.arange(0, TILE).to(tl.int64)
        squared = squared_distances(
            x, x_has, x_count, i, y, y_has, y_count, j, ends, weights, modalities,
            PARTIAL, UNROLL, TILE, TILE,
        )  # fmt: skip
        inside = j < y_count
        before = tl.load(covered + j, inside, other=0)
        worth = tl.load(utility + j, inside, other=0)
        more = tl.maximum(_affinity(squared, size) - before[None, :], 0.0)
        terms = (worth[None, :] * more + _ROUND) - _ROUND
        total += tl.sum(tl.where(inside[None, :], terms, 0.0), 1)
    tl.atomic_add(out + i, total, i < x_count)


@triton.jit
def _cover(
    x,
    x_has,
    x_count,
    y,
    y_has,
    y_count,
    ends,
    weights,
    modalities,
    radius,
    covered,
    PARTIAL: tl.constexpr,
    UNROLL: tl.constexpr,
    CENTERS: tl.constexpr,
    TILE: tl.constexpr,
):
    """Raise the cover of TILE targets y to their largest kernel of centers x."""
    j = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    inside = j < y_count
    size = tl.load(radius)
    best = tl.load(covered + j, inside, other=0)
    for start in range(0, x_count, CENTERS):
        i = start + tl.arange(0, CENTERS).to(tl.int64)
        squared = squared_distances(
            x, x_has, x_count, i, y, y_has, y_count, j, ends, weights, modalities,
            PARTIAL, UNROLL, CENTERS, TILE,
        )  # fmt: skip
        k = tl.where((i < x_count)[:, None], _affinity(squared, size), 0.0)
        best = tl.maximum(best, tl.max(k, 0))
    tl.store(covered + j, best, inside)


def gains(
    candidates: ModalityColumns,
    targets: ModalityColumns,
    utility: Tensor,
    covered: Tensor,
    radius: Tensor,
) -> Tensor:
    """Exact gains float64 [K] of candidates; infinite if a distance overflows.

    ``utility`` and ``covered`` are float64 [T], ``radius`` is float64 [1].
    """
    count, size = candidates.rows, targets.rows
    out = torch.zeros(count, dtype=torch.float64, device=covered.device)
    if count == 0 or size == 0:
        return out
    blocks = triton.cdiv(count, _TILE)
    parts = max(1, min(triton.cdiv(size, _TILE), programs(covered.device) // blocks))
    rows, options = launch_arguments(candidates, targets)
    _gains[(blocks, parts)](
        *rows, radius, utility, covered, out, parts, **options, TILE=_TILE, num_warps=_WARPS
    )
    return out


def cover(
    centers: ModalityColumns, targets: ModalityColumns, covered: Tensor, radius: Tensor
) -> None:
    """Raise ``covered`` float64 [T] to the largest kernel of ``centers``; infinite on overflow."""
    count, size = centers.rows, targets.rows
    if count == 0 or size == 0:
        return
    some = min(_TILE, triton.next_power_of_2(count))
    warps = max(1, _WARPS * some // _TILE)
    rows, options = launch_arguments(centers, targets)
    _cover[(triton.cdiv(size, _TILE),)](
        *rows, radius, covered, **options, CENTERS=some, TILE=_TILE, num_warps=warps
    )
