"""Triton implementation of :func:`rlmba.kernels.min_distance`: products preselect, distances decide.

There are three passes over a tile of rows. ``_select`` finds the center with the largest gain (see
``triton_operands``) and the second largest gain. ``_measure`` computes the squared distance to that
center in float64 and queues rows whose two gains are equal within rounding. ``_refine`` repeats the
products for queued rows and computes the distance to every center that may be nearest.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common.triton_device import is_finite, programs
from rlmba.kernels.min_distance.triton_operands import Centers, Operand, depth, padded

_NONE = tl.constexpr(2**31 - 1)
_LOWEST = tl.constexpr(float("-inf"))
# Gains are trusted only if nothing in them can have overflowed.
_SAFE = tl.constexpr(2.0**120)
_SAFE_NORM = tl.constexpr(2.0**60)
_MEASURED = tl.constexpr(8)
_REFINED = tl.constexpr(64)
_COLUMNS = tl.constexpr(64)


@triton.jit
def _gains(
    row_at, row_part, center_at, center_part, offset, steps,
    ROW_PARTS: tl.constexpr, CENTER_PARTS: tl.constexpr,
    ROWS: tl.constexpr, CENTERS: tl.constexpr, DEPTH: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Gains [ROWS, CENTERS]: the product of the parts, the small ones first, less the offsets."""
    turns: tl.constexpr = ROW_PARTS + CENTER_PARTS - 1
    product = tl.zeros((ROWS, CENTERS), tl.float32)
    for step in range(turns * steps):
        turn = step // steps
        depth = (step - turn * steps) * DEPTH + tl.arange(0, DEPTH)
        a_at = row_at[:, None] + depth[None, :]
        b_at = center_at[None, :] + depth[:, None]
        if ROW_PARTS == 2:
            a_at += tl.where(turn == 0, row_part, 0)
        if CENTER_PARTS == 2:
            b_at += tl.where(turn == turns - 2, center_part, 0)
        a = tl.load(a_at)
        b = tl.load(b_at)
        if WIDEN:
            a = a.to(tl.float32)
            b = b.to(tl.float32)
        product = tl.dot(a, b, product, input_precision=PRECISION)
    return product - offset[None, :]


