"""`rlmba predict`: apply a trained network to new samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app
from rlmba.cli.network_options import BatchSize, Device, NetworkFolder


@app.command()
def predict(
    folder: NetworkFolder,
    out: Annotated[Path, typer.Option(help="The file to write: .csv, .jsonl or .parquet.")],
    manifest: Annotated[
        Path | None,
        typer.Option(help="The new samples: a table like that of the run; needs no labels."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The new samples for a run on arrays: an .npz file.")
    ] = None,
    every_class: Annotated[
        bool, typer.Option("--all", help="Add a column p_<class> for each class.")
    ] = False,
    device: Device = None,
    batch_size: BatchSize = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file at --out if it exists.")
    ] = False,
) -> None:
    """Predict the class of new samples, with its probability and the difficulty of each sample."""
    from rlmba.cli.counter import counter
    from rlmba.cli.screen import say
    from rlmba.project.predict import predict_file

    with counter("predicted") as progress:
        summary = predict_file(
            folder,
            out,
            manifest=manifest,
            data=data,
            every_class=every_class,
            overwrite=force,
            device=device,
            batch_size=batch_size,
            progress=progress,
        )
    say("\n".join(summary.lines()))
