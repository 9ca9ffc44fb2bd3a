"""Triton implementation of :mod:`rlmba.kernels.plackett_luce`.

Sums of exponentials are pairs (high, sum) with the value sum * exp(high); high is minus infinity
for an empty sum. Differences of logits thus stay precise even if the logits are large.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common.device import ALL_VALID
from rlmba.kernels.common.triton_device import is_finite, programs, uniform01

_BLOCK = tl.constexpr(1024)
_SCAN = 1024
_VALID = tl.constexpr(ALL_VALID)


@triton.jit
def _shift(high):
    return tl.where(high == float("-inf"), 0.0, high)


@triton.jit
def _join(high_a, sum_a, high_b, sum_b):
    """The sum of two sums."""
    high = tl.maximum(high_a, high_b)
    shift = _shift(high)
    return high, sum_a * tl.exp(high_a - shift) + sum_b * tl.exp(high_b - shift)


@triton.jit
def _log1p(x):
    """log(1 + x) for x >= 0, corrected for the rounding of 1 + x."""
    u = 1.0 + x
    return tl.where(u == 1.0, x, tl.log(u) * (x / tl.where(u == 1.0, 1.0, u - 1.0)))


@triton.jit(do_not_specialize=["seed"])
def _noisy(logits, keys, bad, ends, count, seed, step):
    """Logits minus the largest, plus Gumbel noise; ``ends`` holds the largest and the least float64.

    Adding noise to logits of 1e17 and more would lose it, but their differences keep it.
    """
    first_bad = tl.full((_BLOCK,), _VALID, tl.int64)
    seed = tl.zeros((), tl.int64) + seed
    for start in range(tl.program_id(0) * _BLOCK, count, step):
        place = start + tl.arange(0, _BLOCK).to(tl.int64)
        inside = place < count
        value = tl.load(logits + place, inside, other=0).to(tl.float64)
        first_bad = tl.where(is_finite(value), first_bad, tl.minimum(first_bad, place))
        below = tl.maximum(value - tl.load(ends), tl.load(ends + 1))
        key = below - tl.log(-tl.log(uniform01(seed, place)))
        # Sorting may order +0 and -0.
        tl.store(keys + place, tl.where(key == 0, 0.0, key), inside)
    worst = tl.min(first_bad)
    if worst < _VALID:
        tl.atomic_min(bad, worst)


@triton.jit
def _mark(indices, safe, drawn, bad, n, count, step):
    """Mark drawn positions; report repeated indices and, replaced by 0, those out of range."""
    for start in range(tl.program_id(0) * _BLOCK, n, step):
        place = start + tl.arange(0, _BLOCK).to(tl.int64)
        inside = place < n
        index = tl.load(indices + place, inside, other=0)
        valid = (index >= 0) & (index < count)
        outside = tl.min(tl.where(inside & (valid == 0), place, _VALID))
        if outside < _VALID:
            tl.atomic_min(bad + 1, outside)
        index = tl.where(valid, index, 0)
        before = tl.atomic_xchg(drawn + index, 1, inside & valid)
        repeated = tl.min(tl.where(inside & valid & (before == 1), index, _VALID))
        if repeated < _VALID:
            tl.atomic_min(bad + 2, repeated)
        tl.store(safe + place, index, inside)


@triton.jit
def _rest(logits, drawn, rests, bad, count, step, parts):
    """Partial sums of exponentials of undrawn positions, and the first logit that is not finite."""
    high = tl.full((_BLOCK,), float("-inf"), tl.float64)
    total = tl.zeros((_BLOCK,), tl.float64)
    first_bad = tl.full((_BLOCK,), _VALID, tl.int64)
    part = tl.program_id(0)
    for start in range(part * _BLOCK, count, step):
        place = start + tl.arange(0, _BLOCK).to(tl.int64)
        inside = place < count
        z = tl.load(logits + place, inside, other=0).to(tl.float64)
        first_bad = tl.where(is_finite(z), first_bad, tl.minimum(first_bad, place))
        left = inside & (tl.load(drawn + place, inside, other=1) == 0)
        high, total = _join(
            high, total, tl.where(left, z, float("-inf")), tl.where(left, 1.0, 0.0).to(tl.float64)
        )
    most = tl.max(high)
    tl.store(rests + part, most)
    tl.store(rests + parts + part, tl.sum(total * tl.exp(high - _shift(most))))
    worst = tl.min(first_bad)
    if worst < _VALID:
        tl.atomic_min(bad, worst)


@triton.jit
def _remaining(logits, safe, rests, remaining, n, parts, PARTS: tl.constexpr, SCAN: tl.constexpr):
    """Sums [2, n + 1] over the items that remain before draw j and, for j = n, after the last draw."""
    part = tl.arange(0, PARTS)
    some = tl.load(rests + part, part < parts, other=float("-inf"))
    high = tl.max(some)
    some_sums = tl.load(rests + parts + part, part < parts, other=0)
    total = tl.sum(some_sums * tl.exp(some - _shift(high)))
    sums_from = remaining + n + 1
    tl.store(remaining + n, high)
    tl.store(sums_from + n, total)
    lane = tl.arange(0, SCAN)
    for block in range(tl.cdiv(n, SCAN)):
        place = n - (block + 1) * SCAN + lane
        inside = place >= 0
        index = tl.load(safe + place, inside, other=0)
        z = tl.load(logits + index, inside, other=float("-inf")).to(tl.float64)
        one = tl.where(inside, 1.0, 0.0).to(tl.float64)
        highs, sums = tl.associative_scan((z, one), 0, _join, reverse=True)
        highs, sums = _join(highs, sums, high, total)
        tl.store(remaining + place, highs, inside)
        tl.store(sums_from + place, sums, inside)
        high = tl.sum(tl.where(lane == 0, highs, 0.0))
        total = tl.sum(tl.where(lane == 0, sums, 0.0))


@triton.jit
def _drawn(logits, safe, remaining, hazard, log_prob, gradient, n, SCAN: tl.constexpr):
    """The log-probability and the gradient of drawn items, in one program.

    The derivative by z_i is [i drawn] - exp(z_i) times the sum of 1 / remaining[j] over the draws j
    that i took part in. `hazard` [2] becomes the sum over all draws.
    """
    sums_from = remaining + n + 1
    high = tl.full((), float("-inf"), tl.float64)
    total = tl.zeros((), tl.float64)
    value = tl.zeros((SCAN,), tl.float64)
    lane = tl.arange(0, SCAN)
    for block in range(tl.cdiv(n, SCAN)):
        place = block * SCAN + lane
        inside = place < n
        index = tl.load(safe + place, inside, other=0)
        z = tl.load(logits + index, inside, other=0).to(tl.float64)
        before = tl.load(remaining + place, inside, other=float("inf"))
        before_sum = tl.load(sums_from + place, inside, other=1)
        after = tl.load(remaining + place + 1, inside, other=0)
        after_sum = tl.load(sums_from + place + 1, inside, other=0)
        # log(1 + after / exp(z)), so that a draw that is nearly certain stays precise.
        near = tl.exp(-tl.abs(after - z))
        likely = _log1p(after_sum * near)
        lost = tl.where(after > z, (after - z) + tl.log(after_sum + near), likely)
        value -= tl.where(inside, lost, 0.0)
        one = tl.where(inside, 1.0, 0.0).to(tl.float64)
        highs, sums = tl.associative_scan((-before, one / before_sum), 0, _join)
        highs, sums = _join(highs, sums, high, total)
        tl.store(gradient + index, 1.0 - sums * tl.exp(z + highs), inside)
        high = tl.sum(tl.where(lane == SCAN - 1, highs, 0.0))
        total = tl.sum(tl.where(lane == SCAN - 1, sums, 0.0))
    tl.store(hazard, high)
    tl.store(hazard + 1, total)
    tl.store(log_prob, tl.sum(value))


@triton.jit
def _undrawn(logits, drawn, hazard, gradient, count, step):
    """The gradient of undrawn items."""
    high, total = tl.load(hazard), tl.load(hazard + 1)
    for start in range(tl.program_id(0) * _BLOCK, count, step):
        place = start + tl.arange(0, _BLOCK).to(tl.int64)
        left = (place < count) & (tl.load(drawn + place, place < count, other=1) == 0)
        z = tl.load(logits + place, left, other=0).to(tl.float64)
        tl.store(gradient + place, -total * tl.exp(z + high), left)


def noisy(logits: Tensor, seed: int, bad: Tensor) -> Tensor:
    """Return logits [K] minus the largest, plus Gumbel noise, float64.

    Lowers ``bad`` to the first that is not finite.
    """
    count = logits.shape[0]
    keys = torch.empty(count, dtype=torch.float64, device=logits.device)
    ends = torch.full((2,), torch.finfo(torch.float64).min, dtype=torch.float64, device=keys.device)
    ends[0] = logits.max()
    grid = min(programs(logits.device), triton.cdiv(count, _BLOCK.value))
    signed = seed - 2**64 if seed >= 2**63 else seed
    _noisy[(grid,)](logits, keys, bad, ends, count, signed, grid * _BLOCK.value)
    return keys


def log_prob(logits: Tensor, indices: Tensor, bad: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability [1] of drawing ``indices`` [n] in this order, and its gradient [K], K >= 1.

    Lowers ``bad`` [3] to the first logit that is not finite, the first position in ``indices`` that
    is out of range, and the least repeated index.
    """
    count, n = logits.shape[0], indices.shape[0]
    where = logits.device
    most = programs(where)
    safe = torch.empty(n, dtype=torch.int64, device=where)
    drawn = torch.zeros(count, dtype=torch.int32, device=where)
    remaining = torch.empty(2, n + 1, dtype=torch.float64, device=where)
    value, hazard = torch.empty(3, dtype=torch.float64, device=where).split([1, 2])
    gradient = torch.empty(count, dtype=torch.float64, device=where)
    if n:
        grid = min(most, triton.cdiv(n, _BLOCK.value))
        _mark[(grid,)](indices, safe, drawn, bad, n, count, grid * _BLOCK.value)
    grid = min(most, triton.cdiv(count, _BLOCK.value))
    rests = torch.empty(2, grid, dtype=torch.float64, device=where)
    _rest[(grid,)](logits, drawn, rests, bad, count, grid * _BLOCK.value, grid)
    scan = min(_SCAN, triton.next_power_of_2(max(n, 32)))
    parts = triton.next_power_of_2(grid)
    _remaining[(1,)](logits, safe, rests, remaining, n, grid, PARTS=parts, SCAN=scan)
    _drawn[(1,)](logits, safe, remaining, hazard, value, gradient, n, SCAN=scan)
    _undrawn[(grid,)](logits, drawn, hazard, gradient, count, grid * _BLOCK.value)
    return value, gradient
