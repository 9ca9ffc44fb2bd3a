"""Delimited text as spreadsheets save it: detect encoding and separator, and read the cells."""

from __future__ import annotations

import csv
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from rlmba.data.encoding import ENCODINGS, Decoded, decode_text, guess_encoding, is_marked
from rlmba.errors import DataError, RlmbaWarning
from rlmba.tables import SEPARATORS

__all__ = ["decode", "read_cells"]

_SAMPLE_ROWS = 1000
_LINE = re.compile(r"[^\r\n]*(?:\r\n|[\r\n])|[^\r\n]+")
_SEP_LINE = re.compile(r'"?sep=(?P<separator>[^\r\n"])"?[ \t]*(?:\r\n|[\r\n])', re.IGNORECASE)
_OF_BYTES = ("utf-8-sig", "cp1252", "latin-1")
_AS_CSV = 'save it as "CSV UTF-8" in the spreadsheet program and give that file'
_NOT_TEXT = {
    b"PK\x03\x04": f"a spreadsheet file (.xlsx, .ods) or an archive; {_AS_CSV}",
    b"\xd0\xcf\x11\xe0": f"an old spreadsheet file (.xls); {_AS_CSV}",
    b"PAR1": "a Parquet file; rename it to .parquet",
    b"\x1f\x8b": "compressed with gzip; decompress it",
}


def decode(path: Path, data: bytes) -> str:
    """Decode a file: by its byte order mark, else as UTF-8, else as Windows-1252 with a warning.

    Parameters
    ----------
    path : path
        For messages.
    data : bytes
        The whole file.

    Returns
    -------
    str
        Without the byte order mark, with unchanged line ends.

    Raises
    ------
    DataError
        If the file is not text, is damaged, or has only blanks.
    """
    for magic, what in _NOT_TEXT.items():
        if data.startswith(magic):
            raise DataError(f"{path}: expected text, got {what}")
    found = decode_text(data)
    if found.bad is not None and not is_marked(data):
        found = decode_text(data, guess_encoding(data))
    text = found.text
    if found.bad is not None and found.encoding in ENCODINGS[:-1] and "\ufffd" not in text:
        warnings.warn(
            f"{path} is not UTF-8 and was read as {found.encoding}; if letters do not look right, save the "
            'file as "CSV UTF-8" and give that',
            RlmbaWarning,
            stacklevel=4,
        )
    elif found.bad is not None:
        line = data.count(b"\n", 0, found.bad) + 1
        # A UTF-8 character before the bad byte is hardly chance: the file is UTF-8 and damaged.
        if is_marked(data) or not data[: found.bad].isascii():
            name = "UTF-8" if found.encoding in _OF_BYTES else found.encoding.upper()
            raise DataError(
                f"{path}, line {line}: expected {name} as in the rest of the file, got other "
                "bytes; the file is damaged, cut off or joined from several files: save it again as UTF-8"
            )
        _warn_of_windows(path, found, line)
    if "\0" in text:
        raise DataError(
            f"{path}, line {text.count(chr(10), 0, text.index(chr(0))) + 1}: expected text, got NUL bytes; "
            'if the file is UTF-16, save it again as "CSV UTF-8", otherwise it is damaged'
        )
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise DataError(f"{path}: the file is empty; expected a header with column names, and rows")
    return text


def _warn_of_windows(path: Path, found: Decoded, line: int) -> None:
    if found.encoding != "cp1252":
        raise DataError(
            f"{path}, line {line}: expected UTF-8 or Windows-1252, got other bytes; save the file as UTF-8"
        )
    shown = found.text.split("\n")[line - 1].strip()
    warnings.warn(
        f"{path} is not UTF-8 and was read as Windows-1252; if line {line} does not look right "
        f'({shown[:60]!r}), save the file as "CSV UTF-8" and give that',
        RlmbaWarning,
        stacklevel=4,
    )


