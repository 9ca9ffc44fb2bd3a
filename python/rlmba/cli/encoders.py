"""`rlmba encoders`: list the encoders."""

from __future__ import annotations

import typer

from rlmba.cli.app import app


@app.command()
def encoders() -> None:
    """List the encoders, the kinds of modality they accept, and the naming of encoder families."""
    from rlmba import packaged_weights
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
        "NAME is the library's name of a network: torchvision:resnet50, or just resnet50; "
        "transformers:HUB-NAME or transformers:FOLDER"
    )
    typer.echo("\nWeights that packages of the Python package index contain:")
    for line in packaged_weights.listing():
        typer.echo(line)
