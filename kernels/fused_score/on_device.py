""":func:`rlmba.kernels.fused_score` on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from rlmba.errors import ShapeError
from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, device, evidential_device
from rlmba.kernels.dirichlet_variance import on_device as dirichlet


class Normalized(NamedTuple):
    """The second pass: ``score`` q [N], u~ [N, M] and d~ [N]."""

    score: Tensor
    uncertainty: Tensor
    distance: Tensor


def fused_score(
    x: Sequence[arrays.ArrayLike],
    weights: Any,
    backend: str,
    *,
    distances: arrays.ArrayLike | None,
    beta: float,
    present: arrays.ArrayLike | None,
    max_memory: int | None,
    **options: Any,
) -> tuple[Any, ...]:
    """Return the fields of the public function's result; only ``weights`` [M] is checked."""
    inputs = evidential_device.gather(x, single=False, **options)
    inputs = evidential_device.weigh(inputs, weights)
    if present is not None:
        inputs = evidential_device.presence(inputs, present)
    d = None if distances is None else _distances(distances, inputs)
    keys = _keys(len(x), inputs) if backend == "cuda" else None
    u, difficulty, bad = dirichlet.variances(inputs, backend, max_memory=max_memory, extremes=keys)
    assert difficulty is not None
    assert inputs.weights is not None
    unit = normalized_score(
        u,
        d,
        inputs.weights.tolist(),
        backend,
        beta=beta,
        present=inputs.present,
        extremes=keys,
    )
    inputs.checks.append((bad, inputs.invalid_row))
    inputs.require_valid()
    found = (unit.score, u, difficulty, unit.uncertainty, unit.distance)
    return tuple(device.like(t, x[0]) for t in found)


def normalized_score(
    uncertainty: Tensor,
    distances: Tensor | None,
    weights: Sequence[float],
    backend: str,
    *,
    beta: float,
    present: Tensor | None = None,
    extremes: Tensor | None = None,
) -> Normalized:
    """Eq 6 of given uncertainties [N, M] and distances [N].

    All tensors must be finite, contiguous, on one device and of one dtype, float32 or float64;
    ``present`` is uint8 [N, M]. ``extremes`` are the ordered keys of the columns of ``uncertainty``
    (CUDA only). Without them, they are computed first.
    """
    n, m = uncertainty.shape
    where = uncertainty.device
    score = torch.empty(n, dtype=uncertainty.dtype, device=where)
    unit = torch.empty_like(uncertainty)
    distance = torch.empty_like(score)
    result = Normalized(score, unit, distance)
    with device.on(where):
        if backend == "triton":
            from rlmba.kernels.fused_score import triton_impl

            triton_impl.normalized_score(uncertainty, distances, weights, beta, present, *result)
            return result
        cuda, stream = dispatch.require_cuda(), device.stream(where)
        mask = 0 if present is None else present.data_ptr()
        unused = device.flag(where)
        if extremes is None:
            extremes = device.ordered_keys(m, uncertainty)
            cuda.column_extremes(
                device.matrix(uncertainty), mask, extremes.data_ptr(), unused.data_ptr(), stream
            )
        of_distances = device.ordered_keys(1, uncertainty)
        if distances is not None:
            cuda.column_extremes(
                device.matrix(distances), 0, of_distances.data_ptr(), unused.data_ptr(), stream
            )
        cuda.normalized_score(
            device.matrix(uncertainty),
            0 if distances is None else distances.data_ptr(),
            mask,
            list(weights),
            beta,
            extremes.data_ptr(),
            of_distances.data_ptr(),
            *(t.data_ptr() for t in result),
            stream,
        )
    return result


def _keys(columns: int, inputs: evidential_device.Modalities) -> Tensor:
    like = torch.empty(0, dtype=inputs.dtype, device=inputs.device)
    return device.ordered_keys(columns, like)


def _distances(value: arrays.ArrayLike, inputs: evidential_device.Modalities) -> Tensor:
    d = device.as_float(value, "distances", ndim=1)
    if tuple(d.shape) != (inputs.rows,):
        raise ShapeError(f"distances: expected shape ({inputs.rows},), got {tuple(d.shape)}")
    d = device.to_device(d, inputs.device)
    converted = d.to(inputs.dtype).contiguous()

    def fail(row: int) -> NoReturn:
        device.raise_out_of_range(d, converted.dtype, "distances", row)

    inputs.checks.append((evidential_device.first_true(~torch.isfinite(converted)), fail))
    return converted
