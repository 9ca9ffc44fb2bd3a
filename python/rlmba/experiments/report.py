"""A report: run folders in, figures and tables out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlmba.errors import UsageError
from rlmba.experiments import figures, tables
from rlmba.experiments.curves import Group, group_runs
from rlmba.storage import atomic_write_bytes, make_folder

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Report", "make_report"]

_FIGURES: dict[str, Callable[[str, Sequence[Group]], bytes]] = {
    "learning_curve": figures.learning_curve,
    "contributions": figures.contributions,
    "weights": figures.weights,
}


@dataclass(frozen=True)
class Report:
    """What was written: figures by kind, one a data set, and the tables.

    ``groups`` holds the curves behind them.
    """

    learning_curves: tuple[Path, ...]
    contributions: tuple[Path, ...]
    weights: tuple[Path, ...]
    table_md: Path
    table_csv: Path
    curves_csv: Path
    groups: tuple[Group, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file written."""
        drawn = (*self.learning_curves, *self.contributions, *self.weights)
        return (*drawn, self.table_md, self.table_csv, self.curves_csv)

    def tables(self) -> list[Table]:
        """Build the tables for a terminal, one a data set."""
        return tables.rich_tables(self.groups)


def make_report(runs: Sequence[Path], output: Path) -> Report:
    """Read run folders, draw their figures and write their tables.

    Parameters
    ----------
    runs : sequence of Path
        Run folders, finished or not. Those that differ by their seed alone are averaged; see
        :func:`~rlmba.experiments.group_runs`.
    output : Path
        Folder for ``learning_curve.png``, ``contributions.png``, ``weights.png`` (with the data
        set's name before the suffix where there are several), ``table.md``, ``table.csv`` and
        ``curves.csv``. Made if needed; a report in it is replaced.

    Returns
    -------
    Report

    Raises
    ------
    RunFolderError
        If a folder is foreign, damaged or has no complete round.
    UsageError
        If there is no run, a seed is there twice, or ``output`` is a file.
    StorageError
        If something cannot be written.
    """
    from rlmba.loop.store import read_run

    groups = tuple(group_runs([read_run(Path(run)) for run in runs]))
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file; give a folder for the report with --output")
    make_folder(output)
    by_dataset = {
        d: [g for g in groups if g.dataset == d] for d in dict.fromkeys(g.dataset for g in groups)
    }
    drawn: dict[str, tuple[Path, ...]] = {}
    for kind, draw in _FIGURES.items():
        paths = []
        for dataset, members in by_dataset.items():
            suffix = "" if len(by_dataset) == 1 else "_" + re.sub(r"[^\w.-]+", "-", dataset)
            paths.append(output / f"{kind}{suffix}.png")
            atomic_write_bytes(paths[-1], draw(dataset, members))
        drawn[kind] = tuple(paths)
    written = {
        "table.md": tables.markdown(groups),
        "table.csv": tables.table_csv(groups),
        "curves.csv": tables.curves_csv(groups),
    }
    for name, text in written.items():
        atomic_write_bytes(output / name, text.encode())
    return Report(
        learning_curves=drawn["learning_curve"],
        contributions=drawn["contributions"],
        weights=drawn["weights"],
        table_md=output / "table.md",
        table_csv=output / "table.csv",
        curves_csv=output / "curves.csv",
        groups=groups,
    )
