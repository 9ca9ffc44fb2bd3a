"""Read a pool and its labeled samples from files, as the arguments of ``rlmba.select``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.cells import whole
from rlmba.data.arrays import read_arrays
from rlmba.data.table import Table, read_table, read_text
from rlmba.errors import DataError, ShapeError, UsageError
from rlmba.ids import IdIndex, as_ids
from rlmba.reading.parquet import pyarrow_for

__all__ = ["PoolFile", "read_ids", "read_labeled", "read_pool"]

_BY_MODALITY = (
    "features",
    "logits",
    "probabilities",
    "labeled",
    "input_features",
    "labeled_input_features",
)
_PLAIN = (
    "ids",
    "labels",
    "dropout_logits",
    "present",
    "weights",
    "temperatures",
    "fusion_weights",
)
_HEAD = ("weight", "bias")
_ARRAYS = (".npy", ".npz", ".safetensors")


@dataclass(frozen=True, eq=False)
class PoolFile:
    """The content of a file: keyword ``arguments`` for ``rlmba.select``, and names of other arrays."""

    arguments: Mapping[str, Any]
    unused: tuple[str, ...] = field(default=())


def read_pool(path: Path, *, npy_holds: str | None = None) -> PoolFile:
    """Read a pool: arrays with the names of the arguments of ``rlmba.select``.

    Parameters
    ----------
    path : path
        See :func:`rlmba.data.arrays.read_arrays`. ``features``, ``logits``, ``probabilities``,
        ``labeled``, ``input_features`` and ``labeled_input_features`` are either one array, or one array
        per modality named ``features/<modality>`` and so on; if both exist, the plain name is the fused
        array. The other names are ``ids``, ``labels``, ``dropout_logits``, ``present``, ``weights``,
        ``temperatures``, ``fusion_weights``, ``head/weight`` and ``head/bias``. In a Parquet file, which
        has one row per sample, only the ``labels`` of rows that ``labeled`` marks are used.
    npy_holds : str, optional
        What a ``.npy`` file holds: "features", "logits" or "probabilities".

    Raises
    ------
    DataError, UsageError
        As :func:`~rlmba.data.arrays.read_arrays`, or if the file has none of these names.
    """
    arrays = read_arrays(path, npy_holds=npy_holds)
    arguments: dict[str, Any] = {name: arrays[name] for name in _PLAIN if name in arrays}
    for kind in _BY_MODALITY:
        own = {k.partition("/")[2]: a for k, a in arrays.items() if k.startswith(f"{kind}/")}
        if own:
            arguments[kind] = own | ({"mm": arrays[kind]} if kind in arrays else {})
        elif kind in arrays:
            arguments[kind] = arrays[kind]
    given = [part for part in _HEAD if f"head/{part}" in arrays]
    if len(given) == 1:
        raise DataError(f"{path}: expected head/weight and head/bias, got only head/{given[0]}")
    if given:
        arguments["head"] = tuple(arrays[f"head/{part}"] for part in _HEAD)
    mask = arguments.get("labeled")
    if path.suffix.lower() == ".parquet" and "labels" in arguments and mask is not None:
        arguments["labels"] = arguments["labels"][np.asarray(mask, dtype=bool)]
    used = {*_PLAIN, *_BY_MODALITY, *(f"head/{part}" for part in _HEAD)}
    unused = [k for k in arrays if k not in used and k.partition("/")[0] not in _BY_MODALITY]
    if not arguments:
        raise DataError(
            f"{path}: expected arrays with the names of rlmba.select's arguments (features, logits, ids, "
            f"...), got {sorted(arrays) or 'none'}; rename them"
        )
    return PoolFile(arguments, tuple(unused))


def read_ids(path: Path) -> NDArray[Any]:
    """Read the ids of a pool from a file, by the rules of :mod:`rlmba.cells`.

    Parameters
    ----------
    path : path
        ``.txt`` with one id per line; a table (``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``) with a
        column ``id``; ``.json`` with a list of ids or of objects with ``id``, or as written by ``rlmba
        select``; ``.npy``; or ``.npz`` and ``.safetensors`` with an array ``ids``.

    Returns
    -------
    array [N]
        Integers if all ids are integers and the file is not a CSV file; otherwise text.

    Raises
    ------
    DataError
        If the file is missing or unreadable or has no ids, or an id is missing or repeated.
    """
    if path.suffix.lower() in _ARRAYS:
        return _named(path, _array_of_ids(path))
    table = _listed(path)
    cells, texts = table.column("id"), table.ids()
    integers = all(isinstance(cell, int) and not isinstance(cell, bool) for cell in cells)
    return _named(path, cells if integers and cells else texts)


def _named(path: Path, ids: Any) -> NDArray[Any]:
    """Check ids; an error names the file."""
    try:
        return as_ids(ids)
    except (DataError, ShapeError) as error:
        raise DataError(f"{path}: {error}") from None


def _array_of_ids(path: Path) -> NDArray[Any]:
    arrays = read_arrays(path, npy_holds="ids")
    if "ids" not in arrays:
        raise DataError(f"{path}: expected ids, got {sorted(arrays)}")
    return arrays["ids"]


def _listed(path: Path) -> Table:
    """The list of ids in a file, as a table with the column ``id``."""
    suffix = path.suffix.lower()
    if suffix == ".txt":
        if path.is_file() and path.stat().st_size == 0:
            return Table(path, {"id": []}, [])
        lines = enumerate(re.split(r"\r\n|[\r\n]", read_text(path)), start=1)
        kept = [(number, line) for number, line in lines if line.strip()]
        return Table(path, {"id": [line for _, line in kept]}, [number for number, _ in kept])
    if suffix in _ARRAYS:
        cells = list(np.atleast_1d(_array_of_ids(path)))
    elif suffix == ".json":
        held = _samples(path)
        if all(isinstance(sample, dict) for sample in held):
            names = dict.fromkeys(name for sample in held for name in sample)
            columns = {name: [sample.get(name) for sample in held] for name in names or ("id",)}
            return Table(path, columns, list(range(1, len(held) + 1)), "row")
        cells = held
    else:
        return read_table(path)
    return Table(path, {"id": cells}, list(range(1, len(cells) + 1)), "row")


def _samples(path: Path) -> list[Any]:
    text = read_text(path)
    try:
        held = json.loads(text)
        samples = held["samples"] if isinstance(held, dict) else held
    except (ValueError, KeyError, RecursionError):
        samples = None
    if not isinstance(samples, list):
        raise DataError(
            f"{path}: expected a JSON list of ids, or a file that `rlmba select` wrote, got other content"
        )
    return samples


def read_labeled(paths: Sequence[Path], ids: NDArray[Any] | None) -> dict[str, Any]:
    """Read the labeled samples, as the arguments ``labeled`` and ``labels`` of ``rlmba.select``.

    Parameters
    ----------
    paths : sequence of path
        Lists of samples in the pool, in any form that :func:`read_ids` reads, such as earlier batches. A
        sample that occurs twice counts once. They are ids if the pool has ids, and otherwise positions.
        Alternatively, a single file: a ``.npy`` file with a mask or with features [L, D], or a file like
        that of a pool with ``features`` (and ``labels``) of samples outside the pool.
    ids : array [N] or None
        The ids of the pool.

    Returns
    -------
    dict
        ``labeled`` (positions in the pool, a mask, or features), ``labeled_input_features`` and
        ``labels``, as far as given.

    Raises
    ------
    DataError
        If an id is not in the pool, or a file cannot be read.
    UsageError
        If ids are given for a pool without ids, or a file with features or a mask is not the only file.
    """
    positions: list[NDArray[np.int64]] = []
    index: IdIndex | None = None
    for path in paths:
        held = _held(path)
        if held is not None:
            if len(paths) > 1:
                raise UsageError(
                    f"{path}: a file with features or a mask must be the only file, got {len(paths)} "
                    "files; give several files only if they are lists of ids or positions"
                )
            return held
        table = _listed(path)
        if ids is not None:
            index = index or IdIndex(ids)
        positions.append(_positions(table) if index is None else _find(table, index))
    if not positions:
        return {}
    return {"labeled": np.unique(np.concatenate(positions))}


def _held(path: Path) -> dict[str, Any] | None:
    """The features or the mask in a file; None if the file lists samples."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        array = read_arrays(path, npy_holds="labeled")["labeled"]
        return {"labeled": array} if array.ndim > 1 or array.dtype == np.bool_ else None
    if suffix == ".parquet" and not _has_features(path):
        return None
    if suffix not in (".npz", ".safetensors", ".parquet"):
        return None
    arguments = read_pool(path).arguments
    names = {
        "labeled": "features",
        "labeled_input_features": "input_features",
        "labels": "labels",
    }
    if not arguments.keys() & {"features", "input_features"}:
        return None
    return {name: arguments[held] for name, held in names.items() if held in arguments}


