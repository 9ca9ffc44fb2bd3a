"""Assemble the page."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple
from urllib.parse import quote

from rlmba.errors import UsageError
from rlmba.experiments.content import Cell, FigureData, Subject, TableData
from rlmba.experiments.curves import Group
from rlmba.experiments.html.curves_json import curves_json
from rlmba.tables import csv_text

__all__ = ["render"]

_SCRIPTS = ("view.js", "chart_parts.js", "chart.js")
# The first available format is embedded; browsers can draw the PNG from the SVG.
_IMAGES = {"svg": "image/svg+xml", "png": "image/png"}


def render(
    title: str,
    *,
    tables: Sequence[TableData],
    figures: Sequence[FigureData],
    groups: Sequence[Group],
    facts: Mapping[str, str],
) -> str:
    """Render a report as one self-contained HTML page, which loads nothing.

    A click on a heading sorts a table. The reader chooses a data set and a fusion to show; initially only
    the first fusion is shown, because comparisons across fusions are misleading. An interactive chart
    draws the learning curves of ``groups``. Without JavaScript, the page shows everything except the chart.

    Parameters
    ----------
    title : str
    tables : sequence of TableData
        Shown in order. The subjects of tables, rows and columns decide under which data set and fusion
        they are shown; those without a subject are shown under all.
    figures : sequence of FigureData
        Shown in order, as SVG if available (the browser then makes the PNG for download), else as PNG;
        other formats are ignored.
    groups : sequence of Group
        Curves of the chart; they also determine the data sets and fusions to choose from. A point that is
        not finite in all seeds is a gap.
    facts : mapping of str to str
        Versions, machine, date, settings and other facts about the origin of the figures.

    Returns
    -------
    str
        The page, to be encoded as UTF-8. The same arguments give the same page.

    Raises
    ------
    UsageError
        If the rows and the heading of a table differ in length, a figure has neither SVG nor PNG, or the
        values of a group do not have the shape (seeds, numbers of labels).
    """
    import jinja2

    names = _Names(
        datasets=tuple(dict.fromkeys(group.dataset for group in groups)),
        fusions=tuple(dict.fromkeys(group.fusion for group in groups)),
    )
    script = "\n".join(_text(name) for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # tojson escapes "<", ">", "&" and "'", so that no text can end the script element.
    environment.policies["json.dumps_kwargs"] = {
        "allow_nan": False,
        "separators": (",", ":"),
        "ensure_ascii": False,
    }
    page = environment.from_string(_text("page.html.jinja")).render(
        title=title,
        names=names,
        style=_text("style.css"),
        script=script,
        script_digest=digest,
        curves=curves_json(groups, names.datasets, names.fusions) if groups else None,
        tables=[_table(table, names) for table in tables],
        figures=[_figure(figure, names) for figure in figures],
        contents=_contents(tables, figures),
        facts=facts,
    )
    # Names that come from paths may contain undecodable bytes, but the page must be UTF-8.
    return page.encode("utf-8", "replace").decode("utf-8")


class _Position(NamedTuple):
    """Positions of a data set and a fusion among those of the report; None: no single one."""

    dataset: int | None
    fusion: int | None


@dataclass(frozen=True)
class _Names:
    """The data sets and fusions of a report, in order."""

    datasets: tuple[str, ...]
    fusions: tuple[str, ...]

    def position(self, subject: Subject) -> _Position:
        return _Position(
            self.datasets.index(subject.dataset) if subject.dataset in self.datasets else None,
            self.fusions.index(subject.fusion) if subject.fusion in self.fusions else None,
        )

    def positions(self, subjects: Sequence[Subject], n: int) -> list[_Position]:
        """Positions of n rows or columns, which may have no subjects."""
        return [self.position(subject) for subject in subjects or (Subject(),) * n]


def _contents(
    tables: Sequence[TableData], figures: Sequence[FigureData]
) -> dict[str, list[tuple[str, str]]]:
    """The list of contents: ids of sections and their names, by fusion and predictor.

    The names do not repeat the fusion and the predictor of the titles.
    """
    contents: dict[str, list[tuple[str, str]]] = {}
    items: Mapping[str, Sequence[TableData | FigureData]] = {"table": tables, "figure": figures}
    for kind, members in items.items():
        for number, item in enumerate(members):
            name = item.title.replace(f", {item.scope}", "") if item.scope else item.title
            contents.setdefault(item.scope, []).append((f"{kind}-{number}", name))
    return contents


def _text(name: str) -> str:
    return (resources.files("rlmba.experiments.html") / name).read_text(encoding="utf-8")


def _table(table: TableData, names: _Names) -> dict[str, Any]:
    width = len(table.columns)
    for number, row in enumerate(table.rows):
        if len(row) != width:
            raise UsageError(
                f"table {table.key!r}, row {number}: expected {width} cells, one for each column, "
                f"got {len(row)}"
            )
    rows = names.positions(table.row_subjects, len(table.rows))
    columns = names.positions(table.column_subjects, width)
    return {
        "title": table.title,
        "position": names.position(table.subject),
        "mixed": any(position != (None, None) for position in (*rows, *columns)),
        "columns": [
            {"heading": heading, "position": columns[k], "numeric": _numeric(table, k)}
            for k, heading in enumerate(table.columns)
        ],
        "rows": [
            {"position": rows[r], "cells": [(cell.text, _sort_value(cell)) for cell in row]}
            for r, row in enumerate(table.rows)
        ],
        "bold": table.bold,
        "worse": table.worse,
        "notes": table.notes,
        "csv": _csv_uri(table.columns, ([cell.text for cell in row] for row in table.rows)),
        "file": _file_name(table.key),
    }


def _sort_value(cell: Cell) -> str | None:
    if cell.value is None or math.isnan(cell.value):
        return None
    if math.isinf(cell.value):
        return "Infinity" if cell.value > 0 else "-Infinity"
    return repr(float(cell.value))


def _numeric(table: TableData, column: int) -> bool:
    return any(row[column].value is not None for row in table.rows)


def _figure(figure: FigureData, names: _Names) -> dict[str, Any]:
    kind = next((kind for kind in _IMAGES if kind in figure.files), None)
    if kind is None:
        raise UsageError(
            f"figure {figure.key!r}: expected a file of {' or '.join(_IMAGES)}, "
            f"got {', '.join(figure.files) or 'none'}"
        )
    return {
        "title": figure.title,
        "caption": figure.caption,
        "position": names.position(figure.subject),
        "kind": kind,
        "image": f"data:{_IMAGES[kind]};base64,{base64.b64encode(figure.files[kind]).decode()}",
        "csv": _csv_uri(figure.columns, figure.rows) if figure.columns else "",
        "file": _file_name(figure.key),
    }


def _csv_uri(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = csv_text(columns, rows)
    return "data:text/csv;charset=utf-8," + quote(text, safe=",;:() ", errors="replace")


def _file_name(key: str) -> str:
    return re.sub(r"[^\w.-]+", "-", key)
