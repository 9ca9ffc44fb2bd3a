""":func:`rlmba.kernels.kmeans_plusplus` on a GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlmba.kernels.common import arrays, d2_sampling, device, distances
from rlmba.kernels.common.random import Rng, seed_from, uniform01
from rlmba.kernels.kmeans_plusplus import spec

__all__ = ["kmeans_plusplus", "root", "row_of", "seed_rows"]


def row_of(rows: device.Rows, row: int) -> list[Any]:
    """Return one row of each array as float64 NumPy arrays."""
    parts = rows.take(torch.tensor([row], device=rows.device))
    return [p[0].to("cpu", torch.float64).numpy() for p in parts]


def seed_rows(
    rows: device.Rows,
    k: int,
    seed: int,
    first: int | None,
    *,
    blocks: tuple[int, int] = (spec.BLOCK_MIN, spec.BLOCK_MAX),
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw ``k`` rows of a matrix by D^2 sampling.

    Parameters
    ----------
    rows : device.Rows
        Of one matrix [N, D], N >= 1; 1 <= k <= N.
    first : int or None
        Position of the first row; None draws it with uniform number 0 of the seed.
    blocks : (int, int)
        Minimum and maximum number of proposals in a block.

    Returns
    -------
    (int64 [k], float64 [N], int64 [N]) tensors on the device
        Positions in drawn order, squared distances to the nearest of them, and which it is.

    Raises
    ------
    NonFiniteError
        If a value is NaN or infinite.
    DataError
        If the sum of squared distances overflows.
    """
    from rlmba.kernels.common import triton_d2
    from rlmba.kernels.kmeans_plusplus import triton_impl

    if first is None:
        first = d2_sampling.place(float(uniform01(seed, 0, 1)[0]), rows.count)
    bad = device.flag(rows.device)
    draw, state = triton_impl.seed_rows(rows, k, seed, first, blocks, bad)
    row = device.read_flag(bad)
    if row is not None:
        raise arrays.non_finite_row(row_of(rows, row)[0], "x", row)
    if triton_d2.overflowed(state):
        raise distances.overflow()
    triton_d2.fill_exhausted(draw, state)
    return draw.indices, draw.squared, draw.labels


def root(squared: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the square roots of squared distances in ``dtype``.

    Raises
    ------
    DataError
        If a root is beyond the range of the dtype.
    """
    result = squared.sqrt().to(dtype)
    if not bool(torch.isfinite(result).all()):
        raise distances.overflow()
    return result


def kmeans_plusplus(
    x: arrays.ArrayLike, k: int, rng: Rng, first: int | None, max_memory: int | None
) -> tuple[Any, Any, Any]:
    """Return indices, distances and labels for unchecked arguments."""
    given = device.as_rows(x, "x")
    distances.require_rows(given)
    k = arrays.as_count(k, "k", low=1, high=given.shape[0])
    if first is not None:
        first = arrays.as_count(first, "first", low=0, high=given.shape[0] - 1)
    distances.check_max_memory(max_memory)
    seed = seed_from(rng)
    rows = device.Rows([given], device.compute_device(given), max_memory)
    indices, squared, labels = seed_rows(rows, k, seed, first)
    result = root(squared, device.result_dtype(given))
    return device.like(indices, x), device.like(result, x), device.like(labels, x)
