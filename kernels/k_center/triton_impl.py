"""Triton implementation of :func:`rlmba.kernels.k_center`: each pass over all rows yields a block of picks.

Distances only shrink as centers are added. The members of a block are the rows with the largest
distances to their nearest center, and the first of all other rows, the cut. Rows are picked by
decreasing distance and then by increasing position, so no row outside the block comes before the
cut. Picks among the members are therefore the picks among all rows until the next one would come
after the cut. Each block makes at least one pick, since the first of all rows is a member or the
cut.

All decisions are made on the device. A block does nothing if all picks are already made.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common.device import ALL_VALID
from rlmba.kernels.common.triton_device import is_finite, programs

__all__ = ["MEMBERS", "Block", "check_and_sum"]

MEMBERS = 1024
"""Number of rows in a block, among which picks are made."""

_BLOCK = 1024
_ROWS, _COLUMNS = 32, 128
_TILE, _UNROLL = 32, 8
_NONE = tl.constexpr(ALL_VALID)


@triton.jit
def _check_and_sum(
    x, stride, rows, width, first, sums, bad, parts, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Sums of columns over every parts-th block of rows; lowers ``bad`` to a row that is not finite."""
    part = tl.program_id(0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    wanted = column < width
    lanes = tl.zeros((ROWS, COLUMNS), tl.float64)
    for start in range(part * ROWS, rows, parts * ROWS):
        row = start + tl.arange(0, ROWS).to(tl.int64)
        kept = (row < rows)[:, None] & wanted[None, :]
        lanes += tl.load(x + row[:, None] * stride + column[None, :], kept, other=0).to(tl.float64)
    total = tl.sum(lanes, 0)
    tl.store(sums + part * width + column, total, wanted)
    # A sum is not finite if a value is not, so rows are examined one by one only in that case.
    if tl.min(is_finite(total).to(tl.int32)) == 0:
        worst = tl.full((ROWS,), _NONE, tl.int64)
        for start in range(part * ROWS, rows, parts * ROWS):
            row = start + tl.arange(0, ROWS).to(tl.int64)
            kept = (row < rows)[:, None] & wanted[None, :]
            value = tl.load(x + row[:, None] * stride + column[None, :], kept, other=0)
            sound = tl.min(is_finite(value).to(tl.int32), 1) > 0
            worst = tl.where(sound, worst, tl.minimum(worst, row))
        lowest = tl.min(worst)
        if lowest < _NONE:
            tl.atomic_min(bad, first + lowest)


@triton.jit
def _keys(squared, taken, keys, rows, mask, BLOCK: tl.constexpr):
    """Distinct int64 keys, ordered by a row's distance (without its last bits) and then by position.

    A picked row has key -1. The bits of nonnegative floating-point numbers have the numbers' order.
    """
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = row < rows
    bits = tl.load(squared + row, inside, other=0).to(tl.int64, bitcast=True)
    free = tl.load(taken + row, inside, other=1) == 0
    tl.store(keys + row, tl.where(free, (bits | mask) - row, -1), inside)


@triton.jit
def _outside(squared, keys, top, size, values, positions, rows, parts, BLOCK: tl.constexpr):
    """The greatest distance, and its lowest position, among rows that are not members."""
    part = tl.program_id(0)
    least = tl.load(top + size - 1)
    most = tl.full((BLOCK,), -1.0, tl.float64)
    place = tl.full((BLOCK,), _NONE, tl.int64)
    for start in range(part * BLOCK, rows, parts * BLOCK):
        row = start + tl.arange(0, BLOCK).to(tl.int64)
        key = tl.load(keys + row, row < rows, other=-1)
        value = tl.load(squared + row, row < rows, other=0)
        greater = (key >= 0) & (key < least) & (value > most)
        most = tl.where(greater, value, most)
        place = tl.where(greater, row, place)
    best = tl.max(most)
    tl.store(values + part, best)
    tl.store(positions + part, tl.min(tl.where(most == best, place, _NONE)))


@triton.jit
def _members(
    squared,
    top,
    size,
    values,
    positions,
    parts,
    mask,
    members,
    current,
    cut,
    PARTS: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """Positions and distances of the members; unused slots have position 0 and distance -1.

    ``cut`` receives the position of the last member. Without one, it is below all positions.
    """
    part = tl.arange(0, PARTS)
    value = tl.load(values + part, part < parts, other=-1)
    place = tl.load(positions + part, part < parts, other=_NONE)
    best = tl.max(value)
    last = tl.min(tl.where(value == best, place, _NONE))
    slot = tl.arange(0, SLOTS)
    key = tl.load(top + slot, slot < size, other=-1)
    row = tl.where(key >= 0, mask - (key & mask), 0)
    row = tl.where(slot == size, tl.where(last < _NONE, last, 0), row)
    there = (key >= 0) | (slot == size)
    distance = tl.load(squared + row, there, other=-1)
    distance = tl.where(slot == size, best, distance)
    tl.store(members + slot, row, slot <= size)
    tl.store(current + slot, distance, slot <= size)
    tl.store(cut, tl.where(last < _NONE, last, -1))


@triton.jit
def _pairs(columns, pairs, size, width, done, wanted, TILE: tl.constexpr, UNROLL: tl.constexpr):
    """One tile of squared distances among the members, stored by columns, and its mirror image."""
    first = tl.program_id(0)
    second = tl.program_id(1)
    if tl.load(done) < tl.where(first <= second, wanted, 0):
        i = first * TILE + tl.arange(0, TILE)
        j = second * TILE + tl.arange(0, TILE)
        total = tl.zeros((TILE, TILE), tl.float64)
        for begin in range(0, width, UNROLL):
            for step in tl.static_range(UNROLL):
                at = columns + (begin + step) * size
                p = tl.load(at + i, i < size, other=0)
                q = tl.load(at + j, j < size, other=0)
                d = p[:, None] - q[None, :]
                total += d * d
        both = (i < size)[:, None] & (j < size)[None, :]
        tl.store(pairs + i[:, None] * size + j[None, :], total, both)
        mirrored = (j < size)[:, None] & (i < size)[None, :]
        tl.store(pairs + j[:, None] * size + i[None, :], tl.trans(total), mirrored)


@triton.jit
def _next(value, code, cut_value, cut_code, left):
    """The member that comes first, its distance, and 1 if it is a pick or 0 if not."""
    best = tl.max(value)
    chosen = tl.min(tl.where(value == best, code, _NONE))
    tie = tl.where(best == cut_value, tl.where(chosen <= cut_code, 1, 0), 0)
    return best, chosen, tl.where(left > 0, tl.where(best > cut_value, 1, tie), 0)


@triton.jit
def _greedy(
    members,
    current,
    cut,
    pairs,
    size,
    done,
    wanted,
    indices,
    squared,
    taken,
    slots,
    accepted,
    SLOTS: tl.constexpr,
):
    """Make picks among the members in one program, as long as they are certain."""
    slot = tl.arange(0, SLOTS)
    value = tl.load(current + slot, slot < size, other=-1)
    code = tl.load(members + slot, slot < size, other=0) * SLOTS + slot
    cut_value = tl.load(current + size - 1)
    cut_code = tl.load(cut) * SLOTS + SLOTS - 1
    start = tl.load(done)
    count = start
    best, chosen, going = _next(value, code, cut_value, cut_code, wanted - count)
    while going > 0:
        at = chosen % SLOTS
        row = chosen // SLOTS
        tl.store(indices + count, row)
        tl.store(squared + count, best)
        tl.store(taken + row, 1)
        tl.store(slots + count - start, at)
        count += 1
        met = tl.load(pairs + at * size + slot, slot < size, other=0)
        value = tl.where(slot == at, -1.0, tl.minimum(value, met))
        best, chosen, going = _next(value, code, cut_value, cut_code, wanted - count)
    tl.store(done, count)
    tl.store(accepted, count - start)


def check_and_sum(tile: Tensor, first: int, bad: Tensor) -> Tensor:
    """float64 sums of the columns of ``tile`` [n, D]; lowers ``bad`` to ``first`` + a row not finite."""
    rows, width = tile.shape
    columns = triton.cdiv(width, _COLUMNS)
    parts = max(1, min(triton.cdiv(rows, _ROWS), programs(tile.device) // columns))
    sums = torch.empty((parts, width), dtype=torch.float64, device=tile.device)
    _check_and_sum[(parts, columns)](
        tile, tile.stride(0), rows, width, first, sums, bad, parts,
        ROWS=_ROWS, COLUMNS=_COLUMNS, num_warps=4,
    )  # fmt: skip
    return sums.sum(0)


class Block:
    """Memory of a block, and the state of the picks on the device.

    Parameters
    ----------
    squared : float64 [N]
        Squared distance of each row to its nearest center; the caller updates it between blocks.
    wanted : int
        Number of picks to make.
    width : int
        Columns of the rows.
    most : int
        Members of a block, at least 2.

    Attributes
    ----------
    done : int64 [1]
        Picks made.
    indices, distances : int64 [wanted], float64 [wanted]
        The picks, and the squared distance of each when it was picked.
    taken : uint8 [N]
        1 for the rows picked.
    accepted : int64 [1]
        Number of picks of the last block; the first entries of ``slots`` are their members.
    """

    def __init__(self, squared: Tensor, wanted: int, width: int, most: int) -> None:
        where, rows = squared.device, len(squared)
        whole: dict[str, Any] = {"dtype": torch.int64, "device": where}
        wide: dict[str, Any] = {"dtype": torch.float64, "device": where}
        self.squared, self.wanted, self.width = squared, wanted, width
        self.done = torch.zeros(1, **whole)
        self.indices = torch.empty(wanted, **whole)
        self.distances = torch.empty(wanted, **wide)
        self.taken = torch.zeros(rows, dtype=torch.uint8, device=where)
        self.accepted = torch.zeros(1, **whole)
        self._top = min(most - 1, rows)
        size = self._top + 1
        self.slots = torch.zeros(size, **whole)
        self._members = torch.zeros(size, **whole)
        self._current = torch.empty(size, **wide)
        self._cut = torch.empty(1, **whole)
        self._keys = torch.empty(rows, **whole)
        self._mask = (1 << (rows - 1).bit_length()) - 1
        self._parts = min(triton.cdiv(rows, _BLOCK), programs(where))
        self._values = torch.empty(self._parts, **wide)
        self._places = torch.empty(self._parts, **whole)
        # Padding columns are 0 in all members.
        self._columns = torch.zeros((triton.cdiv(width, _UNROLL) * _UNROLL, size), **wide)
        self._pairs = torch.empty((size, size), **wide)

    def members(self) -> Tensor:
        """Positions int64 of the members of the next block."""
        rows, size = len(self.squared), self._top
        _keys[(triton.cdiv(rows, _BLOCK),)](
            self.squared, self.taken, self._keys, rows, self._mask, BLOCK=_BLOCK, num_warps=4
        )
        top = torch.topk(self._keys, size).values
        _outside[(self._parts,)](
            self.squared, self._keys, top, size, self._values, self._places, rows, self._parts,
            BLOCK=_BLOCK, num_warps=4,
        )  # fmt: skip
        _members[(1,)](
            self.squared, top, size, self._values, self._places, self._parts, self._mask,
            self._members, self._current, self._cut,
            PARTS=triton.next_power_of_2(self._parts), SLOTS=triton.next_power_of_2(size + 1),
            num_warps=8,
        )  # fmt: skip
        return self._members

    def pick(self, rows: Tensor) -> Tensor:
        """Make picks among the members with these ``rows``; return the picked rows.

        Only the first ``accepted`` returned rows are picks.
        """
        size = self._top + 1
        self._columns[: self.width].copy_(rows.T)
        tiles = triton.cdiv(size, _TILE)
        _pairs[(tiles, tiles)](
            self._columns, self._pairs, size, len(self._columns), self.done, self.wanted,
            TILE=_TILE, UNROLL=_UNROLL, num_warps=4,
        )  # fmt: skip
        _greedy[(1,)](
            self._members, self._current, self._cut, self._pairs, size, self.done, self.wanted,
            self.indices, self.distances, self.taken, self.slots, self.accepted,
            SLOTS=triton.next_power_of_2(size), num_warps=4,
        )  # fmt: skip
        return rows.index_select(0, self.slots)

    def force(self, position: Tensor) -> None:
        """Pick the row at ``position`` (int64 [1], on the device), whatever its distance."""
        self.indices[:1] = position
        self.distances[:1] = self.squared[position]
        self.taken.index_fill_(0, position, 1)
        self.done += 1
        self.accepted.fill_(1)
