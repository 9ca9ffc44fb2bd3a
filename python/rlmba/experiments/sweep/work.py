"""The units of work that the processes of a comparison execute."""

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
    """Makes runs. It is pickled to the processes that do so."""

    def key(self, config: RunConfig) -> str | None:
        """Runs with equal keys may be trained together; None: only separately."""

    def run(self, configs: Sequence[RunConfig], folders: Sequence[Path]) -> list[Exception | None]:
        """Make or continue runs, each in its folder; return the error of each, or None."""


class LearnerRunner:
    """Makes runs with :mod:`rlmba.learner`."""

    def key(self, config: RunConfig) -> str | None:
        """See :func:`rlmba.learner.together_key`."""
        from rlmba.learner import together_key

        return together_key(config)

    def run(self, configs: Sequence[RunConfig], folders: Sequence[Path]) -> list[Exception | None]:
        """Use :func:`rlmba.learner.run` for one run, :func:`rlmba.learner.run_together` for several."""
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
    """Runs that one process makes, together if there are several. ``attempt`` counts from 1."""

    runs: tuple[PlannedRun, ...]
    attempt: int = 1


@dataclass(frozen=True)
class EndedUnit:
    """A unit that has ended: a failure or None for each run, or ``died``: how its process ended."""

    unit: WorkUnit
    failures: tuple[RunFailure | None, ...] = ()
    died: str | None = None


class Executor(Protocol):
    """Runs units outside of this process.

    Attributes
    ----------
    slots : int
        Number of units that run at a time.
    where : str
        A description for messages.
    """

    slots: int
    where: str

    def start(self, unit: WorkUnit) -> None:
        """Start a unit; there are never more than ``slots`` at a time."""

    def wait(self, seconds: float) -> list[EndedUnit]:
        """Return the units that have ended; wait at most this long for the first."""

    def close(self) -> None:
        """End all units that are still running."""


def execute(unit: WorkUnit, runner: Runner) -> tuple[RunFailure | None, ...]:
    """Make the runs of a unit. Failures are recorded in the runs' folders and returned, never raised."""
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
    """Write ``failure.json``; if that is impossible, the failure is still reported."""
    with contextlib.suppress(StorageError):
        write_failure(run.folder, failure)
