"""Exact nearest centers from matrix products of limited precision.

Products of rows and centers run on the matrix units and only preselect: with a proven bound on
their rounding error, they show which centers can be nearest to a row and nearer than its previous
nearest center. The distances of these candidates are computed as sums of (x - c)^2 in float64, the
most likely first, until no candidate is left.

The score of a center is |c'|^2 / 2 - <x', c'>, where x' = x - shift and c' = c - shift. It is half
the squared distance minus |x'|^2 / 2. float32 and float64 values are shifted, because data with an
offset would lose digits. They are then rounded to float32 and split into two bfloat16 numbers,
whose three leading products are summed in float32. Half-precision rows with centers of the same
dtype are multiplied without shift or split.

The bound, with u = 2^-24. A matrix unit sums 3 D products (D if unsplit), eight or more per
addition, and each addition may truncate at 2^-23 of the partial sum. This error is at most 3 D u
|x'| |c'|, which also covers adding one product at a time. The terms that the split omits (the
product of both low parts, and lower bits) are within 3 * 2^-18 |x'| |c'|. Rounding the shifted
values is within 2 u |x'| |c'|, and the half norm and the subtraction are within 4 u |c'|^2 / 2. An
absolute term covers underflow. Where squared norms come near the end of float32's range or exceed
it, the distance of every center is computed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common.triton_device import INTERPRETED, dot

__all__ = ["MANY", "ROWS", "Centers", "nearest_pass", "prepare", "split_dtype", "update_nearest"]

ROWS = 64
"""Number of rows per program of a pass."""
MANY = 16
"""Number of centers that one program prepares."""

SAFE = tl.constexpr(2.0**120)
"""Squared norms above this are not trusted in float32."""
TINY = tl.constexpr(2.0**-122)
"""Bound on the underflow error per value of a product."""

_UNIT = 2.0**-24
# The interpreter truncates where conversions to bfloat16 round.
_SPLIT = 3 * (2.0**-16 if INTERPRETED.value else 2.0**-18)


class Centers(NamedTuple):
    """Centers in the forms that a pass multiplies and computes distances with.

    ``rows`` [B, D] as given; ``high`` and ``low`` [B, D] the shifted rows split into bfloat16, or the
    rows themselves and an empty tensor; ``half`` float32 [B] half the squared norms of those.
    """

    rows: Tensor
    high: Tensor
    low: Tensor
    half: Tensor


def split_dtype(rows: Tensor, centers: Tensor) -> torch.dtype | None:
    """The dtype in which rows and centers are multiplied directly; None if both are split."""
    same = rows.dtype == centers.dtype and rows.element_size() == 2
    return rows.dtype if same else None


def product_error(width: int, *, split: bool) -> float:
    """Bound on the error of a product of rows of ``width`` values, relative to |x'| |c'|."""
    return 1.01 * ((3 * width + 24) * _UNIT + (_SPLIT if split else 0.0))


def norm_error(width: int, depth: int) -> float:
    """Bound on the relative error of |x'|^2 when summed in ``depth`` lanes."""
    return 1.01 * (width / depth + 16) * _UNIT


def exact_error(width: int) -> float:
    """Bound on the error of a float64 sum of (x - c)^2, relative to |x|^2 + |c|^2."""
    return 2.0**-52 * (width / 16 + 24)


@triton.jit
def split(x):
    """Split float32 into a sum of two bfloat16 numbers, up to a relative error of 2^-18."""
    high = x.to(tl.bfloat16)
    return high, (x - high.to(tl.float32)).to(tl.bfloat16)


@triton.jit
def shifted(x, shift):
    """x - shift, rounded to float32 once."""
    if x.dtype == tl.float64:
        return (x - shift.to(tl.float64)).to(tl.float32)
    return x.to(tl.float32) - shift


@triton.jit
def store_center(value, shift, high, low, at, inside, SPLIT: tl.constexpr):
    """Write blocks of centers in multiplied form, and return their squares in float64."""
    moved = value
    if SPLIT:
        moved = shifted(value, shift)
        high_part, low_part = split(moved)
        tl.store(high + at, high_part, inside)
        tl.store(low + at, low_part, inside)
        moved = tl.where(inside, moved, 0.0)
    wide = moved.to(tl.float64)
    return wide * wide


