"""Helpers shared by the Triton kernels."""

from __future__ import annotations

import functools
import os

import torch
import triton
import triton.language as tl

from rlmba.kernels.common.device import ALL_VALID

__all__ = [
    "INTERPRETED",
    "column_range",
    "dot",
    "is_finite",
    "largest_of_rows",
    "onto_unit",
    "programs",
    "uniform01",
]

_VALID = tl.constexpr(ALL_VALID)

INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")
"""Whether kernels run in Triton's interpreter, which Triton decides when it is imported."""


@triton.jit
def is_finite(x):
    """Whether each element is neither NaN nor infinite."""
    return tl.abs(x) < float("inf")


@triton.jit
def column_range(low, high, column, tiles, TILES: tl.constexpr):
    """Minimum, range and factor of a column, from its extremes in each of ``tiles`` blocks.

    Minimum and range refer to the values times the factor, which is 1/2 if the range overflows and
    1 otherwise. A constant column has range 0.
    """
    some = tl.arange(0, TILES)
    least = tl.min(tl.load(low + column * tiles + some, some < tiles, other=float("inf")))
    most = tl.max(tl.load(high + column * tiles + some, some < tiles, other=float("-inf")))
    factor = tl.where(is_finite(most - least), 1.0, 0.5).to(least.dtype)
    least *= factor
    most *= factor
    return least, tl.where(least < most, most - least, 0.0).to(least.dtype), factor


@triton.jit
def onto_unit(value, least, span, factor):
    """Map ``value`` to [0, 1] by the :func:`column_range` of its column; 0 if it is constant."""
    scaled = value * factor - least
    divisor = tl.where(span > 0, span, 1.0).to(value.dtype)
    if value.dtype == tl.float32:
        scaled = tl.div_rn(scaled, divisor)
    else:
        scaled /= divisor
    return tl.where(span > 0, scaled, 0.0)


@triton.jit
def dot(a, b, total):
    """``total`` plus the product of half precision or float32 blocks, as float32."""
    if INTERPRETED:  # the interpreter multiplies the bits of bfloat16 as integers
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, total)


@triton.jit
def largest_of_rows(
    x, bad, row, there, classes, stride, first_row, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Return the largest value (float64) of rows of x, its first column, and the flag of bad rows."""
    most = tl.full((ROWS,), float("-inf"), tl.float64)
    label = tl.full((ROWS,), 0, tl.int32)
    broken = tl.full((ROWS,), 0, tl.int32)
    for start in range(0, classes, COLUMNS):
        c = start + tl.arange(0, COLUMNS)
        inside = there[:, None] & (c < classes)[None, :]
        v = tl.load(x + row[:, None] * stride + c[None, :], inside, other=0).to(tl.float64)
        good = is_finite(v)
        broken |= tl.max((inside & (good == 0)).to(tl.int32), axis=1)
        v = tl.where(inside & good, v, float("-inf"))
        here = tl.max(v, axis=1)
        at = tl.min(tl.where(v == here[:, None], c[None, :], classes), axis=1)
        label = tl.where(here > most, at, label)
        most = tl.maximum(most, here)
    first = tl.min(tl.where(broken != 0, row, _VALID))
    if first < _VALID:
        tl.atomic_min(bad, first_row + first)
    return most, label


@triton.jit
def uniform01(seed, index):
    """Uniform numbers of a seed (its bits as int64) by position (int64): float64 in the open (0, 1).

    Counterpart of :func:`rlmba.kernels.common.random.uniform01`.
    """
    z = (index + 1).to(tl.uint64, bitcast=True) * 0x9E3779B97F4A7C15
    z += seed.to(tl.uint64, bitcast=True)
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    z = z ^ (z >> 31)
    return ((z >> 12).to(tl.float64) + 0.5) * 2.220446049250313e-16


@functools.cache
def _multiprocessors(index: int | None) -> int:
    return int(torch.cuda.get_device_properties(index).multi_processor_count)


def programs(device: torch.device) -> int:
    """Number of programs that fill the device while some wait for memory: 8 per multiprocessor.

    Three under the interpreter, which is enough to test the boundaries between programs.
    """
    return 8 * _multiprocessors(device.index) if device.type == "cuda" else 3
