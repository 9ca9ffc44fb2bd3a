"""A pool and its labeled samples out of files, as the arguments of ``rlmba.select``."""

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

_BY_MODALITY = ("features", "logits", "probabilities", "labeled")
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
    """What a file holds: keyword ``arguments`` of ``rlmba.select``, and names it has no use for."""

    arguments: Mapping[str, Any]
    unused: tuple[str, ...] = field(default=())


def read_pool(path: Path, *, npy_holds: str | None = None) -> PoolFile:
    """Read a pool: arrays named as the arguments of ``rlmba.select``.

    Parameters
    ----------
    path : path
        See :func:`rlmba.data.arrays.read_arrays`. ``features``, ``logits``, ``probabilities`` and
        ``labeled`` are the array itself, or ``features/<modality>`` and so on, one for each modality;
        where there are both, the plain name is the fused array. ``ids``, ``labels``,
        ``dropout_logits``, ``present``, ``weights``, ``temperatures``, ``fusion_weights``,
        ``head/weight`` and ``head/bias`` are themselves. In a parquet file, which has one row a
        sample, ``labels`` are those of the rows that ``labeled`` marks.
    npy_holds : str, optional
        What a ``.npy`` is: "features", "logits" or "probabilities".

    Raises
    ------
    DataError, UsageError
        As :func:`~rlmba.data.arrays.read_arrays`; and if the file has none of these names.
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
        raise DataError(f"{path}: expected head/weight and head/bias, got head/{given[0]} alone")
    if given:
        arguments["head"] = tuple(arrays[f"head/{part}"] for part in _HEAD)
    mask = arguments.get("labeled")
    if path.suffix.lower() == ".parquet" and "labels" in arguments and mask is not None:
        arguments["labels"] = arguments["labels"][np.asarray(mask, dtype=bool)]
    used = {*_PLAIN, *_BY_MODALITY, *(f"head/{part}" for part in _HEAD)}
    unused = [k for k in arrays if k not in used and k.partition("/")[0] not in _BY_MODALITY]
    if not arguments:
        raise DataError(
            f"{path}: expected arrays named as rlmba.select's arguments (features, logits, ids, "
            f"...), got {sorted(arrays) or 'none'}; rename them"
        )
    return PoolFile(arguments, tuple(unused))


def read_ids(path: Path) -> NDArray[Any]:
    """Ids of a pool from a file, by the rule of :mod:`rlmba.cells`.

    Parameters
    ----------
    path : path
        ``.txt`` with one a line; a table (``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``) with a column
        ``id``; ``.json``, a list of ids or of objects with ``id``, or what ``rlmba select`` writes;
        ``.npy``; ``ids`` of an ``.npz`` or ``.safetensors``.

    Returns
    -------
    array [N]
        Integers where all of them are, and not in a CSV, else text.

    Raises
    ------
    DataError
        If the file is missing, unreadable, or has no ids, one is missing or repeats.
    """
    if path.suffix.lower() in _ARRAYS:
        return _named(path, _array_of_ids(path))
    table = _listed(path)
    cells, texts = table.column("id"), table.ids()
    integers = all(isinstance(cell, int) and not isinstance(cell, bool) for cell in cells)
    return _named(path, cells if integers and cells else texts)


def _named(path: Path, ids: Any) -> NDArray[Any]:
    """Checked ids; the file is named where they cannot be used."""
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
    """A file's list of ids as a table with the column ``id``."""
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
            f"{path}: no readable list of ids; expected a JSON list of ids, or what `rlmba select` writes"
        )
    return samples


def read_labeled(paths: Sequence[Path], ids: NDArray[Any] | None) -> dict[str, Any]:
    """Read what is labeled, as the arguments ``labeled`` and ``labels`` of ``rlmba.select``.

    Parameters
    ----------
    paths : sequence of path
        Lists of samples within the pool, of any form :func:`read_ids` reads, such as batches selected
        before; one that occurs twice counts once. For a pool with ids they are ids, text or integers;
        for one without they are positions. Or one file alone: a ``.npy`` with a mask or features
        [L, D], or a file in the layout of a pool with ``features`` (and ``labels``) of samples outside
        the pool.
    ids : array [N] or None
        The pool's.

    Returns
    -------
    dict
        ``labeled``, positions in the pool, a mask or features, and ``labels``, as far as there are any.

    Raises
    ------
    DataError
        If an id is not in the pool, or a file cannot be read.
    UsageError
        If ids are given for a pool without ids, or a file of features or a mask is not the only one.
    """
    positions: list[NDArray[np.int64]] = []
    index: IdIndex | None = None
    for path in paths:
        held = _held(path)
        if held is not None:
            if len(paths) > 1:
                raise UsageError(
                    f"{path}: a file of features or a mask must be the only one, got {len(paths)} "
                    "files; several may only be lists of ids or positions"
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
    """Features or a mask of a file; None where it lists samples."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        array = read_arrays(path, npy_holds="labeled")["labeled"]
        return {"labeled": array} if array.ndim > 1 or array.dtype == np.bool_ else None
    if suffix == ".parquet" and not _has_features(path):
        return None
    if suffix not in (".npz", ".safetensors", ".parquet"):
        return None
    arguments = read_pool(path).arguments
    if "features" not in arguments:
        return None
    return {"labeled": arguments["features"]} | (
        {"labels": arguments["labels"]} if "labels" in arguments else {}
    )


def _has_features(path: Path) -> bool:
    pa, pq = pyarrow_for(path, "reading")
    try:
        names = pq.read_schema(path).names
    except (pa.ArrowException, OSError):
        return False  # said by who reads it
    return any(re.fullmatch(r"features(/.+|_\d+)?", name) for name in names)


def _positions(table: Table) -> NDArray[np.int64]:
    """Positions in a pool without ids, as a batch of it lists them."""
    texts = [whole(text) for text in table.ids()]
    strange = next((text for text in texts if not re.fullmatch("0|[1-9][0-9]{0,17}", text)), None)
    if strange is not None:
        raise UsageError(
            f"{table.path}: {strange!r} is no position, and a list of ids needs a pool with ids; add ids to "
            "the pool's file, or give them with --ids"
        )
    others = table.texts("position") if "position" in table.columns else texts
    if [whole(text or "") for text in others] != texts:
        raise UsageError(
            f"{table.path}: was selected from a pool with ids, and this pool has none; add ids to the "
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
            + ("; positions are given as a mask (bool) of a pool that has ids" if numbers else "")
        )
    return found
