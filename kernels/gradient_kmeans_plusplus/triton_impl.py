"""Triton implementation of :func:`rlmba.kernels.gradient_kmeans_plusplus`.

Rows a (x) z are never materialized: <a (x) z, b (x) w> = <a, b> <z, w>, so the entries of two
products are multiplied. As in :mod:`rlmba.kernels.common.triton_nearest`, products only preselect
pairs; the error bound of a product of products is the sum of their bounds. Distances are computed
as

    (|a - b|^2 |z + w|^2 + |a + b|^2 |z - w|^2 + 2 (|a|^2 - |b|^2) (|z|^2 - |w|^2)) / 4

in float64, with |a + b|^2 = 2 |a|^2 + 2 |b|^2 - |a - b|^2 and b (x) w taken as (r b) (x) (w / r),
where the power of two r brings |a| and |r b| within a factor of two. They are exactly 0 for
duplicates and do not cancel for near rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common.device import ALL_VALID, Rows
from rlmba.kernels.common.triton_d2 import PIECE, Draw, centers_to_meet, propose
from rlmba.kernels.common.triton_device import is_finite
from rlmba.kernels.common.triton_nearest import (
    MANY,
    ROWS,
    SAFE,
    TINY,
    candidates,
    next_candidate,
    product_error,
    products,
    split_dtype,
    squared_difference,
    store_center,
)

__all__ = ["OuterPoints"]

_VALID = tl.constexpr(ALL_VALID)


@triton.jit
def _squares(x, stride, row, inside, width, ROWS: tl.constexpr, DEPTH: tl.constexpr):
    """Squared norms of rows in float64, and whether they are finite."""
    total = tl.zeros((ROWS, DEPTH), tl.float64)
    broken = tl.zeros((ROWS, DEPTH), tl.int32)
    for begin in range(0, width, DEPTH):
        k = begin + tl.arange(0, DEPTH)
        kept = inside[:, None] & (k < width)[None, :]
        value = tl.load(x + row[:, None] * stride + k[None, :], kept, other=0).to(tl.float64)
        total += value * value
        broken |= tl.where(is_finite(value), 0, 1)
    return tl.sum(total, 1), tl.max(broken, 1)


@triton.jit
def _norms(
    a, a_stride, z, z_stride, rows, begin_row, a2, z2, bad, huge, classes, width,
    ROWS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Squared norms of both factors, the first row not finite, and the first with an infinite norm."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    one, broken_a = _squares(a, a_stride, row, inside, classes, ROWS, DEPTH)
    other, broken_z = _squares(z, z_stride, row, inside, width, ROWS, DEPTH)
    tl.store(a2 + row, one, inside)
    tl.store(z2 + row, other, inside)
    worst = tl.min(tl.where(broken_a + broken_z > 0, row, _VALID))
    if worst < _VALID:
        tl.atomic_min(bad, begin_row + worst)
    holds = is_finite(one * other) & is_finite(one + other)
    large = tl.min(tl.where(holds, _VALID, row))
    if large < _VALID:
        tl.atomic_min(huge, begin_row + large)


@triton.jit
def _copy(
    x, stride, row, slot, inside, centers, high, low, zeros, width,
    SPLIT: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Copy one factor of rows as centers, unchanged and in multiplied form."""
    for begin in range(0, width, DEPTH):
        k = begin + tl.arange(0, DEPTH)
        kept = inside[:, None] & (k < width)[None, :]
        value = tl.load(x + row[:, None] * stride + k[None, :], kept, other=0)
        at = slot[:, None] * width + k[None, :]
        tl.store(centers + at, value, kept)
        none = tl.load(zeros + k, k < width, other=0)
        store_center(value, none[None, :], high, low, at, kept, SPLIT)


