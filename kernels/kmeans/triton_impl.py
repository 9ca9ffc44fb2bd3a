"""Triton implementation of the means of :func:`rlmba.kernels.kmeans`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_COLUMNS = tl.constexpr(128)
# Number of rows that are loaded together; they are added one after another.
_AHEAD = tl.constexpr(16)


@triton.jit
def _sum_rows(
    x, stride, order, ends, sums, active, width, AHEAD: tl.constexpr, COLUMNS: tl.constexpr
):
    """Add the rows of one label, in order of position, to its sums."""
    if tl.load(active) != 0:
        label = tl.program_id(0)
        column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        within = column < width
        begin = tl.load(ends + label)
        end = tl.load(ends + label + 1)
        at = sums + label.to(tl.int64) * width + column
        total = tl.load(at, within, other=0)
        for first in range(begin, end, AHEAD):
            for ahead in tl.static_range(AHEAD):
                there = first + ahead < end
                row = tl.load(order + first + ahead, there, other=0)
                value = tl.load(x + row * stride + column, within & there, other=0)
                total += value.to(tl.float64)
        tl.store(at, total, within)


@triton.jit
def _move(sums, counts, centers, active, width, COLUMNS: tl.constexpr):
    """Set centers to means; a center without rows is unchanged. Resets sums and counts to 0."""
    if tl.load(active) != 0:
        label = tl.program_id(0)
        count = tl.load(counts + label)
        for start in range(0, width, COLUMNS):
            column = start + tl.arange(0, COLUMNS)
            within = column < width
            at = label.to(tl.int64) * width + column
            mean = tl.load(sums + at, within, other=0) / tl.where(count > 0, count, 1).to(
                tl.float64
            )
            tl.store(centers + at, mean.to(centers.dtype.element_ty), within & (count > 0))
            tl.store(sums + at, tl.zeros((COLUMNS,), tl.float64), within)


class Means:
    """Sums of rows by label, tile by tile, in float64.

    Rows of a label are added in order of position, wherever tiles begin, so the sums are
    bit-identical to the CPU's. No two programs add to the same sum.
    """

    def __init__(self, k: int, width: int, where: torch.device) -> None:
        self._sums = torch.zeros((k, width), dtype=torch.float64, device=where)
        self._counts = torch.zeros(k, dtype=torch.int64, device=where)
        self._bounds = torch.arange(k + 1, dtype=torch.int32, device=where)

    def add(self, x: Tensor, labels: Tensor, active: Tensor) -> None:
        """Add the rows x [n, D], labeled ``labels`` [n], unless ``active`` is 0."""
        k, width = self._sums.shape
        # 32-bit labels are sorted in half the time of 64-bit labels.
        ordered, order = torch.sort(labels.to(torch.int32), stable=True)
        ends = torch.searchsorted(ordered, self._bounds)
        self._counts += ends.diff()
        _sum_rows[(k, triton.cdiv(width, _COLUMNS.value))](
            x, x.stride(0), order, ends, self._sums, active, width, AHEAD=_AHEAD, COLUMNS=_COLUMNS
        )

    def move(self, centers: Tensor, active: Tensor) -> None:
        """Write the means to ``centers`` [k, D] and reset the sums, unless ``active`` is 0."""
        k, width = self._sums.shape
        _move[(k,)](self._sums, self._counts, centers, active, width, COLUMNS=_COLUMNS)
        self._counts.zero_()
