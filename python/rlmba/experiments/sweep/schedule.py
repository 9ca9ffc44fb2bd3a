"""Schedule the runs of a comparison: which may start, which have ended, which are left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from rlmba.errors import WorkerError
from rlmba.experiments.sweep.folder import LatestFigures, RunFailure, drop_model, latest_figures
from rlmba.experiments.sweep.plan import SweepPlan
from rlmba.experiments.sweep.variants import PlannedRun
from rlmba.experiments.sweep.work import (
    EndedUnit,
    Executor,
    LearnerRunner,
    Runner,
    WorkUnit,
    record,
)

__all__ = ["RunProgress", "RunState", "SweepObserver", "SweepResult", "make_runs"]

_TICK = 0.5
_AT_MOST_TOGETHER = 16
"""Most runs that are trained together; more would save little time and take more memory."""


class RunState(Enum):
    """The state of a run; "blocked" means that a run it depends on has failed."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    BLOCKED = "blocked"


@dataclass
class RunProgress:
    """A run and its progress.

    ``before`` is the number of rounds that were complete at the start. ``begun`` is the number that were
    complete when the run's process was last started.
    """

    run: PlannedRun
    state: RunState = RunState.WAITING
    latest: LatestFigures = field(default_factory=LatestFigures)
    before: int = 0
    begun: int = 0
    failure: RunFailure | None = None


class SweepObserver(Protocol):
    """Informed of the progress of a comparison; the ``entries`` are updated in place."""

    def begin(self, entries: Sequence[RunProgress], where: str) -> None:
        """Called before the first run; runs that are complete already have that state."""

    def ended(self, entry: RunProgress) -> None:
        """Called when a run is complete or has failed."""

    def tick(self) -> None:
        """Called about twice a second."""


@dataclass(frozen=True)
class SweepResult:
    """Folders of the complete runs (without shared rounds 0), and the failed and blocked runs."""

    folders: tuple[Path, ...]
    failed: tuple[RunProgress, ...]
    blocked: tuple[RunProgress, ...]


