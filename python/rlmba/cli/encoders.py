"""``rlmba encoders``."""

from __future__ import annotations

import typer

from rlmba.cli.app import app


@app.command()
def encoders() -> None:
    """List the registered encoders."""
    from rlmba.models.registry import encoder_names

    for name in encoder_names():
        typer.echo(name)
