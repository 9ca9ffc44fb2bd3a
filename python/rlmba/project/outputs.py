"""Outputs of a run's trained network for many samples, as a pool in shards."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rlmba
from rlmba.actors import RayWorkers
from rlmba.clusters import connect
from rlmba.data.media.work import TaskQueue
from rlmba.data.shard_files import write_shard_list
from rlmba.errors import DataError, UsageError, WorkerError
from rlmba.project.output_folder import (
    ARRAYS,
    LEFT_OUT,
    OutputsSummary,
    ShardLog,
    list_shards,
    prepare_folder,
    remove_temporary,
    write_arrays,
)
from rlmba.project.output_shards import Job, Opened, ShardTask, Source, Written
from rlmba.reading.parquet import pyarrow_for
from rlmba.storage import locked, make_folder
from rlmba.strategies.random import id_hashes
from rlmba.workers import Died, WorkerPool, Workers, cores, worker_environment

__all__ = ["ARRAYS", "LEFT_OUT", "OutputsSummary", "write_outputs"]

_PATIENCE = 5.0
"""Seconds that processes get to end by themselves."""
_ATTEMPTS = 3
"""Processes that may die during the same shard."""

Progress = Callable[[int, int], None]


def write_outputs(
    folder: Path,
    out: Path,
    *,
    manifest: Sequence[Path] = (),
    data: Sequence[Path] = (),
    rows_per_shard: int = 50_000,
    processes: int | None = None,
    ray: str | None = None,
    overwrite: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> OutputsSummary:
    """Write features and logits of many samples as a pool in shards, which ``rlmba select`` reads.

    Each shard is written completely or not at all. If the call is interrupted, the same call writes the
    shards that are missing; until then the folder is marked incomplete. Samples of which nothing can be
    read have no row; they are listed in the folder's ``left_out.csv``.

    Parameters
    ----------
    folder : path
        A run, a project, or a folder that :func:`rlmba.project.export.export` wrote.
    out : path
        Folder of the shards: it is created, or must be empty or written by an earlier call.
    manifest, data : sequence of path
        The samples: manifests, or ``.npz`` files for a run on arrays, in the order of the rows. Only one
        of them is in memory at a time; ids must be distinct among all.
    rows_per_shard : int
        Samples of a shard; the last one of each file may have fewer.
    processes : int or None
        Number of processes. Default: this one alone; with ``ray``, one for each GPU of the cluster, or, if
        it has none, for each node.
    ray : str or None
        Address of a Ray cluster whose processes compute the outputs: see :func:`rlmba.clusters.connect`. All
        files must have the same paths on all nodes.
    overwrite : bool
        Remove the shards of an earlier call, and start again.
    device : str or None
        "auto", "cpu" or a torch device; None: the run's own setting.
    batch_size : int or None
        Samples per forward pass; None: the run's own setting.
    progress : callable or None
        Called with (samples done, total samples).

    Returns
    -------
    OutputsSummary

    Raises
    ------
    UsageError
        If an argument is invalid, or the folder holds other files, or shards of other arguments.
    RunFolderError
        If the network cannot be loaded; see :meth:`rlmba.learner.Trained.load`.
    DataError
        If samples cannot be used, ids repeat, or an output is not finite.
    StorageError
        If a shard cannot be written.
    WorkerError
        If three processes die while they compute the same shard.
    """
    _require_valid(manifest, data, rows_per_shard, processes, batch_size)
    pyarrow_for(out, "writing")
    opened = Opened(folder, arrays=bool(data), device=device, batch_size=batch_size)
    sources, missing = _read_sources(opened, [path.resolve() for path in manifest or data])
    job = Job(
        folder.resolve(), out.resolve(), bool(data), opened.network, rlmba.__version__, device, batch_size
    )  # fmt: skip
    tasks = _tasks(job, sources, rows_per_shard)
    origin = _origin(opened, sources, rows_per_shard)
    make_folder(out)

    def busy(who: str) -> Exception:
        return UsageError(f"{out}: {who} is writing into this folder; wait until it has ended")

    with locked(out, busy):
        prepare_folder(out, origin, overwrite=overwrite)
        log = ShardLog(out)
        done = log.complete(tasks)
        left = [task for task in tasks if task.name not in done]
        summary = OutputsSummary(out, shards=len(tasks), found=len(done))
        if left:
            write_shard_list(out, origin)
            write_arrays(out, opened.trained)
        count = _Count(tasks, done, progress)
        try:
            with _results(opened, left, processes, ray, count) as results:
                for task, written in results:
                    log.add(written)
                    done[task.name] = written
                    count.add(task)
        finally:
            remove_temporary(out)
        summary.lost = count.lost
        list_shards(out, origin, [done[task.name] for task in tasks], missing, summary)
    return summary


def _require_valid(
    manifest: Sequence[Path],
    data: Sequence[Path],
    rows_per_shard: int,
    processes: int | None,
    batch_size: int | None,
) -> None:
    if (not manifest) == (not data):
        raise UsageError("expected --manifest FILE or, for a run on arrays, --data FILE.npz")
    for name, value in (("rows_per_shard", rows_per_shard), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise UsageError(f"{name}: expected an integer >= 1, got {value}")
    if processes is not None and processes < 1:
        raise UsageError(f"--num-processes: expected at least 1, got {processes}")


def _origin(opened: Opened, sources: Sequence[Source], rows_per_shard: int) -> dict[str, Any]:
    """What tells the shards of one command from those of another."""
    return {
        "network": opened.network,
        "round": opened.trained.round,
        "labels": opened.trained.labels,
        "modalities": list(opened.trained.model.names),
        "rows_per_shard": rows_per_shard,
        "samples": [asdict(source) | {"path": str(source.path)} for source in sources],
    }


def _read_sources(opened: Opened, paths: Sequence[Path]) -> tuple[list[Source], dict[str, str]]:
    """The files of samples, and the reasons why samples are not among them, by id."""
    sources, missing, hashes = [], dict[str, str](), []
    for path in paths:
        dataset, source = opened.samples(path)
        sources.append(source)
        missing |= getattr(dataset, "left_out", {})
        if len(paths) > 1:
            hashes.append(id_hashes(dataset.ids))
    if len(paths) > 1:
        _require_distinct(opened, sources, hashes)
    return sources, missing


def _require_distinct(
    opened: Opened, sources: Sequence[Source], hashes: Sequence[NDArray[np.uint64]]
) -> None:
    every = np.concatenate(hashes)
    ends = np.cumsum([len(h) for h in hashes])
    order = np.argsort(every, kind="stable")
    for at in np.flatnonzero(np.diff(every[order]) == 0).tolist():
        found = []
        for row in order[at : at + 2].tolist():
            source = int(np.searchsorted(ends, row, side="right"))
            dataset, _ = opened.samples(sources[source].path)
            found.append((dataset.ids[row - int(ends[source])], sources[source].path))
        (one, first), (two, second) = found
        if one == two:
            raise DataError(
                f"{second}: expected distinct ids in all files, got {str(one)!r} again, which is also in "
                f"{first}; rename one of the samples, or leave it out"
            )


def _tasks(job: Job, sources: Sequence[Source], rows: int) -> list[ShardTask]:
    parts = (
        (source, begin, min(begin + rows, source.samples))
        for source in sources
        for begin in range(0, source.samples, rows)
    )
    return [ShardTask(job, number, *part) for number, part in enumerate(parts)]


class _Count:
    """Counts samples for the progress, and processes that have died."""

    def __init__(
        self, tasks: Sequence[ShardTask], done: Container[str], progress: Progress | None
    ) -> None:
        self.lost = 0
        self._total = sum(len(task) for task in tasks)
        self._done = sum(len(task) for task in tasks if task.name in done)
        self._progress, self._shown = progress, 0
        self.within(0)

    def add(self, task: ShardTask) -> None:
        """Count the samples of a complete shard."""
        self._done += len(task)
        self.within(0)

    def within(self, samples: int) -> None:
        """Show a number of samples of shards that are not complete, in addition to the others."""
        self._shown = max(self._shown, min(self._done + samples, self._total))
        if self._progress is not None:
            self._progress(self._shown, self._total)


@contextlib.contextmanager
def _results(
    opened: Opened,
    tasks: Sequence[ShardTask],
    processes: int | None,
    ray: str | None,
    count: _Count,
) -> Iterator[Iterator[tuple[ShardTask, Written]]]:
    """Write shards in this process or others, and yield them as they are complete."""
    if not tasks or (ray is None and processes in (None, 1)):
        yield _here(opened, tasks, count)
        opened.close()
        return
    opened.close()
    with contextlib.ExitStack() as stack:
        if ray is not None:
            client = stack.enter_context(connect(ray))
            pool: WorkerPool = RayWorkers(client, processes)
        else:
            pool = _processes(min(processes or 1, len(tasks)))
        queue = stack.enter_context(TaskQueue(pool, tasks))
        yield _elsewhere(queue, min(opened.step, max(len(task) for task in tasks)), count)


def _here(
    opened: Opened, tasks: Sequence[ShardTask], count: _Count
) -> Iterator[tuple[ShardTask, Written]]:
    for task in tasks:
        steps = itertools.count(opened.step, opened.step)
        yield task, task.write(opened, functools.partial(_show_block, count, steps, task))


def _show_block(count: _Count, steps: Iterator[int], task: ShardTask) -> None:
    count.within(min(next(steps), len(task)))


def _processes(limit: int) -> Workers:
    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(given) if given.isdecimal() and int(given) else max(1, cores() // limit)

    def environment(slot: int) -> dict[str, str]:
        return worker_environment(slot, threads) | {"LOCAL_WORLD_SIZE": str(limit)}

    return Workers(limit, environment=environment, patience=_PATIENCE)


def _elsewhere(queue: TaskQueue, step: int, count: _Count) -> Iterator[tuple[ShardTask, Written]]:
    deaths: Counter[str] = Counter()
    for ended in queue.outcomes():
        if ended is None:
            count.within(queue.in_flight * step)
            continue
        task: Any = ended[0]
        if not isinstance(ended[1], Died):
            yield task, ended[1]
            continue
        count.lost += 1
        deaths[task.name] += 1
        if deaths[task.name] == _ATTEMPTS:
            raise WorkerError(
                f"{_ATTEMPTS} processes that computed {task.job.out / task.name} have died, the last one by "
                f"{ended[1]}; most often memory is used up: repeat the command, which writes the missing "
                "shards, with fewer --num-processes or a smaller --batch-size"
            )
        queue.submit([task])
