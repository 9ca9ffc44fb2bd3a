"""Folders of shards: Parquet files that are written block by block, and the list of their checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rlmba
from rlmba.errors import DataError
from rlmba.reading.files import open_regular
from rlmba.reading.parquet import pyarrow_for
from rlmba.reading.structured import read_versioned
from rlmba.storage import atomic_write_chunks, atomic_write_text
from rlmba.tables import parquet_parts

__all__ = [
    "SHARDS",
    "ShardFile",
    "ShardList",
    "file_checksum",
    "find_shard_list",
    "write_shard",
    "write_shard_list",
]

SHARDS = "shards.json"
"""Name of the file that lists the shards of a folder."""
_FORMAT = 1
_PART = 1 << 20


@dataclass(frozen=True)
class ShardFile:
    """A shard that was written completely.

    Parameters
    ----------
    name : str
        Name of the file.
    rows : int
    size : int
        Bytes of the file.
    sha256 : str
        Checksum of the file, hexadecimal.
    """

    name: str
    rows: int
    size: int
    sha256: str


@dataclass(frozen=True)
class ShardList:
    """Content of the file :data:`SHARDS`.

    Parameters
    ----------
    rlmba : str
        Version of rlmba that wrote the file.
    complete : bool
        False while shards are still being written: the folder is no pool yet.
    shards : tuple of ShardFile
        In order; empty until the list is complete.
    columns : mapping of str to str
        Types of the columns.
    origin : mapping
        The network, samples and settings from which the shards were computed, as JSON values.
    """

    rlmba: str
    complete: bool
    shards: tuple[ShardFile, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    format: int = _FORMAT


def find_shard_list(folder: Path) -> ShardList | None:
    """Return the list of the shards in a folder; None if it has none.

    Raises
    ------
    DataError
        If the list cannot be read, or another version of rlmba wrote it.
    """
    path = folder / SHARDS
    if not path.exists():
        return None
    return read_versioned(
        path,
        ShardList,
        _FORMAT,
        what="list of shards",
        advice="restore it, or write the shards again",
        foreign="rename it, or use a folder that contains only the shards",
    )


def write_shard_list(
    folder: Path,
    origin: Mapping[str, Any],
    shards: Sequence[ShardFile] | None = None,
    columns: Mapping[str, str] | None = None,
) -> None:
    """Write the list of the shards in a folder. Without shards, the list marks the folder as incomplete.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    found = ShardList(
        rlmba.__version__, shards is not None, tuple(shards or ()), columns or {}, origin
    )
    atomic_write_text(folder / SHARDS, json.dumps(asdict(found), indent=1) + "\n")


def write_shard(
    path: Path, blocks: Iterable[Mapping[str, NDArray[Any]]], *, size: int
) -> ShardFile:
    """Write a Parquet shard block by block, completely or not at all.

    Parameters
    ----------
    path : path
        An existing file is replaced.
    blocks : iterable of mapping of str to array
        Rows of the same columns: arrays [n] of numbers, booleans or text, or arrays [n, D] of numbers or
        booleans, which become lists of fixed length. Each block becomes one row group; at least one,
        which may have no rows.
    size : int
        Approximate number of bytes, for the error message if the disk is full.

    Returns
    -------
    ShardFile

    Raises
    ------
    UsageError
        If pyarrow is not installed.
    StorageError
        If the file cannot be written.
    """
    pa, _ = pyarrow_for(path, "writing")
    digest = hashlib.sha256()
    rows = written = 0

    def tables() -> Iterator[Any]:
        nonlocal rows
        for block in blocks:
            table = pa.table({name: _arrow(pa, a) for name, a in block.items()})
            rows += table.num_rows
            yield table

    def counted(parts: Iterable[bytes]) -> Iterator[bytes]:
        nonlocal written
        for part in parts:
            digest.update(part)
            written += len(part)
            yield part

    # Outputs of a network neither repeat nor compress, and their ranges are never queried.
    options = {
        "use_dictionary": False,
        "compression": "none",
        "write_statistics": False,
        "write_page_checksum": True,
    }
    atomic_write_chunks(path, counted(parquet_parts(path, tables(), **options)), size)
    return ShardFile(path.name, rows, written, digest.hexdigest())


def file_checksum(path: Path) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb", opener=open_regular) as file:
            while part := file.read(_PART):
                digest.update(part)
    except OSError as error:
        raise DataError(
            f"{path} could not be read ({error.strerror or error}); check the path and its permissions"
        ) from error
    return digest.hexdigest()


def _arrow(pa: Any, a: NDArray[Any]) -> Any:
    if a.dtype.kind == "U":
        return pa.array(a.tolist(), pa.string())
    if a.ndim == 1:
        return pa.array(a)
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(a).ravel()), a.shape[1])
