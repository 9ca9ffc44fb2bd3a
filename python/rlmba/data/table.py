"""Read and write tables: CSV in all its variants, JSON Lines and Parquet."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rlmba.cells import as_text, folded
from rlmba.data.delimited import SEPARATORS, decode, read_cells
from rlmba.errors import DataError, UsageError
from rlmba.reading.files import read_bytes
from rlmba.reading.parquet import pyarrow_for, read_parquet
from rlmba.reading.structured import distinct, require_characters
from rlmba.storage import atomic_write_bytes

__all__ = [
    "READABLE",
    "SEPARATORS",
    "WRITABLE",
    "Table",
    "pyarrow_for",
    "read_table",
    "read_text",
    "write_table",
]

_DELIMITED = (".csv", ".tsv", ".txt")
_JSON = (".jsonl", ".ndjson", ".json")
READABLE = (*_DELIMITED, *_JSON, ".parquet")
WRITABLE = (".csv", ".jsonl", ".parquet")
_T = TypeVar("_T")
_SPREADSHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".numbers")


@dataclass(frozen=True)
class Table:
    """The columns of a table, and the place of each row in the file.

    Parameters
    ----------
    path : path
        The file.
    columns : dict of str to list
        Columns of equal length, in the file's order. Cells of delimited text are str without leading and
        trailing blanks. Cells of JSON and Parquet keep their type. Empty cells are None.
    lines : list of int
        The line where each row begins, from 1; in Parquet and a JSON list, the row's number.
    unit : {"line", "row"}
        What ``lines`` counts.
    """

    path: Path
    columns: dict[str, list[Any]]
    lines: list[int]
    unit: str = "line"

    def __len__(self) -> int:
        return len(self.lines)

    def place(self, row: int) -> str:
        """The place of a row for messages: the file, and "line 7" or "row 7"."""
        return f"{self.path}, {self.unit} {self.lines[row]}"

    def column(self, name: str) -> list[Any]:
        """The column with this name, or else the only one whose name differs only by case and blanks.

        Raises
        ------
        DataError
            If there is no such column, or several.
        """
        alike = [name] if name in self.columns else [c for c in self.columns if folded(c) == name]
        if len(alike) == 1:
            return self.columns[alike[0]]
        raise DataError(
            f"{self.path}: expected "
            + (f"one column {name!r}, got {alike}" if alike else f"a column {name!r}")
            + f" among {list(self.columns)[:20]}; "
            + (
                "put this name in the header. CSV columns are separated by comma, semicolon, bar or tab"
                if self.path.suffix.lower() in _DELIMITED
                else "rename a column"
            )
        )

    def texts(self, name: str) -> list[str | None]:
        """A column's cells as text, with None for an empty cell; see :mod:`rlmba.cells`.

        Raises
        ------
        DataError
            If there is no such column (see :meth:`column`), or a cell is not text or a number; the
            message names its place.
        """
        return [self._text(row, name, cell) for row, cell in enumerate(self.column(name))]

    def _text(self, row: int, name: str, cell: Any) -> str | None:
        try:
            return as_text(cell)
        except ValueError as error:
            raise DataError(f"{self.place(row)}: column {name!r}: {error}") from None

    def ids(self) -> list[str]:
        """The column ``id`` as text.

        Raises
        ------
        DataError
            As :meth:`texts`, or if a row has no id.
        """
        found = []
        for row, text in enumerate(self.texts("id")):
            if text is None:
                raise DataError(
                    f"{self.place(row)}: expected an id, got an empty cell; fill it, or delete the row"
                )
            found.append(text)
        return found


def read_table(path: Path) -> Table:
    r"""Read a table; the suffix gives its format.

    ``.csv``, ``.tsv``, ``.txt``
        Text with a header, as spreadsheets save it: UTF-8, UTF-16 or (with a warning) Windows-1252,
        separated by ``, ; tab |``, whichever fits the header and the rows; see
        :func:`rlmba.data.delimited.read_cells`. All cells are text: "0,5" is not converted.
    ``.jsonl``, ``.ndjson``
        One JSON object per line. Rows may have different names; a missing one is None.
    ``.json``
        A list of objects, or as ``.jsonl``.
    ``.parquet``
        Needs the extra ``parquet``.

    Parameters
    ----------
    path : path

    Returns
    -------
    Table
        Without rows if the file has only a header.

    Raises
    ------
    DataError
        If the file is missing, unreadable, empty, damaged or of another format, a column name is missing
        or repeated, or a row does not fit. The message names the line.
    UsageError
        If the file is Parquet and pyarrow is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in _SPREADSHEETS:
        raise DataError(
            f'{path}: spreadsheet files cannot be read; save the table as "CSV UTF-8" and give that file'
        )
    if suffix not in READABLE:
        raise DataError(f"{path}: expected a name ending in {', '.join(READABLE)}")
    if suffix == ".parquet":
        return read_parquet(path, partial(_of_parquet, path))
    text = read_text(path)
    if suffix in _DELIMITED:
        return Table(path, *read_cells(path, text))
    if suffix == ".json" and text.lstrip().startswith("["):
        return _read_list(path, text)
    return _read_lines(path, text)


