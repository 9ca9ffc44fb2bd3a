"""`rlmba datasets`: list the data sets."""

from __future__ import annotations

import typer

from rlmba.cli.app import app


@app.command()
def datasets() -> None:
    """List the registered data sets, the option that names their files, and a description."""
    from rlmba.data import registry

    for name, flag, summary in registry.describe():
        typer.echo(f"{name}{f' ({flag})' * bool(flag)}: {summary}")
