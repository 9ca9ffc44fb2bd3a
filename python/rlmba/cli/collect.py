"""`rlmba collect`: read the labels of a project's batch and train on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app


@app.command()
def collect(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A project's folder.")],
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Train on the answers so far; the rest may be chosen again later."
        ),
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(help="A table with id and label, or an export of CVAT or Argilla."),
    ] = None,
) -> None:
    """Collect labels; once the batch is complete, train on all labels and finish the round."""
    from rlmba.cli.counter import stages
    from rlmba.cli.people import say_collected
    from rlmba.cli.screen import say
    from rlmba.project.answers import collect as collect_labels
    from rlmba.project.folder import open_project
    from rlmba.project.state import advice_of

    with stages() as announce, open_project(folder) as project:
        found = collect_labels(project, partial=partial, labels=labels, announce=announce)
        said = advice_of(project, project.records)
    say_collected(folder, found)
    if found.record is not None and said is not None:
        say(said.text)
