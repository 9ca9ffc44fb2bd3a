"""Render a table as Markdown, CSV or LaTeX, or for the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rlmba import markup
from rlmba.experiments.content import Cell, TableData
from rlmba.tables import csv_text

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["comma_separated", "latex", "markdown", "terminal"]

# Tables with more columns do not fit on a page in \small.
_WIDE = 7


def _numeric(table: TableData, column: int) -> bool:
    """Whether a column holds numbers, which are aligned to the right."""
    return any(row[column].value is not None for row in table.rows)


def markdown(table: TableData, *, level: int = 2) -> str:
    """Format a table as Markdown: heading, table, notes.

    Parameters
    ----------
    table : TableData
    level : int
        Level of the heading.
    """

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    def text(r: int, k: int, cell: Cell) -> str:
        plain = markup.markdown(cell.text)
        mark = "**" if (r, k) in table.bold else "*" if (r, k) in table.worse else ""
        return f"{mark}{plain}{mark}" if plain else plain

    rule = "|".join("---:" if _numeric(table, k) else "---" for k in range(len(table.columns)))
    lines = [
        f"{'#' * level} {markup.markdown(table.title)}",
        "",
        line(map(markup.markdown, table.columns)),
        f"|{rule}|",
    ]
    lines += [line(text(r, k, c) for k, c in enumerate(row)) for r, row in enumerate(table.rows)]
    if table.notes:
        lines += ["", *_paragraph(table.notes)]
    return "\n".join(lines) + "\n"


def _paragraph(notes: Sequence[str]) -> list[str]:
    plain = [markup.markdown(note) for note in notes]
    return [f"- {note}" for note in plain] if len(plain) > 1 else plain


def comma_separated(table: TableData) -> str:
    """Format a table as CSV with unrounded numbers.

    If the printed text contains more than the number (a spread, a star), it follows in a column named
    ``... as printed``.
    """
    printed = [
        any(row[k].value is not None and not _is_number(row[k].text) for row in table.rows)
        for k in range(len(table.columns))
    ]
    header: list[str] = []
    for name, extra in zip(table.columns, printed, strict=True):
        header += [name, f"{name} as printed"] if extra else [name]
    rows = []
    for row in table.rows:
        cells: list[object] = []
        for cell, extra in zip(row, printed, strict=True):
            whole = cell.value is None or cell.text.isdigit()
            cells.append(cell.text if whole else cell.value)
            if extra:
                cells.append(cell.text)
        rows.append(cells)
    return csv_text(header, rows)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def latex(table: TableData) -> str:
    r"""Format a table as a LaTeX float that needs ``\usepackage{booktabs}``; all text is escaped.

    Its label is ``tab:`` followed by the table's key.
    """

    def line(cells: Iterable[str]) -> str:
        return "  " + " & ".join(cells) + r" \\"

    def text(r: int, k: int, cell: Cell) -> str:
        plain = markup.latex(cell.text)
        form = "textbf" if (r, k) in table.bold else "textit" if (r, k) in table.worse else ""
        return rf"\{form}{{{plain}}}" if form and plain else plain

    across = range(len(table.columns))
    alignment = "".join("r" if _numeric(table, k) else "l" for k in across)
    notes = [rf"  {{\footnotesize {markup.latex(note)}\par}}" for note in table.notes]
    label = re.sub(r"[^\w.:-]+", "-", table.key)
    lines = [
        r"\begin{table}[t]",
        r"  \centering",
        rf"  \caption{{{markup.latex(table.title)}}}",
        rf"  \label{{tab:{label}}}",
        r"  \scriptsize" if len(across) > _WIDE else r"  \small",
        rf"  \begin{{tabular}}{{{alignment}}}",
        r"  \toprule",
        line(map(markup.latex, table.columns)),
        r"  \midrule",
        *(line(text(r, k, c) for k, c in enumerate(row)) for r, row in enumerate(table.rows)),
        r"  \bottomrule",
        r"  \end{tabular}",
        *([r"  \par\smallskip", *notes] if notes else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def terminal(table: TableData, *, notes: bool = True) -> Table:
    """Build a table for rich, with the notes as its caption."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    caption = markup.visible("\n".join(table.notes)) if notes and table.notes else None
    built = Table(
        title=Text(markup.visible(table.title), style="table.title"),
        caption=None if caption is None else Text(caption, style="table.caption"),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        title_justify="left",
        caption_justify="left",
    )
    for k, name in enumerate(table.columns):
        right = _numeric(table, k)
        built.add_column(
            Text(markup.visible(name)), justify="right" if right else "left", no_wrap=True
        )
    for r, row in enumerate(table.rows):
        built.add_row(
            *(
                Text(markup.visible(c.text), style=_terminal_style(table, (r, k)))
                for k, c in enumerate(row)
            )
        )
    return built


def _terminal_style(table: TableData, cell: tuple[int, int]) -> str:
    return "bold" if cell in table.bold else "italic red" if cell in table.worse else ""
