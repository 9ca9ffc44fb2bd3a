"""Tables that are written while they are made: as large as the disk, never as large as memory."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rlmba.errors import DataError, UsageError
from rlmba.spreadsheet import guarded_cell
from rlmba.storage import atomic_write_chunks

__all__ = ["SUFFIXES", "check_target", "write_streamed"]

Rows: TypeAlias = Mapping[str, Sequence[Any]]
"""Columns of equal length, in order; texts (str), numbers (float) or None in each."""


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that :func:`write_streamed` could not write, before any work is done.

    Raises
    ------
    UsageError
        If its suffix is unknown, its folder is not there, it exists and shall not be replaced, or
        pyarrow is needed and missing.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(
            f"--out: expected a name ending in {', '.join(SUFFIXES)}, got {path.name!r}"
        )
    if path.suffix == ".parquet":
        _pyarrow()
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--out: {path.parent} is not a folder; make it first")
    if path.exists() and not overwrite:
        raise UsageError(f"--out: {path} exists already; add --force to replace it")


def write_streamed(
    path: Path, chunks: Iterable[Rows], *, texts: Collection[str], about: int
) -> None:
    """Write a table chunk by chunk, whole or not at all; its suffix says which kind it is.

    Parameters
    ----------
    path : path
        ``.csv`` (None is an empty cell; an apostrophe guards texts that would begin a formula),
        ``.jsonl`` (null) or ``.parquet``.
    chunks : iterable of mapping of str to sequence
        One or more, all with the same columns of the same types. What it raises is passed on, and
        leaves no file.
    texts : collection of str
        Columns of texts; the others are of numbers.
    about : int
        Bytes that it will take, roughly, for the message where the disk is full.

    Raises
    ------
    UsageError
        If the suffix is unknown.
    DataError
        If a text cannot be written as UTF-8.
    StorageError
        If it cannot be written; what was there is unharmed.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: expected a name ending in {', '.join(SUFFIXES)}")
    try:
        atomic_write_chunks(path, SUFFIXES[path.suffix](chunks, texts), about)
    except UnicodeEncodeError as error:
        raise DataError(
            f"{path}: {error.object[error.start - 20 : error.end + 20]!r} has half a character (a lone "
            "surrogate); correct the id"
        ) from error


def _as_csv(chunks: Iterable[Rows], _: Collection[str]) -> Iterator[bytes]:
    for number, columns in enumerate(chunks):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if number == 0:
            writer.writerow(map(guarded_cell, columns))
        writer.writerows(map(guarded_cell, row) for row in zip(*columns.values(), strict=True))
        yield text.getvalue().encode("utf-8")


def _as_lines(chunks: Iterable[Rows], _: Collection[str]) -> Iterator[bytes]:
    for columns in chunks:
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        yield text.encode("utf-8")


def _as_parquet(chunks: Iterable[Rows], texts: Collection[str]) -> Iterator[bytes]:
    pa, pq = _pyarrow()
    sink = _Sink()
    writer = None
    for columns in chunks:
        if writer is None:
            text, number = pa.string(), pa.float64()
            schema = pa.schema([(name, text if name in texts else number) for name in columns])
            writer = pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema)
        writer.write_table(pa.table({k: list(v) for k, v in columns.items()}, schema=schema))
        yield sink.taken()
    if writer is not None:
        writer.close()
    yield sink.taken()


class _Sink(io.RawIOBase):
    """A file whose content is taken away as it grows."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(
            '--out: a .parquet file needs pyarrow: pip install "rlmba[parquet]", or choose .csv or .jsonl'
        ) from error
    return pa, pq


SUFFIXES: Mapping[str, Callable[[Iterable[Rows], Collection[str]], Iterator[bytes]]] = {
    ".csv": _as_csv,
    ".jsonl": _as_lines,
    ".parquet": _as_parquet,
}
"""What can be written, by suffix."""
