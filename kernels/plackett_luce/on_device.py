""":mod:`rlmba.kernels.plackett_luce` on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlmba.errors import DataError, ShapeError
from rlmba.kernels.common import arrays, device, random
from rlmba.kernels.plackett_luce import triton_impl
from rlmba.kernels.top_k import on_device as top_k

# Up to this many keys are all sorted, which takes fewer launches than selecting the largest.
_SORTED = 1 << 17


def plackett_luce(logits: arrays.ArrayLike, n: int, rng: random.Rng) -> tuple[Any, Any, Any]:
    """Return a draw's indices, log-probability and gradient for unchecked arguments."""
    z, where = _logits(logits)
    n = arrays.as_count(n, "n", low=0, high=z.shape[0])
    seed = random.seed_from(rng)
    bad = _flags(where)
    with device.on(where):
        indices = _draw(z, n, seed, bad)
        value, gradient = _log_prob(z, indices, bad)
    result = _read(value, bad, z, indices)
    return device.like(indices, logits), result, device.like(gradient, logits)


def log_prob(logits: arrays.ArrayLike, indices: Any) -> tuple[Any, Any]:
    """Return the log-probability and gradient of an ordered set for unchecked arguments."""
    z, where = _logits(logits)
    given = _indices(indices)
    order = device.to_device(given.to(torch.int64), where).contiguous()
    bad = _flags(where)
    with device.on(where):
        value, gradient = _log_prob(z, order, bad)
    return _read(value, bad, z, given), device.like(gradient, logits)


def _logits(logits: arrays.ArrayLike) -> tuple[Tensor, torch.device]:
    z = device.as_float(logits, "logits", ndim=1)
    where = device.compute_device(z)
    return device.to_device(z, where), where


def _indices(indices: Any) -> Tensor:
    if arrays.is_array(indices):
        i = device.tensor(indices, "indices")
    else:
        i = torch.from_numpy(np.asarray(indices, dtype=None if len(indices) else np.int64))
    if i.ndim != 1 or i.is_floating_point() or i.is_complex() or i.dtype == torch.bool:
        kind = str(i.dtype).removeprefix("torch.")
        raise ShapeError(f"indices: expected integers [n], got {kind} {tuple(i.shape)}")
    return i


def _flags(where: torch.device) -> Tensor:
    """Flags: first logit that is not finite, first index out of range, least repeated index."""
    return device.flag(where).expand(3).contiguous()


def _draw(z: Tensor, n: int, seed: int, bad: Tensor) -> Tensor:
    if z.shape[0] == 0:
        return torch.zeros(0, dtype=torch.int64, device=z.device)
    keys = triton_impl.noisy(z, seed, bad)
    if z.shape[0] <= _SORTED:
        return torch.sort(keys, descending=True, stable=True).indices[:n]
    return top_k.largest(keys, n, bad, "triton")[1]


def _log_prob(z: Tensor, indices: Tensor, bad: Tensor) -> tuple[Tensor, Tensor]:
    if z.shape[0] == 0:
        nothing = torch.zeros(1, dtype=torch.float64, device=z.device)
        if indices.shape[0]:  # any index is out of range
            bad[1] = 0
        return nothing, nothing[:0]
    return triton_impl.log_prob(z, indices, bad)


def _read(value: Tensor, bad: Tensor, z: Tensor, indices: Tensor) -> Any:
    """Return the log-probability as a float or raise the error, waiting for the GPU once.

    During CUDA graph capture nothing is read, and it remains a tensor.
    """
    if device.capturing(z.device):
        return value[0]
    words = torch.cat((bad, value.view(torch.int64))).cpu()
    finite, outside, repeated = words[:3].tolist()
    if finite != device.ALL_VALID:
        device.raise_non_finite(z, "logits", finite)
    if outside != device.ALL_VALID:
        raise DataError(
            f"indices[{outside}] is {int(indices[outside])}: expected 0 to {z.shape[0] - 1}, "
            "positions into logits"
        )
    if repeated != device.ALL_VALID:
        raise DataError(f"indices: expected distinct positions, {repeated} repeats")
    return float(words[3:].view(torch.float64)[0])
