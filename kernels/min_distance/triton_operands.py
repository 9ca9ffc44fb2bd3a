"""Operands of the tensor-core products that find nearest centers, and the products' error bounds.

The gain of a center c for a row x is y . c' - h with c' = c - m. It equals -|x - c|^2 / 2 plus a
number that depends only on x, so the nearest center has the largest gain. m is the mean of the
centers, so that an offset common to all data does not reduce the precision of the product.

Half-precision rows are multiplied without conversion ("in place"): y = x and h = |c'|^2 / 2 + m .
c'. They are copied first if they are not aligned. For other rows, y = x - m is split into parts
that tensor cores take, and h = |c'|^2 / 2. Everything is multiplied by a power of two that keeps
the parts within the range of float16.

A number in two parts is high + low, each rounded to nearest. Of the four products of two such
numbers, low times low is left out. The small products are added first, while sums are small.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common.distances import BAD_CENTER
from rlmba.kernels.common.triton_device import is_finite

_HALF = (torch.float16, torch.bfloat16)
_UNIT = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float32: 2.0**-24}


class ProductPlan(NamedTuple):
    """How rows and centers are multiplied.

    ``operand`` is the dtype of the parts. ``in_place`` means that rows are read without conversion,
    ``shifted`` that centers are relative to their mean. ``row_parts`` and ``center_parts`` are 1 or
    2. ``exact`` means that centers whose products are equal within rounding are compared by their
    distances.
    """

    operand: torch.dtype
    in_place: bool
    shifted: bool
    row_parts: int
    center_parts: int
    exact: bool

    def relative_error(self, width: int) -> float:
        """Bound on the error of y . c' relative to |y| |c'|, from rounding in parts and tensor cores.

        Tensor cores multiply float16 and bfloat16 exactly. They add groups of products in float32,
        aligned to the largest and truncated. Each product and each partial sum that it is added to
        loses at most 2^-23 of a partial sum. Groups have at least 8 products and the sum itself is
        truncated once more, which gives 10 / 8 additions per product.
        """
        unit = _UNIT[self.operand]
        split = 0.0
        for parts in (self.row_parts, self.center_parts):
            split += unit**parts
        if self.in_place:
            split -= unit**self.row_parts
            if not self.shifted:
                split -= unit**self.center_parts
        if self.row_parts == self.center_parts == 2:
            split += unit**2
        small = 2 * unit if max(self.row_parts, self.center_parts) == 2 else 0.0
        additions = 1.25 * (width + 16) * 2.0**-23 * (1 + 2 * small)
        return 1.02 * (split + additions + 3 * 2.0**-24)

    def absolute_error(self, width: int) -> float:
        """Bound on the error of y . c' relative to |y| + |c'| from subnormal parts."""
        least = 2.0**-25 if self.operand == torch.float16 else 2.0**-126
        return 1.02 * math.sqrt(width) * least


def plan(rows: torch.dtype, centers: torch.dtype, precision: str) -> ProductPlan:
    """Choose how to multiply rows and centers of these dtypes."""
    exact = precision == "exact"
    if rows in _HALF:
        same = centers == rows
        return ProductPlan(rows, True, not same, 1, 2 if exact and not same else 1, exact)
    if exact:
        return ProductPlan(torch.float16, False, True, 2, 2, True)
    operand = torch.bfloat16 if precision == "bf16" else torch.float32
    return ProductPlan(operand, False, True, 1, 1, False)


def depth(width: int) -> int:
    """Number of columns multiplied at a time."""
    return int(min(64, max(16, triton.next_power_of_2(width))))


def padded(width: int) -> int:
    """Number of columns of prepared parts, padded with zeros so that loads of blocks need no mask."""
    return int(triton.cdiv(width, depth(width)) * depth(width))


class Frame(NamedTuple):
    """``shift`` [D] that is subtracted from rows and centers, and ``scale`` [1], a power of two."""

    shift: Tensor
    scale: Tensor


def frame(centers: Tensor, how: ProductPlan, dtype: torch.dtype) -> Frame:
    """Return the frame for some centers, in the computation dtype."""
    if not how.shifted:
        shift = torch.zeros(centers.shape[1], dtype=dtype, device=centers.device)
        return Frame(shift, torch.ones(1, dtype=dtype, device=centers.device))
    wide = centers.to(torch.float64)
    # Each center is divided first, because a sum of the centers could overflow.
    shift = (wide * (1.0 / len(centers))).sum(dim=0).to(dtype)
    largest = (wide - shift).abs().amax().reshape(1)
    most = 1000.0 if dtype == torch.float64 else 120.0
    exponent = torch.frexp(torch.nan_to_num(largest)).exponent.clamp(-most, most)
    return Frame(shift, torch.ldexp(torch.full_like(largest, 8.0), -exponent).to(dtype))


class Centers(NamedTuple):
    """Centers prepared for products and distances.

    ``values`` [k, D] are the given centers; ``parts`` [parts, k, D'] with D' from :func:`padded`;
    ``offsets`` float32 [k], the h of their gains; ``extents`` float32 [3, k], bounds for the
    rounding error: |c'|, |h| and the distance of the center from the origin of the rows, scaled as
    the product.
    """

    values: Tensor
    parts: Tensor
    offsets: Tensor
    extents: Tensor
    frame: Frame
    how: ProductPlan


_CENTERS = tl.constexpr(16)
_COLUMNS = tl.constexpr(128)
_ROWS = tl.constexpr(32)
_BAD_CENTER = tl.constexpr(BAD_CENTER)


@triton.jit
def _store_parts(out, part, at, value, mask, PARTS: tl.constexpr):
    high = value.to(out.dtype.element_ty)
    tl.store(out + at, high, mask)
    if PARTS == 2:
        low = (value - high.to(tl.float32)).to(out.dtype.element_ty)
        tl.store(out + part + at, low, mask)


@triton.jit
def _prepare_centers(
    values, stride, shift, scale, parts, offsets, extents, active, bad, k, width, padded,
    IN_PLACE: tl.constexpr, PARTS: tl.constexpr, BLOCK: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    if tl.load(active) != 0:
        wide = shift.dtype.element_ty
        center = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
        inside = center < k
        factor = tl.load(scale)
        norm = tl.zeros((BLOCK, COLUMNS), tl.float64)
        cross = tl.zeros((BLOCK, COLUMNS), tl.float64)
        reach = tl.zeros((BLOCK, COLUMNS), tl.float64)
        faults = tl.zeros((BLOCK, COLUMNS), tl.int32)
        for start in range(0, padded, COLUMNS):
            column = start + tl.arange(0, COLUMNS)
            within = column < width
            mask = inside[:, None] & within[None, :]
            value = tl.load(values + center[:, None] * stride + column[None, :], mask, other=0).to(
                wide
            )
            middle = tl.load(shift + column, within, other=0)
            faults += tl.where(is_finite(value), 0, 1)
            moved = tl.where(mask, value - middle[None, :], 0.0)
            _store_parts(
                parts, k.to(tl.int64) * padded, center[:, None] * padded + column[None, :],
                (moved * factor).to(tl.float32), inside[:, None] & (column < padded)[None, :], PARTS,
            )  # fmt: skip
            exact = tl.where(mask, value.to(tl.float64) - middle[None, :].to(tl.float64), 0.0)
            norm += exact * exact
            if IN_PLACE:
                cross += exact * middle[None, :].to(tl.float64)
                reach += value.to(tl.float64) * value.to(tl.float64)
        unit = factor.to(tl.float64)
        half = 0.5 * tl.sum(norm, 1)
        length = tl.sqrt(2.0 * half)
        far = length * unit
        offset = half * unit * unit
        if IN_PLACE:
            far = tl.sqrt(tl.sum(reach, 1))
            offset = (half + tl.sum(cross, 1)) * unit
        tl.store(offsets + center, offset.to(tl.float32), inside)
        # Rounded up.
        tl.store(extents + center, (length * unit).to(tl.float32) * 1.000001, inside)
        tl.store(extents + k + center, tl.abs(offset).to(tl.float32) * 1.000001, inside)
        tl.store(extents + 2 * k + center, far.to(tl.float32) * 1.000001, inside)
        wrong = inside & (tl.sum(faults, 1) > 0)
        first = tl.min(tl.where(wrong, center, k.to(tl.int64)))
        if first < k:
            tl.atomic_min(bad, first + _BAD_CENTER)


def prepare_centers(
    values: Tensor, within: Frame, how: ProductPlan, active: Tensor, bad: Tensor
) -> Centers:
    """Prepare centers [k, D]; lowers ``bad`` if one is not finite."""
    k, width = values.shape
    prepared = Centers(
        values,
        torch.empty((how.center_parts, k, padded(width)), dtype=how.operand, device=values.device),
        torch.empty(k, dtype=torch.float32, device=values.device),
        torch.empty((3, k), dtype=torch.float32, device=values.device),
        within,
        how,
    )
    update_centers(prepared, active, bad)
    return prepared


def update_centers(centers: Centers, active: Tensor, bad: Tensor) -> None:
    """Prepare ``centers.values`` again, in place, unless ``active`` is 0."""
    k, width = centers.values.shape
    _prepare_centers[(triton.cdiv(k, _CENTERS.value),)](
        centers.values, centers.values.stride(0), centers.frame.shift, centers.frame.scale,
        centers.parts, centers.offsets, centers.extents, active, bad, k, width, padded(width),
        IN_PLACE=centers.how.in_place, PARTS=centers.how.center_parts, BLOCK=_CENTERS,
        COLUMNS=_COLUMNS,
    )  # fmt: skip


@triton.jit
def _prepare_rows(
    x, stride, shift, scale, parts, part, count, width, padded,
    IN_PLACE: tl.constexpr, PARTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS).to(tl.int64)
    factor = tl.load(scale)
    for start in range(0, padded, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        within = column < width
        mask = (row < count)[:, None] & within[None, :]
        value = tl.load(x + row[:, None] * stride + column[None, :], mask, other=0)
        moved = value.to(tl.float32)
        if not IN_PLACE:
            middle = tl.load(shift + column, within, other=0)
            moved = ((value.to(middle.dtype) - middle[None, :]) * factor).to(tl.float32)
        target = (row < count)[:, None] & (column < padded)[None, :]
        _store_parts(parts, part, row[:, None] * padded + column[None, :], moved, target, PARTS)


class Operand(NamedTuple):
    """Rows in multiplied form: a matrix, and the offset of its second part."""

    first: Tensor
    stride: int
    part: int


def usable(x: Tensor, how: ProductPlan) -> bool:
    """Whether rows can be multiplied in place: whole blocks of columns, aligned to 16 bytes."""
    width = x.shape[1]
    aligned = x.stride(0) % 16 == 0 and x.data_ptr() % 16 == 0
    return how.in_place and aligned and padded(width) == width


def prepare_rows(x: Tensor, within: Frame, how: ProductPlan, scratch: Tensor) -> Operand:
    """Write the rows x [n, D] as parts to ``scratch`` [parts, at least n, D']."""
    count, width = x.shape
    part, columns = scratch.stride(0), scratch.shape[2]
    _prepare_rows[(triton.cdiv(count, _ROWS.value),)](
        x, x.stride(0), within.shift, within.scale, scratch, part, count, width, columns,
        IN_PLACE=how.in_place, PARTS=how.row_parts, ROWS=_ROWS, COLUMNS=_COLUMNS,
    )  # fmt: skip
    return Operand(scratch, columns, part)


def row_scratch(rows: int, width: int, how: ProductPlan, device: torch.device) -> Tensor:
    """Allocate memory for the parts of ``rows`` rows."""
    return torch.empty((how.row_parts, rows, padded(width)), dtype=how.operand, device=device)
