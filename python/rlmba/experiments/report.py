"""Reports: the tables and figures of run folders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlmba import trust
from rlmba.errors import DataError, UsageError
from rlmba.experiments.curves import Group
from rlmba.experiments.figures import single
from rlmba.experiments.find_runs import FoundRuns, find_runs, read_groups
from rlmba.experiments.tables import overview, render
from rlmba.progress import announce
from rlmba.reading.structured import find_json
from rlmba.storage import atomic_write_bytes, atomic_write_text, make_folder
from rlmba.tables import csv_text

if TYPE_CHECKING:
    from rich.table import Table

    from rlmba.experiments.content import FigureData, TableData

__all__ = ["WrittenReport", "make_report"]

_MANIFEST = "report.json"
# Tables of a comparison that are shown on the terminal, in addition to the overview.
_SHOWN = ("verdicts_", "ranks_")


@dataclass(frozen=True)
class WrittenReport:
    """A report that was written, and the data behind it.

    Attributes
    ----------
    folder : Path
    files : tuple of Path
        All files of the report.
    groups : tuple of Group
        The curves that it shows.
    table_data : tuple of TableData
        The tables of a comparison; empty for a single run.
    skipped : tuple of str
        Runs that were found but not reported, and why.
    """

    folder: Path
    files: tuple[Path, ...]
    groups: tuple[Group, ...]
    table_data: tuple[TableData, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """Paths to print: the files in the report's folder, and the subfolders with the other files."""
        own = [p for p in self.files if p.parent == self.folder and p.name != _MANIFEST]
        return (*own, *dict.fromkeys(p.parent for p in self.files if p.parent != self.folder))

    def tables(self) -> list[Table]:
        """Build the tables for a terminal: the overview and, for a comparison, verdicts and ranks."""
        shown = [t for t in self.table_data if t.key.startswith(_SHOWN)]
        return [
            *map(render.terminal, overview.compact(self.groups)),
            *(render.terminal(_narrowed(table), notes=False) for table in shown),
        ]


# The columns of a comparison's tables that fit on a terminal of eighty columns, and their headings there.
_NARROW = {
    "against": "against", "strategy": "strategy", "wins": "won", "ties": "tied", "losses": "lost",
    "pooled difference": "difference", "Holm": "p", "pooled verdict": "pooled",
    "mean rank": "mean rank",
}  # fmt: skip


def _narrowed(table: TableData) -> TableData:
    kept = [k for k, name in enumerate(table.columns) if name in _NARROW]
    return replace(
        table,
        columns=tuple(_NARROW[table.columns[k]] for k in kept),
        rows=tuple(tuple(row[k] for k in kept) for row in table.rows),
        bold=frozenset((r, kept.index(k)) for r, k in table.bold if k in kept),
        worse=frozenset((r, kept.index(k)) for r, k in table.worse if k in kept),
    )


def make_report(
    runs: Sequence[Path], output: Path, *, budget: int | None = None, figures: bool = True
) -> WrittenReport:
    """Read run folders, and write their tables and figures.

    The report of a single run consists of ``learning_curve.png``, ``contributions.png``,
    ``weights.png``, ``report.html``, the overview as ``table.md`` and ``table.csv``, and ``curves.csv``.
    That of several runs consists of ``report.html``, the overview, ``tables/`` (Markdown, CSV, LaTeX) and
    ``figures/`` (PNG, PDF, SVG, CSV).

    Parameters
    ----------
    runs : sequence of Path
        Run folders of rlmba or of BMMAL's code, finished or not, or folders that contain some. Runs that
        differ only by their seed are averaged; see :func:`~rlmba.experiments.group_runs`.
    output : Path
        The report's folder. It is created if needed; a report in it is replaced.
    budget : int or None
        Number of labels at which Tables 1 and 2, fairness and calibration are read; None: in each data
        set the last number that all strategies of a fusion have.
    figures : bool
        Whether to draw the figures of a comparison; each takes about a second.

    Returns
    -------
    WrittenReport

    Raises
    ------
    RunFolderError
        If a folder is not a run folder, is damaged, or has no complete round.
    UsageError
        If there is no run, a seed appears twice, no round has ``budget`` labels, or ``output`` is a
        file.
    StorageError
        If something cannot be written.
    """
    found = find_runs([Path(run) for run in runs])
    groups = tuple(read_groups(found.runs))
    if output.exists() and not output.is_dir():
        raise UsageError(
            f"{output}: expected a folder for the report, found a file; give another --output"
        )
    facts = _facts(groups, found)
    if len(found.runs) == 1 and groups[0].options and budget is None:
        files = _write(output, _one(groups, facts))
        return WrittenReport(output, files, groups, skipped=found.skipped)
    return _compare(groups, found, facts, output, budget=budget, figures=figures)