@triton.jit
def _prepare(
    centers,
    count,
    shift,
    high,
    low,
    half,
    width,
    SPLIT: tl.constexpr,
    MANY: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Split MANY centers and compute half their squared norms; the shift is the first MANY's mean."""
    begin_j = tl.program_id(0).to(tl.int64) * MANY
    total = tl.load(count)
    if begin_j < total:
        some = tl.arange(0, MANY).to(tl.int64)
        few = tl.minimum(total, MANY)
        valid = begin_j + some < total
        squares = tl.zeros((MANY, DEPTH), tl.float64)
        mean = tl.zeros((DEPTH,), tl.float32)
        for begin in range(0, width, DEPTH):
            k = begin + tl.arange(0, DEPTH)
            inside = k < width
            at = some[:, None] * width + k[None, :]
            if SPLIT:
                first = tl.load(centers + at, (some < few)[:, None] & inside[None, :], other=0)
                mean = (tl.sum(first.to(tl.float64), 0) / few).to(tl.float32)
                tl.store(shift + k, mean, k < tl.where(begin_j == 0, width, 0))
            at += begin_j * width
            kept = valid[:, None] & inside[None, :]
            value = tl.load(centers + at, kept, other=0)
            squares += store_center(value, mean[None, :], high, low, at, kept, SPLIT)
        tl.store(half + begin_j + some, (0.5 * tl.sum(squares, 1)).to(tl.float32), valid)


@triton.jit
def products(
    x,
    inside,
    shift,
    high,
    low,
    slot,
    valid,
    width,
    SPLIT: tl.constexpr,
    ROWS: tl.constexpr,
    CENTERS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Products [ROWS, CENTERS] of the rows at x and some centers, and the squared norms of the rows."""
    total = tl.zeros((ROWS, CENTERS), tl.float32)
    squares = tl.zeros((ROWS, DEPTH), tl.float32)
    x_at = x[:, None] + tl.arange(0, DEPTH)[None, :]
    c_at = slot[None, :] * width + tl.arange(0, DEPTH)[:, None]
    for begin in range(0, width, DEPTH):
        k = begin + tl.arange(0, DEPTH)
        within = k < width
        kept = valid[None, :] & within[:, None]
        value = tl.load(x_at + begin, inside[:, None] & within[None, :], other=0)
        c_high = tl.load(high + c_at + begin, kept, other=0)
        if SPLIT:
            c_low = tl.load(low + c_at + begin, kept, other=0)
            moved = shifted(value, tl.load(shift + k, within, other=0)[None, :])
            x_high, x_low = split(moved)
            total = dot(x_low, c_high, total)
            total = dot(x_high, c_low, total)
            total = dot(x_high, c_high, total)
        else:
            moved = value.to(tl.float32)
            total = dot(value, c_high, total)
        squares += moved * moved
    return total, tl.sum(squares, 1)


@triton.jit
def squared_difference(x, c, active, scale, width, ROWS: tl.constexpr, DEPTH: tl.constexpr):
    """float64 sums of (x - scale c)^2 for pairs of rows at x and c that are active."""
    total = tl.zeros((ROWS, DEPTH), tl.float64)
    step = tl.arange(0, DEPTH)
    for begin in tl.range(0, width, DEPTH, num_stages=4):
        kept = active[:, None] & (begin + step < width)[None, :]
        p = tl.load(x[:, None] + (begin + step)[None, :], kept, other=0).to(tl.float64)
        q = tl.load(c[:, None] + (begin + step)[None, :], kept, other=0).to(tl.float64)
        d = p - q * scale[:, None]
        total += d * d
    return tl.sum(total, 1)


@triton.jit
def candidates(score, error, half, valid, safe, norm, norm_slack, exact_slack, squared):
    """Lower bounds of the scores [ROWS, CENTERS], infinite for no center, and each row's limit.

    A center whose lower bound exceeds the row's limit is neither nearest nor nearer than the
    previous squared distance. The slacks are relative errors of norms and of exact distances.
    """
    lower = tl.where(valid[None, :], score - error, float("inf"))
    upper = tl.where(valid[None, :], score + error, float("inf"))
    before = 0.5 * (squared - norm) + norm_slack * norm + 1e-15 * squared
    limit = tl.minimum(tl.min(upper, 1).to(tl.float64), before)
    limit += exact_slack * (norm + 2 * tl.max(tl.where(valid, half, 0.0)))
    limit = (limit + 1e-6 * tl.abs(limit)).to(tl.float32)
    lower = tl.where(safe[:, None] | ~valid[None, :], lower, float("-inf"))
    limit = tl.where(safe, limit, float("inf"))
    # No center is nearer than a duplicate, and ties go to the earlier center.
    return lower, tl.where(squared > 0, limit, float("-inf"))


@triton.jit
def next_candidate(lower, limit):
    """Return the most likely remaining center of every row, and whether there is one."""
    least, at = tl.min(lower, 1, return_indices=True)
    return at, (least <= limit) & (least < float("inf")) & (limit > float("-inf"))


@triton.jit
def _nearest(
    x,
    stride,
    rows,
    centers,
    high,
    low,
    half,
    order,
    shift,
    count,
    first_label,
    squared,
    labels,
    sums,
    width,
    error,
    norm_slack,
    exact_slack,
    SPLIT: tl.constexpr,
    ORDERED: tl.constexpr,
    SUMS: tl.constexpr,
    ROWS: tl.constexpr,
    CENTERS: tl.constexpr,
    DEPTH: tl.constexpr,
    EXACT: tl.constexpr,
):
    """Compare ROWS rows with all centers, CENTERS at a time."""
    total = tl.load(count)
    if total > 0:
        first = tl.load(first_label)
        row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        inside = row < rows
        at_x = x + row * stride
        best = tl.load(squared + row, inside, other=0)
        label = tl.load(labels + row, inside, other=0)
        one = tl.full((ROWS,), 1.0, tl.float64)
        for begin in range(0, total, CENTERS):
            place = begin + tl.arange(0, CENTERS).to(tl.int64)
            valid = place < total
            slot = place
            if ORDERED:
                slot = tl.load(order + place, valid, other=0)
            product, norm = products(
                at_x, inside, shift, high, low, slot, valid, width, SPLIT, ROWS, CENTERS, DEPTH
            )
            h = tl.load(half + slot, valid, other=0)
            largest = tl.max(h)
            safe = tl.maximum(norm, largest) < SAFE
            relative = error * tl.sqrt(norm * (1 + 1e-4))
            tiny = TINY * width * (1 + tl.sqrt(norm) + tl.sqrt(2 * largest))
            bound = relative[:, None] * tl.sqrt(2 * h)[None, :] + (5e-7 * h)[None, :]
            lower, limit = candidates(
                h[None, :] - product, bound + tiny[:, None], h, valid, safe,
                norm, norm_slack, exact_slack, best,
            )  # fmt: skip
            at, active = next_candidate(lower, limit)
            while tl.max(active.to(tl.int32)) > 0:
                near = at + begin
                if ORDERED:
                    near = tl.load(order + near, active, other=0)
                d = squared_difference(
                    at_x, centers + near.to(tl.int64) * width, active, one, width, ROWS, EXACT
                )
                name = first + begin + at
                nearer = active & ((d < best) | ((d == best) & (name < label)) | (label < 0))
                best = tl.where(nearer, d, best)
                label = tl.where(nearer, name, label)
                met = tl.arange(0, CENTERS)[None, :] == at[:, None]
                lower = tl.where(met, float("inf"), lower)
                at, active = next_candidate(lower, limit)
        tl.store(squared + row, best, inside)
        tl.store(labels + row, label, inside)
        if SUMS:
            tl.store(sums + tl.program_id(0), tl.sum(tl.where(inside, best, 0.0)))


def prepare(centers: Tensor, count: Tensor, dtype: torch.dtype | None) -> tuple[Centers, Tensor]:
    """Prepare the first ``count`` centers [B, D] for a pass; also return the shift, float32 [D]."""
    size, width = centers.shape
    split = dtype is None
    half = torch.empty(size, dtype=torch.float32, device=centers.device)
    shift = torch.empty(width, dtype=torch.float32, device=centers.device)
    high = torch.empty_like(centers, dtype=torch.bfloat16) if split else centers
    low = torch.empty_like(high) if split else half
    _prepare[(triton.cdiv(size, MANY),)](
        centers, count, shift, high, low, half, width,
        SPLIT=split, MANY=MANY, DEPTH=64, num_warps=4,
    )  # fmt: skip
    return Centers(centers, high, low, half), shift


def nearest_pass(
    tile: Tensor,
    centers: Centers,
    shift: Tensor,
    count: Tensor,
    first_label: Tensor,
    squared: Tensor,
    labels: Tensor,
    *,
    most: int,
    order: Tensor | None = None,
    sums: Tensor | None = None,
) -> None:
    """Run :func:`update_nearest` with prepared centers.

    Parameters
    ----------
    most : int
        An upper bound on ``count``, known on the host.
    order : int64 [count], optional
        Which centers take part, and in which order.
    sums : float64 [rows / ROWS], optional
        Receives the sums of ``squared`` over every ROWS rows, where count > 0.
    """
    rows, width = tile.shape
    if rows == 0:
        return
    split = centers.low is not centers.half
    block = max(16, min(128, triton.next_power_of_2(most)))
    depth = 32 if split else 64
    _nearest[(triton.cdiv(rows, ROWS),)](
        tile, tile.stride(0), rows, *centers, count if order is None else order, shift, count,
        first_label, squared, labels, squared if sums is None else sums, width,
        product_error(width, split=split), norm_error(width, depth), exact_error(width),
        SPLIT=split, ORDERED=order is not None, SUMS=sums is not None,
        ROWS=ROWS, CENTERS=block, DEPTH=depth, EXACT=16, num_warps=4, num_stages=3,
    )  # fmt: skip


def update_nearest(
    tile: Tensor,
    centers: Tensor,
    count: Tensor,
    first_label: Tensor,
    squared: Tensor,
    labels: Tensor,
) -> None:
    """Update the nearest center of every row with new centers.

    The two launches read nothing back and can be captured in a CUDA graph.

    Parameters
    ----------
    tile : tensor [n, D]
        Finite rows, of any floating-point dtype; the last axis contiguous.
    centers : tensor [B, D]
        Of any floating-point dtype, contiguous.
    count : int64 [1]
        On the device: only the first ``count`` centers take part.
    first_label : int64 [1]
        On the device: the label of the first center. Those of the others follow in order.
    squared : float64 [n]
        Squared distance to the nearest center so far, infinity if there was none; updated in place.
        Exact up to float64 rounding, and exactly 0 for duplicates of a center.
    labels : int64 [n]
        Its label, -1 if there was none. Ties go to the earliest center.
    """
    prepared, shift = prepare(centers, count, split_dtype(tile, centers))
    nearest_pass(tile, prepared, shift, count, first_label, squared, labels, most=len(centers))
