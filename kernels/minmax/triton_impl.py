"""Triton implementation of :func:`rlmba.kernels.minmax`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common.device import ALL_VALID
from rlmba.kernels.common.triton_device import column_range, is_finite, onto_unit, programs

_BLOCK = tl.constexpr(1024)
_VALID = tl.constexpr(ALL_VALID)


@triton.jit
def _kept(mask, row, column, columns, inside, MASK: tl.constexpr):
    if MASK == 1:
        inside &= tl.load(mask + row, inside, other=0) != 0
    elif MASK == 2:
        inside &= tl.load(mask + row * columns + column, inside, other=0) != 0
    return inside


@triton.jit
def _extremes(x, mask, low, high, bad, rows, columns, stride, tiles, MASK: tl.constexpr):
    """Minimum and maximum of one column over every tiles-th block of rows."""
    part = tl.program_id(0)
    column = tl.program_id(1)
    wide = low.dtype.element_ty
    least = tl.full((_BLOCK,), float("inf"), wide)
    most = tl.full((_BLOCK,), float("-inf"), wide)
    first_bad = tl.full((_BLOCK,), _VALID, tl.int64)
    for start in range(part * _BLOCK, rows, tiles * _BLOCK):
        row = start + tl.arange(0, _BLOCK).to(tl.int64)
        kept = _kept(mask, row, column, columns, row < rows, MASK)
        value = tl.load(x + row * stride + column, kept, other=0).to(wide)
        finite = is_finite(value)
        first_bad = tl.where(kept & ~finite, tl.minimum(first_bad, row), first_bad)
        least = tl.where(kept & finite, tl.minimum(least, value), least)
        most = tl.where(kept & finite, tl.maximum(most, value), most)
    tl.store(low + column * tiles + part, tl.min(least))
    tl.store(high + column * tiles + part, tl.max(most))
    worst = tl.min(first_bad)
    if worst < _VALID:
        tl.atomic_min(bad, worst)


@triton.jit
def _map(
    x,
    mask,
    low,
    high,
    bad,
    out,
    rows,
    columns,
    stride,
    tiles,
    MASK: tl.constexpr,
    TILES: tl.constexpr,
):
    """Map one column of every tiles-th block of rows to [0, 1], unless a row is invalid."""
    part = tl.program_id(0)
    column = tl.program_id(1)
    if tl.load(bad) == _VALID:
        least, span, factor = column_range(low, high, column, tiles, TILES)
        for start in range(part * _BLOCK, rows, tiles * _BLOCK):
            row = start + tl.arange(0, _BLOCK).to(tl.int64)
            inside = row < rows
            kept = _kept(mask, row, column, columns, inside, MASK)
            value = tl.load(x + row * stride + column, kept, other=0).to(least.dtype)
            unit = onto_unit(value, least, span, factor)
            tl.store(out + row * columns + column, tl.where(kept, unit, 0.0), inside)


def minmax(x: Tensor, mask: Tensor | None, out: Tensor, bad: Tensor) -> None:
    """Map x [N, M] into ``out`` [N, M], contiguous; lowers ``bad`` to a row that is not finite."""
    rows, columns = x.shape
    tiles = max(1, min(triton.cdiv(rows, _BLOCK.value), programs(x.device) // columns))
    low = torch.empty((columns, tiles), dtype=out.dtype, device=x.device)
    high = torch.empty_like(low)
    kind = 0 if mask is None else mask.ndim
    given = bad if mask is None else mask
    grid = (tiles, columns)
    _extremes[grid](x, given, low, high, bad, rows, columns, x.stride(0), tiles, MASK=kind)
    _map[grid](
        x, given, low, high, bad, out, rows, columns, x.stride(0), tiles,
        MASK=kind, TILES=triton.next_power_of_2(tiles),
    )  # fmt: skip
