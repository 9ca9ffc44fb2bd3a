"""A pool and its labeled samples out of files, as the arguments of ``rlmba.select``."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.data.arrays import read_arrays
from rlmba.errors import DataError, UsageError

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
    """Ids from a file: ``.txt`` one a line, ``.csv`` or ``.parquet`` column ``id``, ``.json``, ``.npy``.

    A ``.json`` is a list of ids, or what ``rlmba select`` writes.

    Raises
    ------
    DataError
        If the file is missing, unreadable, or has no ids.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".txt":
            lines = path.read_text(encoding="utf-8").split("\n")
            return np.array([line for line in lines if line], dtype=np.str_)
        if suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                rows = csv.DictReader(file)
                if "id" not in (rows.fieldnames or ()):
                    raise DataError(f"{path}: expected a column id, got {rows.fieldnames}")
                return np.array([row["id"] for row in rows], dtype=np.str_)
        if suffix == ".json":
            held = json.loads(path.read_text(encoding="utf-8"))
            return np.array([s["id"] if isinstance(s, dict) else s for s in _samples(held)])
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: no readable list of ids ({error})") from error
    arrays = read_arrays(path, npy_holds="ids")
    if "ids" not in arrays:
        raise DataError(f"{path}: expected ids, got {sorted(arrays)}")
    return arrays["ids"]


def _samples(held: Any) -> Sequence[Any]:
    samples = held["samples"] if isinstance(held, dict) else held
    if not isinstance(samples, list):
        raise TypeError(f"expected a list of ids, got {type(held).__name__}")
    return samples


def read_labeled(paths: Sequence[Path], ids: NDArray[Any] | None) -> dict[str, Any]:
    """Read what is labeled, as the arguments ``labeled`` and ``labels`` of ``rlmba.select``.

    Parameters
    ----------
    paths : sequence of path
        Lists of ids within the pool, of any form :func:`read_ids` reads, such as batches selected
        before; an id that occurs twice counts once. Or one file alone: a ``.npy`` of positions, a
        mask or features [L, D], or a file in the layout of a pool with ``features`` (and ``labels``)
        of samples outside the pool.
    ids : array [N] or None
        The pool's.

    Raises
    ------
    DataError
        If an id is not in the pool, or a file cannot be read.
    UsageError
        If ids are given for a pool without ids, or a file of features is not the only one.
    """
    positions: list[NDArray[np.int64]] = []
    for path in paths:
        held = _held(path)
        if held is not None:
            if len(paths) > 1:
                raise UsageError(
                    f"{path}: a file of features or positions must be the only one, got {len(paths)} "
                    "files; several may only be lists of ids"
                )
            return held
        positions.append(_find(path, read_ids(path), ids))
    return {"labeled": np.unique(np.concatenate(positions))} if positions else {}


def _held(path: Path) -> dict[str, Any] | None:
    """Features or positions of a file; None where it lists ids."""
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz", ".safetensors", ".parquet"):
        return None
    if suffix == ".npy":
        array = read_arrays(path, npy_holds="labeled")["labeled"]
        return None if array.dtype.kind in "US" else {"labeled": array}
    arguments = read_pool(path).arguments
    if "features" not in arguments:
        return None
    return {"labeled": arguments["features"]} | (
        {"labels": arguments["labels"]} if "labels" in arguments else {}
    )


def _find(path: Path, wanted: NDArray[Any], ids: NDArray[Any] | None) -> NDArray[np.int64]:
    if ids is None:
        raise UsageError(
            f"{path}: a list of ids needs a pool with ids; add ids to the pool's file, or give them "
            "with --ids"
        )
    pool = np.asarray(ids).astype(np.str_)
    order = np.argsort(pool, kind="stable")
    names = wanted.astype(np.str_)
    at = np.searchsorted(pool, names, sorter=order)
    found = order[np.minimum(at, len(pool) - 1)] if len(pool) else np.zeros(len(names), int)
    unknown = pool[found] != names if len(pool) else np.ones(len(names), dtype=bool)
    if unknown.any():
        raise DataError(
            f"{path}: id {str(names[unknown][0])!r} is not in the pool ({int(unknown.sum())} are not); "
            "drop it, or give features of samples outside the pool"
        )
    return np.asarray(found, dtype=np.int64)
