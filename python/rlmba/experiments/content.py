"""The content of a report, before it becomes Markdown, CSV, LaTeX or HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Cell", "FigureData", "Subject", "TableData"]


class Cell(NamedTuple):
    """A table's cell: the printed text, and the number it is sorted by (None: by its text)."""

    text: str
    value: float | None = None


class Subject(NamedTuple):
    """The data set and the fusion that a table, row, column or figure is about; None: no single one."""

    dataset: str | None = None
    fusion: str | None = None


_WHOLE = Subject()


@dataclass(frozen=True)
class TableData:
    """One table.

    Attributes
    ----------
    key : str
        Its name as a file, such as ``table1``.
    title : str
    columns : tuple of str [K]
    rows : tuple of tuples of Cell [R, K]
    notes : tuple of str
        What a reader needs to interpret it: what was measured, under which fusion, definitions.
    bold : frozenset of (row, column)
        Cells that are set in bold: the best of a column, and what is significantly better.
    worse : frozenset of (row, column)
        Cells that say that something is significantly worse; they are set in italics, with a mark where
        color is used.
    subject : Subject
        Of the whole table.
    scope : str
        The part of the title that states the fusion and the predictor; empty if it states none.
    row_subjects, column_subjects : tuple of Subject [R], [K]
        Of each row and column; empty if none has a subject of its own.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    bold: frozenset[tuple[int, int]] = frozenset()
    worse: frozenset[tuple[int, int]] = frozenset()
    subject: Subject = _WHOLE
    scope: str = ""
    row_subjects: tuple[Subject, ...] = ()
    column_subjects: tuple[Subject, ...] = ()


@dataclass(frozen=True)
class FigureData:
    """One figure, drawn.

    Attributes
    ----------
    key : str
        Its name as a file, such as ``figure5_digits_uniform``.
    title, caption : str
    files : mapping of {"png", "pdf", "svg"} to bytes
    columns, rows
        The numbers it shows, for the CSV next to it.
    subject : Subject
    scope : str
        The part of the title that states the fusion and the predictor; empty if it states none.
    """

    key: str
    title: str
    caption: str
    files: Mapping[str, bytes]
    columns: tuple[str, ...]
    rows: Sequence[tuple[str | float | int, ...]]
    subject: Subject = _WHOLE
    scope: str = ""
