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
    repeats: Annotated[int, typer.Option(min=1, help="The best of as many runs counts.")] = 3,
    peers: Annotated[
        bool, typer.Option("--peers/--no-peers", help="Time the plain forms beside ours.")
    ] = True,
    growth: Annotated[
        bool, typer.Option("--growth", help="Also time pools of 10,000 to 1,000,000 samples.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Time one selection of each strategy at the size of Food101, beside the paper's figures.

    Outputs of a model are made, not predicted. All strategies with their peers take some minutes.
    """
    from rlmba.cli.screen import say
    from rlmba.cli.show import show
    from rlmba.experiments import selection

    made = selection.run_bench(
        strategy or [],
        rows=rows,
        repeats=repeats,
        peers=peers,
        grow=growth,
        output=output,
        told=say,
    )
    show(made)
