"""`rlmba strategies`: list the query strategies."""

from __future__ import annotations

import typer

from rlmba.cli.app import app


@app.command()
def strategies() -> None:
    """List the registered strategies and their options."""
    from rlmba import strategies as registry
    from rlmba.errors import UsageError

    for name in registry.names():
        try:
            summary, options = registry.describe(name), registry.options(name)
        except UsageError as error:
            typer.echo(f"{name}: cannot be used: {error}")
            continue
        typer.echo(f"{name}: {summary}")
        for option, default in options.items():
            typer.echo(f"    {option} = {default}")
