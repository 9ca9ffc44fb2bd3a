"""``rlmba report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app


@app.command()
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Run folders, or folders with some below."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="DIR",
            help="Where tables and figures go. [default: RUN/report for one folder, else ./report]",
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            "--budget",
            metavar="N",
            min=1,
            help="Labels at which accuracies are compared. [default: the last that all have]",
        ),
    ] = None,
    figures: Annotated[
        bool, typer.Option(help="Draw the figures of a comparison, about a second each.")
    ] = True,
) -> None:
    """Write tables, figures and statistics of runs, and print the main ones."""
    from rlmba.cli.screen import say
    from rlmba.cli.show import show
    from rlmba.experiments import make_report

    folder = output or (runs[0] / "report" if len(runs) == 1 else Path("report"))
    made = make_report(runs, folder, budget=budget, figures=figures)
    show(made)
    for run in made.skipped:
        say(f"left out: {run}", stderr=True)
