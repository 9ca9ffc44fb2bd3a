"""`rlmba select`: select samples from arrays in files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app


@app.command()
def select(
    pool: Annotated[
        Path,
        typer.Option(
            help="File with the arrays of the pool: .npz, .npy, .parquet or .safetensors."
        ),
    ],
    n: Annotated[int, typer.Option("-n", "--count", help="Number of samples to select.")],
    strategy: Annotated[
        str, typer.Option(help="Query strategy; `rlmba strategies` lists them.")
    ] = "rlmba-x",
    out: Annotated[
        Path | None,
        typer.Option(help="File for the batch: .csv, .json, .npy (only ids) or .parquet."),
    ] = None,
    labeled: Annotated[
        list[Path] | None,
        typer.Option(
            help="The samples that are already labeled: ids in the pool (.csv with a column id, .txt, .npy, "
            "...), positions if the pool has no ids, or features of other samples (.npz, ...). May be "
            "repeated."
        ),
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(help="Ids of the pool, if its file has none: .txt, .csv or .npy."),
    ] = None,
    npy_holds: Annotated[
        str | None, typer.Option(help="Content of an .npy pool: features, logits or probabilities.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="An option of the strategy."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file at --out if it exists.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the estimated time and memory.")
    ] = False,
) -> None:
    """Select samples of a pool that is given as arrays in files; needs no model and no data set."""
    from rlmba.adapters.files import plan
    from rlmba.cli.counter import stages
    from rlmba.cli.screen import say

    with stages():
        job = plan(
            pool,
            n,
            strategy=strategy,
            options=options or [],
            out=out,
            labeled=labeled or [],
            ids=ids,
            npy_holds=npy_holds,
            seed=seed,
            overwrite=force,
            dry_run=dry_run,
        )
        say("\n".join(job.lines()))
        written = None if dry_run else job.run()
    if written is not None:
        say("\n".join(written.lines()))
