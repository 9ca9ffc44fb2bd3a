"""Units of a comparison in processes on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rlmba.errors import StorageError, UsageError
from rlmba.experiments.sweep.folder import RunFailure
from rlmba.experiments.sweep.variants import PlannedRun
from rlmba.experiments.sweep.work import EndedUnit, LearnerRunner, Runner, WorkUnit, execute
from rlmba.machine import available_memory
from rlmba.storage import make_folder, open_own
from rlmba.workers import Died, Raised, Workers, cores, worker_environment

__all__ = ["LocalProcesses", "fitting_processes"]

_PROCESS = 1.1e9
"""Bytes that a process takes without data: Python, torch, a small network."""
_PATIENCE = 5.0
"""Seconds that processes get to end by themselves."""


def fitting_processes(runs: Sequence[PlannedRun]) -> int:
    """Number of processes that fit: by cores and free memory, or one per GPU.

    One where networks are trained on media. The memory is an estimate: that of a process with a small
    network, and three times the data file.
    """
    import torch

    configs = [run.config for run in runs]
    if torch.cuda.is_available() and any(c.device != "cpu" for c in configs):
        return torch.cuda.device_count()
    if any(c.data_root is not None and not c.model.frozen for c in configs):
        return 1
    data = max((c.data.stat().st_size for c in configs if c.data is not None), default=0)
    return max(1, min(len(runs), cores(), int(available_memory() / (_PROCESS + 3 * data))))


@dataclass(frozen=True)
class _UnitTask:
    """See :class:`rlmba.workers.Task`."""

    unit: WorkUnit
    runner: Runner

    def run(self, tick: Callable[[], None]) -> tuple[RunFailure | None, ...]:  # noqa: ARG002 - see Task
        """Make the runs of the unit."""
        return execute(self.unit, self.runner)


class LocalProcesses:
    """An :class:`~rlmba.experiments.sweep.work.Executor` that uses worker processes.

    Parameters
    ----------
    slots : int
        Number of processes at a time, >= 1.
    logs : path
        Folder for their output.
    runner : Runner
    threads : int or None
        Threads of each process; None: ``OMP_NUM_THREADS`` if it is set, else an equal share of the cores.

    Raises
    ------
    UsageError
        If ``slots`` is below 1.
    """

    def __init__(
        self,
        slots: int,
        logs: Path,
        *,
        runner: Runner | None = None,
        threads: int | None = None,
    ) -> None:
        if slots < 1:
            raise UsageError(f"jobs: expected at least 1 process, got {slots}")
        given = os.environ.get("OMP_NUM_THREADS", "")
        shared = int(given) if given.isdecimal() and int(given) else max(1, cores() // slots)
        self.slots = slots
        self.threads = threads or shared
        self.where = f"{slots} process{'es' * (slots > 1)} of {self.threads} thread" + "s" * (
            self.threads > 1
        )
        self._logs = logs
        self._runner = runner or LearnerRunner()
        self.workers = Workers(
            slots,
            environment=lambda slot: worker_environment(slot, self.threads),
            setup=partial(_print_into, logs),
            patience=_PATIENCE,
        )

    def start(self, unit: WorkUnit) -> None:
        """Give a unit to an idle process or to a new one."""
        make_folder(self._logs)
        self.workers.start(_UnitTask(unit, self._runner))

    def wait(self, seconds: float) -> list[EndedUnit]:
        """Return the units that have ended, or whose processes have died."""
        return [self._ended(task, result) for task, result in self.workers.wait(seconds)]

    def close(self) -> None:
        """End all processes: idle ones at once, busy ones on SIGTERM, then by force."""
        self.workers.close()

    def _ended(self, task: Any, result: Any) -> EndedUnit:
        if isinstance(result, Died):
            return EndedUnit(task.unit, died=f"{_how(result)}; see {_log(self._logs, result.slot)}")
        if isinstance(result, Raised):
            return EndedUnit(task.unit, died=str(result.error))
        return EndedUnit(task.unit, result)


def _how(died: Died) -> str:
    if not died.started:
        return (
            f"its process could not start ({died}); a script that runs a comparison must do so below "
            '`if __name__ == "__main__":`'
        )
    if died.code < 0:
        hint = " (the system does so when memory runs out)" if str(died) == "SIGKILL" else ""
        return f"its process was ended by {died}{hint}"
    return f"its process ended with exit status {died.code}"


def _log(logs: Path, slot: int) -> Path:
    return logs / f"process{slot}.log"


def _print_into(logs: Path, slot: int) -> None:
    """Redirect this process's output to a file; the terminal belongs to the parent."""
    log = _log(logs, slot)
    try:
        descriptor = open_own(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"could not write {log} ({error.strerror})") from error
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
