"""Triton kernel of :func:`rlmba.kernels.tile_radius`: distances from some rows to all rows."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common.modality_columns import ModalityColumns, launch_arguments
from rlmba.kernels.common.triton_modalities import squared_distances

__all__ = ["measure"]

_TILE, _WARPS = 64, 16


@triton.jit
def _measure(
    x,
    x_has,
    x_count,
    y,
    y_has,
    y_count,
    ends,
    weights,
    modalities,
    out,
    PARTIAL: tl.constexpr,
    UNROLL: tl.constexpr,
    TILE: tl.constexpr,
):
    """Store D of TILE rows x and TILE rows y."""
    i = tl.program_id(1).to(tl.int64) * TILE + tl.arange(0, TILE)
    j = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    squared = squared_distances(
        x, x_has, x_count, i, y, y_has, y_count, j, ends, weights, modalities,
        PARTIAL, UNROLL, TILE, TILE,
    )  # fmt: skip
    inside = (i < x_count)[:, None] & (j < y_count)[None, :]
    tl.store(out + i[:, None] * y_count + j[None, :], squared, inside)


def measure(some: ModalityColumns, rows: ModalityColumns) -> Tensor:
    """D float64 [S, N]; infinite if it overflows, and -1 without a common modality."""
    out = torch.empty((some.rows, rows.rows), dtype=torch.float64, device=rows.values.device)
    pairs, options = launch_arguments(some, rows)
    _measure[(triton.cdiv(rows.rows, _TILE), triton.cdiv(some.rows, _TILE))](
        *pairs, out, **options, TILE=_TILE, num_warps=_WARPS
    )
    return out
