"""Checks of labeled rows shared by all backends of k_center."""

from __future__ import annotations

from rlmba.errors import BackendError, ShapeError
from rlmba.kernels.common import arrays

__all__ = ["require_same_memory", "require_width"]


def require_same_memory(labeled: arrays.ArrayLike, features: arrays.ArrayLike) -> None:
    """Raise :class:`BackendError` unless both are in the same kind of memory."""
    expected, got = arrays.device_of(features), arrays.device_of(labeled)
    if got != expected:
        raise BackendError(
            f"labeled: expected an array on {expected!r} as features are, got {got!r}; move one"
        )


def require_width(shape: tuple[int, ...], width: int) -> None:
    """Raise :class:`ShapeError` unless labeled rows have as many columns as the features."""
    if shape[1] != width:
        raise ShapeError(
            f"labeled: expected {width} columns as features have, got shape {tuple(shape)}"
        )