def _overview(groups: Sequence[Group]) -> Iterator[tuple[str, bytes]]:
    tables = overview.overview(groups)
    yield "table.md", "\n".join(map(render.markdown, tables)).encode()
    yield "table.csv", overview.table_csv(groups).encode()
    yield "curves.csv", overview.curves_csv(groups).encode()


def _page(
    groups: Sequence[Group],
    tables: Sequence[TableData],
    figures: Sequence[FigureData],
    facts: Mapping[str, str],
) -> str:
    from rlmba.experiments.html import render as html

    return html(_title(groups), tables=tables, figures=figures, groups=groups, facts=facts)


def _one(groups: Sequence[Group], facts: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    (group,) = groups
    figures = single.figures(group)
    for figure in figures:
        yield f"{figure.key}.png", figure.files["png"]
    yield from _overview(groups)
    yield "report.html", _page(groups, overview.overview(groups), figures, facts).encode()


def _compare(
    groups: tuple[Group, ...],
    found: FoundRuns,
    facts: Mapping[str, str],
    output: Path,
    *,
    budget: int | None,
    figures: bool,
) -> WrittenReport:
    """Write the report of several runs. Only these need statistics, which are imported here."""
    from rlmba.experiments.figures.assemble import scope_figures
    from rlmba.experiments.scope import scopes
    from rlmba.experiments.tables.assemble import scope_tables

    split = scopes(groups, budget)
    announce("computing the tables")
    tables = scope_tables(split)

    def files() -> Iterator[tuple[str, bytes]]:
        yield from _overview(groups)
        for table in tables:
            yield f"tables/{table.key}.md", render.markdown(table).encode()
            yield f"tables/{table.key}.csv", render.comma_separated(table).encode()
            yield f"tables/{table.key}.tex", render.latex(table).encode()
        drawn: list[FigureData] = []
        for figure in scope_figures(split) if figures else ():
            # The page shows only the SVG; all formats would make it three times as large.
            drawn.append(replace(figure, files={"svg": figure.files["svg"]}))
            for suffix, content in figure.files.items():
                yield f"figures/{figure.key}.{suffix}", content
            yield (
                f"figures/{figure.key}.csv",
                csv_text(figure.columns, figure.rows).encode(),
            )
        page = _page(groups, [*overview.overview(groups), *tables], drawn, facts)
        yield "report.html", page.encode()

    written = _write(output, files())
    return WrittenReport(output, written, groups, tuple(tables), found.skipped)


def _title(groups: Sequence[Group]) -> str:
    sets = list(dict.fromkeys(g.dataset for g in groups))
    return f"rlmba: {', '.join(sets)}" if len(sets) <= 5 else f"rlmba: {len(sets)} data sets"


def _facts(groups: Sequence[Group], found: FoundRuns) -> Mapping[str, str]:
    def listed(values: Sequence[str]) -> str:
        return ", ".join(dict.fromkeys(values))

    facts = {
        "runs": str(len(found.runs)),
        "data sets": listed([g.dataset for g in groups]),
        "fusions": listed([g.fusion for g in groups]),
        "predictors": listed([g.predictor for g in groups]),
        "seeds": ", ".join(map(str, sorted({seed for g in groups for seed in g.seeds}))),
        "versions of rlmba": listed([version for g in groups for version in g.versions]),
        "notes": "; ".join(dict.fromkeys(note for g in groups for note in g.notes)),
        "left out": "; ".join(found.skipped),
    }
    return {name: value for name, value in facts.items() if value}


def _write(output: Path, files: Iterator[tuple[str, bytes]]) -> tuple[Path, ...]:
    """Write the files one by one, then remove those of an earlier report that were not written again."""
    make_folder(output)
    trust.require_inside(output)
    before = _listed(output)
    names = []
    for name, content in files:
        path = output / name
        if path.parent != output:
            make_folder(path.parent)
        atomic_write_bytes(path, content)
        names.append(name)
    atomic_write_text(output / _MANIFEST, json.dumps({"files": sorted(names)}, indent=1) + "\n")
    for name in before - {*names, _MANIFEST}:
        if (output / name).is_file():
            (output / name).unlink()
    return tuple(output / name for name in (*names, _MANIFEST))


def _listed(output: Path) -> set[str]:
    """Names of the files of the report in a folder, from its list; empty if there is no list."""
    inside = output.resolve()
    try:
        listed = find_json(output / _MANIFEST, dict[str, list[str]], advice="delete it")
        # Nothing outside the folder, whatever the list contains and wherever links lead.
        return {
            name
            for name in (listed or {}).get("files", [])
            if Path(name).name != ".." and (output / name).parent.resolve().is_relative_to(inside)
        }
    except (DataError, OSError, ValueError):
        return set()
