"""Triton implementation of :func:`rlmba.kernels.kmeans_plusplus`.

A block of draws takes four launches: proposals with copies of their rows, distances among
proposals, acceptance, and a pass that updates all distances with the accepted rows.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common import device, triton_d2
from rlmba.kernels.common.device import ALL_VALID, Rows
from rlmba.kernels.common.triton_d2 import PIECE, Draw, propose
from rlmba.kernels.common.triton_device import is_finite
from rlmba.kernels.common.triton_nearest import (
    MANY,
    ROWS,
    Centers,
    nearest_pass,
    split_dtype,
    store_center,
)

__all__ = ["MatrixPoints"]

_VALID = tl.constexpr(ALL_VALID)


@triton.jit
def _start(
    x,
    stride,
    rows,
    begin_row,
    center,
    squared,
    labels,
    sums,
    bad,
    width,
    ROWS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Squared distances of ROWS rows to the first center, and whether the rows are finite."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    total = tl.zeros((ROWS, DEPTH), tl.float64)
    broken = tl.zeros((ROWS, DEPTH), tl.int32)
    at = x + row[:, None] * stride + tl.arange(0, DEPTH)[None, :]
    for begin in range(0, width, DEPTH):
        k = begin + tl.arange(0, DEPTH)
        kept = inside[:, None] & (k < width)[None, :]
        value = tl.load(at + begin, kept, other=0)
        to = tl.load(center + k, k < width, other=0)
        d = value.to(tl.float64) - to.to(tl.float64)[None, :]
        total += d * d
        broken |= tl.where(is_finite(value.to(tl.float64)), 0, 1)
    best = tl.sum(total, 1)
    tl.store(squared + row, best, inside)
    tl.store(labels + row, row * 0, inside)
    tl.store(sums + tl.program_id(0), tl.sum(tl.where(inside, best, 0.0)))
    worst = tl.min(tl.where(tl.max(broken, 1) > 0, row, _VALID))
    if worst < _VALID:
        tl.atomic_min(bad, begin_row + worst)


@triton.jit
def _copy(
    x, stride, row, slot, inside, centers, high, low, half, shift, width,
    SPLIT: tl.constexpr, MANY: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Copy rows of x as centers, unchanged and in multiplied form."""
    squares = tl.zeros((MANY, DEPTH), tl.float64)
    for begin in range(0, width, DEPTH):
        k = begin + tl.arange(0, DEPTH)
        kept = inside[:, None] & (k < width)[None, :]
        value = tl.load(x + row[:, None] * stride + k[None, :], kept, other=0)
        mean = tl.load(shift + k, k < width, other=0)
        at = slot[:, None] * width + k[None, :]
        tl.store(centers + at, value, kept)
        squares += store_center(value, mean[None, :], high, low, at, kept, SPLIT)
    tl.store(half + slot, (0.5 * tl.sum(squares, 1)).to(tl.float32), inside)


