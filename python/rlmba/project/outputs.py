"""Outputs of a run's trained network for many samples, as a pool in shards."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray

import rlmba
from rlmba.actors import RayWorkers
from rlmba.clusters import connect
from rlmba.data import MultimodalDataset
from rlmba.data.media.work import TaskQueue
from rlmba.data.shard_files import (
    ShardFile,
    ShardList,
    file_checksum,
    find_shard_list,
    write_shard,
    write_shard_list,
)
from rlmba.data.shards import ShardedPool
from rlmba.errors import (
    DataError,
    NonFiniteError,
    RlmbaWarning,
    StorageError,
    UsageError,
    WorkerError,
)
from rlmba.learner.trained import Trained
from rlmba.project.network_outputs import NetworkOutputs, allowed_features_folder, chunk_of
from rlmba.project.predict import read_new
from rlmba.reading.parquet import pyarrow_for
from rlmba.runfolder.jsonlines import JsonLog
from rlmba.storage import atomic_write_bytes, locked, make_folder
from rlmba.strategies.random import id_hashes
from rlmba.tables import write_table
from rlmba.types import PoolOutputs
from rlmba.workers import Died, WorkerPool, Workers, cores, worker_environment

__all__ = ["ARRAYS", "LEFT_OUT", "OutputsSummary", "write_outputs"]

ARRAYS = Path("arrays") / "network.safetensors"
"""File in the folder of shards with the arrays of the network that belong to no sample."""
LEFT_OUT = "left_out.csv"
"""File in the folder of shards that names the samples without outputs."""
_LOG = "written.jsonl"
_PART = re.compile(r"part-\d{5,}\.parquet")
_TEMPORARY = re.compile(r"\.part-\d{5,}\.parquet\.[0-9a-f]+\.tmp")
_PATIENCE = 5.0
"""Seconds that processes get to end by themselves."""
_ATTEMPTS = 3
"""Processes that may die during the same shard."""
_NOTHING_READ = "no modality could be read"

Progress = Callable[[int, int], None]


@dataclass
class OutputsSummary:
    """Summary of the shards that :func:`write_outputs` wrote.

    Attributes
    ----------
    folder : path
    shards, rows : int
        Of the whole folder.
    found : int
        Shards that an earlier call had written.
    lost : int
        Processes that died and whose shards were computed again.
    left_out : int
        Samples without outputs, because no modality could be read.
    columns : mapping of str to str
        Types of the columns.
    """

    folder: Path
    shards: int = 0
    rows: int = 0
    found: int = 0
    lost: int = 0
    left_out: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Summary for the terminal."""
        columns = ", ".join(f"{name} ({kind})" for name, kind in self.columns.items())
        lines = [f"{self.folder}: {self.rows:,} samples in {self.shards:,} shards; {columns}"]
        if self.found:
            lines.append(f"{self.found:,} of the shards had been written before")
        if self.lost:
            lines.append(f"{self.lost:,} processes died; others computed their shards again")
        if self.left_out:
            lines.append(
                f"{self.left_out:,} samples have no outputs, because nothing of them could be read: "
                f"{self.folder / LEFT_OUT}"
            )
        return lines


@dataclass(frozen=True)
class _Source:
    """A file of samples: its samples, and checksums of their ids and, of a file, its content."""

    path: Path
    samples: int
    ids: str
    sha256: str | None

    @property
    def identity(self) -> tuple[Any, ...]:
        """What does not change when the file is moved."""
        return self.samples, self.ids, self.sha256


@dataclass(frozen=True)
class _Job:
    """What every process has to know."""

    folder: Path
    out: Path
    arrays: bool
    network: str
    version: str
    device: str | None
    batch_size: int | None


@dataclass(frozen=True)
class _Written:
    """A shard that is on disk, and the samples that it lacks, with the reason, by id."""

    file: ShardFile
    left_out: dict[str, str]


