"""Triton implementation of :func:`rlmba.kernels.top_k`.

A radix select of ordered keys with eight bits per pass. The greatest key of each group of neighbors
is found first. The k-th greatest of these bounds the result from below, and only groups that reach
the bound are read again. Selected keys are written in order of position, so that a stable sort puts
ties in order of position.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common.device import ALL_VALID
from rlmba.kernels.common.triton_device import is_finite, programs

_GROUP = tl.constexpr(128)
_GROUPS = tl.constexpr(32)
_BLOCK = tl.constexpr(4096)
_BINS = tl.constexpr(256)
_VALID = tl.constexpr(ALL_VALID)
_DIGIT = 8
_BOUND_DIGITS = 2
_BITS = {torch.float64: 64, torch.bfloat16: 16}
"""Number of key bits in which numbers of a dtype can differ; 32 for other dtypes."""


@triton.jit
def _lowest(x):
    """The least key of numbers of x's dtype: int64 keys of float32 begin at 0, those of float64 below."""
    return -0x8000000000000000 if x.dtype.element_ty == tl.float64 else 0


@triton.jit
def _key(value):
    """int64 keys in the order of the numbers; +0 and -0 are equal."""
    if value.dtype == tl.float64:
        bits = tl.where(value == 0, 0.0, value).to(tl.int64, bitcast=True)
        return bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFF)
    value = value.to(tl.float32)
    bits = tl.where(value == 0, 0.0, value).to(tl.int32, bitcast=True)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64) + 0x80000000


@triton.jit
def _maxima(x, maxima, bad, count, groups, step):
    """The greatest key of each group of neighbors, and the first number that is not finite."""
    column = tl.arange(0, _GROUP)[None, :]
    first_bad = tl.full((_GROUPS, _GROUP), _VALID, tl.int64)
    for start in range(tl.program_id(0) * _GROUPS, groups, step):
        group = start + tl.arange(0, _GROUPS).to(tl.int64)
        place = group[:, None] * _GROUP + column
        value = tl.load(x + place, place < count, other=float("-inf"))
        broken = (place < count) & (is_finite(value) == 0)
        first_bad = tl.where(broken, tl.minimum(first_bad, place), first_bad)
        tl.store(maxima + group, tl.max(_key(value), axis=1), group < groups)
    worst = tl.min(tl.min(first_bad, axis=1), axis=0)
    if worst < _VALID:
        tl.atomic_min(bad, worst)


@triton.jit
def _reached(counts, k, digits, lowest, TOP: tl.constexpr):
    """The least key with the leading digits of the k-th largest, and how many such keys are selected."""
    bins = tl.arange(0, _BINS)
    floor = tl.full((), lowest, tl.int64)
    needed = tl.full((), k, tl.int64)
    for digit in range(digits):
        here = tl.load(counts + digit * _BINS + bins)
        chosen = tl.sum((tl.cumsum(here, axis=0, reverse=True) >= needed).to(tl.int64)) - 1
        needed -= tl.sum(tl.where(bins > chosen, here, 0))
        floor ^= chosen << (TOP - (digit + 1) * 8)
    return floor, needed


