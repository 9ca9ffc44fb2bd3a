"""Parquet, through pyarrow where that is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from rlmba.errors import DataError, RlmbaError, UsageError
from rlmba.reading.arrays import require_memory
from rlmba.reading.files import require_file

__all__ = ["pyarrow_for", "read_parquet"]

_T = TypeVar("_T")


def read_parquet(path: Path, taken: Callable[[Any], _T]) -> _T:
    """What a function takes from a Parquet file's table.

    Parameters
    ----------
    path : path
    taken : callable
        Is given the ``pyarrow.Table``; converting its values may fail on a damaged file as well.

    Raises
    ------
    DataError
        If the file is missing, is no Parquet, is damaged, or can never fit into memory.
    UsageError
        If pyarrow is not installed.
    """
    _, pq = pyarrow_for(path, "reading")
    require_file(path, advice="check the path")
    try:
        # A path given to read_table would be searched for partitions: split=train/a.parquet.
        with pq.ParquetFile(str(path), memory_map=True) as file:
            about = file.metadata
            require_memory(path, about.num_rows * max(1, about.num_columns))
            return taken(file.read())
    except (RlmbaError, MemoryError):
        raise
    except Exception as error:  # Arrow's errors are of a dozen kinds, Python's own among them
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path}: not a readable .parquet ({reason}); it may be damaged, truncated or another format; "
            "write or copy it again"
        ) from error


def pyarrow_for(path: Path, doing: str) -> tuple[Any, Any]:
    """The modules ``pyarrow`` and ``pyarrow.parquet``; ``doing`` is what the file is needed for.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(
            f'{path}: {doing} parquet needs pyarrow; pip install "rlmba[parquet]"'
        ) from error
    return pa, pq
