"""Options that are lists of names."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["names"]


def names(values: Sequence[str] | None) -> list[str]:
    """The names of an option that may be repeated and whose values may have commas."""
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]