@triton.jit
def _candidates(x, maxima, place, inside, bound, BOUNDED: tl.constexpr):
    """Numbers at `place`, their keys, and which of them are in groups that reach the bound."""
    if BOUNDED:
        inside &= tl.load(maxima + place // _GROUP, inside, other=0) >= bound
    value = tl.load(x + place, inside, other=0)
    return value, _key(value), inside


@triton.jit(do_not_specialize=["digit"])
def _count_digit(
    x,
    maxima,
    bounds,
    counts,
    count,
    k,
    step,
    digit,
    OF_MAXIMA: tl.constexpr,
    BOUNDED: tl.constexpr,
    TOP: tl.constexpr,
):
    """Count one digit of the keys that share the digits before it with the k-th largest.

    All others are counted as digit 0, which does not affect the selection of a digit.
    """
    lowest = _lowest(x)
    bound = tl.full((), lowest, tl.int64)
    if BOUNDED:
        bound, _ = _reached(bounds, k, 2, lowest, TOP)
    floor, _ = _reached(counts, k, digit, lowest, TOP)
    total = tl.zeros((_BINS,), tl.int32)
    for start in range(tl.program_id(0) * _BLOCK, count, step):
        place = start + tl.arange(0, _BLOCK).to(tl.int64)
        inside = place < count
        if OF_MAXIMA:
            key = tl.load(maxima + place, inside, other=0)
        else:
            _number, key, inside = _candidates(x, maxima, place, inside, bound, BOUNDED)
        if tl.max(inside.to(tl.int32)) > 0:
            # For the first digit there are no previous digits, and a shift by 64 is undefined.
            same = ((key ^ floor) >> tl.minimum(TOP - digit * 8, 63)) == 0
            inside = tl.where(digit == 0, inside, inside & same)
            own = ((key ^ lowest) >> (TOP - (digit + 1) * 8)) & 0xFF
            total += tl.histogram(tl.where(inside, own, 0).to(tl.int32), _BINS)
    bins = tl.arange(0, _BINS)
    tl.atomic_add(counts + digit * _BINS + bins, total.to(tl.int64), total > 0)


@triton.jit
def _count_kept(
    x, maxima, bounds, counts, kept, count, k, digits, chunk,
    BOUNDED: tl.constexpr, TOP: tl.constexpr,
):  # fmt: skip
    """How many keys of a chunk are above the k-th largest, and how many equal it."""
    part = tl.program_id(0).to(tl.int64)
    lowest = _lowest(x)
    bound = tl.full((), lowest, tl.int64)
    if BOUNDED:
        bound, _ = _reached(bounds, k, 2, lowest, TOP)
    floor, _ = _reached(counts, k, digits, lowest, TOP)
    above = tl.zeros((_BLOCK,), tl.int64)
    equal = tl.zeros((_BLOCK,), tl.int64)
    end = tl.minimum(count, (part + 1) * chunk)
    for start in range(part * chunk, end, _BLOCK):
        place = start + tl.arange(0, _BLOCK).to(tl.int64)
        _number, key, inside = _candidates(x, maxima, place, place < end, bound, BOUNDED)
        same = ((key ^ floor) >> (TOP - digits * 8)) == 0
        above += (inside & (key > floor) & (same == 0)).to(tl.int64)
        equal += (inside & same).to(tl.int64)
    tl.store(kept + 2 * part, tl.sum(above))
    tl.store(kept + 2 * part + 1, tl.sum(equal))


@triton.jit
def _write_kept(
    x, maxima, bounds, counts, kept, found, keys, places, count, k, digits, chunk,
    BOUNDED: tl.constexpr, TOP: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Write the k largest with keys and positions, in order of position; the first on ties."""
    part = tl.program_id(0).to(tl.int64)
    lowest = _lowest(x)
    bound = tl.full((), lowest, tl.int64)
    if BOUNDED:
        bound, _ = _reached(bounds, k, 2, lowest, TOP)
    floor, ties = _reached(counts, k, digits, lowest, TOP)
    parts = tl.arange(0, PARTS)
    above = tl.sum(tl.load(kept + 2 * parts, parts < part, other=0))
    equal = tl.sum(tl.load(kept + 2 * parts + 1, parts < part, other=0))
    slot = above + tl.minimum(equal, ties)
    end = tl.minimum(count, (part + 1) * chunk)
    for start in range(part * chunk, end, _BLOCK):
        place = start + tl.arange(0, _BLOCK).to(tl.int64)
        value, key, inside = _candidates(x, maxima, place, place < end, bound, BOUNDED)
        same = inside & (((key ^ floor) >> (TOP - digits * 8)) == 0)
        before = equal + tl.cumsum(same.to(tl.int64), axis=0)
        take = (inside & (key > floor) & (same == 0)) | (same & (before <= ties))
        at = slot + tl.cumsum(take.to(tl.int64), axis=0) - 1
        tl.store(found + at, value.to(found.dtype.element_ty), take)
        tl.store(keys + at, key, take)
        tl.store(places + at, place, take)
        equal += tl.sum(same.to(tl.int64))
        slot += tl.sum(take.to(tl.int64))


def top_k(x: Tensor, k: int, dtype: torch.dtype, bad: Tensor) -> tuple[Tensor, Tensor]:
    """Return the k largest of x [N], contiguous, 1 <= k <= N, as ``dtype``, and their positions.

    Lowers ``bad`` to the first number that is not finite.
    """
    count = x.shape[0]
    top = 64 if x.dtype == torch.float64 else 32
    digits = _BITS.get(x.dtype, 32) // _DIGIT
    most = programs(x.device)
    groups = triton.cdiv(count, _GROUP.value)
    bounded = k < groups
    counts = torch.zeros(_BOUND_DIGITS + digits, _BINS.value, dtype=torch.int64, device=x.device)
    bounds, counts = counts[:_BOUND_DIGITS], counts[_BOUND_DIGITS:]
    maxima = torch.empty(groups, dtype=torch.int64, device=x.device)
    grid = min(most, triton.cdiv(groups, _GROUPS.value))
    _maxima[(grid,)](x, maxima, bad, count, groups, grid * _GROUPS.value, num_warps=8)
    common = {"BOUNDED": bounded, "TOP": top, "num_warps": 8}
    if bounded:
        grid = min(most, triton.cdiv(groups, _BLOCK.value))
        for digit in range(_BOUND_DIGITS):
            _count_digit[(grid,)](
                x, maxima, bounds, bounds, groups, k, grid * _BLOCK.value, digit,
                OF_MAXIMA=True, **{**common, "BOUNDED": False},
            )  # fmt: skip
    grid = min(most, triton.cdiv(count, _BLOCK.value))
    for digit in range(digits):
        _count_digit[(grid,)](
            x, maxima, bounds, counts, count, k, grid * _BLOCK.value, digit,
            OF_MAXIMA=False, **common,
        )  # fmt: skip
    chunk = triton.cdiv(triton.cdiv(count, _BLOCK.value), grid) * _BLOCK.value
    kept = torch.empty(grid, 2, dtype=torch.int64, device=x.device)
    arguments = (x, maxima, bounds, counts, kept)
    _count_kept[(grid,)](*arguments, count, k, digits, chunk, **common)
    found = torch.empty(k, dtype=dtype, device=x.device)
    keys = torch.empty(k, dtype=torch.int64, device=x.device)
    places = torch.empty_like(keys)
    parts = triton.next_power_of_2(grid)
    _write_kept[(grid,)](
        *arguments, found, keys, places, count, k, digits, chunk, PARTS=parts, **common
    )
    order = torch.sort(keys, descending=True, stable=True).indices
    return found[order], places[order]
