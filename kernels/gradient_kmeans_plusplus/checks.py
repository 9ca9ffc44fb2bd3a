"""Argument checks shared by all backends of gradient_kmeans_plusplus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rlmba.errors import ShapeError, UsageError
from rlmba.kernels.common import arrays, distances

__all__ = ["Checked", "check"]


class Checked(NamedTuple):
    """Arguments with matching shapes, as arrays of the kind that the backend uses."""

    residuals: Any
    parts: list[Any]
    scales: Any
    n: int
    first: int | None


def check(  # noqa: PLR0917
    as_rows: Callable[[Any, str], Any],
    as_float: Callable[..., Any],
    residuals: arrays.ArrayLike,
    features: arrays.ArrayLike | Sequence[arrays.ArrayLike],
    n: int,
    scales: arrays.ArrayLike | None,
    first: int | None,
    max_memory: int | None,
) -> Checked:
    """Check ranks, dtypes, shapes, devices and counts; ``as_rows`` and ``as_float`` convert."""
    many = isinstance(features, (list, tuple))
    parts: Sequence[Any] = features if many else [features]  # type: ignore[assignment]
    if len(parts) == 0:
        raise UsageError("features: expected at least one part, got an empty sequence")
    a = as_rows(residuals, "residuals")
    names = [f"features[{m}]" for m in range(len(parts))] if many else ["features"]
    z = [as_rows(part, name) for part, name in zip(parts, names, strict=True)]
    rows = a.shape[0]
    for part, name, given in zip(z, names, parts, strict=True):
        distances.require_same_device(given, name, residuals, "residuals")
        if part.shape[0] != rows:
            raise ShapeError(
                f"{name}: expected {rows} rows as in residuals, got {tuple(part.shape)}"
            )
    s = None if scales is None else as_float(scales, "scales", ndim=2)
    if s is not None and tuple(s.shape) != (rows, len(z)):
        raise ShapeError(f"scales: expected shape ({rows}, {len(z)}), got {tuple(s.shape)}")
    n = arrays.as_count(n, "n", low=0, high=rows)
    if first is not None:
        first = arrays.as_count(first, "first", low=0, high=max(rows - 1, 0))
    distances.check_max_memory(max_memory)
    return Checked(a, z, s, n, first)
