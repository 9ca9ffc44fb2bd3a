"""What a process of a comparison is given to do, and doing it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rlmba.config import RunConfig
from rlmba.errors import StorageError
from rlmba.experiments.sweep.folder import RunFailure, clear_failure, write_failure
from rlmba.experiments.sweep.variants import PlannedRun

__all__ = ["EndedUnit", "Executor", "LearnerRunner", "Runner", "WorkUnit", "execute"]


class Runner(Protocol):
    """Makes runs; pickled to the processes that do."""

    def key(self, config: RunConfig) -> str | None:
        """Runs of equal keys may be made together; None: alone."""

    def run(self, configs: Sequence[RunConfig], folders: Sequence[Path]) -> list[Exception | None]:
        """Make runs or go on with them, each in its folder; what went wrong with each."""


class LearnerRunner:
    """Makes runs with :mod:`rlmba.learner`."""

    def key(self, config: RunConfig) -> str | None:
        """See :func:`rlmba.learner.together_key`."""
        from rlmba.learner import together_key

        return together_key(config)

    def run(self, configs: Sequence[RunConfig], folders: Sequence[Path]) -> list[Exception | None]:
        """One by :func:`rlmba.learner.run`, several by :func:`rlmba.learner.run_together`."""
        from rlmba.learner import run, run_together

        if len(configs) > 1:
            results = run_together(list(configs), list(folders), resume=True)
            return [r if isinstance(r, Exception) else None for r in results]
        try:
            run(configs[0], folders[0], resume=True)
        except Exception as error:
            return [error]
        return [None]


@dataclass(frozen=True)
class WorkUnit:
    """Runs that one process makes: several are made together. ``attempt`` counts from 1."""

    runs: tuple[PlannedRun, ...]
    attempt: int = 1


@dataclass(frozen=True)
class EndedUnit:
    """A unit that has ended: a failure or None for each run, or ``died``: why its process is gone."""

    unit: WorkUnit
    failures: tuple[RunFailure | None, ...] = ()
    died: str | None = None


class Executor(Protocol):
    """Runs units elsewhere.

    Attributes
    ----------
    slots : int
        Units it runs at a time.
    where : str
        In words.
    """

    slots: int
    where: str

    def start(self, unit: WorkUnit) -> None:
        """Begin a unit; never more than ``slots`` at a time."""

    def wait(self, seconds: float) -> list[EndedUnit]:
        """Units that have ended; waits so long for the first, at most."""

    def close(self) -> None:
        """End everything that still runs."""


def execute(unit: WorkUnit, runner: Runner) -> tuple[RunFailure | None, ...]:
    """Make the runs of a unit; a failure is recorded in its run's folder and returned, never raised."""
    runs = unit.runs
    for run in runs:
        clear_failure(run.folder)
    try:
        errors = runner.run([run.config for run in runs], [run.folder for run in runs])
    except Exception as error:
        errors = [error] * len(runs)
    failures = tuple(None if error is None else RunFailure.of(error) for error in errors)
    for run, failure in zip(runs, failures, strict=True):
        if failure is not None:
            record(run, failure)
    return failures


def record(run: PlannedRun, failure: RunFailure) -> None:
    """Write ``failure.json``; where even that cannot be written, the failure is still reported."""
    with contextlib.suppress(StorageError):
        write_failure(run.folder, failure)
