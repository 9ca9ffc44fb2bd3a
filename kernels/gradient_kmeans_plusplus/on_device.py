""":func:`rlmba.kernels.gradient_kmeans_plusplus` on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlmba.errors import DataError, NonFiniteError
from rlmba.kernels.common import arrays, device, distances, triton_d2
from rlmba.kernels.common.random import Rng, seed_from
from rlmba.kernels.gradient_kmeans_plusplus import spec, triton_impl
from rlmba.kernels.gradient_kmeans_plusplus.checks import check
from rlmba.kernels.kmeans_plusplus.on_device import root

__all__ = ["draw", "gradient_kmeans_plusplus"]


def gradient_kmeans_plusplus(  # noqa: PLR0917
    residuals: arrays.ArrayLike,
    features: arrays.ArrayLike | Sequence[arrays.ArrayLike],
    n: int,
    rng: Rng,
    scales: arrays.ArrayLike | None,
    first: int | None,
    max_memory: int | None,
) -> tuple[Any, Any]:
    """Return indices and distances for unchecked arguments."""
    a, z, s, n, first = check(
        device.as_rows, device.as_float, residuals, features, n, scales, first, max_memory
    )
    if s is not None and s.dtype == torch.float64:
        s = device.cast(s, device.result_dtype(a, *z), "scales")
    seed = seed_from(rng)
    if n == 0:
        indices = torch.empty(0, dtype=torch.int64)
        result = torch.empty(0, dtype=device.result_dtype(a, *z))
    else:
        indices, result = draw(a, z, s, n, seed, first, max_memory=max_memory)
    return device.like(indices, residuals), device.like(result, residuals)


def draw(  # noqa: PLR0917
    a: Tensor,
    parts: list[Tensor],
    scales: Tensor | None,
    n: int,
    seed: int,
    first: int | None,
    *,
    max_memory: int | None = None,
    blocks: tuple[int, int] = (spec.BLOCK_MIN, spec.BLOCK_MAX),
) -> tuple[Tensor, Tensor]:
    """Draw ``n`` >= 1 rows: positions int64 [n] and distances [n], on the device.

    Raises
    ------
    NonFiniteError
        If a value is NaN or infinite.
    DataError
        If a squared norm or the sum of squared distances overflows.
    """
    dtype = device.result_dtype(a, *parts)
    given = [a, *parts] if scales is None else [a, *parts, scales]
    where = device.compute_device(*given)
    rows = device.Rows(given, where, max_memory)
    bad, huge = device.flag(where), device.flag(where)
    tile = rows.count if rows.resident else rows.chunk
    drawn = triton_d2.Draw(rows.count, n, seed, blocks, tile, where)
    with device.on(where):
        points = triton_impl.OuterPoints(rows, dtype, scaled=scales is not None)
        points.measure(bad, huge)
        place = points.largest() if first is None else torch.tensor([first], device=where)
        points.start(drawn, place)
        state = triton_d2.run(points, drawn, ahead=rows.resident)
    if device.read_flag(bad) is not None:
        raise _non_finite(rows, [z.shape[1] for z in parts], scaled=scales is not None)
    if device.read_flag(huge) is not None or triton_d2.overflowed(state):
        raise distances.overflow("features")
    triton_d2.fill_exhausted(drawn, state)
    return drawn.indices, root(drawn.at_draw, dtype)


def _non_finite(
    rows: device.Rows, widths: list[int], *, scaled: bool
) -> NonFiniteError | DataError:
    """Return the error for the first row of the first array that is not finite."""
    names = ["residuals", "features"]
    if len(widths) > 1:
        names = ["residuals", *(f"features[{m}]" for m in range(len(widths)))]
    if scaled:
        names.append("scales")
    found: dict[str, tuple[int, Tensor]] = {}
    for begin, _, parts in rows:
        for name, part in zip(names, parts, strict=True):
            broken = ~torch.isfinite(part).all(dim=1)
            if name not in found and bool(broken.any()):
                at = int(broken.to(torch.uint8).argmax())
                found[name] = begin + at, part[at].to("cpu", torch.float64)
    for name in names:
        if name in found:
            row, values = found[name]
            return arrays.non_finite_row(values.numpy(), name, row)
    return distances.overflow("features")  # in the product of features and scales
