"""``rlmba select``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app


@app.command()
def select(
    pool: Annotated[
        Path,
        typer.Option(help="Arrays of the pool: .npz, .npy, .parquet or .safetensors."),
    ],
    n: Annotated[int, typer.Option("-n", "--count", help="How many samples.")],
    strategy: Annotated[
        str, typer.Option(help="Who picks; `rlmba strategies` lists them.")
    ] = "rlmba-x",
    out: Annotated[
        Path | None,
        typer.Option(help="Where the batch goes: .csv, .json, .npy (ids alone) or .parquet."),
    ] = None,
    labeled: Annotated[
        list[Path] | None,
        typer.Option(
            help="What is labeled already: ids within the pool (.csv with a column id, .txt, .npy, ...; "
            "may be repeated), positions where the pool has no ids, or features of other samples (.npz, "
            "...)."
        ),
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(help="Ids of the pool, where its file has none: .txt, .csv, .npy."),
    ] = None,
    npy_holds: Annotated[
        str | None, typer.Option(help="What a .npy pool is: features, logits or probabilities.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides everything random.")] = 0,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="An option of the strategy."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file at --out.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the estimate of time and memory, and stop.")
    ] = False,
) -> None:
    """Pick samples of a pool in files: ids in, ids out, no model and no data set."""
    from rlmba.adapters.files import plan
    from rlmba.cli.screen import say

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
    if not dry_run:
        say("\n".join(job.run().lines()))
