"""Files that people export from Label Studio: JSON, JSON-MIN, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlmba.annotators.labelstudio.labeling import CHOICES, NEW_CLASS
from rlmba.errors import DataError
from rlmba.reading.files import read_text
from rlmba.reading.structured import parse_json

__all__ = ["read_export"]

_HOW = "export the project again as JSON, JSON-MIN or CSV"


def read_export(path: Path) -> list[dict[str, Any]]:
    """Tasks with ``id``, ``data`` and ``annotations``.

    JSON holds everything. JSON-MIN and CSV have a row for each annotation and do not say which are ground
    truth.

    Raises
    ------
    DataError
        If the file is missing, damaged, or no such export.
    """
    text = read_text(path, advice=_HOW)
    parse = _table if path.suffix.lower() in (".csv", ".tsv") else _objects
    return [_task(path, i, row) for i, row in enumerate(parse(path, text), 1)]


def _objects(path: Path, text: str) -> list[Mapping[str, Any]]:
    return parse_json(text, list[Mapping[str, Any]], str(path), advice=_HOW, finite=False)


def _table(path: Path, text: str) -> list[Mapping[str, Any]]:
    csv.field_size_limit(1 << 30)  # a cell may hold a picture
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f"{path} is damaged ({error}); {_HOW}") from error
    for i, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise DataError(f"{path}: row {i} is not as long as the header; {_HOW}")
    return list(rows)


def _task(path: Path, number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    data = row.get("data")
    if isinstance(data, Mapping):
        annotations = row.get("annotations")
        if not isinstance(annotations, list):
            raise DataError(
                f"{path}: task {row.get('id', number)}: expected annotations, got none; {_HOW}"
            )
        return {"id": row.get("id", number), "data": data, "annotations": annotations}
    if "sample_id" not in row or "round" not in row:
        raise DataError(
            f"{path}: entry {number}: expected a task with sample_id and round, got {sorted(map(str, row))}; "
            f"{_HOW}, of the project that the questions were imported into"
        )
    flat = {"sample_id": str(row["sample_id"]), "round": _number(row["round"])}
    result = [
        {"from_name": name, "value": {key: _names(path, row.get(name), key)}}
        for name, key in ((CHOICES, "choices"), (NEW_CLASS, "text"))
    ]
    return {"id": row.get("id", number), "data": flat, "annotations": [{"result": result}]}


def _names(path: Path, cell: Any, key: str) -> list[str]:
    """A cell's names: one as it is, several as an object or a list, none where it is empty."""
    if isinstance(cell, str) and cell.startswith(f'{{"{key}":'):
        cell = parse_json(cell, dict[str, Any], f"{path}: the cell {cell[:40]!r}", advice=_HOW)
    if isinstance(cell, Mapping):
        cell = cell.get(key)
    names = cell if isinstance(cell, list) else [cell]
    return [str(name) for name in names if name not in (None, "")]


def _number(cell: Any) -> int | None:
    try:
        return int(float(cell))
    except (TypeError, ValueError, OverflowError):
        return None
