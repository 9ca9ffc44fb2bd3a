"""``rlmba report``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="DIR",
            help="Where figures and tables go. [default: RUN/report for one run, else ./report]",
        ),
    ] = None,
) -> None:
    """Draw learning curves, contributions and weights of runs, and print their table."""
    from rich.console import Console

    from rlmba.experiments import make_report

    folder = output or (runs[0] / "report" if len(runs) == 1 else Path("report"))
    made = make_report(runs, folder)
    # A pipe has no width: leave the tables as wide as they are.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    for table in made.tables():
        console.print(table)
    for path in made.paths:
        console.print(str(path), soft_wrap=True, highlight=False, markup=False)