def read_text(path: Path) -> str:
    """Read a text file; see :func:`rlmba.data.delimited.decode`.

    Raises
    ------
    DataError
        If the file is missing, unreadable, empty or not text.
    """
    return decode(path, read_bytes(path, advice="check the path", largest=sys.maxsize))


def _read_lines(path: Path, text: str) -> Table:
    records, lines = [], []
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        place = f"{path}, line {line}"
        try:
            value = json.loads(content, object_pairs_hook=distinct)
        except (ValueError, RecursionError) as error:
            last = line == text.count("\n") + 1
            raise DataError(
                f"{place}: expected a JSON object: {error}, in {content[:60]!r}"
                + ("; the file is cut off: copy or make it again" if last else "")
            ) from error
        records.append(_checked(value, place))
        _require_characters(place, content, value)
        lines.append(line)
    return Table(path, _union(records), lines)


def _read_list(path: Path, text: str) -> Table:
    try:
        values = json.loads(text, object_pairs_hook=distinct)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: expected a JSON list of objects: {error}; is the file cut off?"
        ) from error
    if not values:
        raise DataError(f"{path}: the list is empty; expected one object per row")
    records = [_checked(v, f"{path}, row {i}") for i, v in enumerate(values, start=1)]
    _require_characters(str(path), text, values)
    return Table(path, _union(records), list(range(1, len(records) + 1)), "row")


