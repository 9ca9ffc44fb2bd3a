"""`rlmba label-studio`: work with people in Label Studio."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app

label_studio = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(label_studio, name="label-studio", help="Work with people in Label Studio.")


@label_studio.callback()
def _group() -> None:
    """Work with people in Label Studio."""


@label_studio.command()
def serve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A project's folder.")],
    host: Annotated[
        str,
        typer.Option(
            metavar="HOST",
            help="Address to listen on; 0.0.0.0 allows other machines to connect.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            metavar="PORT", min=0, max=65535, help="Port to listen on; 0 chooses a free one."
        ),
    ] = 9090,
    secret: Annotated[
        str | None,
        typer.Option(
            metavar="SECRET",
            envvar="RLMBA_LABEL_STUDIO_SECRET",
            help="Secret that Label Studio must send with every request. [default: one kept in the folder]",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Address at which Label Studio reaches this server, if it runs on another machine.",
        ),
    ] = None,
    connect: Annotated[
        bool,
        typer.Option(
            "--connect/--no-connect",
            help="Register as the model and webhook of the project in Label Studio, or print what to enter.",
        ),
    ] = True,
) -> None:
    """Serve predictions, count annotations as they arrive, and train when a batch is complete."""
    from rlmba.cli.counter import stages
    from rlmba.cli.loop import LoopProgress
    from rlmba.cli.screen import say
    from rlmba.project.live import serve_label_studio

    with stages() as announce:
        serve_label_studio(
            folder,
            LoopProgress(folder, announce),
            host=host,
            port=port,
            secret=secret,
            address=address,
            connect=connect,
            say=say,
        )
