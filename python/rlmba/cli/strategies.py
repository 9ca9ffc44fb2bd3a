"""`rlmba strategies`: list the query strategies."""

from __future__ import annotations

import typer

from rlmba.cli.app import app


@app.command()
def strategies() -> None:
    """List the registered strategies and their options, then the strategy presets."""
    from rlmba import strategies as registry
    from rlmba.config import flat, strategy_preset, strategy_preset_names
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
    for name in strategy_preset_names():
        settings = strategy_preset(name)
        del settings["label"]
        typer.echo(f"{name}: {settings.pop('strategy')} with other settings of the run")
        for key, value in flat(settings).items():
            typer.echo(f"    {key} = {value}")
