"""Read tables: CSV in all its variants, JSON Lines and Parquet. :mod:`rlmba.tables` writes them."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rlmba.cells import as_text, folded
from rlmba.data.delimited import decode, read_cells
from rlmba.errors import DataError
from rlmba.reading.files import read_bytes
from rlmba.reading.parquet import read_parquet
from rlmba.reading.structured import distinct, require_characters

__all__ = [
    "READABLE",
    "Table",
    "read_table",
    "read_text",
]

_DELIMITED = (".csv", ".tsv", ".txt")
_JSON = (".jsonl", ".ndjson", ".json")
READABLE = (*_DELIMITED, *_JSON, ".parquet")
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
