"""A selected batch as a file: ``.csv``, ``.json``, ``.npy``, ``.parquet``."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import StorageError, UsageError
from rlmba.storage import atomic_write_bytes

__all__ = ["SUFFIXES", "check_target", "write_batch"]

SUFFIXES = (".csv", ".json", ".npy", ".parquet")


def check_target(path: Path, *, overwrite: bool = False) -> None:
    """Refuse before the work what could not be written after it.

    Raises
    ------
    UsageError
        If the suffix is not one of ``SUFFIXES``, or the file is there and may not be replaced.
    StorageError
        If its folder is not there.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: expected a name ending in {', '.join(SUFFIXES)}")
    if path.is_dir() or (path.exists() and not overwrite):
        raise UsageError(f"{path}: is there already; give another name, or --force to replace it")
    if not path.parent.is_dir():
        raise StorageError(f"{path.parent}: no such folder; create it first")
    if path.suffix.lower() == ".parquet":
        _pyarrow(path)


def write_batch(
    path: Path,
    *,
    strategy: str,
    ids: NDArray[Any],
    positions: NDArray[np.int64],
    scores: NDArray[np.float64],
) -> None:
    """Write a batch in chosen order, whole or not at all.

    ``.csv`` and ``.parquet`` have the columns rank (from 1), id, position (in the pool's file), score;
    ``.json`` the same as ``samples``, beside the strategy; ``.npy`` the ids alone.

    Raises
    ------
    UsageError
        If the suffix is none of these.
    StorageError
        If it could not be written.
    """
    names = [v.decode() if isinstance(v, bytes) else v for v in ids.tolist()]
    columns: dict[str, list[Any]] = {
        "rank": list(range(1, len(names) + 1)),
        "id": names,
        "position": positions.tolist(),
        "score": scores.tolist(),
    }
    suffix = path.suffix.lower()
    buffer = io.BytesIO()
    if suffix == ".csv":
        text = io.StringIO(newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(columns)
        table.writerows(zip(*columns.values(), strict=True))
        buffer.write(text.getvalue().encode("utf-8"))
    elif suffix == ".json":
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        held = {"strategy": strategy, "samples": rows}
        buffer.write((json.dumps(held, indent=1) + "\n").encode("utf-8"))
    elif suffix == ".npy":
        np.save(buffer, np.array(names) if names else ids, allow_pickle=False)
    elif suffix == ".parquet":
        pa, pq = _pyarrow(path)
        pq.write_table(pa.table(columns), buffer)
    else:
        raise UsageError(f"{path}: expected a name ending in {', '.join(SUFFIXES)}")
    atomic_write_bytes(path, buffer.getvalue())


def _pyarrow(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(
            f'{path}: writing parquet needs pyarrow; pip install "rlmba[parquet]"'
        ) from error
    return pa, pq