def _has_features(path: Path) -> bool:
    pa, pq = pyarrow_for(path, "reading")
    try:
        names = pq.read_schema(path).names
    except (pa.ArrowException, OSError):
        return False  # the reader of the table reports it
    return any(re.fullmatch(r"(input_)?features(/.+|_\d+)?", name) for name in names)


def _positions(table: Table) -> NDArray[np.int64]:
    """Positions in a pool without ids, from a list of samples."""
    texts = [whole(text) for text in table.ids()]
    strange = next((text for text in texts if not re.fullmatch("0|[1-9][0-9]{0,17}", text)), None)
    if strange is not None:
        raise UsageError(
            f"{table.path}: {strange!r} is not a position, and the pool has no ids; add ids to the pool's "
            "file, or give them with --ids"
        )
    others = table.texts("position") if "position" in table.columns else texts
    if [whole(text or "") for text in others] != texts:
        raise UsageError(
            f"{table.path} was selected from a pool with ids, but this pool has none; add ids to the "
            "pool's file, or give them with --ids"
        )
    return np.array(texts, dtype=np.int64)


def _find(table: Table, index: IdIndex) -> NDArray[np.int64]:
    texts = table.ids()
    found, unknown = index.locate(texts)
    if unknown:
        numbers = table.path.suffix.lower() == ".npy"
        raise DataError(
            f"{table.path}: id {texts[unknown[0]]!r} is not in the pool ({len(unknown)} are not); "
            "drop it, or give features of samples outside the pool"
            + ("; to give positions in a pool with ids, use a mask (bool)" if numbers else "")
        )
    return found
