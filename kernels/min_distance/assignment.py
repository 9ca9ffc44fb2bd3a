"""Tile-by-tile assignment of rows to their nearest centers on a GPU, for min_distance and kmeans."""

from __future__ import annotations

import torch
from torch import Tensor

from rlmba.kernels.common import device
from rlmba.kernels.min_distance import triton_impl
from rlmba.kernels.min_distance import triton_operands as operands

SCRATCH_VALUES = 2**28
"""Maximum number of values of prepared rows held at a time."""


class Assignment:
    """Prepared centers, and the memory to compare rows with them.

    Parameters
    ----------
    rows : device.Rows
        Of one matrix [N, D].
    centers : tensor [k, D]
        On the device. After changing it, call :meth:`refresh`.
    dtype : torch.dtype
        The computation dtype.
    precision : {"exact", "tf32", "bf16"}
    bad : int64 tensor [1]
        Row flag, also lowered by centers that are not finite: see :data:`distances.BAD_CENTER`.
    """

    def __init__(
        self,
        rows: device.Rows,
        row_dtype: torch.dtype,
        centers: Tensor,
        dtype: torch.dtype,
        *,
        precision: str,
        bad: Tensor,
    ) -> None:
        where, width = rows.device, centers.shape[1]
        how = operands.plan(row_dtype, centers.dtype, precision)
        self._step = max(1, min(rows.chunk, SCRATCH_VALUES // width))
        self._keep = rows.resident and self._step == rows.count
        self._kept: operands.Operand | None = None
        self._bad = bad
        self.active = torch.ones(1, dtype=torch.int32, device=where)
        self._centers = operands.prepare_centers(
            centers, operands.frame(centers, how, dtype), how, self.active, bad
        )
        self._most = self._centers.extents.amax(dim=1)
        self._parts: Tensor | None = None
        self._memory = triton_impl.scratch(self._step, where, exact=how.exact)

    def refresh(self) -> None:
        """Prepare the centers again after a change, unless :attr:`active` is 0."""
        operands.update_centers(self._centers, self.active, self._bad)
        torch.amax(self._centers.extents, dim=1, out=self._most)

    def assign(self, tile: device.Tile, squared: Tensor, labels: Tensor) -> None:
        """Write squared distances and labels of a tile, unless :attr:`active` is 0.

        ``squared`` float64 [N] and ``labels`` int64 [N] cover all rows.
        """
        for begin in range(tile.begin, tile.end, self._step):
            end = min(begin + self._step, tile.end)
            x = tile.parts[0][begin - tile.begin : end - tile.begin]
            operand = self._kept
            if operand is None:
                operand = self._prepare(x)
                self._kept = operand if self._keep else None
            triton_impl.nearest(
                x, operand, self._centers, self._most, squared[begin:end], labels[begin:end],
                self._memory, self.active, self._bad, begin,
            )  # fmt: skip

    def _prepare(self, x: Tensor) -> operands.Operand:
        how = self._centers.how
        if operands.usable(x, how):
            return operands.Operand(x, x.stride(0), 0)
        if self._parts is None:
            self._parts = operands.row_scratch(self._step, x.shape[1], how, x.device)
        return operands.prepare_rows(x, self._centers.frame, how, self._parts)
