"""`rlmba next`: choose the next batch of a project and hand it to the annotator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app


@app.command(name="next")
def next_batch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A project's folder.")],
) -> None:
    """Choose what to label next and hand it to the annotator; a batch that is out is handed over again."""
    from rlmba.cli.people import say_asking, stages
    from rlmba.project.asking import ask
    from rlmba.project.folder import opened

    with stages() as announce, opened(folder) as project:
        asking = ask(project, announce)
    say_asking(folder, asking)
