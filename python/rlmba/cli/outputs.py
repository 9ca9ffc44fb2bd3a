"""`rlmba outputs`: write features and logits of many samples as a pool in shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app
from rlmba.cli.network_options import BatchSize, Device, NetworkFolder


@app.command()
def outputs(
    folder: NetworkFolder,
    out: Annotated[
        Path, typer.Option(help="The folder for the shards, which `rlmba select --pool` reads.")
    ],
    manifest: Annotated[
        list[Path] | None,
        typer.Option(
            help="The samples: a table like that of the run; needs no labels. May be repeated; one table is "
            "in memory at a time."
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="The samples for a run on arrays: an .npz file. May be repeated."),
    ] = None,
    rows_per_shard: Annotated[int, typer.Option(min=1, help="Samples in each shard.")] = 50_000,
    num_processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of processes. [default: 1; with --ray, one per GPU or, without GPUs, per node]",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Compute on a Ray cluster: host:port, auto for the cluster of this machine, or local.",
        ),
    ] = None,
    device: Device = None,
    batch_size: BatchSize = None,
    force: Annotated[
        bool, typer.Option("--force", help="Remove the shards of an earlier command in --out.")
    ] = False,
) -> None:
    """Write features and logits of many samples as a pool in shards, for `rlmba select`.

    If the command is interrupted, repeat it: only missing shards are computed.
    """
    from rlmba.cli.counter import counter
    from rlmba.cli.screen import say
    from rlmba.project.outputs import write_outputs

    with counter("computed") as progress:
        summary = write_outputs(
            folder,
            out,
            manifest=manifest or (),
            data=data or (),
            rows_per_shard=rows_per_shard,
            processes=num_processes,
            ray=ray,
            overwrite=force,
            device=device,
            batch_size=batch_size,
            progress=progress,
        )
    say("\n".join(summary.lines()))
