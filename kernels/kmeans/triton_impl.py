"""Triton implementation of the means of :func:`rlmba.kernels.kmeans`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_COLUMNS = tl.constexpr(128)
# Number of rows that are loaded at a time.
_AHEAD = tl.constexpr(16)


@triton.jit
def _sum_rows(
    x,
    stride,
    order,
    ends,
    by,
    sums,
    active,
    width,
    size,
    LEVELS: tl.constexpr,
    AHEAD: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Add the rows of one label to its sums, in the parts that ``by`` [LEVELS] determines."""
    if tl.load(active) != 0:
        label = tl.program_id(0)
        column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        within = column < width
        begin = tl.load(ends + label)
        end = tl.load(ends + label + 1)
        at = sums + label.to(tl.int64) * width + column
        # LEVELS is 2 or 3.
        constant0 = tl.load(by)
        constant1 = tl.load(by + 1)
        constant2 = tl.load(by + LEVELS - 1)
        total0 = tl.load(at, within, other=0)
        total1 = tl.load(at + size, within, other=0)
        total2 = tl.load(at + (LEVELS - 1) * size, within, other=0)
        for first in range(begin, end, AHEAD):
            for ahead in tl.static_range(AHEAD):
                there = first + ahead < end
                row = tl.load(order + first + ahead, there, other=0)
                rest = tl.load(x + row * stride + column, within & there, other=0).to(tl.float64)
                part0 = (rest + constant0) - constant0
                total0 += part0
                rest -= part0
                part1 = (rest + constant1) - constant1
                total1 += part1
                if LEVELS > 2:
                    rest -= part1
                    total2 += (rest + constant2) - constant2
        tl.store(at, total0, within)
        tl.store(at + size, total1, within)
        if LEVELS > 2:
            tl.store(at + 2 * size, total2, within)


@triton.jit
def _move(sums, counts, centers, active, width, size, LEVELS: tl.constexpr, COLUMNS: tl.constexpr):
    """Set centers to means; a center without rows is unchanged. Resets sums and counts to 0."""
    if tl.load(active) != 0:
        label = tl.program_id(0)
        count = tl.load(counts + label)
        for start in range(0, width, COLUMNS):
            column = start + tl.arange(0, COLUMNS)
            within = column < width
            at = label.to(tl.int64) * width + column
            total = tl.zeros((COLUMNS,), tl.float64)
            for level in tl.static_range(LEVELS):
                total += tl.load(sums + level * size + at, within, other=0)
                tl.store(sums + level * size + at, tl.zeros((COLUMNS,), tl.float64), within)
            mean = total / tl.where(count > 0, count, 1).to(tl.float64)
            tl.store(centers + at, mean.to(centers.dtype.element_ty), within & (count > 0))


class Means:
    """Sums of rows by label, one tile at a time. They are exact, so the means are bit-identical to the CPU's.

    No two programs add to the same sum.

    Parameters
    ----------
    k, width : int
    by : float64 tensor [levels]
        The result of :func:`rlmba.kernels.common.exact_sums.constants`, on the device.
    """

    def __init__(self, k: int, width: int, by: Tensor) -> None:
        self._by = by
        self._sums = torch.zeros((len(by), k, width), dtype=torch.float64, device=by.device)
        self._counts = torch.zeros(k, dtype=torch.int64, device=by.device)
        self._bounds = torch.arange(k + 1, dtype=torch.int32, device=by.device)

    def add(self, x: Tensor, labels: Tensor, active: Tensor) -> None:
        """Add the rows x [n, D], labeled ``labels`` [n], unless ``active`` is 0."""
        levels, k, width = self._sums.shape
        # 32-bit labels are sorted in half the time of 64-bit labels.
        ordered, order = torch.sort(labels.to(torch.int32), stable=True)
        ends = torch.searchsorted(ordered, self._bounds)
        self._counts += ends.diff()
        _sum_rows[(k, triton.cdiv(width, _COLUMNS.value))](
            x,
            x.stride(0),
            order,
            ends,
            self._by,
            self._sums,
            active,
            width,
            k * width,
            LEVELS=levels,
            AHEAD=_AHEAD,
            COLUMNS=_COLUMNS,
        )

    def move(self, centers: Tensor, active: Tensor) -> None:
        """Write the means to ``centers`` [k, D] and reset the sums, unless ``active`` is 0."""
        levels, k, width = self._sums.shape
        _move[(k,)](
            self._sums, self._counts, centers, active, width, k * width, LEVELS=levels,
            COLUMNS=_COLUMNS,
        )  # fmt: skip
        self._counts.zero_()
