"""``rlmba datasets``."""

from __future__ import annotations

import typer

from rlmba.cli.app import app


@app.command()
def datasets() -> None:
    """List the registered data sets, where each is read from, and what it is."""
    from rlmba.data import registry

    for name, flag, summary in registry.describe():
        typer.echo(f"{name}{f' ({flag})' * bool(flag)}: {summary}")
