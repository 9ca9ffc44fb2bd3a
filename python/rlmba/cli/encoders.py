"""``rlmba encoders``."""

from __future__ import annotations

import typer

from rlmba.cli.app import app


@app.command()
def encoders() -> None:
    """List the registered encoders."""
    from rlmba.models import registry

    for name in registry.names():
        typer.echo(name)
