"""What a report is made of, before it is Markdown, CSV, LaTeX or HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Cell", "FigureData", "TableData"]


class Cell(NamedTuple):
    """A table's cell: what is printed, and the number it is sorted by (None: its text)."""

    text: str
    value: float | None = None


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
        What a reader must know to read it right: what was measured, under which fusion, definitions.
    bold : frozenset of (row, column)
        Cells that are set in bold.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    bold: frozenset[tuple[int, int]] = frozenset()


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
        The numbers it shows, as the CSV beside it.
    """

    key: str
    title: str
    caption: str
    files: Mapping[str, bytes]
    columns: tuple[str, ...]
    rows: Sequence[tuple[str | float | int, ...]]
