"""``rlmba report``."""

from __future__ import annotations

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
    from rlmba.cli.show import show
    from rlmba.experiments import make_report

    folder = output or (runs[0] / "report" if len(runs) == 1 else Path("report"))
    show(make_report(runs, folder))
