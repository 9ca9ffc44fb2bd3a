"""Triton implementation of the second pass of :func:`rlmba.kernels.fused_score`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common.triton_device import column_range, onto_unit, programs

_BLOCK = tl.constexpr(1024)


@triton.jit
def _extremes(x, mask, low, high, rows, columns, tiles, MASK: tl.constexpr):
    """Minimum and maximum of one column over every tiles-th block of rows."""
    part = tl.program_id(0)
    column = tl.program_id(1)
    least = tl.full((_BLOCK,), float("inf"), low.dtype.element_ty)
    most = tl.full((_BLOCK,), float("-inf"), low.dtype.element_ty)
    for start in range(part * _BLOCK, rows, tiles * _BLOCK):
        entry = (start + tl.arange(0, _BLOCK).to(tl.int64)) * columns + column
        kept = start + tl.arange(0, _BLOCK) < rows
        if MASK:
            kept &= tl.load(mask + entry, kept, other=0) != 0
        value = tl.load(x + entry, kept, other=0)
        least = tl.where(kept, tl.minimum(least, value), least)
        most = tl.where(kept, tl.maximum(most, value), most)
    tl.store(low + column * tiles + part, tl.min(least))
    tl.store(high + column * tiles + part, tl.max(most))


@triton.jit
def _unit(value, low, high, column, tiles, TILES: tl.constexpr):
    """Map ``value`` to [0, 1] by the extremes of its column."""
    least, span, factor = column_range(low, high, column, tiles, TILES)
    return onto_unit(value, least, span, factor)


@triton.jit
def _weight(weights, mask, row, inside, m, columns, MASK: tl.constexpr):
    """The weight of modality m [rows], and whether the modality is present."""
    w = tl.load(weights + m) + tl.zeros_like(row).to(weights.dtype.element_ty)
    there = inside
    if MASK:
        there &= tl.load(mask + row * columns + m, inside, other=0) != 0
    return tl.where(there, w, 0.0), there


@triton.jit
def _score(
    u, d, mask, weights, low, high, low_d, high_d, beta_high, beta_low, score, unit, distance,
    rows, columns, tiles,
    MASK: tl.constexpr, DISTANCES: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    dtype = score.dtype.element_ty
    beta = (tl.full((1,), 1.0, tl.float64) * beta_high + beta_low).to(dtype)
    for start in range(tl.program_id(0) * _BLOCK, rows, tl.num_programs(0) * _BLOCK):
        row = start + tl.arange(0, _BLOCK).to(tl.int64)
        inside = row < rows
        near = tl.zeros((_BLOCK,), dtype)
        if DISTANCES:
            near = _unit(tl.load(d + row, inside, other=0), low_d, high_d, 0, tiles, TILES)
        tl.store(distance + row, near, inside)
        total = tl.zeros((_BLOCK,), dtype)
        count = tl.zeros((_BLOCK,), dtype)
        if MASK:
            for m in range(columns):
                w, there = _weight(weights, mask, row, inside, m, columns, MASK)
                total += w
                count += there.to(dtype)
        q = beta * near
        for m in range(columns):
            w, there = _weight(weights, mask, row, inside, m, columns, MASK)
            if MASK:
                shared = tl.where(total > 0, total, 1.0)
                w = tl.where(total > 0, w / shared, 1.0 / tl.maximum(count, 1.0))
                w = tl.where(there, w, 0.0)
            value = tl.load(u + row * columns + m, there, other=0)
            value = tl.where(there, _unit(value, low, high, m, tiles, TILES), 0.0)
            tl.store(unit + row * columns + m, value, inside)
            q += w * value
        tl.store(score + row, q, inside)


def normalized_score(
    uncertainty: Tensor,
    distances: Tensor | None,
    weights: Sequence[float],
    beta: float,
    present: Tensor | None,
    score: Tensor,
    unit: Tensor,
    distance: Tensor,
) -> None:
    """Compute Eq 6 of contiguous tensors of one dtype, into the last three."""
    n, m = uncertainty.shape
    if n == 0:
        return
    where = uncertainty.device
    tiles = max(1, min(triton.cdiv(n, _BLOCK.value), programs(where) // m))
    low = torch.empty((m + 1, tiles), dtype=uncertainty.dtype, device=where)
    high = torch.empty_like(low)
    marks = uncertainty if present is None else present
    masked = present is not None
    _extremes[(tiles, m)](uncertainty, marks, low, high, n, m, tiles, MASK=masked)
    near = uncertainty if distances is None else distances
    low_d, high_d = low[m], high[m]
    if distances is not None:
        _extremes[(tiles, 1)](distances, marks, low_d, high_d, n, 1, tiles, MASK=False)
    w = torch.empty(m, dtype=uncertainty.dtype, device=where)
    for k, value in enumerate(weights):
        w[k].fill_(value)
    grid = (max(1, min(triton.cdiv(n, _BLOCK.value), programs(where))),)
    beta_high = torch.tensor(beta).item() if abs(beta) < 3e38 else beta
    _score[grid](
        uncertainty, near, marks, w, low, high, low_d, high_d, beta_high, beta - beta_high,
        score, unit, distance, n, m, tiles,
        MASK=masked, DISTANCES=distances is not None, TILES=triton.next_power_of_2(tiles),
    )  # fmt: skip
