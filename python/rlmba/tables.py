"""Write tables as CSV, JSON Lines or Parquet, chunk by chunk, whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from rlmba.errors import DataError, StorageError, UsageError
from rlmba.markup import visible
from rlmba.reading.parquet import pyarrow_for
from rlmba.spreadsheet import guarded_cell
from rlmba.storage import atomic_write_chunks

__all__ = [
    "SEPARATORS",
    "WRITABLE",
    "Columns",
    "check_target",
    "csv_text",
    "parquet_parts",
    "write_table",
]

SEPARATORS = (",", ";", "\t", "|")
"""Separators of a CSV."""
WRITABLE = (".csv", ".jsonl", ".parquet")

Columns: TypeAlias = Mapping[str, Sequence[Any]]
"""Columns of equal length by name, in order."""


def check_target(
    path: Path, *, overwrite: bool = False, suffixes: Sequence[str] = WRITABLE
) -> None:
    """Refuse a file that could not be written, before the work whose result it is to hold.

    Raises
    ------
    UsageError
        If the suffix is not one of ``suffixes``, the file exists and must not be replaced, or pyarrow is
        needed and not installed.
    StorageError
        If its folder does not exist.
    """
    _check_suffix(path, suffixes)
    if path.is_dir() or (path.exists() and not overwrite):
        raise UsageError(
            f"{path} exists already; give another name, or add --force to replace the file"
        )
    if not path.absolute().parent.is_dir():
        raise StorageError(f"{path.parent}: no such folder; create it first")
    if path.suffix.lower() == ".parquet":
        pyarrow_for(path, "writing")


def write_table(
    path: Path,
    columns: Columns | Iterable[Columns],
    *,
    guard: bool = False,
    bom: bool = False,
    separator: str = ",",
    texts: Collection[str] | None = None,
    size: int | None = None,
) -> None:
    """Write a table, whole or not at all. The suffix selects the format.

    :func:`rlmba.data.table.read_table` reads the same values, with three exceptions. A CSV holds
    everything as text without outer blanks, None and "" as empty cells, lists as JSON, and no empty rows.
    JSON Lines without rows have no columns. ``guard`` changes some cells.

    Parameters
    ----------
    path : path
        A name ending in ``.csv``, ``.jsonl`` or ``.parquet``. An existing file is replaced; its folder
        must exist.
    columns : mapping of str to sequence, or iterable of such mappings
        Columns of equal length; NumPy arrays are allowed, and NaN counts as None. An iterable gives the
        table in chunks with the same columns, which are written one after another, so that only one of
        them is in memory. If the iterable raises, no file is left.
    guard : bool
        Put an apostrophe before the text cells of a CSV that a spreadsheet would run as a formula.
    bom : bool
        Begin a CSV with a byte order mark, by which Excel recognizes UTF-8.
    separator : str
        One of :data:`SEPARATORS`, for a CSV.
    texts : collection of str or None
        Names of the columns that hold text in a Parquet file; the others hold float64. None: the types
        are inferred from the first chunk.
    size : int or None
        Approximate size of the file in bytes, for the error message if the disk is full. None: the whole
        file is assembled in memory first.

    Raises
    ------
    UsageError
        If the suffix or the separator is not supported, the lengths differ, or pyarrow is needed and not
        installed.
    DataError
        If the format cannot hold a value.
    StorageError
        If the file cannot be written; an existing one is unharmed.
    """
    path = Path(path)
    _check_suffix(path, WRITABLE)
    if separator not in SEPARATORS:
        raise UsageError(f"separator: expected one of {list(SEPARATORS)}, got {separator!r}")
    given = [columns] if isinstance(columns, Mapping) else columns
    chunks = (_plain_columns(path, chunk) for chunk in given)
    parts: Iterable[bytes] = {
        ".csv": lambda: _csv_parts(path, chunks, separator, guard=guard, bom=bom),
        ".jsonl": lambda: _json_parts(chunks),
        ".parquet": lambda: _parquet_parts(path, chunks, texts),
    }[path.suffix.lower()]()
    try:
        if size is None:
            parts = list(parts)
            size = sum(map(len, parts))
        atomic_write_chunks(path, parts, size)
    except UnicodeEncodeError as error:
        around = error.object[max(0, error.start - 20) : error.end + 20]
        raise DataError(
            f"{path}: {around!r} contains half a character (a lone surrogate); correct it"
        ) from error


def csv_text(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    r"""Format rows for people: CSV in which no text begins a formula; None and NaN are empty cells.

    Text cells and the header are guarded by an apostrophe (:func:`rlmba.spreadsheet.guarded`) and show
    control characters as escapes. Other values, and texts that are numbers, are written as they are.

    Examples
    --------
    >>> print(csv_text(["id", "gain"], [["=1+1", -0.5]]), end="")
    id,gain
    '=1+1,-0.5
    """

    def shown(value: object) -> object:
        if isinstance(value, str):
            return guarded_cell(visible(value))
        return None if isinstance(value, float) and np.isnan(value) else value

    return _csv(map(shown, row) for row in (header, *rows))


def _check_suffix(path: Path, suffixes: Sequence[str]) -> None:
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{path}: expected a name ending in {', '.join(suffixes)}")


def _plain_columns(path: Path, columns: Columns) -> dict[str, list[Any]]:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise UsageError(f"{path}: expected columns of equal length, got {lengths}")
    return {str(name): [_plain(v) for v in _listed(column)] for name, column in columns.items()}


def _listed(column: Sequence[Any]) -> Iterable[Any]:
    listed: Iterable[Any] = getattr(column, "tolist", lambda: column)()
    return listed


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - only NaN differs from itself
        return None
    return str(value) if isinstance(value, Path) else value


class _Lines(list[str]):
    """Collects rows from csv.writer.

    The writer quotes cells that contain a character of its line end. CRLF makes it quote both; the rows
    themselves end in LF.
    """

    def write(self, row: str) -> None:
        self.append(row.removesuffix("\r\n") + "\n")


def _csv(rows: Iterable[Iterable[object]], separator: str = ",", *, quote_all: bool = False) -> str:
    lines = _Lines()
    csv.writer(
        lines,
        delimiter=separator,
        lineterminator="\r\n",
        quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL,
    ).writerows(rows)
    return "".join(lines)


def _csv_parts(
    path: Path,
    chunks: Iterable[dict[str, list[Any]]],
    separator: str,
    *,
    guard: bool,
    bom: bool,
) -> Iterator[bytes]:
    shown: Callable[[object], object] = guarded_cell if guard else lambda value: value
    for number, columns in enumerate(chunks):
        if len(columns) == 1:
            separator = ","  # which readers assume if the header shows none
        header = ""
        if number == 0:
            # Readers find the separator in the header, where no other may stand unquoted.
            doubtful = any(character in name for name in columns for character in SEPARATORS)
            header = _csv([map(shown, columns)], separator, quote_all=doubtful)
        rows = zip(*columns.values(), strict=True)
        text = header + _csv((map(shown, map(_csv_cell, row)) for row in rows), separator)
        if "\0" in text:
            at = text.index("\0")
            raise DataError(
                f"{path}: {text[max(0, at - 20) : at + 20]!r} contains a NUL byte; correct it"
            )
        yield ("\ufeff" * (bom and number == 0) + text).encode("utf-8")


def _csv_cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _json_parts(chunks: Iterable[dict[str, list[Any]]]) -> Iterator[bytes]:
    for columns in chunks:
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        yield "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")


def _parquet_parts(
    path: Path, chunks: Iterable[dict[str, list[Any]]], texts: Collection[str] | None
) -> Iterator[bytes]:
    pa, _ = pyarrow_for(path, "writing")
    types: dict[str, Any] = {}

    def tables() -> Iterator[Any]:
        nonlocal types
        for number, columns in enumerate(chunks):
            if texts is not None:
                types = {name: pa.string() if name in texts else pa.float64() for name in columns}
            arrays = {k: _array(pa, path, k, column, types.get(k)) for k, column in columns.items()}
            table = pa.table(arrays)
            if number == 0:
                types = {name: table.schema.field(name).type for name in columns}
            yield table

    return parquet_parts(path, tables())


def parquet_parts(path: Path, tables: Iterable[Any], **options: Any) -> Iterator[bytes]:
    """The content of a Parquet file in parts: each ``pyarrow.Table`` becomes a row group.

    Parameters
    ----------
    path : path
        Path of the file, for messages.
    tables : iterable of pyarrow.Table
        Tables with the same columns. Only one of them is in memory at a time.
    **options
        Options of ``pyarrow.parquet.ParquetWriter``.

    Raises
    ------
    UsageError
        If pyarrow is not installed.
    """
    pa, pq = pyarrow_for(path, "writing")
    sink = _Sink()
    writer = None
    for table in tables:
        if writer is None:
            writer = pq.ParquetWriter(pa.PythonFile(sink, mode="w"), table.schema, **options)
        writer.write_table(table)
        yield sink.take()
    if writer is not None:
        writer.close()
    yield sink.take()


def _array(pa: Any, path: Path, name: str, column: list[Any], kind: Any) -> Any:
    try:
        try:
            return pa.array(column, kind)
        except OverflowError:  # pyarrow infers int64 for all integers
            return pa.array(column, pa.uint64())
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}: column {name!r} cannot be stored in Parquet ({error}); give its values one type, or "
            "write .jsonl"
        ) from error


class _Sink(io.RawIOBase):
    """A file whose content is taken away while it is written."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)
