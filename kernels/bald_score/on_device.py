""":func:`rlmba.kernels.bald_score` on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rlmba.kernels.bald_score import checks, triton_impl
from rlmba.kernels.common import arrays, device


def bald_score(logits: arrays.ArrayLike, kind: str, max_memory: int | None) -> Any:
    """Implement the public function for arguments that are unchecked except ``kind``."""
    x = device.as_float(logits, "logits", ndim=3)
    checks.require_passes(tuple(x.shape))
    where = device.compute_device(x)
    scores = torch.empty(x.shape[1], dtype=torch.float64, device=where)
    bad = device.flag(where)
    samples = x.transpose(0, 1)
    with device.on(where):
        for tile in device.Rows([samples], where, max_memory):
            triton_impl.bald_score(
                tile.parts[0], kind, tile.begin, scores[tile.begin : tile.end], bad
            )
    row = device.read_flag(bad)
    if row is not None:
        values = samples[row].to("cpu", device.result_dtype(x)).numpy()
        passes, classes = values.shape
        raise checks.invalid_row(np.broadcast_to(values[:, None], (passes, row + 1, classes)), row)
    return device.like(scores, logits)
