"""`rlmba select`: select samples from arrays in files."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from rlmba.cli.app import app


@app.command()
def select(
    pool: Annotated[
        list[Path],
        typer.Option(
            help="File with the arrays of the pool: .npz, .npy, .parquet or .safetensors. A folder of "
            "such files, or several, are shards, which are read in parts."
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
    max_memory: Annotated[
        str | None,
        typer.Option(
            help="Memory for rows in each process, such as 4GiB; the pool is then read in parts."
        ),
    ] = None,
    spill_folder: Annotated[
        Path | None, typer.Option(help="Folder for rows that do not fit into memory.")
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --ray: the number of processes to start (default: one per node). With --dry-run: the "
            "number to estimate for.",
        ),
    ] = None,
    rows: Annotated[
        float | None,
        typer.Option(
            min=1, help="With --dry-run: the number of samples to estimate for, such as 1e9."
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Select with processes of a Ray cluster: host:port, auto, or local, which starts one here.",
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            min=1, help="Seconds that several processes wait for each other before they give up."
        ),
    ] = 1800,
    arrays: Annotated[
        Path | None,
        typer.Option(
            help="File (.npz, .safetensors) with head/weight, head/bias, weights, temperatures or "
            "fusion_weights for a pool in shards."
        ),
    ] = None,
) -> None:
    """Select samples of a pool that is given as arrays in files; needs no model and no data set.

    Several processes can divide a pool in shards: use torchrun --nproc-per-node K -m rlmba select ..., srun,
    or --ray ADDRESS.
    """
    from rlmba.adapters.shards import join_slurm
    from rlmba.cli.counter import stages
    from rlmba.cli.screen import say
    from rlmba.errors import UsageError

    join_slurm()
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if (rows or (processes and not ray)) and not dry_run:
        raise UsageError(
            "--processes and --rows: expected --dry-run, which they are for; to start several processes, run "
            "torchrun --nproc-per-node K -m rlmba select ..., or use --ray"
        )
    if several and ray:
        raise UsageError(
            "--ray: expected a single command, because Ray starts the processes; got one of "
            f"{os.environ['WORLD_SIZE']} that a launcher has started"
        )
    shards = len(pool) > 1 or pool[0].is_dir() or max_memory or spill_folder or arrays
    if several or shards or processes or rows or ray:
        if ids is not None or npy_holds is not None:
            raise UsageError(
                "--ids and --npy-holds: expected a pool in one file, got shards; put the ids into a column "
                "ids of the shards"
            )
        _select_shards(
            pool, n, strategy=strategy, options=options or [], out=out, labeled=labeled or [],
            arrays=arrays, seed=seed, overwrite=force, dry_run=dry_run, max_memory=max_memory,
            spill_folder=spill_folder, rows=None if rows is None else int(rows), processes=processes,
            ray=ray, timeout=timeout,
        )  # fmt: skip
        return
    from rlmba.adapters.files import plan

    with stages():
        job = plan(
            pool[0],
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


def _select_shards(
    pool: list[Path],
    n: int,
    *,
    dry_run: bool,
    out: Path | None,
    overwrite: bool,
    rows: int | None,
    processes: int | None,
    ray: str | None,
    timeout: float,
    **arguments: Any,
) -> None:
    from rlmba.adapters.shards import plan_shards
    from rlmba.cli.screen import say
    from rlmba.training import ProcessGroup

    patience = timedelta(seconds=timeout)
    group = ProcessGroup.open("cpu", patience=patience)
    if group.size > 1:
        signal.signal(signal.SIGTERM, _told_to_end)
    try:
        job = plan_shards(
            pool, n, group=group, out=out, overwrite=overwrite, dry_run=dry_run, **arguments
        )
        if group.is_main:
            say("\n".join(job.lines()))
            if dry_run:
                say("\n".join(job.estimate_lines(rows=rows, processes=processes)))
        if dry_run:
            return
        if ray is None:
            written = job.run()
        else:
            from rlmba.adapters.shards_on_ray import RayProcesses
            from rlmba.clusters import connect

            with connect(ray) as cluster:
                workers = RayProcesses(cluster, patience, processes)
                given = {"pool": pool, "n": n, **arguments}
                written = job.run(lambda: workers.select(given, say))
        if group.is_main:
            say("\n".join(written.lines()))
    except BaseException:
        if group.size > 1:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the reason is about to be printed
        group.leave()
        raise


def _told_to_end(number: int, _: Any) -> None:
    """Say why: when one process has ended, launchers send SIGTERM to the others, which give no reason."""
    from rlmba.errors import PeerError

    signal.signal(number, signal.SIG_IGN)
    raise PeerError(
        "the launcher has told this process to end (SIGTERM), because another process has ended, possibly "
        "killed for lack of memory; read the launcher's output and start the command again"
    )
