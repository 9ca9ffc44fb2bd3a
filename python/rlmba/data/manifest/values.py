"""Parse cells of a table: one-line names, numbers, lists of numbers."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.cells import is_missing

__all__ = ["BeyondError", "RaggedError", "numbers_of", "one_line", "vectors_of"]

_LARGEST = float(np.finfo(np.float32).max)
_EMPTY = frozenset({"", "nan", "na", "n/a", "null", "none"})
_CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})


class RaggedError(ValueError):
    """Not all cells of a column have the expected form; the arguments are the row and the problem."""


class BeyondError(RaggedError):
    """A number in a column exceeds float32, which networks compute with."""


def one_line(text: str, longest: int) -> str:
    """Why a text is not one short line; "" if it is."""
    if len(text) > longest:
        return f"expected at most {longest} characters, got {len(text):,}"
    if text.isprintable():  # the usual case
        return ""
    if any(unicodedata.category(c) in _CONTROL for c in text):
        return "expected one line without control characters"
    return ""


def numbers_of(values: Sequence[Any]) -> NDArray[np.float64]:
    """Cells as numbers: float64 [n]; NaN where a cell is empty or reads "NaN", "NA" or the like.

    Raises
    ------
    RaggedError
        If a cell is not a finite number within float32; the first argument is the row.
    """
    try:
        # Most columns can be converted at once.
        numbers = np.array([math.nan if v is None else v for v in values], np.float64)
        if numbers.ndim == 1 and not (np.abs(numbers) > _LARGEST).any():
            return numbers
    except (TypeError, ValueError, OverflowError):
        pass
    numbers = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        if is_missing(value) or (isinstance(value, str) and value.strip().lower() in _EMPTY):
            continue
        try:
            number = float(value) if isinstance(value, str | int | float) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise RaggedError(row, f"holds {_short(value)}")
        if abs(number) > _LARGEST:
            raise BeyondError(row, f"holds {_short(value)}, which exceeds float32 (3.4e38)")
        numbers[row] = number
    return numbers


def vectors_of(values: Sequence[Any]) -> NDArray[np.float64] | None:
    """Cells that are lists of numbers of equal length: float64 [n, D]; a row of NaN where a cell is empty.

    A list may be written as JSON text. Returns None if the first cell that is not empty is not a list of
    numbers: then the column holds something else.

    Raises
    ------
    RaggedError
        If another cell is not a list of finite numbers within float32 of the same length; the first
        argument is the row.
    """
    first = next((v for v in values if not is_missing(v)), None)
    width = len(_list_of(first) or ())
    if not width:
        return None
    vectors = np.full((len(values), width), np.nan)
    for row, value in enumerate(values):
        if is_missing(value):
            continue
        numbers = _list_of(value)
        if numbers is None:
            raise RaggedError(row, f"holds {_short(value)}")
        if len(numbers) != width:
            raise RaggedError(
                row, f"has a list of {len(numbers)} numbers, the first list has {width}"
            )
        if not all(map(math.isfinite, numbers)):
            raise RaggedError(row, "has a number that is not finite in its list")
        if max(map(abs, numbers)) > _LARGEST:
            place = int(np.argmax(np.abs(numbers) > _LARGEST))
            raise BeyondError(
                row,
                f"has {numbers[place]} at position {place} of its list, which exceeds float32 (3.4e38)",
            )
        vectors[row] = numbers
    return vectors


def _list_of(value: Any) -> list[float] | None:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if not isinstance(value, list | tuple | np.ndarray):
        return None
    numeric = all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in value)
    return [float(v) for v in value] if numeric else None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