def read_cells(path: Path, text: str) -> tuple[dict[str, list[str | None]], list[int]]:
    r"""Read the columns of delimited text, and the line where each row begins.

    The separator is the one of ``, ; tab |`` that splits the header and the rows into the same number of
    cells; if several do, it is the one with the most columns. A first line such as ``sep=;`` takes
    precedence, and so does a tab in the header of a ``.tsv`` file. Cells may be quoted with ``"`` and then
    contain separators, line ends and doubled quotes. Empty rows, and empty columns without a name, are
    left out.

    Parameters
    ----------
    path : path
        For messages and for its suffix.
    text : str
        The whole text.

    Returns
    -------
    columns : dict of str to list
        Cells without leading and trailing blanks; None for an empty cell.
    lines : list of int
        Line numbers, from 1.

    Raises
    ------
    DataError
        If a column name is missing or repeated, a row has fewer or more cells than the header, or a
        quote is not closed.
    """
    # The limit applies to the whole process. It is not lowered again, since other threads may be reading.
    csv.field_size_limit(max(csv.field_size_limit(), min(sys.maxsize, 2**31 - 1)))
    start, separator = 0, None
    if given := _SEP_LINE.match(text):
        start, separator = given.end(), given["separator"]
    if separator is None:
        separator = _separator(path, text)
    records = _records(path, _lines(text, start), separator, 2 if start else 1)
    header_line, header = next(records, (0, []))
    if not header:
        raise DataError(f"{path}: expected a header with column names, found only empty cells")
    rows: list[list[str]] = []
    lines: list[int] = []
    for line, row in records:
        if not _fits(row, len(header)):
            cut = len(row) < len(header) and text[-1] not in "\r\n" and next(records, None) is None
            raise DataError(
                f"{path}, line {line}: expected {len(header)} cells as in the header, got {len(row)} "
                f"(separator {separator!r}); "
                + (
                    "the file seems to be cut off: save or copy it again"
                    if cut
                    else "put a cell that contains the separator in quotes"
                    if len(row) > len(header)
                    else "add the separators of the empty cells, or put a cell that contains a line end in "
                    "quotes"
                )
            )
        rows.append(row[: len(header)])
        lines.append(line)
    cells = zip(*rows, strict=True) if rows else [()] * len(header)
    columns = [[cell.strip() or None for cell in column] for column in cells]
    return _named(path, header_line, header, columns, lines), lines


def _lines(text: str, start: int = 0) -> Iterator[str]:
    """Lines with their line ends; unlike str.splitlines, only CR and LF end a line."""
    return (match[0] for match in _LINE.finditer(text, start))


def _records(
    path: Path, lines: Iterable[str], separator: str, first: int
) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, each with the line where it begins."""
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=True)
    line = first
    try:
        for row in reader:
            if any(row) and not "".join(row).isspace():
                yield line, row
            line = first + reader.line_num
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line}: {error} (separator {separator!r}). A quoted cell must end with a quote "
            "directly before the separator or the line end, and a quote inside it must be doubled; check "
            "the line, and whether the file is cut off"
        ) from error


def _fits(row: list[str], width: int) -> bool:
    """Whether a row has ``width`` cells, apart from empty cells at its end."""
    return len(row) >= width and not "".join(row[width:]).strip()


def _separator(path: Path, text: str) -> str:
    best, best_key = SEPARATORS[0], (0.0, 0)
    for separator in SEPARATORS:
        records = _records(path, _lines(text), separator, 1)
        good = total = width = 0
        try:
            width = len(next(records, (0, []))[1])
            if separator == "\t" and width > 1 and path.suffix.lower() == ".tsv":
                return separator
            for _, row in islice(records, _SAMPLE_ROWS) if width > 1 else ():
                total += 1
                good += _fits(row, width)
        except DataError:
            total += 1
        key = (good / total if total else 1.0, width)
        if width > 1 and key > best_key:
            best, best_key = separator, key
    return best


def _named(
    path: Path,
    header_line: int,
    header: list[str],
    columns: list[list[str | None]],
    lines: list[int],
) -> dict[str, list[str | None]]:
    named: dict[str, list[str | None]] = {}
    where: dict[str, int] = {}
    for number, (raw, column) in enumerate(zip(header, columns, strict=True), start=1):
        name = raw.strip()
        if not name:
            filled = next((i for i, cell in enumerate(column) if cell is not None), None)
            if filled is not None:
                raise DataError(
                    f"{path}, line {header_line}: column {number} has no name, but line {lines[filled]} "
                    f"has {str(column[filled])[:40]!r} in it; name the column, or delete it (pandas writes "
                    "row numbers in such a column, unless given index=False)"
                )
        elif name in named:
            raise DataError(
                f"{path}, line {header_line}: columns {where[name]} and {number} have the same name "
                f"{name!r}; rename or delete one"
            )
        else:
            named[name], where[name] = column, number
    return named
