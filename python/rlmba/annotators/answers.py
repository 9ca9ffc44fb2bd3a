"""Labels as people write them into a table: by id, in any order, with the slips that happen."""

from __future__ import annotations

import difflib
import json
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlmba.spreadsheet import unguarded
from rlmba.errors import DataError

if TYPE_CHECKING:
    from rlmba.data.table import Table

__all__ = ["CANNOT_TELL", "ClassNames", "read_labels"]

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
    """

    def __init__(self, classes: Sequence[str], *, open: bool) -> None:  # noqa: A002 - as in LabelBatch
        self._exact = set(classes)
        self._folded: defaultdict[str, list[str]] = defaultdict(list)
        for name in classes:
            self._folded[_folded(name)].append(name)
        self._open = open

    def find(self, label: str) -> str | None:
        """The class meant: of that very name, else the only one that differs by case and blanks alone.

        Else, where classes are open, the label itself, with single blanks, from then on a known name.

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
            if text in self._exact:
                return text
            if alike := self._folded.get(_folded(text)):
                return alike[0] if len(alike) == 1 else None
        if not self._open:
            return None
        name = _spaced(unguarded(label))
        self._exact.add(name)
        self._folded[_folded(name)].append(name)
        return name

    def refusal(self, label: str) -> str:
        """Why :meth:`find` does not know a label, and which are allowed."""
        if alike := self._folded.get(_folded(label)):
            return f"label {label!r} could be each of {alike}; write it exactly"
        names = [name for group in self._folded.values() for name in group]
        nearest = difflib.get_close_matches(_folded(label), list(self._folded), 1)
        shown = ", ".join(map(repr, names[:20])) + (" ..." if len(names) > 20 else "")
        return (
            f"label {label!r} is no class"
            + (f" (did you mean {self._folded[nearest[0]][0]!r}?)" if nearest else "")
            + f"; allowed: {shown}, and {CANNOT_TELL!r} for cannot tell"
        )


class _Ids:
    """Ids as a spreadsheet may have left them: guarded, blanks changed."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._exact = {str(i) for i in ids}

    @cached_property
    def _spaced(self) -> Mapping[str, list[str]]:
        spaced = defaultdict(list)
        for name in self._exact:
            spaced[_spaced(name)].append(name)
        return spaced

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self._exact)

    def find(self, cell: str) -> str | None:
        for text in (unguarded(cell), cell):
            if text in self._exact:
                return text
            alike = self._spaced.get(_spaced(text), [])
            if len(alike) == 1:
                return alike[0]
        return None

    def refusal(self, cell: str) -> str:
        candidates = self._sorted
        if len(candidates) > _MANY:  # difflib takes 10 µs for each
            ends = (cell[:3], cell[-3:])
            alike = [c for c in candidates if c.startswith(ends[0]) or c.endswith(ends[1])]
            candidates = alike[:_MANY]
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

    An empty label is no answer; ``?`` means that people cannot tell. A label is a class's exact name,
    else the only class that differs from it by case and blanks alone. Numbers count as their digits.
    A row may be there twice if both say the same. An apostrophe that guards a cell against spreadsheets
    is taken off.

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
    known, names = _Ids(ids), ClassNames(classes, open=open)
    found: dict[str, tuple[str | None, int]] = {}
    problems = _Problems(table)
    cells = zip(table.lines, _column(table, "id"), _column(table, "label"), strict=True)
    for line, written, label in cells:
        if not written:
            if label:
                problems.add(line, f"label {label!r} without an id".__str__)
            continue
        name = known.find(written)
        if name is None:
            if others == "refuse":
                problems.add(line, partial(known.refusal, written))
            continue
        if not label:
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
    return {name: label for name, (label, _) in found.items()}


class _Problems:
    """What is wrong in a table, all of it told at once; the first few are looked into."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._shown: list[str] = []
        self._count = 0

    def add(self, line: int, say: Callable[[], str]) -> None:
        self._count += 1
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


def _column(table: Table, name: str) -> Iterator[str]:
    """A column's cells as text, "" where there is nothing."""
    alike = [c for c in table.columns if c == name] or [
        c for c in table.columns if _folded(c) == name
    ]
    if len(alike) != 1:
        raise DataError(
            f"{table.path}: expected "
            + (f"one column {name!r}, got {alike}" if alike else f"a column {name!r}")
            + f" among {list(table.columns)[:20]}; the header's names are id and label, a CSV's separator "
            "one of , ; | and tab"
        )
    return map(_text, table.columns[alike[0]])


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a whole number beside missing ones, as pandas holds it
    return json.dumps(value) if isinstance(value, list | dict) else str(value).strip()


def _spaced(text: str) -> str:
    """Single blanks between words, and one form of each accented letter."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _folded(text: str) -> str:
    return _spaced(text).casefold()