@triton.jit
def _select(
    rows, row_stride, row_part, centers, center_part, offsets, labels, best, second, active,
    count, k, padded,
    EXACT: tl.constexpr, ROW_PARTS: tl.constexpr, CENTER_PARTS: tl.constexpr,
    ROWS: tl.constexpr, CENTERS: tl.constexpr, DEPTH: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """The center with the largest gain of each row, the lowest on ties, and the two largest gains."""
    if tl.load(active) != 0:
        row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        inside = row < count
        # Beyond the end, the last row and the last center are read again, so loads need no mask.
        row_at = rows + tl.minimum(row, count - 1) * row_stride
        steps = padded // DEPTH
        label = tl.zeros((ROWS,), tl.int32)
        top = tl.full((ROWS,), _LOWEST, tl.float32)
        runner = tl.full((ROWS,), _LOWEST, tl.float32)
        for start in range(0, k, CENTERS):
            center = start + tl.arange(0, CENTERS)
            center_at = centers + tl.minimum(center, k - 1).to(tl.int64) * padded
            offset = tl.load(offsets + center, center < k, other=float("inf"))
            gain = _gains(
                row_at, row_part, center_at, center_part, offset, steps,
                ROW_PARTS, CENTER_PARTS, ROWS, CENTERS, DEPTH, PRECISION, WIDEN,
            )  # fmt: skip
            most = tl.max(gain, 1)
            place = tl.min(tl.where(gain == most[:, None], center[None, :], _NONE), 1)
            if EXACT:
                rest = tl.max(tl.where(center[None, :] == place[:, None], _LOWEST, gain), 1)
                runner = tl.maximum(tl.maximum(runner, rest), tl.minimum(top, most))
            label = tl.where(most > top, place, label)
            top = tl.maximum(top, most)
        tl.store(labels + row, label.to(tl.int64), inside)
        if EXACT:
            tl.store(best + row, top, inside)
            tl.store(second + row, runner, inside)


@triton.jit
def _measure(
    x, stride, values, value_stride, shift, scale, most, labels, squared, best, second,
    queue, queued, active, bad, first_row, count, width, relative, absolute, rounding,
    EXACT: tl.constexpr, IN_PLACE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Squared distances to the selected centers; queues rows whose selection is in doubt.

    The second largest gain is overwritten by the least gain that a nearest center can have.
    """
    if tl.load(active) != 0:
        row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        inside = row < count
        label = tl.load(labels + row, inside, other=0)
        factor = tl.load(scale)
        distance = tl.zeros((ROWS, COLUMNS), tl.float64)
        norm = tl.zeros((ROWS, COLUMNS), tl.float32)
        faults = tl.zeros((ROWS, COLUMNS), tl.int32)
        for start in range(0, width, COLUMNS):
            column = start + tl.arange(0, COLUMNS)
            within = column < width
            mask = inside[:, None] & within[None, :]
            value = tl.load(x + row[:, None] * stride + column[None, :], mask, other=0)
            center = tl.load(
                values + label[:, None] * value_stride + column[None, :], mask, other=0
            )
            difference = value.to(tl.float64) - center.to(tl.float64)
            distance += difference * difference
            if value.dtype == tl.float64:
                faults += tl.where(is_finite(value), 0, 1)
            if EXACT:
                moved = value.to(tl.float32)
                if not IN_PLACE:
                    middle = tl.load(shift + column, within, other=0)
                    scaled = (value.to(middle.dtype) - middle[None, :]) * factor
                    moved = tl.where(mask, scaled, 0.0).to(tl.float32)
                norm += moved * moved
        total = tl.sum(distance, 1)
        tl.store(squared + row, total, inside)
        # Differences of narrower numbers overflow float64 only if a number is not finite.
        wrong = inside & ~is_finite(total)
        if x.dtype.element_ty == tl.float64:
            wrong = inside & (tl.sum(faults, 1) > 0)
        first = tl.min(tl.where(wrong, row + first_row, 0x7FFFFFFFFFFFFFFF))
        if first < 0x7FFFFFFFFFFFFFFF:
            tl.atomic_min(bad, first)
        if EXACT:
            length = tl.sqrt(tl.sum(norm, 1)) * 1.00001
            longest = tl.load(most)
            offset = tl.load(most + 1)
            reach = tl.load(most + 2) + length
            # Error of distances of that size, in units of the product.
            unit = tl.full((), 1.0, tl.float32)
            if IN_PLACE:
                unit = factor.to(tl.float32)
            error = (
                relative * length * longest
                + absolute * (length + longest)
                + 2.5e-7 * offset
                + rounding * reach * reach * unit
                + width * 2.4e-38  # subnormal products
            )
            top = tl.load(best + row, inside, other=0)
            runner = tl.load(second + row, inside, other=0)
            least = top - 2.0 * error
            trusted = is_finite(top) & (length * longest + offset < _SAFE) & (length < _SAFE_NORM)
            least = tl.where(trusted, least, _LOWEST)
            doubtful = inside & ~(trusted & (runner < least))
            tl.store(second + row, least, inside)
            number = tl.sum(doubtful.to(tl.int32))
            if number > 0:
                slot = tl.atomic_add(queued, number) + tl.cumsum(doubtful.to(tl.int32)) - 1
                tl.store(queue + slot, row, doubtful)


@triton.jit
def _distances(x_at, values, value_stride, place, mask, width, COLUMNS: tl.constexpr):
    """Squared distances of rows to one center each, where the mask is set."""
    total = tl.zeros((mask.shape[0], COLUMNS), tl.float64)
    for start in range(0, width, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        wanted = mask[:, None] & (column < width)[None, :]
        value = tl.load(x_at[:, None] + column[None, :], wanted, other=0)
        center = tl.load(values + place[:, None] * value_stride + column[None, :], wanted, other=0)
        difference = value.to(tl.float64) - center.to(tl.float64)
        total += difference * difference
    return tl.sum(total, 1)


@triton.jit
def _refine(
    x, stride, rows, row_stride, row_part, values, value_stride, centers, center_part, offsets,
    labels, squared, least, queue, queued, active, k, width, padded,
    ROW_PARTS: tl.constexpr, CENTER_PARTS: tl.constexpr,
    ROWS: tl.constexpr, CENTERS: tl.constexpr, DEPTH: tl.constexpr, COLUMNS: tl.constexpr,
    WIDEN: tl.constexpr,
):  # fmt: skip
    """Find the nearest center of each queued row among all centers whose gain allows it."""
    if tl.load(active) != 0:
        total = tl.load(queued)
        steps = padded // DEPTH
        for first in range(tl.program_id(0) * ROWS, total, tl.num_programs(0) * ROWS):
            slot = first + tl.arange(0, ROWS)
            live = slot < total
            row = tl.load(queue + tl.minimum(slot, total - 1))
            limit = tl.load(least + row)
            label = tl.load(labels + row)
            nearest = tl.full((ROWS,), float("inf"), tl.float64)
            x_at = x + row * stride
            for start in range(0, k, CENTERS):
                center = start + tl.arange(0, CENTERS)
                center_at = centers + tl.minimum(center, k - 1).to(tl.int64) * padded
                offset = tl.load(offsets + center, center < k, other=float("inf"))
                gain = _gains(
                    rows + row * row_stride, row_part, center_at, center_part, offset, steps,
                    ROW_PARTS, CENTER_PARTS, ROWS, CENTERS, DEPTH, "ieee", WIDEN,
                )  # fmt: skip
                # A center with gain NaN remains a candidate.
                may = (gain >= limit[:, None]) | (gain != gain) | (limit == _LOWEST)[:, None]
                may = may & live[:, None] & (center < k)[None, :]
                place = tl.min(tl.where(may, center[None, :], _NONE), 1)
                while tl.min(place) < _NONE:
                    found = place < _NONE
                    at = tl.where(found, place, 0).to(tl.int64)
                    distance = _distances(x_at, values, value_stride, at, found, width, COLUMNS)
                    nearer = found & (distance < nearest)
                    label = tl.where(nearer, at, label)
                    nearest = tl.where(nearer, distance, nearest)
                    later = may & (center[None, :] > place[:, None]) & (nearest > 0)[:, None]
                    place = tl.min(tl.where(later, center[None, :], _NONE), 1)
            tl.store(labels + row, label, live)
            # Infinite if every distance overflows.
            tl.store(squared + row, nearest, live)


_WIDEN = not isinstance(_select, triton.JITFunction)  # the interpreter has no product of bfloat16


class Tiles(NamedTuple):
    """Blocks of rows, centers and columns, and how many warps and stages work on them."""

    rows: int
    centers: int
    depth: int
    warps: int
    stages: int


def tiles(operand: torch.dtype, width: int, k: int, capability: tuple[int, int]) -> Tiles:
    """Block sizes that keep tensor cores busy: as many centers as registers hold, for fewest reads."""
    hopper = capability >= (9, 0)
    if operand == torch.float32:
        chosen = Tiles(128, 128, 32, 8, 4 if hopper else 3)
    else:
        chosen = Tiles(128, 256, 64, 8, 4) if hopper else Tiles(128, 128, 64, 8, 3)
    centers = min(chosen.centers, max(16, triton.next_power_of_2(k)))
    return chosen._replace(centers=centers, depth=min(chosen.depth, depth(width)))


def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)


class Scratch(NamedTuple):
    """Intermediate results of the passes for ``rows`` rows of a tile."""

    best: Tensor
    second: Tensor
    queue: Tensor
    queued: Tensor


def scratch(rows: int, device: torch.device, *, exact: bool) -> Scratch:
    """Allocate memory for tiles of ``rows`` rows."""
    held = rows if exact else 1
    best, second = torch.empty((2, held), dtype=torch.float32, device=device)
    queue = torch.empty(held, dtype=torch.int64, device=device)
    return Scratch(best, second, queue, torch.zeros(1, dtype=torch.int32, device=device))


def nearest(
    x: Tensor,
    operand: Operand,
    centers: Centers,
    most: Tensor,
    squared: Tensor,
    labels: Tensor,
    memory: Scratch,
    active: Tensor,
    bad: Tensor,
    first_row: int,
) -> None:
    """Write the nearest center of each row of x [n, D], and the squared distance.

    Parameters
    ----------
    operand : Operand
        The same rows in multiplied form.
    most : float32 tensor [3]
        The largest of each of ``centers.extents``.
    squared, labels : float64 and int64 tensors [n]
        Written.
    active : int32 tensor [1]
        If it is 0, nothing is written.
    bad : int64 tensor [1]
        Lowered to ``first_row`` plus the position of a row that is not finite.
    """
    count, width = x.shape
    how, values = centers.how, centers.values
    k = values.shape[0]
    columns = padded(width)
    t = tiles(how.operand, width, k, _capability(x.device))
    part = centers.parts.stride(0)
    _select[(triton.cdiv(count, t.rows),)](
        operand.first, operand.stride, operand.part, centers.parts, part, centers.offsets,
        labels, memory.best, memory.second, active, count, k, columns,
        EXACT=how.exact, ROW_PARTS=how.row_parts, CENTER_PARTS=how.center_parts,
        ROWS=t.rows, CENTERS=t.centers, DEPTH=t.depth,
        PRECISION="tf32" if how.operand == torch.float32 else "ieee", WIDEN=_WIDEN,
        num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    memory.queued.zero_()
    _measure[(triton.cdiv(count, _MEASURED.value),)](
        x, x.stride(0), values, values.stride(0), centers.frame.shift, centers.frame.scale, most,
        labels, squared, memory.best, memory.second, memory.queue, memory.queued, active, bad,
        first_row, count, width, how.relative_error(width), how.absolute_error(width),
        (width + 8) * 2.0**-51, EXACT=how.exact, IN_PLACE=how.in_place, ROWS=_MEASURED,
        COLUMNS=128,
    )  # fmt: skip
    if not how.exact:
        return
    groups = min(triton.cdiv(count, _REFINED.value), programs(x.device))
    _refine[(groups,)](
        x, x.stride(0), operand.first, operand.stride, operand.part, values, values.stride(0),
        centers.parts, part, centers.offsets, labels, squared, memory.second, memory.queue,
        memory.queued, active, k, width, columns,
        ROW_PARTS=how.row_parts, CENTER_PARTS=how.center_parts,
        ROWS=_REFINED, CENTERS=max(16, min(64, triton.next_power_of_2(k))), DEPTH=depth(width),
        COLUMNS=_COLUMNS, WIDEN=_WIDEN, num_warps=4, num_stages=3,
    )  # fmt: skip
