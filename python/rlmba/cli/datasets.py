"""`rlmba datasets`: list the data sets."""

from __future__ import annotations

import typer

from rlmba.cli.app import app


@app.command()
def datasets() -> None:
    """List the registered data sets, the option that names their files, and a description."""
    from rlmba.data import registry
    from rlmba.errors import UsageError

    for name in registry.names():
        try:
            flag, summary = registry.describe(name)
        except UsageError as error:
            typer.echo(f"{name}: cannot be used: {error}")
            continue
        typer.echo(f"{name}{f' ({flag})' * bool(flag)}: {summary}")
