"""Triton kernels of :mod:`rlmba.kernels.graph_propagate`, which normalize rows."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common.device import ALL_VALID
from rlmba.kernels.common.triton_device import is_finite

__all__ = ["norms", "unit_rows"]

_ROWS, _COLUMNS = 16, 128
_NONE = tl.constexpr(ALL_VALID)


@triton.jit
def _norms(
    f,
    stride,
    rows,
    width,
    begin,
    largest,
    inverse,
    bad,
    negative,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Largest magnitude of rows, and 1 / norm of the rows divided by it; 1 and 0 for zero rows."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    most = tl.zeros((ROWS, COLUMNS), tl.float64)
    least = tl.zeros((ROWS, COLUMNS), tl.float64)
    sound = tl.full((ROWS, COLUMNS), 1, tl.int32)
    for start in range(0, width, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        kept = inside[:, None] & (column < width)[None, :]
        value = tl.load(f + row[:, None] * stride + column[None, :], kept, other=0).to(tl.float64)
        sound = tl.where(is_finite(value), sound, 0)
        most = tl.maximum(most, value)
        least = tl.minimum(least, value)
    low = tl.min(least, 1)
    scale = tl.maximum(tl.max(most, 1), -low)
    zeros = scale == 0
    scale = tl.where(zeros, 1.0, scale)
    total = tl.zeros((ROWS, COLUMNS), tl.float64)
    for start in range(0, width, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        kept = inside[:, None] & (column < width)[None, :]
        value = tl.load(f + row[:, None] * stride + column[None, :], kept, other=0).to(tl.float64)
        value /= scale[:, None]  # before squaring, which could overflow or underflow
        total += value * value
    squares = tl.sum(total, 1)
    tl.store(largest + row, scale, inside)
    tl.store(
        inverse + row, tl.where(zeros, 0.0, 1.0 / tl.sqrt(tl.where(zeros, 1.0, squares))), inside
    )
    worst = tl.min(tl.where(tl.min(sound, 1) == 0, row, _NONE))
    if worst < _NONE:
        tl.atomic_min(bad, begin + worst)
    if tl.min(low) < 0:
        tl.store(negative, 1)


@triton.jit
def _unit_rows(
    f, stride, rows, width, largest, inverse, out, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = row < rows
    kept = inside[:, None] & (column < width)[None, :]
    value = tl.load(f + row[:, None] * stride + column[None, :], kept, other=0).to(tl.float64)
    scale = tl.load(largest + row, inside, other=1)
    factor = tl.load(inverse + row, inside, other=0)
    tl.store(
        out + row[:, None] * width + column[None, :], value / scale[:, None] * factor[:, None], kept
    )


def norms(
    tile: Tensor, begin: int, largest: Tensor, inverse: Tensor, bad: Tensor, negative: Tensor
) -> None:
    """Scales of the rows of ``tile`` [n, D], float64 [n] each: see :func:`unit_rows`.

    Lowers ``bad`` to ``begin`` + a row that is not finite; sets ``negative`` to 1 if a value is
    negative.
    """
    rows, width = tile.shape
    _norms[(triton.cdiv(rows, _ROWS),)](
        tile, tile.stride(0), rows, width, begin, largest, inverse, bad, negative,
        ROWS=_ROWS, COLUMNS=_COLUMNS, num_warps=4,
    )  # fmt: skip


def unit_rows(tile: Tensor, largest: Tensor, inverse: Tensor) -> Tensor:
    """``tile`` / ``largest`` * ``inverse``, row by row, in float64."""
    rows, width = tile.shape
    out = torch.empty((rows, width), dtype=torch.float64, device=tile.device)
    _unit_rows[(triton.cdiv(rows, _ROWS), triton.cdiv(width, _COLUMNS))](
        tile, tile.stride(0), rows, width, largest, inverse, out,
        ROWS=_ROWS, COLUMNS=_COLUMNS, num_warps=4,
    )  # fmt: skip
    return out
