"""``rlmba predict``: a trained network on new samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app


@app.command()
def predict(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A run, a project, or an exported network.")
    ],
    out: Annotated[Path, typer.Option(help="Where the rows go: .csv, .jsonl or .parquet.")],
    manifest: Annotated[
        Path | None, typer.Option(help="The new samples: a table as the run's own, labels or not.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The new samples of a run on arrays: a .npz.")
    ] = None,
    every_class: Annotated[
        bool, typer.Option("--all", help="A column p_<class> for each class.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu or a torch device. [default: the run's]")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Samples per forward pass. [default: the run's]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file at --out.")] = False,
) -> None:
    """Say of new samples their class, how sure that is, and how hard they are."""
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
