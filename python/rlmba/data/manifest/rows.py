"""Read the ids and labels of a table's rows."""

from __future__ import annotations

import difflib
import math
import re
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlmba.cells import NameIndex, class_names, id_names, missing_words, one_line
from rlmba.data.manifest.options import set_option
from rlmba.data.table import Table
from rlmba.errors import DataError, RlmbaWarning

__all__ = ["read_ids", "read_labels"]

_DRIVE = re.compile(r"[A-Za-z]:")


def read_ids(table: Table, column: str, label: str | None = None) -> list[str]:
    """Ids of all rows.

    Other programs use ids in addresses and file names. So an id is one line of at most 200 characters.
    It may contain slashes, but it is neither an absolute path nor contains ``..``.

    Parameters
    ----------
    table : Table
    column : str
    label : str or None
        The column of labels, for the message about an id that occurs twice.

    Raises
    ------
    DataError
        If an id is missing, invalid or repeated; the message names the lines.
    """
    texts = table.texts(column)
    if None in texts:
        raise DataError(
            f"{table.place(texts.index(None))}: expected an id in column {column!r}, got an empty cell; "
            f"fill it, or use another column with {set_option('id', 'COLUMN')}"
        )
    ids = id_names([text for text in texts if text is not None])
    first: dict[str, int] = {}
    for row, text in enumerate(ids):
        problem = one_line(text) or _trick(text)
        if problem:
            raise DataError(f"{table.place(row)}: id {text[:80]!r}: {problem}; rename it")
        if first.setdefault(text, row) != row:
            raise DataError(_repeated(table, text, first[text], row, label))
    return ids


def _trick(text: str) -> str:
    """Why an id cannot be part of an address or a file name; "" if it can."""
    parts = re.split(r"[/\\]", text)
    if not parts[0] or _DRIVE.match(text):
        return "expected a name, not an absolute path"
    if any(part.strip() in ("", ".", "..") for part in parts):
        return "expected names between slashes, none of them empty, '.' or '..'"
    return ""


def _repeated(table: Table, text: str, first: int, second: int, label: str | None) -> str:
    difference = ""
    if label is not None:
        labels = [table.columns[label][row] for row in (first, second)]
        if labels[0] != labels[1]:
            difference = f", labeled {labels[0]!r} and {labels[1]!r}"
    return (
        f"{table.place(second)}: expected distinct ids, but {text!r} is already in {table.unit} "
        f"{table.lines[first]}{difference}; keep one of them"
    )


def read_labels(
    table: Table,
    column: str | None,
    classes: Sequence[str] | None,
    no_label: Sequence[str] = (),
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels of all rows, as positions in the classes.

    Parameters
    ----------
    table : Table
    column : str or None
        None if no label is known.
    classes : sequence of str or None
        The classes; :class:`rlmba.cells.NameIndex` decides which of them a label means. None: the labels that
        occur (:func:`rlmba.cells.class_names`), sorted, numerically if all of them are numbers.
    no_label : sequence of str
        Cells with these texts count as empty.

    Returns
    -------
    (int64 array [n], tuple of str)
        The labels, -1 where a cell is empty, and the classes.

    Raises
    ------
    DataError
        If a label is not one of the classes, or cannot be the name of a class.
    """
    unknown = np.full(len(table), -1, np.int64)
    if column is None:
        return unknown, tuple(classes or ())
    texts = [None if text in no_label else text for text in table.texts(column)]
    for row, text in enumerate(texts):
        problem = "" if text is None else one_line(text)
        if problem:
            raise DataError(
                f"{table.place(row)}: label {str(text)[:80]!r} in column {column!r}: {problem}; give "
                "the class a short name, or choose the column of labels with the option label"
            )
    if classes is None:
        found = class_names(texts)
        names = _sorted({name for name in found if name is not None})
        if words := missing_words(names):
            warnings.warn(
                f"{table.path}: {', '.join(map(repr, words))} in column {column!r} counts as a class; if it "
                "means that the label is unknown, leave the cell empty, otherwise list all classes in the "
                "option classes",
                RlmbaWarning,
                stacklevel=4,
            )
    else:
        known, names = NameIndex(classes, case=False), tuple(classes)
        meant = {text: known.find(text) for text in {t for t in texts if t is not None}}
        for row, text in enumerate(texts):
            if text is not None and meant[text] is None:
                raise DataError(f"{table.place(row)}: {_foreign(text, names)}")
        found = [None if text is None else meant[text] for text in texts]
    number = {name: k for k, name in enumerate(names)}
    for row, name in enumerate(found):
        if name is not None:
            unknown[row] = number[name]
    return unknown, names


def _foreign(name: str, classes: Sequence[str]) -> str:
    lower = {c.lower(): c for c in classes}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    guess = f"; did you mean {lower[close[0]]!r}?" if close else ";"
    listed = ", ".join(map(repr, classes[:20])) + (", ..." if len(classes) > 20 else "")
    return (
        f"label {name!r} is not one of the classes{guess} The classes are {listed}: change the label, or "
        "add it to the option classes"
    )


def _sorted(names: set[str]) -> tuple[str, ...]:
    """Names sorted numerically if all of them are numbers, otherwise as text."""
    try:
        numbers = {name: float(name) for name in names}
    except ValueError:
        return tuple(sorted(names))
    if any(map(math.isnan, numbers.values())):  # NaN has no order
        return tuple(sorted(names))
    return tuple(sorted(names, key=lambda name: (numbers[name], name)))
