"""`rlmba label`: serve the label page of a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app


@app.command()
def label(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The project's folder.")],
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            metavar="HOST",
            help="Address to listen on; 0.0.0.0 allows other machines. "
            "[default: the project's, else 127.0.0.1]",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="PORT",
            min=0,
            max=65535,
            help="Port to listen on; 0: any free port. [default: the project's, else 8757]",
        ),
    ] = None,
) -> None:
    """Serve the page on which people label the batch chosen by `rlmba next`."""
    from rlmba.annotators.browser import serve
    from rlmba.cli.screen import say

    serve(folder, host, port, say=say)
