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
        self._ray = self._connection.enter_context(connect(address))
        self._runner = runner or LearnerRunner()
        nodes = self._nodes()
        total = sum(cores for cores, _ in nodes)
        self.slots = jobs or max(1, total)
        self._threads = max(1, total // self.slots)
        self.where = f"{self.slots} Ray task{'s' * (self.slots > 1)} on {len(nodes)} node" + "s" * (
            len(nodes) > 1
        )
        self._running: dict[Any, WorkUnit] = {}

    def start(self, unit: WorkUnit) -> None:
        """Submit a unit. It gets its share of the cores, but no more than the largest node has now."""
        nodes = self._nodes()
        threads = max(1, min(self._threads, max((cores for cores, _ in nodes), default=1)))
        task = self._ray.remote(
            num_cpus=threads,
            num_gpus=int(any(gpus for _, gpus in nodes)),
            max_retries=0,
            scheduling_strategy="SPREAD",
        )(_execute)
        self._running[task.remote(unit, self._runner, threads)] = unit

    def _nodes(self) -> list[tuple[int, float]]:
        """Cores and GPUs of every node that has any."""
        alive = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        found = [(int(node.get("CPU", 0)), node.get("GPU", 0)) for node in alive]
        return [node for node in found if any(node)]

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
