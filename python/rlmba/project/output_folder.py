"""The folder of the shards that ``rlmba outputs`` writes, which continues where it was interrupted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

import rlmba
from rlmba.data.shard_files import ShardList, find_shard_list, write_shard_list
from rlmba.data.shards import ShardedPool
from rlmba.errors import DataError, StorageError, UsageError
from rlmba.learner.trained import Trained
from rlmba.project.output_shards import ShardTask, Written
from rlmba.runfolder.jsonlines import JsonLog
from rlmba.storage import atomic_write_bytes, make_folder
from rlmba.tables import write_table

__all__ = [
    "ARRAYS",
    "LEFT_OUT",
    "OutputsSummary",
    "ShardLog",
    "list_shards",
    "prepare_folder",
    "remove_temporary",
    "write_arrays",
]

ARRAYS = Path("arrays") / "network.safetensors"
"""File in the folder of shards with the arrays of the network that belong to no sample."""
LEFT_OUT = "left_out.csv"
"""File in the folder of shards that names the samples without outputs."""
_LOG = "written.jsonl"
_PART = re.compile(r"part-\d{5,}\.parquet")
_TEMPORARY = re.compile(r"\.part-\d{5,}\.parquet\.[0-9a-f]+\.tmp")


@dataclass
class OutputsSummary:
    """Summary of the shards that :func:`rlmba.project.outputs.write_outputs` wrote.

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


class ShardLog:
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

    def complete(self, tasks: Sequence[ShardTask]) -> dict[str, Written]:
        """Shards that were written and are still there, by the names of their files."""
        names = {task.name for task in tasks}
        found = {w.file.name: w for w in self._log.read(Written) if w.file.name in names}
        return {name: w for name, w in found.items() if _size(self._out / name) == w.file.size}

    def add(self, written: Written) -> None:
        """Note that a shard is complete."""
        self._log.append([json.dumps(asdict(written))])


def prepare_folder(out: Path, origin: Mapping[str, Any], *, overwrite: bool) -> None:
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
    remove_temporary(out)


def remove_temporary(out: Path) -> None:
    """Remove what processes left that were ended during a shard."""
    _remove(*_named(out, _TEMPORARY))


def write_arrays(out: Path, trained: Trained) -> None:
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


def list_shards(
    out: Path,
    origin: Mapping[str, Any],
    written: Sequence[Written],
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


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
