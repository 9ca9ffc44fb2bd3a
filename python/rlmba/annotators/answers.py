"""Labels as people write them into a table: by id, in any order, with the slips that happen."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlmba.cells import NameIndex, all_numbers, as_text, folded, missing_words, spaced, whole
from rlmba.errors import DataError, RlmbaWarning
from rlmba.spreadsheet import unguarded

if TYPE_CHECKING:
    from rlmba.data.table import Table

__all__ = ["CANNOT_TELL", "AskedIds", "ClassNames", "read_labels"]

CANNOT_TELL = "?"
"""In place of a label: people cannot tell."""

_SHOWN_PROBLEMS = 10
_MANY = 5000


class ClassNames:
    """What a label that somebody wrote means.

    Parameters
    ----------
    classes : sequence of str
        Known names.
    open : bool
        A label that is none of them is a new one.
    numbers : bool
        All labels that will be looked up are numbers: of new names, whole ones lose their fraction,
        unless a known name is no number.
    """

    def __init__(self, classes: Sequence[str], *, open: bool, numbers: bool = False) -> None:  # noqa: A002 - as in LabelBatch
        self._names = NameIndex(classes, case=False)
        self._open = open
        self._numbers = numbers and all_numbers(classes)

    def find(self, label: str) -> str | None:
        """The class that a label means by :class:`~rlmba.cells.NameIndex`, without a guarding apostrophe.

        Where it means none and classes are open, it is itself a class, with single blanks, from then on a
        known one.

        Parameters
        ----------
        label : str
            Not empty.

        Returns
        -------
        str or None
            None where it means none of them, or could mean several.
        """
        for text in (unguarded(label), label):
            if alike := self._names.alike(text):
                return alike[0] if len(alike) == 1 else None
        name = spaced(unguarded(label))
        if not self._open or not name:
            return None
        name = whole(name) if self._numbers else name
        self._names.add(name)
        return name

    def refusal(self, label: str) -> str:
        """Why :meth:`find` does not know a label, and which are allowed."""
        if alike := self._names.alike(unguarded(label)):
            return f"label {label!r} could be each of {alike}; write it exactly"
        names = list(self._names)
        nearest = difflib.get_close_matches(folded(label), [folded(name) for name in names], 1)
        meant = next((name for name in names if nearest and folded(name) == nearest[0]), None)
        shown = ", ".join(map(repr, names[:20])) + (" ..." if len(names) > 20 else "")
        return (
            f"label {label!r} is no class"
            + (f" (did you mean {meant!r}?)" if meant is not None else "")
            + f"; allowed: {shown}, and {CANNOT_TELL!r} for cannot tell"
        )


class AskedIds:
    """The ids that were asked for, as people and programs write them.

    Parameters
    ----------
    ids : iterable of str
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self._names = NameIndex(str(i) for i in ids)

    def find(self, cell: str) -> str | None:
        """The id that a cell means by :class:`rlmba.cells.NameIndex`, None where it means none of them."""
        return self._names.find(unguarded(cell)) or self._names.find(cell)

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self._names)

    def refusal(self, cell: str) -> str:
        """Why :meth:`find` does not know an id."""
        if alike := self._names.alike(unguarded(cell)):
            return f"id {cell!r} could be each of {alike[:5]}; write it exactly"
        candidates = self._sorted
        if len(candidates) > _MANY:  # difflib takes 10 µs for each
            ends = (cell[:3], cell[-3:])
            near = [c for c in candidates if c.startswith(ends[0]) or c.endswith(ends[1])]
            candidates = near[:_MANY]
        nearest = difflib.get_close_matches(cell, candidates, 1)
        return f"id {cell!r} was not asked for" + (
            f" (did you mean {nearest[0]!r}?)" if nearest else ""
        )


def read_labels(
    path: Path,
    *,
    ids: Iterable[str],
    classes: Sequence[str],
    open: bool,  # noqa: A002 - as in LabelBatch
    others: Literal["refuse", "ignore"] = "refuse",
) -> dict[str, str | None]:
    """Labels by id from a table with the columns id and label, in any order; other columns do not matter.

    An empty label is no answer; ``?`` means that people cannot tell. What ids and labels mean is said in
    :mod:`rlmba.cells`: a class's exact name, else the only class that differs from it by blanks or case
    alone, or is the same whole number. A row may be there twice if both say the same. An apostrophe that
    guards a cell against spreadsheets is taken off.

    Parameters
    ----------
    path : path
        What :func:`rlmba.data.table.read_table` reads.
    ids : iterable of str
        Those a label may be for.
    classes : sequence of str
        Names that a label may have.
    open : bool
        A label may also be a new name.
    others : {"refuse", "ignore"}
        What to do with rows for other ids.

    Returns
    -------
    dict of str to str or None
        Class name by id, in the file's order; None where people cannot tell.

    Raises
    ------
    DataError
        If the table cannot be read, lacks a column, or has labels or ids that are not allowed, or two
        labels for an id. The message has the first ten such places; nothing of the file is taken.
    """
    from rlmba.data.table import read_table

    table = read_table(Path(path))
    problems = _Problems(table)
    rows, labels = _cells(table, "id", problems), _cells(table, "label", problems)
    written = [label for label in labels if label is not None and label != CANNOT_TELL]
    known = AskedIds(ids)
    names = ClassNames(classes, open=open, numbers=all_numbers(map(unguarded, written)))
    found: dict[str, tuple[str | None, int]] = {}
    for line, cell, label in zip(table.lines, rows, labels, strict=True):
        if cell is None:
            if label is not None:
                problems.add(line, f"label {label!r} without an id".__str__)
            continue
        name = known.find(cell)
        if name is None:
            if others == "refuse":
                problems.add(line, partial(known.refusal, cell))
            continue
        if label is None:
            continue
        unsure = label == CANNOT_TELL and CANNOT_TELL not in classes
        meant = None if unsure else names.find(label)
        if meant is None and not unsure:
            problems.add(line, partial(names.refusal, label))
            continue
        earlier = found.setdefault(name, (meant, line))
        if earlier[0] != meant:
            problems.add(line, partial(_conflict, name, label, earlier, table.unit))
    problems.check()
    _warn_of_missing(table, {label for label, _ in found.values() if label} - set(classes))
    return {name: label for name, (label, _) in found.items()}


def _warn_of_missing(table: Table, new: Iterable[str]) -> None:
    if words := missing_words(sorted(new)):
        warnings.warn(
            f"{table.path}: {', '.join(map(repr, words))} counts as a new class; if it stands for no answer, "
            "leave these cells empty",
            RlmbaWarning,
            stacklevel=3,
        )


def _cells(table: Table, name: str, problems: _Problems) -> list[str | None]:
    """A column as text; cells that are no text are problems, and then count as empty."""

    def text(line: int, cell: Any) -> str | None:
        try:
            return as_text(cell)
        except ValueError as error:
            problems.add(line, f"{name}: {error}".__str__)
            return None

    return [text(line, c) for line, c in zip(table.lines, table.column(name), strict=True)]


class _Problems:
    """What is wrong in a table, all of it told at once; the first few are looked into."""

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
        """Raise DataError if there are any."""
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
