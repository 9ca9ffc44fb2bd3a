"""`rlmba predict`: apply a trained network to new samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app


@app.command()
def predict(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A run folder, project or exported network.")
    ],
    out: Annotated[Path, typer.Option(help="The file to write: .csv, .jsonl or .parquet.")],
    manifest: Annotated[
        Path | None,
        typer.Option(help="The new samples: a table like the run's own; labels are not needed."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The new samples, if the run is on arrays: a .npz file.")
    ] = None,
    every_class: Annotated[
        bool, typer.Option("--all", help="Also write a column p_<class> for each class.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu or a torch device. [default: the run's]")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Samples per forward pass. [default: the run's]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file at --out.")] = False,
) -> None:
    """Predict the class of new samples, with its probability and the sample's difficulty."""
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
