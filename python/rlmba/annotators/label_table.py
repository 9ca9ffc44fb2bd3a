"""Reading tables of labels as people fill them: by id, in any order, with the mistakes that happen."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlmba.annotators.matching import CANNOT_TELL, AskedIds, ClassNames
from rlmba.cells import all_numbers, as_text, missing_words
from rlmba.errors import DataError, RlmbaWarning
from rlmba.spreadsheet import unguarded

if TYPE_CHECKING:
    from rlmba.data.table import Table

__all__ = ["read_label_table", "read_labels", "require_writable"]

_SHOWN_PROBLEMS = 10
_OF_CVAT = (".xml", ".zip")
_AMBIGUOUS = (
    f'{CANNOT_TELL!r} is the name of a class, and in a table of labels it means "cannot tell"'
)


def require_writable(classes: Iterable[str]) -> None:
    """Raise unless labels of these classes can be written in a table.

    Raises
    ------
    DataError
        If a class has the name that means "cannot tell" there.
    """
    if CANNOT_TELL in classes:
        raise DataError(
            f"{_AMBIGUOUS}; rename the class in the data, or use the annotator 'browser' or 'labelstudio', "
            "which keep the two apart"
        )


def read_label_table(path: Path) -> Table:
    """Read a table of labels, or the export of a labeling tool, as a table with ``id`` and ``label``.

    Parameters
    ----------
    path : path
        A file that :func:`rlmba.data.table.read_table` reads; an export of CVAT as ``.xml`` or ``.zip``
        (:func:`rlmba.annotators.cvat.read_tags`); or JSON with records of Argilla
        (:func:`rlmba.annotators.argilla.labels_of`).

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    from rlmba.annotators import argilla, cvat
    from rlmba.data.table import read_table

    if path.suffix.lower() in _OF_CVAT:
        return cvat.read_tags(path)
    table = read_table(path)
    return argilla.labels_of(table) if argilla.is_records(table) else table


def read_labels(
    path: Path | Table,
    *,
    ids: Iterable[str],
    classes: Sequence[str],
    open: bool,  # noqa: A002 - as in LabelBatch
    others: Literal["refuse", "ignore"] = "refuse",
) -> dict[str, str | None]:
    """Read labels by id from a table with the columns ``id`` and ``label``; other columns are ignored.

    Rows may be in any order. An empty label is no answer, and ``?`` means "cannot tell". What an id or a
    label means is defined in :mod:`rlmba.cells`: a class's exact name, or the only class that differs from
    it by spaces or case alone, or is the same whole number. An id may occur twice if both rows have the same
    label. An apostrophe that guards a cell against spreadsheets is removed.

    Parameters
    ----------
    path : path or Table
        A file that :func:`read_label_table` reads, or its result.
    ids : iterable of str
        The ids that a label may be for.
    classes : sequence of str
        Names of the known classes.
    open : bool
        Whether a label may also be a new class.
    others : {"refuse", "ignore"}
        What to do with rows for other ids.

    Returns
    -------
    dict of str to str or None
        Class name by id in the file's order, None for "cannot tell".

    Raises
    ------
    DataError
        If the table cannot be read or lacks a column, an id or a label is not allowed, a label is ``?``
        although a class has that name, or an id has two labels. The message lists the first ten such rows. No
        label is taken from the file then.
    """
    from rlmba.data.table import Table

    table = path if isinstance(path, Table) else read_label_table(Path(path))
    problems = _RowProblems(table)
    refuse = others == "refuse"
    found = _labels_by_id(
        table, AskedIds(ids), classes, problems, open_classes=open, refuse_others=refuse
    )
    problems.check()
    _warn_of_missing(table, {label for label in found.values() if label} - set(classes))
    return found


def _labels_by_id(
    table: Table,
    asked: AskedIds,
    classes: Sequence[str],
    problems: _RowProblems,
    *,
    open_classes: bool,
    refuse_others: bool,
) -> dict[str, str | None]:
    ids, labels = _cells(table, "id", problems), _cells(table, "label", problems)
    written = [label for label in labels if label is not None and label != CANNOT_TELL]
    numbers = all_numbers(map(unguarded, written))
    names = ClassNames(classes, open=open_classes, numbers=numbers)
    ambiguous = CANNOT_TELL in classes
    found: dict[str, tuple[str | None, int]] = {}
    for line, cell, label in zip(table.lines, ids, labels, strict=True):
        if cell is None:
            if label is not None:
                problems.add(line, f"label {label!r} without an id".__str__)
            continue
        id_ = asked.find(cell)
        if id_ is None and refuse_others:
            problems.add(line, partial(asked.refusal, cell))
        if id_ is None or label is None:
            continue
        unsure = label == CANNOT_TELL
        meant = None if unsure else names.find(label)
        if unsure and ambiguous:
            problems.add(line, f"{_AMBIGUOUS}; rename the class in the data".__str__)
        elif meant is None and not unsure:
            problems.add(line, partial(_refusal, names, label))
        else:
            earlier = found.setdefault(id_, (meant, line))
            if earlier[0] != meant:
                problems.add(line, partial(_conflict, id_, label, earlier, table.unit))
    return {id_: label for id_, (label, _) in found.items()}


def _refusal(names: ClassNames, label: str) -> str:
    return f'{names.refusal(label)}; {CANNOT_TELL!r} means "cannot tell"'


def _warn_of_missing(table: Table, new: Iterable[str]) -> None:
    if words := missing_words(sorted(new)):
        warnings.warn(
            f"{table.path}: {', '.join(map(repr, words))} is taken as a new class; if it means that there is "
            "no answer, leave these cells empty",
            RlmbaWarning,
            stacklevel=3,
        )


def _cells(table: Table, name: str, problems: _RowProblems) -> list[str | None]:
    """A column as text. Cells that are not text are reported as problems and count as empty."""

    def text(line: int, cell: Any) -> str | None:
        try:
            return as_text(cell)
        except ValueError as error:
            problems.add(line, f"{name}: {error}".__str__)
            return None

    return [text(line, c) for line, c in zip(table.lines, table.column(name), strict=True)]


class _RowProblems:
    """Collects the unusable rows of a table, so that one error can list the first of them."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._shown: list[str] = []
        self._lines: set[int] = set()

    @property
    def _count(self) -> int:
        return len(self._lines)

    def add(self, line: int, say: Callable[[], str]) -> None:
        if line in self._lines:
            return
        self._lines.add(line)
        if self._count <= _SHOWN_PROBLEMS:
            self._shown.append(f"{self._table.unit} {line}: {say()}")

    def check(self) -> None:
        """Raise DataError if there are unusable rows."""
        if not self._count:
            return
        if self._count == 1:
            raise DataError(
                f"{self._table.path}, {self._shown[0]}. Nothing was taken from the file; correct it and "
                "collect again"
            )
        more = self._count - len(self._shown)
        raise DataError(
            f"{self._table.path}: {self._count} rows cannot be used, so nothing was taken from the file; "
            "correct it and collect again:\n  "
            + "\n  ".join(self._shown)
            + (f"\n  and {more} more" if more else "")
        )


def _conflict(name: str, label: str, earlier: tuple[str | None, int], unit: str) -> str:
    said = CANNOT_TELL if earlier[0] is None else earlier[0]
    return f"id {name!r} has label {label!r} here and {said!r} in {unit} {earlier[1]}; keep one"
