"""Triton implementation of :func:`rlmba.kernels.gradient_residuals`."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common.triton_device import is_finite, largest_of_rows, programs

_ROWS = 16
_COLUMNS = tl.constexpr(128)


@triton.jit
def _residuals(x, out, bad, rows, classes, stride, first_row, ROWS: tl.constexpr):
    """Three passes over a block of rows in float64; the last two find it in the cache."""
    for begin in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        row = begin + tl.arange(0, ROWS).to(tl.int64)
        there = row < rows
        most, label = largest_of_rows(
            x, bad, row, there, classes, stride, first_row, ROWS, _COLUMNS
        )
        most = tl.where(is_finite(most), most, 0.0)
        others = tl.zeros((ROWS,), tl.float64)
        for start in range(0, classes, _COLUMNS):
            c = start + tl.arange(0, _COLUMNS)
            inside = there[:, None] & (c < classes)[None, :] & (c[None, :] != label[:, None])
            v = tl.load(x + row[:, None] * stride + c[None, :], inside, other=0).to(tl.float64)
            others += tl.sum(tl.where(inside, tl.exp(v - most[:, None]), 0.0), axis=1)
        total = 1.0 + others
        for start in range(0, classes, _COLUMNS):
            c = start + tl.arange(0, _COLUMNS)
            inside = there[:, None] & (c < classes)[None, :]
            v = tl.load(x + row[:, None] * stride + c[None, :], inside, other=0).to(tl.float64)
            e = tl.exp(v - most[:, None])
            e = tl.where(c[None, :] == label[:, None], -others[:, None], e) / total[:, None]
            tl.store(out + row[:, None] * classes + c[None, :], e, inside)


def gradient_residuals(x: Tensor, out: Tensor, begin: int, bad: Tensor) -> None:
    """Write residuals of x [N, C], whose rows begin at row ``begin``, to ``out``, contiguous."""
    n, c = x.shape
    grid = (max(1, min(triton.cdiv(n, _ROWS), 2 * programs(x.device))),)
    _residuals[grid](x, out, bad, n, c, x.stride(0), begin, ROWS=_ROWS, num_warps=4)
