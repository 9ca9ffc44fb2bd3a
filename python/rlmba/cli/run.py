"""`rlmba run`: active learning on a labeled data set, recorded in a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rlmba.cli.app import app
from rlmba.cli.names import names


@app.command()
def run(
    dataset: Annotated[
        str | None, typer.Option(help="A data set; `rlmba datasets` lists them. [default: digits]")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="The data set's file, if it is read from one (features: a .npz file)."),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="The data set's folder, if it is read from one.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="The query strategy; `rlmba strategies` lists them. [default: rlmba]"),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            help="A trained policy of the same strategy, from `rlmba train-policy` or a run."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all randomness. [default: 0]")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="The run folder. [default: runs/<dataset>-<strategy>-seed<seed>]"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --output, if there is one.")
    ] = False,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A preset of data set and settings, e.g. food101-bmmal. [default: the data set's]"
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of settings.")] = None,
    tracking: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B,...", help="Experiment trackers: tensorboard, mlflow, wandb, trackio."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any setting, e.g. rounds=4, amcb.tau=0.1."
        ),
    ] = None,
) -> None:
    """Run active learning in rounds, with the data set's own labels as the oracle, and report it."""
    from rlmba.cli.progress import run_progress
    from rlmba.cli.show import show
    from rlmba.experiments import make_report
    from rlmba.learner import configure, default_output
    from rlmba.learner import run as run_loop
    from rlmba.learner.tracked import tracked
    from rlmba.training import rank_and_size

    flags: dict[str, Any] = {
        "dataset": dataset,
        "data": data,
        "data_root": data_root,
        "strategy": strategy,
        "seed": seed,
        "tracking": names(tracking) or None,
    }
    if policy is not None:
        flags |= {
            "strategy_options.policy": "learned",
            "strategy_options.policy_file": str(policy.resolve()),
            "strategy_options.explore": False,
        }
    resolved = configure(
        {k: v for k, v in flags.items() if v is not None},
        settings=settings or [],
        file=config,
        preset=preset,
        resume_from=output if resume else None,
    )
    folder = output or default_output(resolved, resume=resume)
    if rank_and_size()[0]:  # the main process prints and writes
        run_loop(resolved, folder, resume=resume)
        return
    with run_progress(folder) as observer:
        result = run_loop(resolved, folder, resume=resume, observer=observer)
        report = make_report([result.path], result.path / "report")
        with tracked(result.path, result.config) as trackers:
            trackers.report(result.records[-1].labels, report.folder, report.files)
    show(report)
