"""The splits of a data set, and the names that tables and folders give them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rlmba.data.table import Table
from rlmba.errors import DataError, UsageError

__all__ = ["NOT_USED", "SPLITS", "is_split", "read_splits", "split_numbers"]

SPLITS = ("train", "validation", "test")
"""The splits of a data set; :func:`read_splits` returns positions in it."""

NOT_USED = -1
"""Instead of a position in :data:`SPLITS`: the option ``splits`` leaves the rows out."""

_NAMES = (
    ("", "train", "training", "unlabeled", "unlabelled", "unsupervised", "pool"),
    ("validation", "valid", "val", "dev"),
    ("test", "testing", "eval", "evaluation"),
)
_NUMBERS = {name: k for k, names in enumerate(_NAMES) for name in names}
_LISTED = 20


def is_split(name: str) -> bool:
    """Whether a name means one of :data:`SPLITS`, in upper or lower case.

    The name of a slice of the library datasets, such as ``train[:80%]``, means its split.
    """
    return _plain(name) in _NUMBERS


def _plain(name: str) -> str:
    return name.partition("[")[0].strip().lower()


def split_numbers(names: Mapping[str, str], given: Mapping[str, str | None]) -> dict[str, int]:
    """The position in :data:`SPLITS` by name, or :data:`NOT_USED`.

    Parameters
    ----------
    names : mapping of str to str
        The names that occur, and where, for messages; "" means train.
    given : mapping of str to str or None
        The option ``splits``: what names mean; None leaves a split out.

    Raises
    ------
    DataError
        If it is not known what a name means. The message lists the names, and says how to map them.
    UsageError
        If ``given`` has a name that does not occur, or a meaning that is no split.
    """
    meanings = {name.strip().lower(): meaning for name, meaning in given.items()}
    for name, meaning in given.items():
        if meaning is not None and not is_split(meaning):
            raise UsageError(
                f"option splits: expected train, validation, test or null for {name!r}, got {meaning!r}"
            )
        if name.strip().lower() not in {n.strip().lower() for n in names}:
            raise UsageError(
                f"option splits: expected names of splits that occur, {_listed(names)}, got {name!r}"
            )
    found: dict[str, int] = {}
    for name in names:
        key = name.strip().lower()
        if key in meanings:
            meaning = meanings[key]
            found[name] = NOT_USED if meaning is None else _NUMBERS[_plain(meaning)]
        elif is_split(name):
            found[name] = _NUMBERS[_plain(name)]
    unknown = [name for name in names if name not in found]
    if unknown:
        usual = "; ".join(", ".join(n for n in known if n) for known in _NAMES)
        raise DataError(
            f"{names[unknown[0]]}: expected a split among {usual}, got {unknown[0]!r}; the splits are "
            f"{_listed(names)}. Correct the name, or say what it means (null leaves a split out) with "
            f"{_advice(unknown[:_LISTED], given)}"
        )
    return found


def _listed(names: Iterable[str]) -> str:
    shown = [repr(name) for name in names if name]
    return ", ".join(shown[:_LISTED]) + (", ..." if len(shown) > _LISTED else "")


def _advice(unknown: Sequence[str], given: Mapping[str, str | None]) -> str:
    """The option that maps all splits, with a guess from the beginning or the end of each name."""
    meanings = {**given, **{name: _guess(name) for name in unknown}}
    return f"`--set dataset_options.splits={shlex.quote(json.dumps(meanings))}`"


def _guess(name: str) -> str:
    words = "".join(c if c.isalpha() else " " for c in name.lower()).split()
    known = (_NUMBERS[word] for word in words if word in _NUMBERS)
    return SPLITS[next(known, 0)]


def read_splits(
    table: Table, column: str | None, given: Mapping[str, str | None]
) -> NDArray[np.int64]:
    """The split of each row, as a position in :data:`SPLITS`: int64 [n].

    It is 0 if there is no column, or the cell is empty, and :data:`NOT_USED` if ``given``, the option
    ``splits``, says so.

    Raises
    ------
    DataError
        If a cell does not name a split; see :func:`split_numbers`.
    UsageError
        If ``given`` cannot be used.
    """
    if column is None:
        if given:
            raise UsageError(
                f"option splits: {table.path} has no column of splits; drop the option"
            )
        return np.zeros(len(table), np.int64)
    cells = [text or "" for text in table.texts(column)]
    first: dict[str, str] = {}
    for row, cell in enumerate(cells):
        if cell not in first:
            first[cell] = f"{table.place(row)}: column {column!r}"
    numbers = split_numbers(first, given)
    return np.array([numbers[cell] for cell in cells], np.int64)
