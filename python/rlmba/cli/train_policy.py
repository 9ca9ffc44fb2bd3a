"""`rlmba train-policy`: train a policy over many episodes, or evaluate it on unseen data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app


@app.command("train-policy")
def train_policy(
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the training and the policy.")
    ],
    data: Annotated[
        list[Path] | None,
        typer.Option(help="A file of features (.npz) to train on; may be repeated."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="A data set; `rlmba datasets` lists them. [default: features, or digits]"
        ),
    ] = None,
    strategy: Annotated[
        str, typer.Option(help="Strategy of the policy: rlmba-x, rlmba-h or rlmba.")
    ] = "rlmba-x",
    leave_one_out: Annotated[
        bool,
        typer.Option(
            "--leave-one-out",
            help="For each --data, train on the others, then compare with the untrained rule on it.",
        ),
    ] = False,
    eval_seeds: Annotated[
        int, typer.Option(help="Pairs of runs per data set in that comparison.", min=1)
    ] = 8,
    episodes: Annotated[
        int | None, typer.Option(help="Total number of episodes. [default: 256]")
    ] = None,
    parallel: Annotated[
        int | None,
        typer.Option(
            help="Episodes per step, run in parallel. [default: 8 or the next multiple of sets x siblings]"
        ),
    ] = None,
    siblings: Annotated[
        int | None,
        typer.Option(
            help="Episodes with the same seed and round 0. [default: 4 for reward.kind=siblings, else 1]"
        ),
    ] = None,
    returns: Annotated[
        str | None,
        typer.Option(help="Returns: immediate (as in the paper) or to-go. [default: immediate]"),
    ] = None,
    discount: Annotated[
        float | None, typer.Option(help="Discount of to-go. [default: 0.9]")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Baseline of the returns: moving or siblings. "
            "[default: siblings for reward.kind=siblings, else moving]"
        ),
    ] = None,
    entropy: Annotated[
        float | None, typer.Option(help="Weight of the entropy bonus. [default: 0]")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop after this many steps without a higher moving return. [default: never]"
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the first episode; others count up. [default: 0]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the training in --output, if there is one.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="A YAML file of settings.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting of the runs; NAME:KEY=VALUE applies only to the data set NAME.npz.",
        ),
    ] = None,
) -> None:
    """Train a policy over many episodes; `rlmba run --policy DIR/policy.safetensors` uses it."""
    from rlmba.cli.progress import training_progress
    from rlmba.cli.screen import say
    from rlmba.cli.show import show
    from rlmba.experiments import policy_training as training

    configs = training.configurations(
        data or [],
        dataset=dataset,
        strategy=strategy,
        seed=seed,
        settings=settings or [],
        file=config,
    )
    configs, plan = training.planned(
        configs,
        leave_one_out=leave_one_out,
        episodes=episodes,
        parallel=parallel,
        siblings=siblings,
        returns=returns,
        discount=discount,
        baseline=baseline,
        entropy=entropy,
        patience=patience,
    )
    with training_progress(plan.episodes) as observer:
        if leave_one_out:
            made = training.leave_one_out(
                configs, output, plan, seeds=eval_seeds, resume=resume, observer=observer
            )
        else:
            trained = training.train_policy(
                training.ActiveLearning(configs, plan),
                training.agent_of(configs[0]),
                output,
                plan,
                strategy=strategy,
                resume=resume,
                observer=lambda figures: observer("", figures),
            )
    if leave_one_out:
        show(made)
    else:
        say(str(trained.policy))
