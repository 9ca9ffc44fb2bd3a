"""`rlmba next`: choose the next batch of a project and send it to the annotator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app


@app.command(name="next")
def next_batch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A project's folder.")],
) -> None:
    """Choose the next batch and send it to the annotator; an unfinished batch is sent again."""
    from rlmba.cli.counter import stages
    from rlmba.cli.people import say_query
    from rlmba.project.folder import open_project
    from rlmba.project.query import ask

    with stages() as announce, open_project(folder) as project:
        query = ask(project, announce)
    say_query(folder, query)
