"""Write tables in chunks, so that their size is not limited by memory."""

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
"""Columns of equal length, in order; each has texts (str) or numbers (float), and None."""


def check_target(path: Path, *, overwrite: bool) -> None:
    """Check before any work that :func:`write_streamed` can write a file.

    Raises
    ------
    UsageError
        If its suffix is unknown, its folder does not exist, it exists and ``overwrite`` is not set, or
        pyarrow is needed and not installed.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(
            f"--out: expected a name ending in {', '.join(SUFFIXES)}, got {path.name!r}"
        )
    if path.suffix == ".parquet":
        _pyarrow()
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--out: expected a folder at {path.parent}, found none; create it first")
    if path.exists() and not overwrite:
        raise UsageError(f"--out: {path} already exists; add --force to replace it")


def write_streamed(
    path: Path, chunks: Iterable[Rows], *, texts: Collection[str], about: int
) -> None:
    """Write a table chunk by chunk, atomically; the suffix selects the format.

    Parameters
    ----------
    path : path
        ``.csv`` (None is an empty cell; texts that would begin a formula are prefixed by an
        apostrophe), ``.jsonl`` (None is null) or ``.parquet``.
    chunks : iterable of mapping of str to sequence
        One or more, all with the same columns of the same types. Its exceptions are propagated, and
        no file is written then.
    texts : collection of str
        Names of the columns of texts; all others have numbers.
    about : int
        Approximate size in bytes, for the message if the disk is full.

    Raises
    ------
    UsageError
        If the suffix is unknown.
    DataError
        If a text cannot be written as UTF-8.
    StorageError
        If the file cannot be written; an existing file is left unchanged.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: expected a name ending in {', '.join(SUFFIXES)}")
    try:
        atomic_write_chunks(path, SUFFIXES[path.suffix](chunks, texts), about)
    except UnicodeEncodeError as error:
        raise DataError(
            f"{path}: {error.object[error.start - 20 : error.end + 20]!r} contains a lone surrogate, which "
            "UTF-8 cannot encode; correct the id"
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
    """A write-only file whose new content can be taken at any time."""

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
            '--out: a .parquet file needs pyarrow; run pip install "rlmba[parquet]", or use .csv or .jsonl'
        ) from error
    return pa, pq


SUFFIXES: Mapping[str, Callable[[Iterable[Rows], Collection[str]], Iterator[bytes]]] = {
    ".csv": _as_csv,
    ".jsonl": _as_lines,
    ".parquet": _as_parquet,
}
"""Functions that encode chunks, by suffix of the file."""
