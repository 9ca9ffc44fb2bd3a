"""A table as Markdown, CSV, LaTeX and for the terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rlmba.experiments.content import Cell, TableData

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["comma_separated", "latex", "markdown", "terminal"]

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"$<$", ">": r"$>$", "|": r"$|$",
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$", "κ": r"$\kappa$",
    "—": "---", "–": "--",
}  # fmt: skip
# Beyond this a page's width is too small for \small.
_WIDE = 7


def _numeric(table: TableData, column: int) -> bool:
    """Whether a column holds numbers, which are set to the right."""
    return any(row[column].value is not None for row in table.rows)


def markdown(table: TableData, *, level: int = 2) -> str:
    """Write a table as Markdown: heading, table, notes.

    Parameters
    ----------
    table : TableData
    level : int
        Of the heading.
    """

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |"

    def text(r: int, k: int, cell: Cell) -> str:
        return f"**{cell.text}**" if (r, k) in table.bold and cell.text else cell.text

    rule = "|".join("---:" if _numeric(table, k) else "---" for k in range(len(table.columns)))
    lines = [f"{'#' * level} {table.title}", "", line(table.columns), f"|{rule}|"]
    lines += [line(text(r, k, c) for k, c in enumerate(row)) for r, row in enumerate(table.rows)]
    if table.notes:
        lines += ["", *_paragraph(table.notes)]
    return "\n".join(lines) + "\n"


def _paragraph(notes: Sequence[str]) -> list[str]:
    return [f"- {note}" for note in notes] if len(notes) > 1 else list(notes)


def comma_separated(table: TableData) -> str:
    """Write a table as CSV: numbers unrounded.

    Where the printed text says more than the number (a spread, a star), the text follows it in a
    column named ``... as printed``.
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
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


def latex(table: TableData) -> str:
    r"""Write a table as a LaTeX float for ``\usepackage{booktabs}``, all text escaped.

    Its label is ``tab:`` and the table's key.
    """

    def line(cells: Iterable[str]) -> str:
        return "  " + " & ".join(cells) + r" \\"

    def text(r: int, k: int, cell: Cell) -> str:
        escaped = _escaped(cell.text)
        return rf"\textbf{{{escaped}}}" if (r, k) in table.bold and escaped else escaped

    across = range(len(table.columns))
    alignment = "".join("r" if _numeric(table, k) else "l" for k in across)
    notes = [rf"  {{\footnotesize {_escaped(note)}\par}}" for note in table.notes]
    label = re.sub(r"[^\w.:-]+", "-", table.key)
    lines = [
        r"\begin{table}[t]",
        r"  \centering",
        rf"  \caption{{{_escaped(table.title)}}}",
        rf"  \label{{tab:{label}}}",
        r"  \scriptsize" if len(across) > _WIDE else r"  \small",
        rf"  \begin{{tabular}}{{{alignment}}}",
        r"  \toprule",
        line(map(_escaped, table.columns)),
        r"  \midrule",
        *(line(text(r, k, c) for k, c in enumerate(row)) for r, row in enumerate(table.rows)),
        r"  \bottomrule",
        r"  \end{tabular}",
        *([r"  \par\smallskip", *notes] if notes else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def terminal(table: TableData, *, notes: bool = True) -> Table:
    """Build a table for rich; ``notes`` become its caption."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    built = Table(
        title=escape(table.title),
        caption=escape("\n".join(table.notes)) if notes and table.notes else None,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        title_justify="left",
        caption_justify="left",
    )
    for k, name in enumerate(table.columns):
        right = _numeric(table, k)
        built.add_column(escape(name), justify="right" if right else "left", no_wrap=True)
    for r, row in enumerate(table.rows):
        built.add_row(
            *(
                f"[bold]{escape(c.text)}[/bold]" if (r, k) in table.bold else escape(c.text)
                for k, c in enumerate(row)
            )
        )
    return built
