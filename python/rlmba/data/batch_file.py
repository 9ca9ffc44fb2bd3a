"""Write a selected batch to a file: ``.csv``, ``.json``, ``.npy`` or ``.parquet``."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import UsageError
from rlmba.ids import id_texts
from rlmba.storage import atomic_write_bytes
from rlmba.tables import write_table

__all__ = ["SUFFIXES", "write_batch"]

SUFFIXES = (".csv", ".json", ".npy", ".parquet")


def write_batch(
    path: Path,
    *,
    strategy: str,
    ids: NDArray[Any],
    positions: NDArray[np.int64],
    scores: NDArray[np.float64],
) -> None:
    """Write a batch in the order of selection; the file is written completely or not at all.

    ``.csv`` and ``.parquet`` have the columns rank (from 1), id, position (in the pool's file) and score.
    ``.json`` has the strategy, and the same values as a list ``samples``. ``.npy`` has only the ids. In
    ``.csv``, an apostrophe precedes ids that a spreadsheet would run as formulas; readers of ids remove it.

    Raises
    ------
    UsageError
        If the suffix is not one of these.
    StorageError
        If the file could not be written.
    """
    names = id_texts(ids) if ids.dtype.kind == "S" else ids.tolist()
    columns: dict[str, Sequence[Any]] = {
        "rank": range(1, len(names) + 1),
        "id": names,
        "position": positions.tolist(),
        "score": scores.tolist(),
    }
    suffix = path.suffix.lower()
    if suffix == ".csv":
        write_table(path, columns, guard=True)
    elif suffix == ".parquet":
        write_table(path, columns | {"id": _plain(ids).tolist()})
    elif suffix == ".json":
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        held = {"strategy": strategy, "samples": rows}
        atomic_write_bytes(path, (json.dumps(held, indent=1) + "\n").encode("utf-8"))
    elif suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, _plain(ids), allow_pickle=False)
        atomic_write_bytes(path, buffer.getvalue())
    else:
        raise UsageError(f"{path}: expected a name ending in {', '.join(SUFFIXES)}")


def _plain(ids: NDArray[Any]) -> NDArray[Any]:
    """Ids of one type: text if there are both text and integers, or integers of more than 64 bits."""
    return np.array(id_texts(ids), dtype=np.str_) if ids.dtype.kind in "OS" else ids
