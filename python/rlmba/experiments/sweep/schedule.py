"""Making every run of a comparison: what may start, what has ended, what is left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from rlmba.errors import WorkerError
from rlmba.experiments.sweep.folder import Failure, Newest, drop_model, newest
from rlmba.experiments.sweep.plan import Plan
from rlmba.experiments.sweep.variants import Job
from rlmba.experiments.sweep.work import Ended, Executor, LoopRunner, Runner, Unit, record

__all__ = ["Entry", "State", "SweepObserver", "SweepResult", "run_jobs"]

_TICK = 0.5
_AT_MOST_TOGETHER = 16
"""Runs made together: more save little and hold more memory."""


class State(Enum):
    """Where a run stands. "blocked": one that it needs has failed."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    BLOCKED = "blocked"


@dataclass
class Entry:
    """A run and how far it is; ``before``: complete rounds when this session began."""

    job: Job
    state: State = State.WAITING
    newest: Newest = field(default_factory=Newest)
    before: int = 0
    failure: Failure | None = None


class SweepObserver(Protocol):
    """Told how a comparison goes on. ``entries`` are the same objects throughout, kept up to date."""

    def begin(self, entries: Sequence[Entry], where: str) -> None:
        """Before the first run; those that are complete already say so."""

    def ended(self, entry: Entry) -> None:
        """A run is complete or has failed."""

    def tick(self) -> None:
        """About twice a second."""


@dataclass(frozen=True)
class SweepResult:
    """Folders of the complete runs of strategies, and all runs by what kept them from being so."""

    folders: tuple[Path, ...]
    failed: tuple[Entry, ...]
    blocked: tuple[Entry, ...]


class _Schedule:
    """The runs of a plan, in units that are started once all they need is complete."""

    def __init__(
        self, plan: Plan, runner: Runner, *, slots: int, together: int | None, keep_models: bool
    ) -> None:
        self.entries = [Entry(job) for job in plan.jobs]
        self._by_name = {e.job.name: e for e in self.entries}
        self._keep_models = keep_models
        for entry in self.entries:
            entry.newest = newest(entry.job.folder)
            entry.before = entry.newest.rounds
            if entry.newest.rounds >= entry.job.rounds:
                self._complete(entry)
        waiting = [e.job for e in self.entries if e.state is State.WAITING]
        limit = together or min(_AT_MOST_TOGETHER, -(-len(waiting) // slots))
        self._units = _units(waiting, runner, max(1, limit))

    def next_unit(self) -> Unit | None:
        """The first unit that may start; its runs are running from now on."""
        for i, unit in enumerate(self._units):
            if all(self._by_name[n].state is State.DONE for job in unit.jobs for n in job.needs):
                del self._units[i]
                for job in unit.jobs:
                    self._by_name[job.name].state = State.RUNNING
                return unit
        return None

    def refresh(self) -> None:
        """Read the newest figures of what is running."""
        for entry in self.entries:
            if entry.state is State.RUNNING:
                entry.newest = newest(entry.job.folder)

    def settle(self, ended: Ended) -> list[Entry]:
        """Take note of a unit's end; the runs that are complete or have failed with it."""
        entries = [self._by_name[job.name] for job in ended.unit.jobs]
        if ended.died is None:
            for entry, failure in zip(entries, ended.failures, strict=True):
                if failure is None:
                    self._complete(entry)
                else:
                    self._fail(entry, failure)
            return entries
        settled, again = [], []
        for entry in entries:
            entry.newest = newest(entry.job.folder)
            if entry.newest.rounds >= entry.job.rounds:
                self._complete(entry)
            elif ended.unit.attempt == 1:
                # Alone this time: whatever ended the process may be one of them, or all at once.
                entry.state = State.WAITING
                again.append(Unit((entry.job,), attempt=2))
                continue
            else:
                failure = Failure.of(WorkerError(ended.died))
                record(entry.job, failure)
                self._fail(entry, failure)
            settled.append(entry)
        self._units[:0] = again
        return settled

    def _complete(self, entry: Entry) -> None:
        entry.state, entry.newest = State.DONE, newest(entry.job.folder)
        if not (self._keep_models or entry.job.is_round0):
            drop_model(entry.job)

    def _fail(self, entry: Entry, failure: Failure) -> None:
        entry.state, entry.failure = State.FAILED, failure
        blocked = {entry.job.name}
        while True:
            more = [
                e
                for e in self.entries
                if e.state is State.WAITING and blocked.intersection(e.job.needs)
            ]
            if not more:
                break
            for e in more:
                e.state = State.BLOCKED
                blocked.add(e.job.name)
        kept = [
            Unit(tuple(j for j in u.jobs if j.name not in blocked), u.attempt) for u in self._units
        ]
        self._units = [unit for unit in kept if unit.jobs]


def _units(jobs: Sequence[Job], runner: Runner, limit: int) -> list[Unit]:
    """Cut jobs into units: seeds of one variant that may go together, each unit where its first stood."""
    groups: dict[tuple[str, str], list[list[Job]]] = {}
    ordered: list[list[Job]] = []
    for job in jobs:
        key = runner.key(job.config) if limit > 1 else None
        parts = groups.setdefault((job.variant, key), []) if key is not None else []
        if not parts or len(parts[-1]) == limit:
            parts.append([])
            ordered.append(parts[-1])
        parts[-1].append(job)
    return [Unit(tuple(part)) for part in ordered]


def run_jobs(
    plan: Plan,
    executor: Executor,
    observer: SweepObserver,
    *,
    runner: Runner | None = None,
    together: int | None = None,
    keep_models: bool = False,
) -> SweepResult:
    """Make every run of a plan that is not complete yet.

    Parameters
    ----------
    plan : Plan
    executor : Executor
        Where runs are made; not closed.
    observer : SweepObserver
    runner : Runner or None
        What says which runs may be made together.
    together : int or None
        At most so many at once; None: 16, and fewer where processes would be idle.
    keep_models : bool
        Keep the last model of each complete run.
    """
    schedule = _Schedule(
        plan,
        runner or LoopRunner(),
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
    by_state = {s: [e for e in schedule.entries if e.state is s] for s in State}
    done = [e.job for e in by_state[State.DONE] if not e.job.is_round0]
    return SweepResult(
        folders=tuple(job.folder for job in done),
        failed=tuple(by_state[State.FAILED]),
        blocked=tuple(by_state[State.BLOCKED]),
    )
