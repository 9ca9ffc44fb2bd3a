"""`rlmba bench`: how long selections take on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app


@app.command()
def bench(
    strategy: Annotated[
        list[str] | None, typer.Argument(help="Strategies to time. [default: all]")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Samples in the pool. [default: 44,719]")
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="Runs of each selection; the fastest counts.")
    ] = 3,
    output: Annotated[
        Path | None, typer.Option(help="Write the figures to this JSON file.")
    ] = None,
) -> None:
    """Time one selection of each strategy at the size of Food101, next to the paper's figures.

    The model outputs are synthetic. Timing all strategies takes a few minutes.
    """
    from rlmba.cli.counter import stages
    from rlmba.cli.screen import say
    from rlmba.cli.show import show
    from rlmba.experiments.selection_times import time_selections

    with stages():
        made = time_selections(
            strategy or [], rows=rows, repeats=repeats, output=output, announce=say
        )
    show(made)
