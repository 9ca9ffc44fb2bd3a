"""A selection from a pool in shards by processes of a Ray cluster."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from rlmba.adapters.shards import plan_shards
from rlmba.errors import PeerError, RlmbaError, UsageError
from rlmba.strategies.direct import SelectedSamples

__all__ = ["RayProcesses"]

_ATTEMPTS = 3
"""How many times a selection is started before it fails."""
_LOOK = 5.0
"""Seconds between two checks of the cluster's nodes while there are too few free cores."""
_LOOKS = 6
"""Number of checks after which a message says that cores are missing."""
_LAST_WORDS = 30.0
"""Seconds that Ray may need to notice a dead process after the other processes have noticed it."""


class _LostError(Exception):
    """A process or its machine has been lost; the message names it."""


@dataclass(frozen=True)
class RayProcesses:
    """Processes of a Ray cluster that divide the rows of a pool.

    They form one group like processes of torchrun, and run
    :class:`rlmba.adapters.shards.ShardSelection`. Files must have the same paths on all nodes.

    Parameters
    ----------
    ray : module
        ``ray``, connected to the cluster (:func:`rlmba.clusters.connect`).
    patience : timedelta
        How long processes wait for each other.
    processes : int, optional
        Number of processes, each with an equal share of the cores; default: one for each node.

    Raises
    ------
    UsageError
        If the cluster has fewer cores than ``processes``.
    """

    ray: Any
    patience: timedelta
    processes: int | None = None

    def __post_init__(self) -> None:
        """Check the number of processes."""
        total = sum(self._cores())
        if not 1 <= (self.processes or 1) <= total:
            raise UsageError(
                f"--processes: expected 1 to {total:,}, the cores of the Ray cluster, got "
                f"{self.processes or 1:,}"
            )

    def select(self, arguments: Mapping[str, Any], say: Callable[[str], None]) -> SelectedSamples:
        """Select. If a process is lost, the selection starts again from the beginning, at most twice.

        The selection is then divided among the remaining cores. The batch does not depend on their number.

        Parameters
        ----------
        arguments : mapping
            Arguments of :func:`rlmba.adapters.shards.plan_shards` except ``group``, ``out`` and ``dry_run``.
        say : callable
            Called with each message for the user.

        Raises
        ------
        UsageError, DataError, StorageError
            See :func:`rlmba.adapters.shards.plan_shards` and :func:`rlmba.select`.
        PeerError
            If a process was lost in each attempt.
        """
        given = {name: _absolute(value) for name, value in arguments.items()}
        for left in reversed(range(_ATTEMPTS)):
            found = self._try(given, say)
            if isinstance(found, SelectedSamples):
                return found
            if left:
                say(f"{found}; selecting again from the beginning")
        raise PeerError(
            f"{found}; {_ATTEMPTS} attempts have failed, and no batch was written; see Ray's logs; use a "
            "lower --max-memory if processes were killed for lack of memory"
        )

    def _try(self, arguments: dict[str, Any], say: Callable[[str], None]) -> SelectedSamples | str:
        """Return the batch, or a text that names the lost process."""
        try:
            return self._attempt(arguments, say)
        except (_LostError, self.ray.exceptions.RayActorError) as lost:
            return _first_line(lost)

    def _cores(self) -> list[int]:
        nodes = [int(n["Resources"].get("CPU", 0)) for n in self.ray.nodes() if n["Alive"]]
        return [cores for cores in nodes if cores]

    def _attempt(self, arguments: dict[str, Any], say: Callable[[str], None]) -> SelectedSamples:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        group, size, threads = self._reserved(say)
        try:
            kind = self.ray.remote(num_cpus=threads, num_gpus=0, max_restarts=0)(_Process)
            actors = [
                kind.options(
                    scheduling_strategy=PlacementGroupSchedulingStrategy(
                        group, placement_group_bundle_index=i
                    )
                ).remote()
                for i in range(size)
            ]
            places = self.ray.get([actor.place.remote() for actor in actors])
            nodes = len({place[0] for place in places})
            say(
                f"{size} processes on {nodes} node{'s' * (nodes > 1)} of the Ray cluster divide the rows, "
                f"each with {threads} thread{'s' * (threads > 1)}"
            )
            running = {
                actor.select.remote(rank, size, places[0][1:], self.patience, arguments): rank
                for rank, actor in enumerate(actors)
            }
            return self._first_result(running, [place[1] for place in places])
        finally:
            self.ray.util.remove_placement_group(group)  # with its processes

    def _reserved(self, say: Callable[[str], None]) -> tuple[Any, int, int]:
        """Wait for free cores; return a placement group, its number of processes, and the threads of each."""
        waits = 0
        while cores := self._cores():
            size = min(self.processes or len(cores), sum(cores))
            threads = max(t for t in range(1, max(cores) + 1) if sum(c // t for c in cores) >= size)
            group = self.ray.util.placement_group([{"CPU": threads}] * size, strategy="SPREAD")
            while not group.wait(_LOOK) and self._cores() == cores:
                waits += 1
                if waits == _LOOKS:
                    say(f"waiting for {size * threads:,} free cores of the Ray cluster")
            if group.wait(0):
                return group, size, threads
            self.ray.util.remove_placement_group(group)  # the nodes have changed
        raise _LostError("the Ray cluster has no node with cores any more")

    def _first_result(self, running: dict[Any, int], hosts: Sequence[str]) -> SelectedSamples:
        """Return the result of the first process when all processes have ended."""
        found: Any = None
        alone: PeerError | None = None
        while running:
            wait = None if alone is None else _LAST_WORDS
            ended, _ = self.ray.wait(list(running), num_returns=1, timeout=wait)
            if not ended:
                break
            rank = running.pop(ended[0])
            where = f"process {rank} on {hosts[rank]}"
            try:
                value = self.ray.get(ended[0])
            except self.ray.exceptions.RayTaskError:
                raise
            except self.ray.exceptions.RayError as error:
                raise _LostError(f"{where} has died ({_first_line(error)})") from error
            if isinstance(value, PeerError):
                alone = value
            elif isinstance(value, BaseException):
                raise value
            elif rank == 0:
                found = value
        if alone is not None:
            raise _LostError(str(alone).partition("; ")[0])
        return found  # type: ignore[no-any-return]


class _Process:
    """One process, as a Ray actor."""

    def place(self) -> tuple[str, str, int]:
        """The id of this process's node, the node's address, and a free port there."""
        import ray

        untyped: Any = ray
        with socket.create_server(("", 0)) as server:
            port = server.getsockname()[1]
        node = untyped.get_runtime_context().get_node_id()
        return node, untyped.util.get_node_ip_address(), port

    def select(
        self,
        rank: int,
        size: int,
        first: tuple[str, int],
        patience: timedelta,
        arguments: dict[str, Any],
    ) -> SelectedSamples | Exception | None:
        """Select together with the others; only the first process returns the batch. Errors are returned."""
        from rlmba.training import ProcessGroup

        host, port = first
        os.environ |= {
            "MASTER_ADDR": host,
            "MASTER_PORT": str(port),
            "RANK": str(rank),
            "WORLD_SIZE": str(size),
            "LOCAL_RANK": "0",
        }
        try:
            group = ProcessGroup.open("cpu", patience=patience)
            try:
                batch = plan_shards(**arguments, group=group, dry_run=True).select()
            except BaseException:
                group.leave()
                raise
        except (RlmbaError, OSError, MemoryError) as error:
            return error
        return batch if rank == 0 else None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _absolute(value: Any) -> Any:
    if isinstance(value, Path):
        return value.absolute()
    return [_absolute(v) for v in value] if isinstance(value, list) else value
