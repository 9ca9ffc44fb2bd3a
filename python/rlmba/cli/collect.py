"""`rlmba collect`: take the labels of a project's batch and learn from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app


@app.command()
def collect(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A project's folder.")],
    partial: Annotated[
        bool, typer.Option("--partial", help="Train on what is answered; the rest may come again.")
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(help="A table with id and label: corrections, or labels from elsewhere."),
    ] = None,
) -> None:
    """Take in labels; once the batch is complete, train on all there are and close the round."""
    from rlmba.cli.people import say_taking, stages
    from rlmba.cli.screen import say
    from rlmba.project.folder import opened
    from rlmba.project.status import advice_of
    from rlmba.project.taking import take

    with stages() as announce, opened(folder) as project:
        taking = take(project, partial=partial, labels=labels, announce=announce)
        said = advice_of(project, project.writable().records)
    say_taking(folder, taking)
    if taking.record is not None and said is not None:
        say(said.text)
