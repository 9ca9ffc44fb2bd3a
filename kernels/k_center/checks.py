"""Checks of labeled rows shared by all backends of k_center."""

from __future__ import annotations

from rlmba.errors import ShapeError

__all__ = ["require_width"]


def require_width(shape: tuple[int, ...], width: int) -> None:
    """Raise :class:`ShapeError` unless labeled rows have as many columns as the features."""
    if shape[1] != width:
        raise ShapeError(
            f"labeled: expected {width} columns as in features, got shape {tuple(shape)}"
        )
