"""Cells of tables: formatting numbers, and finding the best of a column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from rlmba.experiments.content import Cell
from rlmba.experiments.curves import Array, Group

__all__ = ["NONE", "best", "mean_sd", "number", "p_value", "seconds", "spread", "text"]

NONE = Cell("—")
"""A cell without a figure."""

_EQUAL = 1e-12  # smaller differences are rounding errors


def mean_sd(values: Array) -> tuple[float, float | None]:
    """Mean over seeds and sample standard deviation, which is None for one seed."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), sd


def text(value: object) -> Cell:
    """Return a cell with a text or an integer."""
    return Cell(str(value), float(value) if isinstance(value, int) else None)


def number(value: float | None, form: str = ".4f") -> Cell:
    """Return a cell with a number, or :data:`NONE` if it is None or NaN."""
    return NONE if value is None or np.isnan(value) else Cell(format(value, form), float(value))


def p_value(value: float | None) -> Cell:
    """Return a cell with the first digits of a p value, or :data:`NONE` if it is None."""
    if value is None:
        return NONE
    return Cell(f"{value:.2g}" if value >= 1e-3 else f"{value:.0e}", value)


def seconds(group: Group, stage: str) -> float:
    """Return the mean over seeds of a stage's seconds per round; NaN if unknown."""
    values = group.seconds.get(stage)
    return np.nan if values is None else float(np.mean(values))


def spread(values: Array | None, digits: int = 4, *, space: str = " ") -> Cell:
    """Return a cell with mean ± sample s.d. of an array [S], or :data:`NONE` if a value is NaN."""
    if values is None or np.isnan(values).any():
        return NONE
    mean, sd = mean_sd(values)
    shown = f"{mean:.{digits}f}"
    return Cell(shown if sd is None else f"{shown}{space}±{space}{sd:.{digits}f}", mean)


def best(
    rows: Sequence[Sequence[Cell]], columns: Iterable[int], *, largest: bool = True
) -> frozenset[tuple[int, int]]:
    """Find the best cells of these columns by value, including ties; none if all values are equal."""
    found = set()
    for k in columns:
        values = {r: row[k].value for r, row in enumerate(rows)}
        known = {r: v for r, v in values.items() if v is not None}
        if known:
            top = max(known.values()) if largest else min(known.values())
            there = {(r, k) for r, v in known.items() if abs(v - top) < _EQUAL}
            found |= there if len(there) < len(known) else set()
    return frozenset(found)
