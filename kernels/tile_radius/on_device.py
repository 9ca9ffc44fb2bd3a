""":func:`rlmba.kernels.tile_radius` on a GPU."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from rlmba.kernels.common import device, distances, modality_columns
from rlmba.kernels.common.modality_rows import ModalityRows
from rlmba.kernels.tile_radius import triton_impl

__all__ = ["require_finite", "squared_to_neighbors"]

_BLOCK_BYTES = 256 * 2**20


def require_finite(rows: ModalityRows) -> None:
    """Raise :class:`NonFiniteError` for a row that is not finite in a modality that it has."""
    modality_columns.pack(rows, modality_columns.compute_device(rows), partial=False)


def squared_to_neighbors(
    rows: ModalityRows, sampled: NDArray[np.int64], rank: int, max_memory: int | None
) -> NDArray[np.float64]:
    """D from each sampled row to its ``rank``-th nearest other row: float64 [S]."""
    where = modality_columns.compute_device(rows)
    partial = rows.present is not None and not rows.present.all()
    bound = _BLOCK_BYTES if max_memory is None else min(max_memory, _BLOCK_BYTES)
    step = max(1, bound // (8 * rows.rows))
    with device.on(where):
        every = modality_columns.pack(rows, where, partial=partial)
        found = torch.empty(len(sampled), dtype=torch.float64, device=where)
        for begin in range(0, len(sampled), step):
            positions = torch.from_numpy(sampled[begin : begin + step]).to(where)
            squared = triton_impl.measure(every.take(positions), every)
            if bool(squared.isinf().any()):
                raise distances.overflow("features")
            squared = squared.where(squared >= 0, torch.inf)
            squared.scatter_(1, positions[:, None], -1.0)  # the row itself comes first
            found[begin : begin + step] = squared.kthvalue(rank + 1, dim=1).values
    return found.cpu().numpy()
