""":func:`rlmba.kernels.min_distance` on a GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, device, distances


def root(squared: Tensor, dtype: torch.dtype, bad: Tensor) -> Tensor:
    """Return square roots in ``dtype``; mark an overflow in the flag ``bad`` if it is still unset."""
    found = squared.sqrt().to(dtype)
    overflow = torch.where(torch.isfinite(found).all(), device.ALL_VALID, distances.OVERFLOW)
    torch.minimum(bad, overflow, out=bad)
    return found


def raise_for(flag: int | None, x: Tensor, centers: Tensor | None) -> None:
    """Raise the error that belongs to the value of a flag.

    Raises
    ------
    NonFiniteError
        For a center or a row that is not finite.
    DataError
        For an overflow.
    """
    if flag is None:
        return
    if flag >= distances.OVERFLOW:
        raise distances.overflow()
    if flag < 0 and centers is not None:
        device.raise_non_finite(centers, "centers", flag - distances.BAD_CENTER)
    device.raise_non_finite(x, "x", flag)


def min_distance(
    x: arrays.ArrayLike,
    centers: arrays.ArrayLike,
    max_memory: int | None,
    precision: str,
    backend: str,
) -> tuple[Any, Any]:
    """Return distances and indices for unchecked arguments."""
    given, c = device.as_rows(x, "x"), device.as_rows(centers, "centers")
    distances.check_centers(tuple(given.shape), tuple(c.shape))
    distances.check_max_memory(max_memory)
    where = device.compute_device(given, c)
    dtype = device.result_dtype(given, c)
    rows = device.Rows([given], where, max_memory)
    on_device = device.to_device(c, where)
    bad = device.flag(where)
    squared = torch.empty(rows.count, dtype=torch.float64, device=where)
    labels = torch.empty(rows.count, dtype=torch.int64, device=where)
    shared: dict[str, Any] = {
        "precision": precision, "squared": squared, "labels": labels, "bad": bad
    }  # fmt: skip
    with device.on(where):
        if backend == "triton":
            _triton(rows, given.dtype, on_device, dtype, **shared)
        else:
            _cuda(rows, on_device, dtype, **shared)
        found = root(squared, dtype, bad)
    raise_for(device.read_flag(bad), given, c)
    return device.like(found, x), device.like(labels, x)


def _triton(
    rows: device.Rows,
    row_dtype: torch.dtype,
    centers: Tensor,
    dtype: torch.dtype,
    *,
    precision: str,
    squared: Tensor,
    labels: Tensor,
    bad: Tensor,
) -> None:
    from rlmba.kernels.min_distance.assignment import Assignment

    work = Assignment(rows, row_dtype, centers, dtype, precision=precision, bad=bad)
    for tile in rows:
        work.assign(tile, squared, labels)


def _cuda(
    rows: device.Rows,
    centers: Tensor,
    dtype: torch.dtype,
    *,
    precision: str,
    squared: Tensor,
    labels: Tensor,
    bad: Tensor,
) -> None:
    where, core = centers.device, dispatch.require_cuda()
    c = centers.to(dtype).contiguous()
    # Each center is divided first, because a sum of the centers could overflow.
    shift = (c.to(torch.float64) * (1.0 / len(c))).sum(dim=0).to(dtype)
    half_norms = torch.empty(len(c), dtype=dtype, device=where)
    largest = torch.empty(1, dtype=dtype, device=where)
    prepared = core.PreparedCenters(
        device.matrix(c), shift.data_ptr(), half_norms.data_ptr(), largest.data_ptr()
    )
    stream = device.stream(where)
    core.center_norms(prepared, distances.BAD_CENTER, bad.data_ptr(), stream)
    torch.amax(half_norms, dim=0, keepdim=True, out=largest)
    for begin, end, (part,) in rows:
        x = part.to(dtype) if dtype == torch.float64 else part
        core.min_distance(
            device.matrix(x),
            prepared,
            distances.PRECISIONS.index(precision),
            squared[begin:end].data_ptr(),
            labels[begin:end].data_ptr(),
            begin,
            bad.data_ptr(),
            stream,
        )
