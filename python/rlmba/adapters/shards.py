"""A selection from a pool in shards: open it, select with one or several processes, write the batch."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlmba.adapters.files import (
    WrittenBatch,
    as_bytes,
    as_seconds,
    parse_options,
    run_selection,
)
from rlmba.data.batch_file import SUFFIXES
from rlmba.data.pool_file import read_ids, read_labeled, read_pool
from rlmba.data.shards import ShardedPool
from rlmba.errors import UsageError
from rlmba.kernels.sharded import Group
from rlmba.strategies import Strategy, create
from rlmba.strategies.cost import Workload
from rlmba.strategies.direct import SelectedSamples, select
from rlmba.strategies.sharded import estimate_shards, why_not
from rlmba.tables import check_target

__all__ = ["ShardSelection", "join_slurm", "parse_bytes", "plan_shards"]

_GLOBAL = ("head", "weights", "temperatures", "fusion_weights")
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


@dataclass(frozen=True, eq=False)
class ShardSelection:
    """A selection from shards that is ready to run; every process of the group runs it.

    The first process of the group writes the batch and prints.
    """

    strategy: Strategy
    pool: ShardedPool
    n: int
    seed: int
    arguments: Mapping[str, Any]
    out: Path | None
    group: Group

    def lines(self) -> list[str]:
        """The lines that describe the selection."""
        pool = self.pool
        columns = ", ".join(f"{name} ({column})" for name, column in pool.columns.items())
        found = [f"pool: {len(pool.paths):,} shards, {pool.rows:,} samples; {columns}"]
        if self.group.size > 1:
            found.append(f"{self.group.size} processes divide the rows")
        return found

    def estimate_lines(self, *, rows: int | None = None, processes: int | None = None) -> list[str]:
        """The lines of an estimate, for other numbers of rows and processes if they are given."""
        rows, processes = rows or self.pool.rows, processes or self.group.size
        work = _workload(self.pool, self.n, rows)
        e = estimate_shards(
            self.strategy, work, processes, max_memory=self.arguments.get("max_memory")
        )
        seconds = "unknown" if e.seconds is None else f"about {as_seconds(e.seconds)}"
        columns = [c for name, c in self.pool.columns.items() if name != "labels"]
        read = rows * sum(c.nbytes for c in columns) / processes
        spilled = f" and {as_bytes(e.spilled)} of temporary files" if e.spilled else ""
        about = (
            f"estimate for {self.n:,} of {rows:,} by {self.strategy.name}, {processes:,} processes on "
            f"machines like this one: {seconds} and the time to read at most {as_bytes(read)} a process"
        )
        network = f"{as_bytes(e.received)} received by a process, in {e.rounds:,} rounds"
        return [
            about,
            f"memory of a process: at most {as_bytes(e.memory)}{spilled}",
            f"network: {network if processes > 1 else 'none'}",
        ]

    def select(self) -> SelectedSamples:
        """Select, in all processes of the group; see :func:`rlmba.select`."""
        return select(
            self.strategy,
            n=self.n,
            rng=self.seed,
            **{**self.arguments, "pool": self.pool, "group": self.group},
        )

    def run(self, choose: Callable[[], SelectedSamples] | None = None) -> WrittenBatch:
        """Select, with ``choose`` if it is given, and write the batch in the first process.

        Raises
        ------
        UsageError
            If no file to write was named, or as :func:`rlmba.select`.
        DataError
            As :func:`rlmba.select`.
        PeerError
            If other processes of the group have ended or do not answer.
        StorageError
            If the batch could not be written.
        """
        first = self.group.rank == 0
        return run_selection(self.out, self.strategy, choose or self.select, write=first)


def plan_shards(
    pool: Sequence[Path],
    n: int,
    *,
    strategy: str,
    group: Group,
    options: Sequence[str] = (),
    out: Path | None = None,
    labeled: Sequence[Path] = (),
    arrays: Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    dry_run: bool = False,
    max_memory: str | None = None,
    spill_folder: Path | None = None,
) -> ShardSelection:
    """Open the shards of a selection and read its other arguments; no rows are read.

    Parameters
    ----------
    pool : sequence of path
        See :class:`rlmba.data.shards.ShardedPool`; one folder, or shards.
    n, strategy, options, out, labeled, seed, overwrite, dry_run
        As :func:`rlmba.adapters.files.plan`.
    group : Group
        The processes that divide the rows.
    arrays : path, optional
        File with the arrays that do not belong to samples: ``head/weight`` and ``head/bias``, ``weights``,
        ``temperatures``, ``fusion_weights``.
    max_memory : str, optional
        Memory for rows in each process, such as "4GiB".
    spill_folder : path, optional
        Folder for rows that do not fit.

    Raises
    ------
    UsageError, DataError, StorageError
        If an argument is wrong, a file cannot be read, the strategy cannot choose from shards, or the batch
        could not be written.
    """
    chosen = create(strategy, **parse_options(options))
    if reason := why_not(chosen):
        raise UsageError(f"strategy {chosen.name!r} cannot choose from shards: it {reason}")
    if out is None and not dry_run:
        raise UsageError("expected a file to write the batch to; give it with --out, or --dry-run")
    if out is not None:
        check_target(out, overwrite=overwrite, suffixes=SUFFIXES)
    if seed < 0:
        raise UsageError(f"--seed: expected an integer >= 0, got {seed}")
    if spill_folder is not None and not spill_folder.is_dir():
        raise UsageError(f"--spill-folder: expected a folder, got {spill_folder}; create it first")
    memory = None if max_memory is None else parse_bytes(max_memory)
    opened = ShardedPool(pool[0] if len(pool) == 1 else list(pool))
    if not 0 <= n <= opened.rows:
        raise UsageError(f"-n: expected 0 to {opened.rows:,}, the samples of the pool, got {n:,}")
    given: dict[str, Any] = {"max_memory": memory, "spill_folder": spill_folder}
    if arrays is not None:
        read = read_pool(arrays).arguments
        if strange := sorted(set(read) - set(_GLOBAL)):
            raise UsageError(
                f"{arrays}: expected only {', '.join(_GLOBAL)}, got also {strange}; the arrays of samples "
                "belong into the shards"
            )
        given |= read
    if labeled:
        given |= _labeled(labeled, opened)
    return ShardSelection(chosen, opened, n, seed, given, out, group)


def _workload(pool: ShardedPool, n: int, rows: int) -> Workload:
    """The size of a selection, from the types of the columns."""
    columns = pool.columns
    kinds = {
        name: [c for c in columns if c.partition("/")[0] == name] for name in ("features", "logits")
    }
    kinds["logits"] = kinds["logits"] or [c for c in columns if c.startswith("probabilities")]
    widths = {c: columns[c].width or 1 for found in kinds.values() for c in found}
    passes = [c for c in columns if c.startswith("dropout_logits/")]
    modal = [c for c in kinds["features"] if "/" in c]
    return Workload(
        samples=rows,
        batch=n,
        classes=max((widths[c] for c in kinds["logits"]), default=0),
        width=widths.get("features", sum(widths[c] for c in modal)),
        modalities=max(1, len(modal)),
        passes=len(passes),
        itemsize=max(
            [columns[c].dtype.itemsize for c in widths if columns[c].dtype.kind == "f"] or [4]
        ),
    )


def _labeled(paths: Sequence[Path], pool: ShardedPool) -> dict[str, Any]:
    if "ids" in pool.columns and all(
        p.suffix.lower() not in (".npz", ".safetensors") for p in paths
    ):
        return {"labeled": np.unique(np.concatenate([read_ids(path) for path in paths]))}
    read = read_labeled(paths, None)
    return {name: read[name] for name in ("labeled", "labels") if name in read}


def parse_bytes(text: str) -> int:
    """A number of bytes from text such as "4GiB", "500 MB" or "1e9"; K, M, G and T are powers of 1,024.

    Raises
    ------
    UsageError
        If the text is none.

    Examples
    --------
    >>> parse_bytes("4GiB")
    4294967296
    """
    match = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    try:
        value = int(float(match[1]) * (1 << _UNITS[match[2]])) if match else 0
    except ValueError:
        value = 0
    if value < 1:
        raise UsageError(f"expected an amount of memory such as 4GiB or 500MB, got {text!r}")
    return value


def join_slurm() -> None:
    """Let the tasks of a SLURM step form one group, as if torchrun had started them.

    It does nothing outside SLURM, with a single task, or if a launcher has set ``WORLD_SIZE``.
    """
    env = os.environ
    if (
        "WORLD_SIZE" in env
        or int(env.get("SLURM_STEP_NUM_TASKS", "1")) < 2
        or "SLURM_PROCID" not in env
    ):
        return
    first = re.match(r"[^\[,]+(?:\[(\d+))?", env.get("SLURM_STEP_NODELIST", "127.0.0.1"))
    host = "127.0.0.1" if first is None else first[0].replace("[", "")
    env["WORLD_SIZE"], env["RANK"] = env["SLURM_STEP_NUM_TASKS"], env["SLURM_PROCID"]
    env["LOCAL_RANK"] = env.get("SLURM_LOCALID", "0")
    env["MASTER_ADDR"] = env.get("MASTER_ADDR", host)
    job = int(env.get("SLURM_JOB_ID", "0"))
    env["MASTER_PORT"] = env.get("MASTER_PORT", str(20_000 + job % 20_000))