class _Opened:
    """The network, and one of the files of samples at a time."""

    def __init__(
        self,
        folder: Path,
        *,
        arrays: bool,
        device: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.trained = Trained.load(folder, without_frozen=True)
        self.network = _checksum_of(self.trained)
        self.step = chunk_of(batch_size or self.trained.config.training.predict_batch_size)
        self._folder, self._arrays = folder, arrays
        self._device, self._batch_size = device, batch_size
        self._dataset: MultimodalDataset | None = None
        self._outputs: NetworkOutputs | None = None
        self._source = _Source(folder, 0, "", None)

    @property
    def row_bytes(self) -> int:
        """Approximate number of bytes of a row of a shard."""
        model = self.trained.model
        modal = len(model.names) * (model.width + model.n_classes)
        return 64 + 4 * (modal + model.fused_width + model.n_classes)

    def samples(self, path: Path) -> tuple[MultimodalDataset, _Source]:
        """The samples of a file."""
        if self._dataset is None or path != self._source.path:
            self.close()
            given = {"data" if self._arrays else "manifest": path}
            self._dataset = read_new(self.trained, **given)
            ids = "\0".join(self._dataset.ids.tolist()).encode(errors="surrogatepass")
            self._source = _Source(
                path,
                len(self._dataset),
                hashlib.sha256(ids).hexdigest(),
                file_checksum(path) if path.is_file() else None,
            )
        return self._dataset, self._source

    def outputs(self, path: Path) -> NetworkOutputs:
        """The outputs of the samples of a file."""
        dataset, _ = self.samples(path)
        if self._outputs is None:
            self._outputs = NetworkOutputs(
                self.trained,
                dataset,
                device=self._device,
                batch_size=self._batch_size,
                features_folder=allowed_features_folder(self.trained.config, self._folder),
            )
        return self._outputs

    def close(self) -> None:
        """Forget the samples."""
        if self._outputs is not None:
            self._outputs.close()
        self._dataset = self._outputs = None


@dataclass(frozen=True)
class _ShardTask:
    """See :class:`rlmba.workers.Task`: the outputs of samples [begin, end) of a file."""

    job: _Job
    number: int
    source: _Source
    begin: int
    end: int

    @property
    def name(self) -> str:
        """The shard's file."""
        return f"part-{self.number:05d}.parquet"

    def run(self, tick: Callable[[], None]) -> _Written:
        """Write the shard in a process of its own, which keeps the network for the next one."""
        opened = _opened(self.job)
        with warnings.catch_warnings():  # the process that planned the shards has said them
            warnings.simplefilter("ignore", RlmbaWarning)
            opened.samples(self.source.path)
        return self.write(opened, tick)

    def write(self, opened: _Opened, tick: Callable[[], None]) -> _Written:
        """Write the shard."""
        _, source = opened.samples(self.source.path)
        if source.identity != self.source.identity:
            raise DataError(
                f"{source.path}: expected the {self.source.samples:,} samples for which the shards were "
                f"planned, found others ({source.samples:,}); do not change the file until all shards are "
                "written, and let all processes see the same one"
            )
        network, left_out = opened.outputs(source.path), dict[str, str]()

        def blocks() -> Iterator[dict[str, NDArray[Any]]]:
            for start in range(self.begin, self.end, network.step):
                positions = np.arange(start, min(start + network.step, self.end), dtype=np.int64)
                outputs = network.of(positions)
                readable = outputs.readable
                if readable is not None:
                    lost = np.setdiff1d(np.arange(len(outputs)), readable)
                    left_out.update(dict.fromkeys(outputs.ids[lost].tolist(), _NOTHING_READ))
                    outputs = outputs.take(readable)
                yield _columns(outputs)
                tick()

        size = (self.end - self.begin) * opened.row_bytes
        return _Written(write_shard(self.job.out / self.name, blocks(), size=size), left_out)


@functools.lru_cache(maxsize=1)
def _opened(job: _Job) -> _Opened:
    """Load the network in this process; it must be the one for which the shards were planned."""
    if job.version != rlmba.__version__:
        raise UsageError(
            f"expected version {job.version} of rlmba in all processes, got {rlmba.__version__}; install the "
            "same version on all machines"
        )
    opened = _Opened(job.folder, arrays=job.arrays, device=job.device, batch_size=job.batch_size)
    if opened.network != job.network:
        raise DataError(
            f"{job.folder}: the network is another one than that for which the shards were planned; if the "
            "run goes on meanwhile, write the network with `rlmba export`, and give that folder"
        )
    return opened


def _columns(outputs: PoolOutputs) -> dict[str, NDArray[Any]]:
    """A block of a shard. Rows of absent modalities are zeros."""
    names = outputs.modalities if len(outputs.modalities) > 1 else ()
    there = outputs.present
    if there is None:
        there = np.ones((len(outputs), len(outputs.modalities)), np.bool_)
    columns: dict[str, NDArray[Any]] = {"ids": outputs.ids}
    for kind, fused, own in (
        ("features", outputs.fused_features, outputs.features),
        ("logits", outputs.fused_logits, outputs.logits),
    ):
        columns[kind] = fused
        for column, name in enumerate(names):
            columns[f"{kind}/{name}"] = np.where(there[:, column, None], own[name], 0)
    for name, a in columns.items():
        if name != "ids" and not (finite := np.isfinite(a).all(axis=1)).all():
            row = int(np.argmin(finite))
            sample = str(outputs.ids[row])
            raise NonFiniteError(
                f"expected finite outputs, got NaN or infinity in {name} of the sample {sample!r}; repair "
                "the sample, or train the network again with a smaller training.learning_rate",
                row,
            )
    return columns | ({"present": there} if names else {})


def _checksum_of(trained: Trained) -> str:
    """SHA-256 of the network: its description and its weights."""
    digest = hashlib.sha256(json.dumps(trained.document, sort_keys=True, default=str).encode())
    frozen = {} if trained.frozen is None else trained.frozen.standardization
    for name, pair in sorted(frozen.items()):
        digest.update(name.encode())
        for a in pair:
            digest.update(np.ascontiguousarray(a).data)
    for name, tensor in sorted(trained.model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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
    if (not manifest) == (not data):
        raise UsageError("expected --manifest FILE or, for a run on arrays, --data FILE.npz")
    for name, value in (("rows_per_shard", rows_per_shard), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise UsageError(f"{name}: expected an integer >= 1, got {value}")
    if processes is not None and processes < 1:
        raise UsageError(f"--num-processes: expected at least 1, got {processes}")
    pyarrow_for(out, "writing")
    paths = [path.resolve() for path in manifest or data]
    opened = _Opened(folder, arrays=bool(data), device=device, batch_size=batch_size)
    sources, missing = _read_sources(opened, paths)
    job = _Job(
        folder.resolve(), out.resolve(), bool(data), opened.network, rlmba.__version__, device, batch_size
    )  # fmt: skip
    tasks = _tasks(job, sources, rows_per_shard)
    make_folder(out)

    def busy(who: str) -> Exception:
        return UsageError(f"{out}: {who} is writing into this folder; wait until it has ended")

    with locked(out, busy):
        origin = {
            "network": opened.network,
            "round": opened.trained.round,
            "labels": opened.trained.labels,
            "modalities": list(opened.trained.model.names),
            "rows_per_shard": rows_per_shard,
            "samples": [asdict(source) | {"path": str(source.path)} for source in sources],
        }
        _prepare(out, origin, overwrite=overwrite)
        log = _Log(out)
        done = log.complete(tasks)
        left = [task for task in tasks if task.name not in done]
        summary = OutputsSummary(out, shards=len(tasks), found=len(done))
        if left:
            write_shard_list(out, origin)
            _write_arrays(out, opened.trained)
        total = sum(source.samples for source in sources)
        count = _Count(total, progress, sum(t.end - t.begin for t in tasks if t.name in done))
        try:
            with _results(opened, left, processes, ray, count) as results:
                for task, written in results:
                    log.add(written)
                    done[task.name] = written
                    count.add(task.end - task.begin)
        finally:
            _remove(*_named(out, _TEMPORARY))  # of processes that were ended
        summary.lost = count.lost
        _finish(out, origin, [done[task.name] for task in tasks], missing, summary)
    return summary


def _read_sources(opened: _Opened, paths: Sequence[Path]) -> tuple[list[_Source], dict[str, str]]:
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
    opened: _Opened, sources: Sequence[_Source], hashes: Sequence[NDArray[np.uint64]]
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


def _tasks(job: _Job, sources: Sequence[_Source], rows: int) -> list[_ShardTask]:
    parts = (
        (source, begin, min(begin + rows, source.samples))
        for source in sources
        for begin in range(0, source.samples, rows)
    )
    return [_ShardTask(job, number, *part) for number, part in enumerate(parts)]


class _Log:
    """The shards that are complete."""

    def __init__(self, out: Path) -> None:
        again = "start again with --force"
        self._out = out
        self._log = JsonLog(
            out / _LOG,
            repair=again,
            retry="free some space and repeat the command",
            error=DataError,
        )

    def complete(self, tasks: Sequence[_ShardTask]) -> dict[str, _Written]:
        """Shards that were written and are still there, by the names of their files."""
        names = {task.name for task in tasks}
        found = {w.file.name: w for w in self._log.read(_Written) if w.file.name in names}
        return {name: w for name, w in found.items() if _size(self._out / name) == w.file.size}

    def add(self, written: _Written) -> None:
        """Note that a shard is complete."""
        self._log.append([json.dumps(asdict(written))])


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


class _Count:
    """Counts samples for the progress, and processes that have died."""

    def __init__(self, total: int, progress: Progress | None, done: int) -> None:
        self.lost = 0
        self._total, self._progress, self._done, self._shown = total, progress, done, 0
        self.within(0)

    def add(self, samples: int) -> None:
        """Count samples of a complete shard."""
        self._done += samples
        self.within(0)

    def within(self, samples: int) -> None:
        """Show a number of samples of shards that are not complete, in addition to the others."""
        self._shown = max(self._shown, min(self._done + samples, self._total))
        if self._progress is not None:
            self._progress(self._shown, self._total)


@contextlib.contextmanager
def _results(
    opened: _Opened,
    tasks: Sequence[_ShardTask],
    processes: int | None,
    ray: str | None,
    count: _Count,
) -> Iterator[Iterator[tuple[_ShardTask, _Written]]]:
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
        yield _elsewhere(queue, min(opened.step, max(t.end - t.begin for t in tasks)), count)


def _here(
    opened: _Opened, tasks: Sequence[_ShardTask], count: _Count
) -> Iterator[tuple[_ShardTask, _Written]]:
    for task in tasks:
        steps = itertools.count(opened.step, opened.step)
        yield task, task.write(opened, functools.partial(_show_block, count, steps, task))


def _show_block(count: _Count, steps: Iterator[int], task: _ShardTask) -> None:
    count.within(min(next(steps), task.end - task.begin))


def _processes(limit: int) -> Workers:
    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(given) if given.isdecimal() and int(given) else max(1, cores() // limit)

    def environment(slot: int) -> dict[str, str]:
        return worker_environment(slot, threads) | {"LOCAL_WORLD_SIZE": str(limit)}

    return Workers(limit, environment=environment, patience=_PATIENCE)


def _elsewhere(queue: TaskQueue, step: int, count: _Count) -> Iterator[tuple[_ShardTask, _Written]]:
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


def _prepare(out: Path, origin: Mapping[str, Any], *, overwrite: bool) -> None:
    """Refuse a folder with anything but shards of the same origin; with ``overwrite``, remove them."""
    listed = find_shard_list(out)
    inside = sorted(
        p.name for p in out.iterdir() if p.name != "lock" and not p.name.startswith(".")
    )
    if listed is None and inside:
        raise UsageError(
            f"{out}: expected an empty folder, or shards that `rlmba outputs` wrote, found {inside[0]!r}; "
            "give another folder with --out"
        )
    if listed is not None and not overwrite and (begun := _difference(listed, origin)):
        raise UsageError(
            f"{out} was begun with {begun}; repeat that command to write the missing shards, give another "
            "folder with --out, or start again with --force"
        )
    if listed is not None and overwrite:
        write_shard_list(out, listed.origin)  # no pool from here on, even if this is interrupted
        _remove(out / _LOG, *_named(out, _PART))
    _remove(*_named(out, _TEMPORARY))


def _named(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    return [path for path in folder.iterdir() if pattern.fullmatch(path.name)]


def _remove(*paths: Path) -> None:
    try:
        for path in paths:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"could not remove {error.filename} ({error.strerror or error})"
        ) from error


def _difference(listed: ShardList, origin: Mapping[str, Any]) -> str:
    """What another command differed in that wrote shards; "" if nothing."""
    earlier = listed.origin
    if listed.rlmba != rlmba.__version__:
        return f"version {listed.rlmba} of rlmba; this is {rlmba.__version__}"
    if earlier.get("network") != origin["network"]:
        then, now = (
            f"round {o.get('round')} with {o.get('labels')} labels" for o in (earlier, origin)
        )
        return f"another network ({then}; this is {now})"
    if earlier.get("rows_per_shard") != origin["rows_per_shard"]:
        return f"--rows-per-shard {earlier.get('rows_per_shard')}"
    return "" if _samples_in(earlier) == _samples_in(origin) else "other samples"


def _samples_in(origin: Mapping[str, Any]) -> list[list[Any]] | None:
    """What tells the files of samples from others, wherever they are; None if that is damaged."""
    listed = origin.get("samples")
    if not isinstance(listed, list) or not all(isinstance(source, dict) for source in listed):
        return None
    return [[source.get(key) for key in ("samples", "ids", "sha256")] for source in listed]


def _write_arrays(out: Path, trained: Trained) -> None:
    """Write the arrays of the network that `rlmba select --arrays` reads."""
    arrays = {
        "fusion_weights": trained.model.fusion_weights.detach().cpu().numpy().astype(np.float64),
        "temperatures": trained.temperatures,
        "weights": trained.weights,
    }
    head = trained.model.fused_head
    if head is not None:
        arrays["head/weight"] = head.weight.detach().cpu().numpy()
        arrays["head/bias"] = head.bias.detach().cpu().numpy()
    make_folder((out / ARRAYS).parent)
    contents = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    atomic_write_bytes(out / ARRAYS, safetensors.numpy.save(contents))


def _finish(
    out: Path,
    origin: Mapping[str, Any],
    written: Sequence[_Written],
    missing: Mapping[str, str],
    summary: OutputsSummary,
) -> None:
    """Check that all shards can be read, and list them."""
    left_out = {**missing}
    for shard in written:
        left_out |= shard.left_out
    if left_out:
        columns = {"id": list(left_out), "reason": list(left_out.values())}
        write_table(out / LEFT_OUT, columns, guard=True)
    else:
        _remove(out / LEFT_OUT)
    pool = ShardedPool([out / shard.file.name for shard in written])
    summary.columns = {name: str(column) for name, column in pool.columns.items()}
    summary.rows, summary.left_out = pool.rows, len(left_out)
    write_shard_list(out, origin, [shard.file for shard in written], summary.columns)