class _SweepSchedule:
    """The runs of a plan, in units that start once all runs they depend on are complete."""

    def __init__(
        self,
        plan: SweepPlan,
        runner: Runner,
        *,
        slots: int,
        together: int | None,
        keep_models: bool,
    ) -> None:
        self.entries = [RunProgress(run) for run in plan.runs]
        self._by_name = {e.run.name: e for e in self.entries}
        self._keep_models = keep_models
        for entry in self.entries:
            entry.latest = latest_figures(entry.run.folder)
            entry.before = entry.latest.rounds
            if entry.latest.rounds >= entry.run.rounds:
                self._complete(entry)
        waiting = [e.run for e in self.entries if e.state is RunState.WAITING]
        limit = together or min(_AT_MOST_TOGETHER, -(-len(waiting) // slots))
        self._units = _units(waiting, runner, max(1, limit))

    def next_unit(self) -> WorkUnit | None:
        """Take the first unit that may start, and mark its runs as running."""
        for i, unit in enumerate(self._units):
            if all(self._by_name[n].state is RunState.DONE for run in unit.runs for n in run.needs):
                del self._units[i]
                for run in unit.runs:
                    entry = self._by_name[run.name]
                    entry.state, entry.begun = RunState.RUNNING, entry.latest.rounds
                return unit
        return None

    def refresh(self) -> None:
        """Read the latest figures of the running runs."""
        for entry in self.entries:
            if entry.state is RunState.RUNNING:
                entry.latest = latest_figures(entry.run.folder)

    def settle(self, ended: EndedUnit) -> list[RunProgress]:
        """Record the end of a unit; return its runs that are complete or have failed."""
        entries = [self._by_name[run.name] for run in ended.unit.runs]
        if ended.died is None:
            for entry, failure in zip(entries, ended.failures, strict=True):
                if failure is None:
                    self._complete(entry)
                else:
                    self._fail(entry, failure)
            return entries
        settled, again = [], []
        for entry in entries:
            entry.latest = latest_figures(entry.run.folder)
            if entry.latest.rounds >= entry.run.rounds:
                self._complete(entry)
            elif ended.unit.attempt == 1 or entry.latest.rounds > entry.begun:
                # The runs continue separately, because either one run or all of them together may have ended
                # the process. Machines may be lost repeatedly, so only attempts without a new round count.
                entry.state = RunState.WAITING
                again.append(WorkUnit((entry.run,), attempt=2))
                continue
            else:
                failure = RunFailure.of(WorkerError(ended.died))
                record(entry.run, failure)
                self._fail(entry, failure)
            settled.append(entry)
        self._units[:0] = again
        return settled

    def _complete(self, entry: RunProgress) -> None:
        entry.state, entry.latest = RunState.DONE, latest_figures(entry.run.folder)
        if not (self._keep_models or entry.run.is_round0):
            drop_model(entry.run)

    def _fail(self, entry: RunProgress, failure: RunFailure) -> None:
        entry.state, entry.failure = RunState.FAILED, failure
        blocked = {entry.run.name}
        while True:
            more = [
                e
                for e in self.entries
                if e.state is RunState.WAITING and blocked.intersection(e.run.needs)
            ]
            if not more:
                break
            for e in more:
                e.state = RunState.BLOCKED
                blocked.add(e.run.name)
        kept = [
            WorkUnit(tuple(j for j in u.runs if j.name not in blocked), u.attempt)
            for u in self._units
        ]
        self._units = [unit for unit in kept if unit.runs]


def _units(runs: Sequence[PlannedRun], runner: Runner, limit: int) -> list[WorkUnit]:
    """Group runs that may be trained together into units, ordered by their first runs.

    The runs of a unit have the same data set, fusion and strategy. Runs that differ only in the predictor
    are in one unit, because they share trainings.
    """
    groups: dict[tuple[str, ...], list[list[PlannedRun]]] = {}
    ordered: list[list[PlannedRun]] = []
    for run in runs:
        key = runner.key(run.config) if limit > 1 else None
        same = (run.dataset, run.config.fusion, run.label)
        parts = groups.setdefault((*same, key), []) if key is not None else []
        if not parts or len(parts[-1]) == limit:
            parts.append([])
            ordered.append(parts[-1])
        parts[-1].append(run)
    return [WorkUnit(tuple(part)) for part in ordered]


def make_runs(
    plan: SweepPlan,
    executor: Executor,
    observer: SweepObserver,
    *,
    runner: Runner | None = None,
    together: int | None = None,
    keep_models: bool = False,
) -> SweepResult:
    """Make all runs of a plan that are not complete yet.

    Parameters
    ----------
    plan : SweepPlan
    executor : Executor
        Makes the runs; it is not closed.
    observer : SweepObserver
    runner : Runner or None
        Decides which runs may be trained together.
    together : int or None
        Largest number of runs trained together; None: 16, or fewer if processes would be idle.
    keep_models : bool
        Whether to keep the last model of each complete run.
    """
    schedule = _SweepSchedule(
        plan,
        runner or LearnerRunner(),
        slots=executor.slots,
        together=together,
        keep_models=keep_models,
    )
    observer.begin(schedule.entries, executor.where)
    running = 0
    next_look = 0.0
    while True:
        while running < executor.slots and (unit := schedule.next_unit()) is not None:
            executor.start(unit)
            running += 1
        if not running:
            break
        for ended in executor.wait(_TICK):
            running -= 1
            for entry in schedule.settle(ended):
                observer.ended(entry)
        if time.monotonic() >= next_look:
            schedule.refresh()
            observer.tick()
            next_look = time.monotonic() + _TICK
    by_state = {s: [e for e in schedule.entries if e.state is s] for s in RunState}
    done = [e.run for e in by_state[RunState.DONE] if not e.run.is_round0]
    return SweepResult(
        folders=tuple(run.folder for run in done),
        failed=tuple(by_state[RunState.FAILED]),
        blocked=tuple(by_state[RunState.BLOCKED]),
    )
