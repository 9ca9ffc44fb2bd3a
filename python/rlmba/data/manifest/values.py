"""Parse cells of a table: numbers in several notations, lists of numbers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.cells import is_missing

__all__ = [
    "DECIMALS",
    "PLAIN",
    "AmbiguousError",
    "BeyondError",
    "MixedError",
    "Notation",
    "RaggedError",
    "notation_of",
    "numbers_of",
    "vectors_of",
]

DECIMALS = ("point", "comma")
"""Names of the signs between the whole part and the fraction of a number."""

_LARGEST = float(np.finfo(np.float32).max)
_EMPTY = frozenset({"", "nan", "na", "n/a", "null", "none"})
# Digits in groups of three, or without groups. A number in groups does not begin with 0.
_WRITTEN = {
    name: re.compile(
        rf"[+-]?(?:[1-9]\d{{0,2}}(?:[{group}]\d{{3}})+|\d+|(?=[{sign}]\d))(?:[{sign}]\d*)?(?:e[+-]?\d+)?",
        re.ASCII | re.IGNORECASE,
    )
    for name, sign, group in (("point", ".", ","), ("comma", ",", "."))
}


class RaggedError(ValueError):
    """Not all cells of a column have the expected form; the arguments are the row and the problem."""


class BeyondError(RaggedError):
    """A number in a column exceeds float32, which networks compute with."""


class AmbiguousError(RaggedError):
    """All numbers of a column can be read with a decimal point and with a decimal comma."""


class MixedError(RaggedError):
    """All cells of a column are numbers, but they are written in different ways."""


class Notation(NamedTuple):
    """How the numbers in the text cells of a column are written.

    Parameters
    ----------
    decimal : {"", "point", "comma"}
        The decimal sign. The other sign may then separate groups of three digits. "": as Python writes
        numbers, without groups.
    percent : bool
        Whether each number is followed by a percent sign, which is left out: "45 %" is 45.
    """

    decimal: str = ""
    percent: bool = False


PLAIN = Notation()
"""Numbers as programs write them: 0.5, 1e-3."""


def notation_of(values: Sequence[Any], decimal: str | None = None) -> Notation:
    """The notation in which all text cells of a column are numbers.

    Parameters
    ----------
    values : sequence
    decimal : {"point", "comma"} or None
        The decimal sign of columns whose cells are numbers with either sign. Without it, such a column has
        a decimal point if no cell has a comma.

    Returns
    -------
    Notation

    Raises
    ------
    RaggedError
        If a cell is no number in any notation; the first argument is the row.
    AmbiguousError
        If all cells are numbers with either decimal sign, some have a comma, as in "1,234", and ``decimal``
        is None. The first argument is a row.
    MixedError
        If all cells are numbers, but some have a decimal point and others a decimal comma, or some have a
        percent sign and others have none. The first argument is a row.
    """
    if decimal != "comma" and _converted(values) is not None:
        return PLAIN
    rows = [row for row, value in enumerate(values) if not _is_empty(value)]
    for row in rows:
        if not _is_number(values[row]):
            raise RaggedError(row, f"holds {_short(values[row])}")
    signs = [_has_percent(values[row]) for row in rows]
    if len(set(signs)) > 1:
        earlier, later = sorted((rows[signs.index(True)], rows[signs.index(False)]))
        raise MixedError(
            later,
            f"holds {_short(values[later])}, but {_short(values[earlier])} in an earlier row, and only one "
            "of them has a percent sign",
        )
    texts = {row: _bare(values[row]) for row in rows if isinstance(values[row], str)}
    unfit = {
        name: next((row for row, t in texts.items() if not _WRITTEN[name].fullmatch(t)), None)
        for name in DECIMALS
    }
    fitting = [name for name, row in unfit.items() if row is None]
    if not fitting:
        earlier, later = sorted(row for row in unfit.values() if row is not None)
        raise MixedError(
            later,
            f"holds {_short(values[later])}, but {_short(values[earlier])} in an earlier row, and their "
            "decimal signs differ",
        )
    comma = next((row for row, text in texts.items() if "," in text), None)
    if len(fitting) > 1 and decimal is None and comma is not None:
        raise AmbiguousError(
            comma,
            f"holds {_short(values[comma])}, and no number of the column shows whether the comma is a "
            "decimal comma or separates thousands",
        )
    sign = decimal if decimal in fitting else fitting[0]
    plain = comma is None and (sign == "point" or not any("." in text for text in texts.values()))
    return Notation("" if plain else sign, any(signs))


def numbers_of(values: Sequence[Any], notation: Notation = PLAIN) -> NDArray[np.float64]:
    """Cells as numbers: float64 [n]; NaN where a cell is empty or reads "NaN", "NA" or the like.

    Parameters
    ----------
    values : sequence
    notation : Notation
        How numbers are written in cells of text.

    Raises
    ------
    RaggedError
        If a cell is not a finite number within float32; the first argument is the row.
    """
    if notation == PLAIN and (converted := _converted(values)) is not None:
        return converted
    numbers = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        if _is_empty(value):
            continue
        try:
            number = _number(value, notation)
        except (ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise RaggedError(row, f"holds {_short(value)}")
        if abs(number) > _LARGEST:
            raise BeyondError(row, f"holds {_short(value)}, which exceeds float32 (3.4e38)")
        numbers[row] = number
    return numbers


def _converted(values: Sequence[Any]) -> NDArray[np.float64] | None:
    """Cells as numbers in the usual case, in which all of them can be converted at once; otherwise None."""
    try:
        numbers = np.array([math.nan if v is None else v for v in values], np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if numbers.ndim == 1 and not (np.abs(numbers) > _LARGEST).any() else None


def _is_empty(value: Any) -> bool:
    return is_missing(value) or (isinstance(value, str) and value.strip().lower() in _EMPTY)


def _number(value: Any, notation: Notation) -> float:
    """A cell as a number; NaN if it is none, or is written in another way."""
    if not isinstance(value, str):
        there = isinstance(value, int | float) and not notation.percent
        return float(value) if there else math.nan
    if _has_percent(value) != notation.percent:
        return math.nan
    text = _bare(value)
    if not notation.decimal:
        return float(text)
    if not _WRITTEN[notation.decimal].fullmatch(text):
        return math.nan
    if notation.decimal == "comma":
        return float(text.replace(".", "").replace(",", "."))
    return float(text.replace(",", ""))


def _is_number(value: Any) -> bool:
    """Whether a cell is a number in any notation."""
    if not isinstance(value, str):
        return isinstance(value, int | float)
    return any(pattern.fullmatch(_bare(value)) for pattern in _WRITTEN.values())


def _has_percent(value: Any) -> bool:
    return isinstance(value, str) and value.rstrip().endswith("%")


def _bare(text: str) -> str:
    """A number without outer blanks and without its percent sign."""
    return text.strip().removesuffix("%").rstrip()


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