@triton.jit
def _copy_both(
    a, a_stride, z, z_stride, row, position, slot, inside, a2, z2,
    b, b_high, b_low, b2, w, w_high, w_low, w2, half, zeros, classes, width,
    SPLIT_A: tl.constexpr, SPLIT_Z: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Copy rows of a and z as centers, with their norms at ``position``."""
    _copy(a, a_stride, row, slot, inside, b, b_high, b_low, zeros, classes, SPLIT_A, DEPTH)
    _copy(z, z_stride, row, slot, inside, w, w_high, w_low, zeros, width, SPLIT_Z, DEPTH)
    one = tl.load(a2 + position, inside, other=0)
    other = tl.load(z2 + position, inside, other=0)
    tl.store(b2 + slot, one, inside)
    tl.store(w2 + slot, other, inside)
    tl.store(half + slot, (0.5 * one * other).to(tl.float32), inside)


@triton.jit
def _propose(
    state, squared, sums, chunks, rows, tile_rows, tile_chunks, place, before, least,
    block_min, block_max, a, a_stride, z, z_stride, a2, z2,
    b, b_high, b_low, b2, w, w_high, w_low, w2, half, zeros, classes, width,
    COPIED: tl.constexpr, SPLIT_A: tl.constexpr, SPLIT_Z: tl.constexpr, MANY: tl.constexpr,
    PIECE: tl.constexpr, CHUNK: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Draw MANY proposals, and copy their rows if they are on the device."""
    slot, row, inside = propose(
        state, squared, sums, chunks, rows, tile_rows, tile_chunks, place, before, least,
        block_min, block_max, MANY, PIECE, CHUNK,
    )  # fmt: skip
    if COPIED:
        _copy_both(
            a, a_stride, z, z_stride, row, row, slot, inside, a2, z2,
            b, b_high, b_low, b2, w, w_high, w_low, w2, half, zeros, classes, width,
            SPLIT_A, SPLIT_Z, DEPTH,
        )  # fmt: skip


@triton.jit
def _copy_taken(
    positions, taken, a, a_stride, z, z_stride, a2, z2,
    b, b_high, b_low, b2, w, w_high, w_low, w2, half, zeros, classes, width,
    SPLIT_A: tl.constexpr, SPLIT_Z: tl.constexpr, MANY: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Copy rows 0 to ``taken`` of a and z, at ``positions`` of the pool, as centers."""
    slot = tl.program_id(0).to(tl.int64) * MANY + tl.arange(0, MANY)
    inside = slot < taken
    position = tl.load(positions + slot, inside, other=0)
    _copy_both(
        a, a_stride, z, z_stride, slot, position, slot, inside, a2, z2,
        b, b_high, b_low, b2, w, w_high, w_low, w2, half, zeros, classes, width,
        SPLIT_A, SPLIT_Z, DEPTH,
    )  # fmt: skip


@triton.jit
def _balance(a2, b2):
    """The power of two r for which a2 and r^2 b2 lie within a factor of four or so."""
    a_exponent = (a2.to(tl.int64, bitcast=True) >> 52) & 0x7FF
    b_exponent = (b2.to(tl.int64, bitcast=True) >> 52) & 0x7FF
    apart = a_exponent - b_exponent
    half = (apart + tl.where(apart < 0, 1, 0)) >> 1
    half = tl.minimum(tl.maximum(half, -256), 256)
    return ((half + 1023) << 52).to(tl.float64, bitcast=True)


@triton.jit
def _combine(da, dz, a2, z2, b2, w2, r):
    """Combine the factors' squared distances to the squared distance, with b and w balanced by r."""
    rb2 = b2 * r * r
    rw2 = w2 / (r * r)
    sa = tl.maximum(2 * a2 + 2 * rb2 - da, 0.0)
    sz = tl.maximum(2 * z2 + 2 * rw2 - dz, 0.0)
    d = tl.maximum(0.25 * (da * sz + sa * dz + 2 * (a2 - rb2) * (z2 - rw2)), 0.0)
    return tl.where((a2 == 0) | (b2 == 0), a2 * z2 + b2 * w2, d)


@triton.jit
def _differences(x, one, other, size, scale, width, MANY: tl.constexpr, DEPTH: tl.constexpr):
    """Sums [MANY, MANY] of (x_i - scale_ij x_j)^2."""
    total = tl.zeros((MANY, MANY, DEPTH), tl.float64)
    for begin in tl.range(0, width, DEPTH, num_stages=4):
        k = begin + tl.arange(0, DEPTH)
        within = (k < width)[None, :]
        at = one[:, None] * width + k[None, :]
        p = tl.load(x + at, (one < size)[:, None] & within, other=0).to(tl.float64)
        at = other[:, None] * width + k[None, :]
        q = tl.load(x + at, (other < size)[:, None] & within, other=0).to(tl.float64)
        d = p[:, None, :] - q[None, :, :] * scale[:, :, None]
        total += d * d
    return tl.sum(total, 2)


@triton.jit
def _pairs(
    state_size, b, b2, w, w2, pairs, classes, width,
    SIZE: tl.constexpr, MANY: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Squared distances of MANY proposals to MANY later ones."""
    size = tl.load(state_size)
    one = tl.program_id(0).to(tl.int64) * MANY + tl.arange(0, MANY)
    other = tl.program_id(1).to(tl.int64) * MANY + tl.arange(0, MANY)
    needed = tl.where(tl.program_id(0) <= tl.program_id(1), size, 0)
    if tl.program_id(1) * MANY < needed:
        # From the later proposal to the earlier one, as in the reference.
        y2 = tl.load(b2 + one, one < size, other=0)[None, :]
        v2 = tl.load(w2 + one, one < size, other=0)[None, :]
        x2 = tl.load(b2 + other, other < size, other=0)[:, None]
        u2 = tl.load(w2 + other, other < size, other=0)[:, None]
        r = _balance(x2, y2)
        da = _differences(b, other, one, size, r, classes, MANY, DEPTH)
        dz = _differences(w, other, one, size, 1.0 / r, width, MANY, DEPTH)
        d = _combine(da, dz, x2, u2, y2, v2, r)
        tl.store(pairs + one[None, :] * SIZE + other[:, None], d)


@triton.jit
def _pass(
    state, a, a_stride, z, z_stride, rows, a2, z2,
    b, b_high, b_low, b2, w, w_high, w_low, w2, half, zeros, classes, width,
    order, squared, sums, error, exact_slack,
    SPLIT_A: tl.constexpr, SPLIT_Z: tl.constexpr, ROWS: tl.constexpr, CENTERS: tl.constexpr,
    DEPTH: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Compare ROWS rows with the accepted proposals, CENTERS at a time."""
    total = centers_to_meet(state)
    if total > 0:
        row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        inside = row < rows
        best = tl.load(squared + row, inside, other=0)
        row_a2 = tl.load(a2 + row, inside, other=0)
        row_z2 = tl.load(z2 + row, inside, other=0)
        at_a = a + row * a_stride
        at_z = z + row * z_stride
        norm = row_a2 * row_z2
        length_a = tl.sqrt(row_a2).to(tl.float32)
        length_z = tl.sqrt(row_z2).to(tl.float32)
        relative = error * (tl.sqrt(norm) * (1 + 1e-6)).to(tl.float32)
        for begin in range(0, total, CENTERS):
            j = begin + tl.arange(0, CENTERS).to(tl.int64)
            valid = j < total
            slot = tl.load(order + j, valid, other=0)
            of_a, _ = products(
                at_a, inside, zeros, b_high, b_low, slot, valid, classes,
                SPLIT_A, ROWS, CENTERS, DEPTH,
            )  # fmt: skip
            of_z, _ = products(
                at_z, inside, zeros, w_high, w_low, slot, valid, width,
                SPLIT_Z, ROWS, CENTERS, DEPTH,
            )  # fmt: skip
            h = tl.load(half + slot, valid, other=0)
            most_b2 = tl.max(tl.load(b2 + slot, valid, other=0))
            most_w2 = tl.max(tl.load(w2 + slot, valid, other=0))
            largest = tl.maximum(tl.maximum(most_b2, most_w2), tl.max(h).to(tl.float64))
            safe = tl.maximum(tl.maximum(tl.maximum(row_a2, row_z2), norm), largest) < SAFE
            most_b = tl.sqrt(most_b2).to(tl.float32)
            most_w = tl.sqrt(most_w2).to(tl.float32)
            tiny_a = TINY * classes * (1 + length_a + most_b)
            tiny_z = TINY * width * (1 + length_z + most_w)
            tiny = tiny_a * length_z * most_w + tiny_z * length_a * most_b + tiny_a * tiny_z
            bound = relative[:, None] * tl.sqrt(2 * h)[None, :] + (5e-7 * h)[None, :]
            lower, limit = candidates(
                h[None, :] - of_a * of_z, bound + (2 * tiny + TINY)[:, None], h, valid, safe,
                norm, exact_slack, exact_slack, best,
            )  # fmt: skip
            at, active = next_candidate(lower, limit)
            while tl.max(active.to(tl.int32)) > 0:
                near = tl.load(order + begin + at, active, other=0)
                center_a2 = tl.load(b2 + near, active, other=0)
                center_z2 = tl.load(w2 + near, active, other=0)
                r = _balance(row_a2, center_a2)
                da = squared_difference(at_a, b + near * classes, active, r, classes, ROWS, EXACT)
                dz = squared_difference(at_z, w + near * width, active, 1.0 / r, width, ROWS, EXACT)
                d = _combine(da, dz, row_a2, row_z2, center_a2, center_z2, r)
                best = tl.where(active, tl.minimum(best, d), best)
                met = tl.arange(0, CENTERS)[None, :] == at[:, None]
                lower = tl.where(met, float("inf"), lower)
                at, active = next_candidate(lower, limit)
        tl.store(squared + row, best, inside)
        tl.store(sums + tl.program_id(0), tl.sum(tl.where(inside, best, 0.0)))


class _Factor(NamedTuple):
    """One factor of the centers of a block: rows, their split parts, squared norms in float64."""

    rows: Tensor
    high: Tensor
    low: Tensor
    norms: Tensor


def _factor(like: Tensor, capacity: int) -> _Factor:
    shape, where = (capacity, like.shape[1]), like.device
    norms = torch.empty(capacity, dtype=torch.float64, device=where)
    rows = torch.empty(shape, dtype=like.dtype, device=where)
    if split_dtype(like, like) is not None:
        return _Factor(rows, rows, norms, norms)
    high = torch.empty(shape, dtype=torch.bfloat16, device=where)
    return _Factor(rows, high, torch.empty_like(high), norms)


def _is_split(factor: _Factor) -> bool:
    return factor.high is not factor.rows


def join(parts: tuple[Tensor, ...], dtype: torch.dtype, *, scaled: bool) -> Tensor:
    """Concatenate the feature parts of some rows, multiplied by scales (the last part) if scaled."""
    features = parts[:-1] if scaled else parts
    if not scaled and len(features) == 1:
        return features[0]
    if not scaled and len({z.dtype for z in features}) == 1:
        return torch.cat(features, dim=1)
    width = sum(z.shape[1] for z in features)
    out = torch.empty((len(features[0]), width), dtype=dtype, device=features[0].device)
    begin = 0
    for m, z in enumerate(features):
        to = out[:, begin : begin + z.shape[1]]
        to.copy_(z)
        if scaled:
            to.mul_(parts[-1][:, m, None].to(dtype))
        begin += z.shape[1]
    return out


class OuterPoints:
    """Rows a_i (x) z_i, for :func:`rlmba.kernels.common.triton_d2.run`.

    Rows hold the residuals, the parts of the features, and scales if there are any.
    """

    def __init__(self, rows: Rows, dtype: torch.dtype, *, scaled: bool) -> None:
        self.rows, self._dtype, self._scaled = rows, dtype, scaled
        self._whole: tuple[Tensor, Tensor] | None = None
        if rows.resident:
            a, *parts = next(iter(rows)).parts
            self._whole = a, join(tuple(parts), dtype, scaled=scaled)
        self.a2 = torch.empty(rows.count, dtype=torch.float64, device=rows.device)
        self.z2 = torch.empty_like(self.a2)

    def _tiles(self) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        if self._whole is not None:
            yield 0, self.rows.count, *self._whole
            return
        for begin, end, (a, *parts) in self.rows:
            yield begin, end, a, join(tuple(parts), self._dtype, scaled=self._scaled)

    def measure(self, bad: Tensor, huge: Tensor) -> None:
        """Norms of all rows; lowers ``bad`` to a row that is not finite, ``huge`` to one whose norm is."""
        for begin, end, a, z in self._tiles():
            _norms[(triton.cdiv(end - begin, ROWS),)](
                a, a.stride(0), z, z.stride(0), end - begin, begin, self.a2[begin:],
                self.z2[begin:], bad, huge, a.shape[1], z.shape[1],
                ROWS=ROWS, DEPTH=16, num_warps=4,
            )  # fmt: skip

    def largest(self) -> Tensor:
        """Position of the row of largest norm, the lowest on ties, int64 [1]."""
        norms = self.a2 * self.z2
        positions = torch.arange(len(norms), device=norms.device)
        return torch.where(norms == norms.max(), positions, len(norms) - 1).min().reshape(1)

    def start(self, draw: Draw, first: Tensor) -> None:
        """Update the distances with the first row, int64 [1]."""
        draw.indices[:1] = first
        draw.place[:1] = first
        draw.at_draw[:1] = (self.a2 * self.z2)[first]
        a, z = self._take(draw, 1)
        self._b, self._w = _factor(a, draw.capacity), _factor(z, draw.capacity)
        self._half = torch.empty(draw.capacity, dtype=torch.float32, device=a.device)
        self._zeros = torch.zeros(max(a.shape[1], z.shape[1]), device=a.device)
        self._copy_taken(draw, a, z)
        self.update(draw, 1)

    def _take(self, draw: Draw, most: int) -> tuple[Tensor, Tensor]:
        a, *parts = self.rows.take(draw.place[:most])
        return a, join(tuple(parts), self._dtype, scaled=self._scaled)

    def _centers(self) -> tuple[object, ...]:
        """The centers as arguments of the kernels."""
        widths = self._b.rows.shape[1], self._w.rows.shape[1]
        return *self._b, *self._w, self._half, self._zeros, *widths

    def _split(self) -> dict[str, bool]:
        return {"SPLIT_A": _is_split(self._b), "SPLIT_Z": _is_split(self._w)}

    def _copy_taken(self, draw: Draw, a: Tensor, z: Tensor) -> None:
        _copy_taken[(triton.cdiv(len(a), MANY),)](
            draw.place, len(a), a, a.stride(0), z, z.stride(0), self.a2, self.z2,
            *self._centers(), **self._split(), MANY=MANY, DEPTH=64, num_warps=4,
        )  # fmt: skip

    def propose(self, draw: Draw, most: int) -> None:
        """See :class:`~rlmba.kernels.common.triton_d2.Points`."""
        grid = (triton.cdiv(most, MANY),)
        a, z = (self._b.rows, self._w.rows) if self._whole is None else self._whole
        _propose[grid](
            *draw.law(), a, a.stride(0), z, z.stride(0), self.a2, self.z2, *self._centers(),
            **self._split(), COPIED=self._whole is not None, MANY=MANY, PIECE=PIECE, CHUNK=ROWS,
            DEPTH=64, num_warps=4,
        )  # fmt: skip
        if self._whole is None:
            self._copy_taken(draw, *self._take(draw, most))
        _pairs[grid * 2](
            draw.size, self._b.rows, self._b.norms, self._w.rows, self._w.norms, draw.pairs,
            self._b.rows.shape[1], self._w.rows.shape[1],
            SIZE=draw.capacity, MANY=MANY, DEPTH=16, num_warps=4,
        )  # fmt: skip

    def update(self, draw: Draw, most: int) -> None:
        """See :class:`~rlmba.kernels.common.triton_d2.Points`."""
        split = self._split()
        one = product_error(self._b.rows.shape[1], split=split["SPLIT_A"])
        other = product_error(self._w.rows.shape[1], split=split["SPLIT_Z"])
        error = 1.01 * (one + other + one * other)
        exact = 2.0**-53 * (8 * (self._b.rows.shape[1] + self._w.rows.shape[1]) + 1024)
        block = max(16, min(64, triton.next_power_of_2(most)))
        for begin, end, a, z in self._tiles():
            _pass[(triton.cdiv(end - begin, ROWS),)](
                draw.state, a, a.stride(0), z, z.stride(0), end - begin, self.a2[begin:],
                self.z2[begin:], *self._centers(), draw.order, draw.squared[begin:],
                draw.tile_sums(begin), error, exact, **split, ROWS=ROWS, CENTERS=block, DEPTH=32,
                EXACT=16, num_warps=4, num_stages=3,
            )  # fmt: skip
