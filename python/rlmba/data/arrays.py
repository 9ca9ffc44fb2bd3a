"""Read named arrays from a file: ``.npz``, ``.npy``, ``.parquet`` or ``.safetensors``."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.cells import as_text
from rlmba.errors import DataError, UsageError
from rlmba.ids import as_ids
from rlmba.reading.arrays import read_npy, read_npz, read_tensors
from rlmba.reading.parquet import read_parquet
from rlmba.reading.structured import parse_json

__all__ = ["NUMBERED", "SUFFIXES", "read_arrays", "table_arrays"]

SUFFIXES = (".npz", ".npy", ".parquet", ".safetensors")

NUMBERED = re.compile(r"(?P<name>.+)_(?P<column>\d+)")
"""The names of the columns of one array: ``name_0``, ``name_1``, ..."""
_AGAIN = "it may be truncated or another format; write or copy it again"


def read_arrays(path: Path, *, npy_holds: str | None = None) -> dict[str, NDArray[Any]]:
    """Read all arrays of a file, by name.

    Parameters
    ----------
    path : path
        ``.npz``: its arrays; arrays that are stored uncompressed and aligned are memory-mapped.
        ``.npy``: one array, memory-mapped. ``.safetensors``: its tensors, with bfloat16 as float32;
        ids may also be a JSON list under ``ids`` in the metadata. ``.parquet``: a column of numbers,
        booleans or strings becomes an array [N]; a column of lists of equal length, or the columns
        ``name_0``, ``name_1``, ..., become an array [N, D]; ``id`` is read as ``ids``.
    npy_holds : str, optional
        The name for the array of a ``.npy`` file.

    Raises
    ------
    DataError
        If there is no such file, or it is damaged or needs pickle.
    UsageError
        If the suffix is not one of these, ``npy_holds`` is missing, or pyarrow is needed but not
        installed.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"{path}: expected a file of {', '.join(SUFFIXES)}, got {suffix or 'none'}"
        )
    if suffix == ".npy" and npy_holds is None:
        raise UsageError(
            f"{path}: a .npy file holds one array without a name; say what it holds, such as features or "
            "logits, with --npy-holds"
        )
    if suffix == ".npz":
        return read_npz(path, mapped=True)
    if suffix == ".npy":
        return {str(npy_holds): read_npy(path)}
    if suffix == ".parquet":
        return read_parquet(path, partial(table_arrays, path))
    return _safetensors(path)


def _safetensors(path: Path) -> dict[str, NDArray[Any]]:
    metadata, found = read_tensors(path, "np", what="a readable .safetensors", advice=_AGAIN)
    if "ids" in metadata and "ids" not in found:
        place = f"{path}, metadata ids"
        found["ids"] = as_ids(parse_json(metadata["ids"], list[str | int], place, advice=_AGAIN))
    return found


def table_arrays(path: Path, table: Any) -> dict[str, NDArray[Any]]:
    """The columns of a ``pyarrow.Table`` as arrays; see :func:`read_arrays`. ``path`` is for messages."""
    found: dict[str, NDArray[Any]] = {}
    numbered: dict[str, dict[int, NDArray[Any]]] = {}
    for name in table.column_names:
        array = _column(path, name, table.column(name))
        match = NUMBERED.fullmatch(name)
        if match and array.ndim == 1:
            numbered.setdefault(match["name"], {})[int(match["column"])] = array
        else:
            found["ids" if name == "id" else name] = array
    for name, columns in numbered.items():
        missing = sorted(set(range(max(columns) + 1)) - set(columns))
        if missing:
            raise DataError(
                f"{path}: expected columns {name}_0 to {name}_{max(columns)}, but "
                f"{name}_{missing[0]} is missing; add it"
            )
        found[name] = np.stack([columns[i] for i in range(len(columns))], axis=1)
    return found


def _column(path: Path, name: str, column: Any) -> NDArray[Any]:
    import pyarrow as pa

    if column.null_count:
        raise DataError(f"{path}: column {name!r}: expected a value in every row, got null")
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # too large for one array of this type
        whole = pa.concat_arrays(whole.chunks)
    if pa.types.is_list(whole.type) or pa.types.is_large_list(whole.type):
        widths = np.unique(whole.value_lengths().to_numpy())
        if len(widths) != 1:
            raise DataError(
                f"{path}: column {name!r}: expected lists of equal length, got {widths[:5].tolist()}"
            )
    elif not pa.types.is_fixed_size_list(whole.type):
        values: NDArray[Any] = whole.to_numpy(zero_copy_only=False)
        if values.dtype != object:
            return values
        try:
            texts = [v if isinstance(v, str) else as_text(v) or "" for v in values.tolist()]
        except ValueError as error:
            raise DataError(f"{path}: column {name!r}: {error}") from None
        return np.array(texts, dtype=np.str_)
    flat = whole.flatten()
    if flat.null_count:
        raise DataError(f"{path}: column {name!r}: expected a number everywhere, got null")
    matrix: NDArray[Any] = flat.to_numpy(zero_copy_only=False).reshape(len(whole), -1)
    return matrix
