"""Comparisons: strategies x data sets x fusions x seeds, with one run folder for each combination."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from rlmba.experiments.sweep.ablations import ABLATIONS, BASELINES, Ablation
from rlmba.experiments.sweep.folder import RunFailure, open_folder, stored_code, stored_sweep
from rlmba.experiments.sweep.on_ray import RayTasks
from rlmba.experiments.sweep.plan import SweepPlan, make_plan
from rlmba.experiments.sweep.processes import LocalProcesses, fitting_processes
from rlmba.experiments.sweep.schedule import (
    RunProgress,
    RunState,
    SweepObserver,
    SweepResult,
    make_runs,
)
from rlmba.experiments.sweep.schema import (
    DatasetEntry,
    StrategyEntry,
    SweepConfig,
    load_sweep,
    read_sweep_file,
)
from rlmba.experiments.sweep.tracked import track_report
from rlmba.experiments.sweep.variants import PlannedRun
from rlmba.experiments.sweep.work import Executor

__all__ = [
    "ABLATIONS",
    "BASELINES",
    "Ablation",
    "DatasetEntry",
    "LocalProcesses",
    "PlannedRun",
    "RayTasks",
    "RunFailure",
    "RunProgress",
    "RunState",
    "StrategyEntry",
    "SweepConfig",
    "SweepObserver",
    "SweepPlan",
    "SweepResult",
    "load_sweep",
    "make_plan",
    "make_runs",
    "read_sweep_file",
    "run_sweep",
    "stored_code",
    "stored_sweep",
    "track_report",
]


class _NoObserver:
    """An observer that does nothing."""

    def begin(self, entries: Sequence[RunProgress], where: str) -> None: ...

    def ended(self, entry: RunProgress) -> None: ...

    def tick(self) -> None: ...


def run_sweep(
    plan: SweepPlan,
    output: Path,
    *,
    resume: bool = False,
    jobs: int | None = None,
    ray: str | None = None,
    together: int | None = None,
    keep_models: bool = False,
    observer: SweepObserver | None = None,
) -> SweepResult:
    """Make all runs of a plan that are not complete yet, in parallel processes.

    A script that calls this needs the guard ``if __name__ == "__main__":``, because the processes are
    spawned. If it is killed, at most the rounds in progress are lost.

    Parameters
    ----------
    plan : SweepPlan
        Made by :func:`make_plan` for the same ``output``.
    output : path
        The folder for ``sweep.yaml``, ``round0/``, ``cells/`` and ``logs/``.
    resume : bool
        Continue the comparison in ``output``, if there is one.
    jobs : int or None
        Number of processes; None: as many as fit. With ``ray``: number of tasks at a time.
    ray : str or None
        Address of a Ray cluster, or "local".
    together : int or None
        Largest number of runs that are trained together; None: 16; 1: each separately.
    keep_models : bool
        Whether to keep the last model of each complete run.
    observer : SweepObserver or None

    Returns
    -------
    SweepResult
        It lists the failed runs, whose folders hold a ``failure.json``; a failure does not stop the others.

    Raises
    ------
    UsageError, RunFolderError, StorageError
        If the folder cannot be used; nothing is run in that case.
    """
    with open_folder(output, plan, resume=resume):
        executor: Executor
        if ray is None:
            executor = LocalProcesses(
                fitting_processes(plan.runs) if jobs is None else jobs, output / "logs"
            )
        else:
            executor = RayTasks(ray, jobs=jobs)
        with contextlib.closing(executor):
            return make_runs(
                plan,
                executor,
                observer or _NoObserver(),
                together=together,
                keep_models=keep_models,
            )
