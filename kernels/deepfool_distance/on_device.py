""":func:`rlmba.kernels.deepfool_distance` on a GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlmba.kernels.common import arrays, device, evidential_device
from rlmba.kernels.deepfool_distance import triton_impl


def deepfool_distance(
    logits: arrays.ArrayLike, weight: arrays.ArrayLike, max_memory: int | None
) -> tuple[Any, Any]:
    """Return the fields of the public function's result for unchecked arguments."""
    from rlmba.kernels.deepfool_distance import require_shapes

    f = device.as_float(logits, "logits", ndim=2)
    given = device.as_float(weight, "weight", ndim=2)
    require_shapes(tuple(f.shape), tuple(given.shape))
    where = device.compute_device(f, given)
    n = f.shape[0]
    distances = torch.empty(n, dtype=torch.float64, device=where)
    classes = torch.empty(n, dtype=torch.int64, device=where)
    bad = device.flag(where)
    w = device.to_device(given, where).to(torch.float64)
    broken = evidential_device.first_true(~torch.isfinite(w).all(dim=1))
    w, scale = _scaled(w)
    with device.on(where):
        # Computed from differences, because products lose the digits of similar rows.
        norms = torch.cdist(w, w, compute_mode="donot_use_mm_for_euclid_dist")
        for tile in device.Rows([f], where, max_memory):
            rows = slice(tile.begin, tile.end)
            triton_impl.deepfool_distance(
                tile.parts[0], norms, tile.begin, distances[rows], classes[rows], bad
            )
    for flag, t, name in ((broken, given, "weight"), (bad, f, "logits")):
        row = device.read_flag(flag)
        if row is not None:
            device.raise_non_finite(t, name, row)
    distances /= scale
    classes.masked_fill_(torch.isinf(distances), -1)
    return device.like(distances, logits), device.like(classes, logits)


def _scaled(w: Tensor) -> tuple[Tensor, Tensor]:
    """Divide the weight by a power of two so that no square overflows; return both."""
    largest = w.abs().max()
    power = torch.ldexp(torch.ones_like(largest), torch.frexp(largest).exponent)
    plain = (largest == 0) | ((largest > 1e-100) & (largest < 1e100))
    scale = torch.where(plain, torch.ones_like(power), power)
    return w / scale, scale
