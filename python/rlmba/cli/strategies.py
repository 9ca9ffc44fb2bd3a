"""``rlmba strategies``."""

from __future__ import annotations

import typer

from rlmba.cli.app import app


@app.command()
def strategies() -> None:
    """List the registered strategies and their options."""
    from rlmba import strategies as registry

    for name in registry.names():
        typer.echo(f"{name}: {registry.describe(name)}")
        for option, default in registry.options(name).items():
            typer.echo(f"    {option} = {default}")
