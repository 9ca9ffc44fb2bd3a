"""Work units of a comparison as tasks of a Ray cluster."""

from __future__ import annotations

import contextlib
from typing import Any

from rlmba.clusters import connect
from rlmba.errors import UsageError
from rlmba.experiments.sweep.folder import RunFailure
from rlmba.experiments.sweep.work import EndedUnit, LearnerRunner, Runner, WorkUnit, execute

__all__ = ["RayTasks"]


class RayTasks:
    """An :class:`~rlmba.experiments.sweep.work.Executor` that uses Ray tasks.

    The comparison's folder and the data must have the same paths on all nodes, and this package must be
    installed there.

    Parameters
    ----------
    address : str
        Address of a cluster, "auto" for the one that this machine belongs to, or "local", which starts
        Ray on this machine until :meth:`close`.
    jobs : int or None
        Number of tasks at a time; None: one per core of the cluster.
    runner : Runner or None

    Raises
    ------
    UsageError
        If Ray is not installed, there is no cluster at the address, or ``jobs`` is below 1.
    """

    def __init__(
        self, address: str, *, jobs: int | None = None, runner: Runner | None = None
    ) -> None:
        if jobs is not None and jobs < 1:
            raise UsageError(f"jobs: expected at least 1 task, got {jobs}")
        self._connection = contextlib.ExitStack()
        self._ray = ray = self._connection.enter_context(connect(address))
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        total = int(sum(node.get("CPU", 0) for node in nodes))
        self.slots = jobs or max(1, total)
        largest = max(int(node.get("CPU", 0)) for node in nodes)
        threads = max(1, min(total // self.slots, largest))
        gpus = 1 if any(node.get("GPU", 0) for node in nodes) else 0
        self.where = f"{self.slots} Ray task{'s' * (self.slots > 1)} on {len(nodes)} node" + "s" * (
            len(nodes) > 1
        )
        self._task = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)(_execute)
        self._arguments = (runner or LearnerRunner(), threads)
        self._running: dict[Any, WorkUnit] = {}

    def start(self, unit: WorkUnit) -> None:
        """Submit a unit."""
        self._running[self._task.remote(unit, *self._arguments)] = unit

    def wait(self, seconds: float) -> list[EndedUnit]:
        """Return the units that have ended, or whose processes have died."""
        if not self._running:
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [self._ended(reference) for reference in ready]

    def close(self) -> None:
        """Cancel the running tasks and disconnect from the cluster."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        self._connection.close()

    def _ended(self, reference: Any) -> EndedUnit:
        unit = self._running.pop(reference)
        try:
            return EndedUnit(unit, self._ray.get(reference))
        except self._ray.exceptions.RayError as error:
            first = (str(error).strip().splitlines() or ["no reason given"])[0]
            return EndedUnit(unit, died=f"its Ray task has died ({type(error).__name__}: {first})")


def _execute(unit: WorkUnit, runner: Runner, threads: int) -> tuple[RunFailure | None, ...]:
    import torch

    torch.set_num_threads(threads)
    return execute(unit, runner)
