"""``rlmba encoders``."""

from __future__ import annotations

import typer

from rlmba.cli.app import app


@app.command()
def encoders() -> None:
    """List the encoders, the kinds of modality they take, and how families of them are named."""
    from rlmba.errors import UsageError
    from rlmba.models.registry import describe_encoder, encoder_names

    for name in encoder_names():
        try:
            _, kinds, summary = describe_encoder(name)
        except UsageError as error:
            typer.echo(f"{name}: cannot be used: {error}")
            continue
        typer.echo(f"{name} ({', '.join(kinds)}): {summary}")
    typer.echo(
        "NAME is a network as the library names it: torchvision:resnet50, or resnet50 alone; "
        "transformers:HUB-NAME or transformers:FOLDER"
    )
