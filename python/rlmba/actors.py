"""Tasks in processes of a Ray cluster. If a process dies, only the task that it was running is lost."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlmba.errors import UsageError
from rlmba.workers import Died, Raised, Task, portable

__all__ = ["RayWorkers"]


@dataclass(eq=False)
class _Actor:
    handle: Any
    slot: int
    started: bool = False
    task: Task | None = None


class RayWorkers:
    """Like :class:`rlmba.workers.Workers`, but each process is an actor of a Ray cluster.

    If an actor dies, alone or with its node, the task that it was running is lost. Another actor replaces
    it as soon as the cluster has free resources. This package must be installed on all nodes.

    Parameters
    ----------
    ray : module
        The module ``ray``, connected to a cluster.
    limit : int or None
        Largest number of actors at a time. None: one for each GPU; without GPUs, one for each node.

    Raises
    ------
    UsageError
        If the cluster has no processors.
    """

    def __init__(self, ray: Any, limit: int | None = None) -> None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        nodes = [node for node in nodes if node.get("CPU", 0) >= 1]
        if not nodes:
            raise UsageError(
                "--ray: expected a cluster with processors, found no node that has any"
            )
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        self.limit = limit or gpus or len(nodes)
        here = -(-self.limit // len(nodes))  # actors on each node
        threads = max(1, min(int(node["CPU"]) for node in nodes) // here)
        if gpus:
            nodes = [node for node in nodes if node.get("GPU", 0)]
            threads = max(1, min(int(node["CPU"] // node["GPU"]) for node in nodes))
        options = {"num_cpus": threads, "max_restarts": 0, "max_task_retries": 0}
        options |= {"num_gpus": 1} if gpus else {}
        self._ray = ray
        self._class = ray.remote(**options)(_Server)
        self._environment = {"LOCAL_WORLD_SIZE": str(here)}
        self._actors: dict[Any, _Actor] = {}
        """Actors by the call that runs in them. The first call of an actor is its start."""
        self._idle: list[_Actor] = []
        self._waiting: list[Task] = []

    @property
    def running(self) -> int:
        """See :class:`rlmba.workers.Workers`."""
        return len(self._waiting) + sum(a.task is not None for a in self._actors.values())

    @property
    def ticks(self) -> int:
        """Always 0: actors do not report the steps of a task."""
        return 0

    def start(self, task: Task) -> None:
        """Give a task to an idle actor, or to the next idle one; requires ``running < limit``."""
        self._waiting.append(task)
        self._distribute()

    def wait(self, seconds: float | None = None) -> list[tuple[Task, Any]]:
        """See :meth:`rlmba.workers.Workers.wait`."""
        if not self._actors:
            return []
        ready, _ = self._ray.wait(list(self._actors), num_returns=1, timeout=seconds)
        ended = [found for call in ready if (found := self._ended(call)) is not None]
        self._distribute()
        return ended

    def close(self) -> None:
        """End all actors, whatever they are doing."""
        for actor in [*self._actors.values(), *self._idle]:
            self._ray.kill(actor.handle)
        self._actors.clear()
        self._idle.clear()
        self._waiting.clear()

    def _distribute(self) -> None:
        while self._waiting and self._idle:
            actor = self._idle.pop()
            actor.task = self._waiting.pop(0)
            self._actors[actor.handle.run.remote(actor.task)] = actor
        starting = sum(not actor.started for actor in self._actors.values())
        for _ in range(min(len(self._waiting) - starting, self.limit - len(self._actors))):
            slots = {actor.slot for actor in self._actors.values()}
            slot = min(set(range(self.limit)) - slots)
            actor = _Actor(self._class.remote(self._environment), slot)
            self._actors[actor.handle.ready.remote()] = actor

    def _ended(self, call: Any) -> tuple[Task, Any] | None:
        actor = self._actors.pop(call)
        task, actor.task = actor.task, None
        try:
            result = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            self._ray.kill(actor.handle)
            first = (str(error).strip().splitlines() or ["no reason given"])[0]
            if task is None and self._waiting:  # the actor was started for this task
                task = self._waiting.pop(0)
            died = Died(1, actor.slot, started=True, reason=f"{type(error).__name__}: {first}")
            return None if task is None else (task, died)
        actor.started = True
        self._idle.append(actor)
        return None if task is None else (task, result)


class _Server:
    """The class of the actors: an actor runs one task at a time."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)

    def ready(self) -> None:
        """Return when the actor has started."""

    def run(self, task: Task) -> Any:
        """Run a task; an exception that it raises is returned."""
        try:
            return task.run(lambda: None)
        except Exception as error:
            return Raised(portable(error))
