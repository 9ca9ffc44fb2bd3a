"""`rlmba compare`: strategies compared over data sets, fusions and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlmba.cli.app import app
from rlmba.cli.names import names

if TYPE_CHECKING:
    from rlmba.experiments.sweep import SweepConfig, SweepResult


@app.command()
def compare(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A YAML file that describes the comparison."),
    ] = None,
    strategies: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B,...", help="Strategies, ablations and strategy presets."),
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(metavar="A,B,...", help="Data sets. [default: digits]")
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="An .npz file as a data set; may be repeated.")
    ] = None,
    data_root: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of a data set; may be repeated, in the order of --dataset."),
    ] = None,
    fusions: Annotated[
        list[str] | None, typer.Option(metavar="A,B,...", help="Fusions. [default: amcb]")
    ] = None,
    predictors: Annotated[
        list[str] | None, typer.Option(metavar="A,B,...", help="Predictors. [default: fused]")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0-7", help="Seeds: numbers and ranges. [default: 0-4]")
    ] = None,
    ablations: Annotated[
        bool, typer.Option("--ablations", help="Add all ablations of rlmba.")
    ] = False,
    output: Annotated[Path, typer.Option(help="The comparison's folder.")] = Path("comparison"),
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue or extend the comparison in --output, if there is one."
        ),
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(help="Number of parallel processes. [default: as many as fit]")
    ] = None,
    together: Annotated[
        int | None,
        typer.Option(min=1, help="Largest number of runs trained together. [default: 16]"),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Address of a Ray cluster; local starts one here."),
    ] = None,
    keep_models: Annotated[
        bool, typer.Option("--keep-models", help="Keep the last model of complete runs.")
    ] = False,
    tracking: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B,...", help="Experiment trackers: tensorboard, mlflow, wandb, trackio."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any setting of `rlmba run`, applied to all runs."
        ),
    ] = None,
) -> None:
    """Compare strategies over data sets, fusions and seeds from a shared round 0; write a report."""
    from rlmba.cli.comparison_progress import comparison_progress
    from rlmba.cli.show import show
    from rlmba.experiments import make_report
    from rlmba.experiments.sweep import make_plan, run_sweep, track_report

    given = {
        "strategies": names(strategies),
        "datasets": _datasets(names(dataset), data or [], data_root or []),
        "fusions": names(fusions),
        "predictors": names(predictors),
        "seeds": seeds,
        "ablations": ablations or None,
    }
    _refuse_launched()
    if tracking:
        settings = [*(settings or []), f"tracking={names(tracking)}"]
    config = _config(file, {k: v for k, v in given.items() if v}, settings or [], output, resume)
    plan = make_plan(config, output)
    with comparison_progress(plan, output) as observer:
        result = run_sweep(
            plan,
            output,
            resume=resume,
            jobs=jobs,
            ray=ray,
            together=together,
            keep_models=keep_models,
            observer=observer,
        )
    if result.folders:
        report = make_report(result.folders, output / "report")
        track_report(plan, output, report.folder, report.files)
        show(report)
    _refuse_failed(result)


def _config(
    file: Path | None, given: dict[str, Any], settings: list[str], output: Path, resume: bool
) -> SweepConfig:
    """The comparison of the file, or the stored one if nothing else is given, overridden by options."""
    from rlmba.config import parse_settings
    from rlmba.experiments.sweep import load_sweep, read_sweep_file, stored_sweep

    if resume and file is None and not given and not settings:
        stored = stored_sweep(output)
        if stored is not None:
            return stored
    values = ({} if file is None else read_sweep_file(file)) | given
    if settings:
        values["overrides"] = parse_settings(settings)
    return load_sweep(values)


def _datasets(sets: list[str], files: list[Path], folders: list[Path]) -> list[Any]:
    """Make entries of data sets; files and folders are assigned in order to those that need them."""
    from rlmba.errors import UsageError

    wants = {name: _flag_of(name) for name in sets}
    rest = list(folders)
    entries: list[Any] = []
    of_files = [n for n in sets if wants.get(n) == "--data"]
    for name in sets:
        if wants.get(name) == "--data-root":
            entries.append({"dataset": name} | ({"data_root": str(rest.pop(0))} if rest else {}))
        elif name not in of_files or not files:
            entries.append(name)
    if len(of_files) > 1:
        raise UsageError(
            f"--data: several data sets are read from files ({', '.join(of_files)}), which is ambiguous; "
            "use a YAML file"
        )
    if rest:
        raise UsageError(
            f"--data-root: expected one for each data set that is a folder, got {rest[0]} in addition; name "
            "its data set with --dataset"
        )
    kind = of_files[0] if of_files else "features"
    return entries + [{"dataset": kind, "data": str(f)} for f in files]


def _flag_of(dataset: str) -> str:
    """The flag that says where a data set is; "" where it needs none or is unknown."""
    from rlmba.data.registry import describe
    from rlmba.errors import UsageError

    try:
        return describe(dataset).flag
    except UsageError:  # reported with all other problems, by run
        return ""


def _refuse_launched() -> None:
    from rlmba.errors import UsageError
    from rlmba.training import rank_and_size

    if rank_and_size()[1] > 1:
        raise UsageError(
            "compare starts its own processes; run it without torchrun or accelerate launch"
        )


def _refuse_failed(result: SweepResult) -> None:
    from rlmba.errors import SweepError

    if not result.failed:
        return
    lines = [f"{e.run.name}: {e.failure.error if e.failure else ''}" for e in result.failed]
    if result.blocked:
        lines.append(f"not started, because they depend on these: {len(result.blocked)}")
    raise SweepError(
        f"failed runs: {len(result.failed)}. Each has a failure.json in its folder; the same command with "
        "--resume tries them again:\n" + "\n".join(lines)
    )
