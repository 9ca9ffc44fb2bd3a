"""Options that are lists of names."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["names"]


def names(values: Sequence[str] | None) -> list[str]:
    """The names in an option that may be repeated, and whose values may be separated by commas."""
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]
