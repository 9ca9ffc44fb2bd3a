""":func:`rlmba.kernels.top_k` on a GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, device


def top_k(values: arrays.ArrayLike, k: int, backend: str) -> tuple[Any, Any]:
    """Return values and indices for unchecked arguments."""
    given = device.as_float(values, "values", ndim=1)
    k = arrays.as_count(k, "k", low=0, high=given.shape[0])
    where = device.compute_device(given)
    v = device.to_device(given, where)
    bad = device.flag(where)
    with device.on(where):
        found, indices = largest(v, k, bad, backend)
    row = device.read_flag(bad)
    if row is not None:
        device.raise_non_finite(v, "values", row)
    return device.like(found, values), device.like(indices, values)


def largest(v: Tensor, k: int, bad: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """Return the k largest of v [N], contiguous, on the current device, and their positions.

    Lowers ``bad`` to the first number that is not finite, without waiting. The result is then
    unspecified.
    """
    dtype = device.result_dtype(v)
    if v.shape[0] == 0:
        return v.to(dtype), torch.zeros(0, dtype=torch.int64, device=v.device)
    # All numbers must be checked even for k = 0.
    if backend == "triton":
        from rlmba.kernels.top_k import triton_impl

        found, indices = triton_impl.top_k(v, max(k, 1), dtype, bad)
    else:
        found, indices = _cuda(v, max(k, 1), dtype, bad)
    return found[:k], indices[:k]


def _cuda(v: Tensor, k: int, dtype: torch.dtype, bad: Tensor) -> tuple[Tensor, Tensor]:
    extension = dispatch.require_cuda()
    found = torch.empty(k, dtype=dtype, device=v.device)
    indices = torch.empty(k, dtype=torch.int64, device=v.device)
    matrix = device.matrix(v)
    words = extension.top_k_scratch(matrix, k) // 8
    scratch = torch.empty(words, dtype=torch.int64, device=v.device)
    extension.top_k(
        matrix,
        k,
        found.data_ptr(),
        indices.data_ptr(),
        scratch.data_ptr(),
        bad.data_ptr(),
        device.stream(v.device),
    )
    return found, indices
