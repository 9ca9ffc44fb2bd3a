"""`rlmba trust`: permissions of a folder's files beyond the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app


@app.command()
def trust(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            help="The folder of a project, a run, a comparison or a network.",
            show_default=False,
        ),
    ] = None,
    listed: Annotated[
        bool, typer.Option("--list", help="List what is allowed for each folder.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Withdraw all permissions of the folder.")
    ] = False,
) -> None:
    """Allow what a folder's files request: running code, using a server, writing outside the folder."""
    from rlmba import trust as trusted
    from rlmba.cli.screen import say
    from rlmba.errors import UsageError
    from rlmba.experiments.sweep import stored_code
    from rlmba.project.folder import acts_of

    if listed:
        for path, acts in trusted.allowed().items():
            say("\n    ".join([path, *acts]))
    elif folder is None:
        raise UsageError("expected a folder, `rlmba trust DIR`, or --list, got none")
    elif remove:
        acts = trusted.forget(folder)
        say("\n    ".join(["no longer allowed:", *acts]) if acts else "nothing was allowed")
    else:
        acts = [*stored_code(folder), *acts_of(folder)]
        trusted.allow(folder, acts)
        say("\n    ".join(["allowed from now on:", *acts]) if acts else "it asks for nothing")