@triton.jit
def _propose(
    state, squared, sums, chunks, rows, tile_rows, tile_chunks, place, before, least,
    block_min, block_max, x, stride, centers, high, low, half, shift, width,
    COPIED: tl.constexpr, SPLIT: tl.constexpr, MANY: tl.constexpr, PIECE: tl.constexpr,
    CHUNK: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Draw MANY proposals, and copy their rows if they are on the device."""
    slot, row, inside = propose(
        state, squared, sums, chunks, rows, tile_rows, tile_chunks, place, before, least,
        block_min, block_max, MANY, PIECE, CHUNK,
    )  # fmt: skip
    if COPIED:
        _copy(
            x, stride, row, slot, inside, centers, high, low, half, shift, width, SPLIT, MANY, DEPTH
        )


@triton.jit
def _copy_taken(
    x, stride, taken, centers, high, low, half, shift, width,
    SPLIT: tl.constexpr, MANY: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    slot = tl.program_id(0).to(tl.int64) * MANY + tl.arange(0, MANY)
    _copy(
        x, stride, slot, slot, slot < taken, centers, high, low, half, shift, width,
        SPLIT, MANY, DEPTH,
    )  # fmt: skip


@triton.jit
def _pairs(
    state_size, centers, pairs, width, SIZE: tl.constexpr, MANY: tl.constexpr, DEPTH: tl.constexpr
):
    """Squared distances of MANY proposals to MANY later ones."""
    size = tl.load(state_size)
    one = tl.program_id(0).to(tl.int64) * MANY + tl.arange(0, MANY)
    other = tl.program_id(1).to(tl.int64) * MANY + tl.arange(0, MANY)
    needed = tl.where(tl.program_id(0) <= tl.program_id(1), size, 0)
    if tl.program_id(1) * MANY < needed:
        total = tl.zeros((MANY, MANY, DEPTH), tl.float64)
        for begin in tl.range(0, width, DEPTH, num_stages=4):
            k = begin + tl.arange(0, DEPTH)
            p = tl.load(
                centers + one[:, None] * width + k[None, :],
                (one < size)[:, None] & (k < width)[None, :],
                other=0,
            ).to(tl.float64)
            q = tl.load(
                centers + other[:, None] * width + k[None, :],
                (other < size)[:, None] & (k < width)[None, :],
                other=0,
            ).to(tl.float64)
            d = p[:, None, :] - q[None, :, :]
            total += d * d
        tl.store(pairs + one[:, None] * SIZE + other[None, :], tl.sum(total, 2))


class MatrixPoints:
    """Rows of a matrix, for :func:`rlmba.kernels.common.triton_d2.run`."""

    def __init__(self, rows: Rows, first: int, draw: Draw, bad: Tensor) -> None:
        self._rows = rows
        center = rows.take(torch.tensor([first], device=rows.device))[0]
        width, where = center.shape[1], rows.device
        # Evenly spaced rows of the pool, whose mean is a typical shift.
        some = torch.arange(16, device=where) * rows.count // 16
        self._shift = rows.take(some)[0].to(torch.float64).mean(dim=0).to(torch.float32)
        shape = (draw.capacity, width)
        half = torch.empty(draw.capacity, dtype=torch.float32, device=where)
        own = torch.empty(shape, dtype=center.dtype, device=where)
        if split_dtype(center, center) is None:
            high = torch.empty(shape, dtype=torch.bfloat16, device=where)
            self._centers = Centers(own, high, torch.empty_like(high), half)
        else:
            self._centers = Centers(own, own, half, half)
        for begin, end, (x,) in rows:
            _start[(triton.cdiv(end - begin, ROWS),)](
                x, x.stride(0), end - begin, begin, center, draw.squared[begin:],
                draw.labels[begin:], draw.tile_sums(begin), bad, width,
                ROWS=ROWS, DEPTH=16, num_warps=4,
            )  # fmt: skip

    def propose(self, draw: Draw, most: int) -> None:
        """See :class:`~rlmba.kernels.common.triton_d2.Points`."""
        centers, width = self._centers, self._centers.rows.shape[1]
        split = centers.low is not centers.half
        grid = (triton.cdiv(most, MANY),)
        whole = next(iter(self._rows)).parts[0] if self._rows.resident else centers.rows
        _propose[grid](
            *draw.law(), whole, whole.stride(0), *centers, self._shift, width,
            COPIED=self._rows.resident, SPLIT=split, MANY=MANY, PIECE=PIECE, CHUNK=ROWS, DEPTH=64,
            num_warps=4,
        )  # fmt: skip
        if not self._rows.resident:
            taken = self._rows.take(draw.place[:most])[0]
            _copy_taken[grid](
                taken, taken.stride(0), most, *centers, self._shift, width,
                SPLIT=split, MANY=MANY, DEPTH=64, num_warps=4,
            )  # fmt: skip
        _pairs[grid * 2](
            draw.size, centers.rows, draw.pairs, width,
            SIZE=draw.capacity, MANY=MANY, DEPTH=16, num_warps=4,
        )  # fmt: skip

    def update(self, draw: Draw, most: int) -> None:
        """See :class:`~rlmba.kernels.common.triton_d2.Points`."""
        for begin, end, (x,) in self._rows:
            nearest_pass(
                x, self._centers, self._shift, draw.count, draw.first_label,
                draw.squared[begin:end], draw.labels[begin:end],
                most=most, order=draw.order, sums=draw.tile_sums(begin),
            )  # fmt: skip


def seed_rows(
    rows: Rows, k: int, seed: int, first: int, blocks: tuple[int, int], bad: Tensor
) -> tuple[Draw, list[int]]:
    """Draw ``k`` rows with a given first row; return the final state."""
    tile = rows.count if rows.resident else rows.chunk
    draw = Draw(rows.count, k, seed, blocks, tile, rows.device)
    draw.indices[0] = first
    with device.on(rows.device):
        points = MatrixPoints(rows, first, draw, bad)
        return draw, triton_d2.run(points, draw, ahead=rows.resident)
