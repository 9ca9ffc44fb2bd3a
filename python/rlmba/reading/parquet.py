"""Read Parquet with pyarrow, if that is installed."""

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
    """Apply a function to the table of a Parquet file.

    Parameters
    ----------
    path : path
    taken : callable
        Called with the ``pyarrow.Table``. Its errors are reported as those of a damaged file, because
        converting values may fail for such a file.

    Raises
    ------
    DataError
        If the file is missing or damaged, has another format, or does not fit into memory.
    UsageError
        If pyarrow is not installed.
    """
    _, pq = pyarrow_for(path, "reading")
    require_file(path, advice="check the path")
    try:
        # read_table would interpret a path such as split=train/a.parquet as partitions.
        with pq.ParquetFile(str(path), memory_map=True) as file:
            about = file.metadata
            require_memory(path, about.num_rows * max(1, about.num_columns))
            return taken(file.read())
    except (RlmbaError, MemoryError):
        raise
    except Exception as error:  # Arrow raises a dozen kinds, including built-in exceptions
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path}: not a readable .parquet ({reason}); it may be damaged, truncated or in another format; "
            "write or copy it again"
        ) from error


def pyarrow_for(path: Path, doing: str) -> tuple[Any, Any]:
    """The modules ``pyarrow`` and ``pyarrow.parquet``; ``doing`` is "reading" or "writing".

    Raises
    ------
    UsageError
        If pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(
            f'{path}: {doing} parquet needs pyarrow; pip install "rlmba[parquet]"'
        ) from error
    return pa, pq
