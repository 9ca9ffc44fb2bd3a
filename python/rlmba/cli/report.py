"""`rlmba report`: tables and figures of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app


@app.command()
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Run folders, or folders that contain some."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="DIR",
            help="Folder for tables and figures. [default: RUN/report for one folder, else ./report]",
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            "--budget",
            metavar="N",
            min=1,
            help="Number of labels at which accuracies are compared. [default: the last that all have]",
        ),
    ] = None,
    figures: Annotated[
        bool, typer.Option(help="Draw the figures of a comparison (about a second each).")
    ] = True,
) -> None:
    """Write tables, figures and statistics of runs, and print the most important tables."""
    from rlmba.cli.counter import stages
    from rlmba.cli.screen import say
    from rlmba.cli.show import show
    from rlmba.experiments import make_report

    folder = output or (runs[0] / "report" if len(runs) == 1 else Path("report"))
    with stages():
        made = make_report(runs, folder, budget=budget, figures=figures)
    show(made)
    for run in made.skipped:
        say(f"left out: {run}", stderr=True)
