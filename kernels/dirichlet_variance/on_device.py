""":func:`rlmba.kernels.dirichlet_variance` on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlmba.errors import UsageError
from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, device, evidential_device

_FEWEST_ROWS = 32


def dirichlet_variance(
    x: Sequence[arrays.ArrayLike],
    weights: Any,
    backend: str,
    *,
    single: bool,
    max_memory: int | None,
    **options: Any,
) -> tuple[Any, ...]:
    """Return (variances [N],) or (fused [N], modality [N, M]) for unchecked arguments."""
    inputs = evidential_device.gather(x, single=single, **options)
    if not single:
        m = len(x)
        w = np.full(m, 1.0 / m) if weights is None else weights
        inputs = evidential_device.weigh(inputs, w)
    modality, fused, bad = variances(inputs, backend, max_memory=max_memory)
    inputs.checks.append((bad, inputs.invalid_row))
    inputs.require_valid()
    if single:
        return (device.like(modality[:, 0], x[0]),)
    assert fused is not None
    return device.like(fused, x[0]), device.like(modality, x[0])


def variances(
    inputs: evidential_device.Modalities,
    backend: str,
    *,
    max_memory: int | None = None,
    extremes: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Variances [N, M] and, with weights, [N] of the fused alpha; also the row flag.

    ``extremes``, ordered keys [2 M], is extended by the extremes of each column (CUDA only).
    """
    n, m = inputs.rows, len(inputs.tensors)
    where, dtype = inputs.device, inputs.dtype
    modality = torch.empty((n, m), dtype=dtype, device=where)
    weighed = inputs.weights is not None or inputs.row_weights is not None
    fused = torch.empty(n, dtype=dtype, device=where) if weighed else None
    bad = device.flag(where)
    unfinished = torch.zeros(1, dtype=torch.int32, device=where)
    triton_weights = None
    if backend == "triton" and weighed:
        triton_weights = evidential_device.row_weights(inputs)
    with device.on(where):
        for tile in device.Rows(inputs.tensors, where, _whole_rows(inputs.tensors, max_memory)):
            rows = slice(tile.begin, tile.end)
            u, f = modality[rows], None if fused is None else fused[rows]
            present = None if inputs.present is None else inputs.present[rows]
            if backend == "triton":
                from rlmba.kernels.dirichlet_variance import triton_impl

                w = triton_weights
                if w is not None and w.shape[0] > 1:
                    w = w[rows]
                triton_impl.dirichlet_variance(
                    tile.parts, inputs, w, present, tile.begin, u, f, unfinished, bad
                )
                continue
            w = None if inputs.row_weights is None else inputs.row_weights[rows]
            dispatch.require_cuda().dirichlet_variance(
                [device.matrix(t) for t in tile.parts],
                inputs.code,
                inputs.temperatures.tolist(),
                ([0.0] * m if inputs.weights is None else inputs.weights.tolist()),
                _address(w),
                _address(present),
                tile.begin,
                u.data_ptr(),
                _address(f),
                _address(extremes),
                unfinished.data_ptr(),
                bad.data_ptr(),
                device.stream(where),
            )
    return modality, fused, bad


def _address(t: Tensor | None) -> int:
    return 0 if t is None else t.data_ptr()


def _whole_rows(parts: Sequence[Tensor], max_memory: int | None) -> int | None:
    """Return ``max_memory`` for tiles of a multiple of 16 rows, which are aligned as the whole array.

    The alignment of a row determines which lane sums which column, and so how sums are rounded.
    """
    if max_memory is None:
        return None
    row = sum(p[:1].numel() * p.element_size() for p in parts)
    if row == 0 or row * int(parts[0].shape[0]) <= max_memory:
        return max_memory
    if max_memory < _FEWEST_ROWS * row:
        raise UsageError(
            f"max_memory: expected at least {_FEWEST_ROWS * row} bytes, {_FEWEST_ROWS} rows of {row}, "
            f"got {max_memory}"
        )
    return max_memory // (_FEWEST_ROWS * row) * _FEWEST_ROWS * row
