"""``rlmba datasets``."""

from __future__ import annotations

import typer

from rlmba.cli.app import app


@app.command()
def datasets() -> None:
    """List the registered data sets."""
    from rlmba.data import registry

    for name in registry.names():
        typer.echo(name)
