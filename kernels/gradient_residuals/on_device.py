""":func:`rlmba.kernels.gradient_residuals` on a GPU."""

from __future__ import annotations

from typing import Any

import torch

from rlmba.kernels.common import arrays, device
from rlmba.kernels.gradient_residuals import triton_impl


def gradient_residuals(logits: arrays.ArrayLike, max_memory: int | None) -> Any:
    """Implement the public function for unchecked arguments."""
    x = device.as_rows(logits, "logits")
    where = device.compute_device(x)
    out = torch.empty(x.shape, dtype=device.result_dtype(x), device=where)
    bad = device.flag(where)
    with device.on(where):
        for tile in device.Rows([x], where, max_memory):
            triton_impl.gradient_residuals(
                tile.parts[0], out[tile.begin : tile.end], tile.begin, bad
            )
    row = device.read_flag(bad)
    if row is not None:
        device.raise_non_finite(x, "logits", row)
    return device.like(out, logits)