def _checked(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{place}: expected a JSON object {{...}}, got {json.dumps(value)[:60]}")
    if not all(name.strip() for name in value):
        raise DataError(f"{place}: has a value without a name; name it, or delete it")
    return value


def _require_characters(place: str, text: str, value: Any) -> None:
    try:
        require_characters(text, value)
    except ValueError as error:
        raise DataError(f"{place}: {error}; correct it") from None


def _union(records: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def _of_parquet(path: Path, table: Any) -> Table:
    names = list(table.column_names)
    for name in names:
        if not name.strip():
            raise DataError(f"{path}: column {names.index(name) + 1} has no name; name it")
        if names.count(name) > 1:
            raise DataError(f"{path}: there are two columns {name!r}; rename one")
    columns = {name: table.column(name).to_pylist() for name in names}
    columns = _counted(table) | columns
    return Table(path, columns, list(range(1, table.num_rows + 1)), "row")


def _counted(table: Any) -> dict[str, list[Any]]:
    """A named pandas index that counts the rows, which is only in the file's metadata."""
    about = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    ranges = [c for c in about.get("index_columns", ()) if isinstance(c, dict) and c.get("name")]
    found = {c["name"]: list(range(c["start"], c["stop"], c["step"])) for c in ranges}
    # Programs that drop rows may copy the metadata unchanged.
    return {name: counts for name, counts in found.items() if len(counts) == table.num_rows}


def write_table(
    path: Path,
    columns: Mapping[str, Sequence[Any]],
    *,
    bom: bool = False,
    separator: str = ",",
) -> None:
    """Write a table, completely or not at all; the suffix gives the format.

    It is one of ``.csv``, ``.jsonl`` and ``.parquet``. :func:`read_table` reads the same table, with these
    exceptions. CSV stores everything as text without leading and trailing blanks, None and "" as an empty
    cell, lists as JSON, and no empty rows. JSON Lines without rows have no columns.

    Parameters
    ----------
    path : path
        An existing file is replaced; the folder must exist.
    columns : mapping of str to sequence
        Sequences or NumPy arrays of equal length. NaN counts as None.
    bom : bool
        Whether a CSV file begins with a byte order mark, which Excel needs to recognize UTF-8.
    separator : str
        The separator of CSV: a comma, semicolon, tab or bar.

    Raises
    ------
    UsageError
        If the suffix or the separator is not one of these, lengths differ, or pyarrow is needed but not
        installed.
    DataError
        If a value cannot be written in this format.
    StorageError
        If the file could not be written; an existing file is unchanged.
    """
    path = Path(path)
    if separator not in SEPARATORS:
        raise UsageError(f"separator: expected one of {list(SEPARATORS)}, got {separator!r}")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise UsageError(f"{path}: expected columns of equal length, got {lengths}")
    plain = {str(name): [_plain(v) for v in _listed(column)] for name, column in columns.items()}
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        atomic_write_bytes(path, _as_parquet(path, plain))
        return
    if suffix == ".csv":
        text = ("\ufeff" if bom else "") + _as_csv(plain, separator)
    elif suffix == ".jsonl":
        names = list(plain)
        rows = (dict(zip(names, row, strict=True)) for row in zip(*plain.values(), strict=True))
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        raise UsageError(f"{path}: expected a name ending in {', '.join(WRITABLE)}")
    if "\0" in text:
        at = text.index("\0")
        raise DataError(f"{path}: {text[max(0, at - 20) : at + 20]!r} has a NUL byte; remove it")
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 20) : error.end + 20]
        raise DataError(
            f"{path}: {around!r} has half a character (a lone surrogate); correct it"
        ) from error
    atomic_write_bytes(path, data)


def _listed(column: Sequence[Any]) -> Iterable[Any]:
    listed: Iterable[Any] = getattr(column, "tolist", lambda: column)()
    return listed


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - NaN alone
        return None
    return str(value) if isinstance(value, Path) else value


class _Lines(list[str]):
    """Collects rows of csv.writer with LF as line end; the writer's CR LF makes it quote both characters."""

    def write(self, row: str) -> None:
        self.append(row.removesuffix("\r\n") + "\n")


def _as_csv(columns: dict[str, list[Any]], separator: str) -> str:
    if len(columns) == 1:
        separator = ","  # a reader assumes it if the header has no separator
    lines = _Lines()
    # Readers detect the separator by the header, so quote a header that contains another separator.
    doubtful = any(character in name for name in columns for character in SEPARATORS)
    csv.writer(
        lines,
        delimiter=separator,
        lineterminator="\r\n",
        quoting=csv.QUOTE_ALL if doubtful else csv.QUOTE_MINIMAL,
    ).writerow(columns)
    writer = csv.writer(lines, delimiter=separator, lineterminator="\r\n")
    cells = [
        [json.dumps(v, ensure_ascii=False) if isinstance(v, list | dict) else v for v in column]
        for column in columns.values()
    ]
    writer.writerows(zip(*cells, strict=True))
    return "".join(lines)


def _as_parquet(path: Path, columns: dict[str, list[Any]]) -> bytes:
    pa, pq = pyarrow_for(path, "writing")
    arrays = {name: _array(pa, path, name, column) for name, column in columns.items()}
    buffer = io.BytesIO()
    pq.write_table(pa.table(arrays), buffer)
    return buffer.getvalue()


def _array(pa: Any, path: Path, name: str, column: list[Any]) -> Any:
    try:
        try:
            return pa.array(column)
        except OverflowError:  # by default pyarrow converts integers to int64 only
            return pa.array(column, pa.uint64())
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}: column {name!r} cannot be stored in Parquet ({error}); give its values one type, or "
            "write .jsonl"
        ) from error
