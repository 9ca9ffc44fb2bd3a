""":func:`rlmba.kernels.minmax` on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlmba.errors import ShapeError
from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, device


def _mask(mask: arrays.ArrayLike, shape: tuple[int, ...], where: torch.device) -> Tensor:
    m = device.tensor(mask, "mask")
    if m.dtype != torch.bool or tuple(m.shape) not in (shape, shape[:1]):
        raise ShapeError(
            f"mask: expected a bool array of shape {shape[:1]} or {shape}, "
            f"got {str(m.dtype).removeprefix('torch.')} {tuple(m.shape)}"
        )
    if m.ndim == 2 and m.shape[1] == 1:
        m = m[:, 0]
    return device.to_device(m.contiguous().view(torch.uint8), where)


def _output(out: arrays.ArrayLike, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    o = device.tensor(out, "out")
    writable = not isinstance(out, np.ndarray) or out.flags.writeable
    copied = arrays.address(out) not in (None, o.data_ptr())
    fits = tuple(o.shape) == shape and o.dtype == dtype and o.is_contiguous()
    if copied or not (fits and writable):
        raise ShapeError(
            f"out: expected a contiguous, aligned, writable {str(dtype).removeprefix('torch.')} array "
            f"of shape {shape}, got {str(o.dtype).removeprefix('torch.')} {tuple(o.shape)}"
        )
    return o


def minmax(x: arrays.ArrayLike, mask: arrays.ArrayLike | None, out: Any, backend: str) -> Any:
    """Implement the public function for unchecked arguments."""
    given = device.as_float(x, "x", ndim=(1, 2))
    shape = tuple(given.shape)
    where = device.compute_device(given)
    dtype = device.result_dtype(given)
    m = None if mask is None else _mask(mask, shape, where)
    target = None if out is None else _output(out, shape, dtype)
    v = device.to_device(given, where)
    in_place = target is not None and target.device == where
    result = target if in_place else torch.empty(shape, dtype=dtype, device=where)
    assert result is not None
    bad = device.flag(where)
    if v.numel():
        x2, out2 = (t[:, None] if t.ndim == 1 else t for t in (v, result))
        with device.on(where):
            if backend == "triton":
                from rlmba.kernels.minmax import triton_impl

                triton_impl.minmax(x2, m, out2, bad)
            else:
                _cuda(x2, m, out2, bad)
        row = device.read_flag(bad)
        if row is not None:
            if m is not None:
                v = torch.where(m.bool() if m.ndim == v.ndim else m.bool()[:, None], v, 0)
            device.raise_non_finite(v, "x", row)
    if target is None:
        return device.like(result, x)
    if not in_place:
        target.copy_(result)
    return out


def _cuda(x: Tensor, mask: Tensor | None, out: Tensor, bad: Tensor) -> None:
    keys = torch.empty(2 * x.shape[1], dtype=torch.int64, device=x.device)
    dispatch.require_cuda().minmax(
        device.matrix(x),
        0 if mask is None else mask.data_ptr(),
        0 if mask is None else mask.ndim,
        device.matrix(out),
        keys.data_ptr(),
        bad.data_ptr(),
        device.stream(x.device),
    )
