"""Reading files that people export from Label Studio: JSON, JSON-MIN or CSV."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rlmba.annotators.labelstudio.labeling import CHOICES, NEW_CLASS
from rlmba.data.table import read_table
from rlmba.errors import DataError
from rlmba.reading.files import read_text
from rlmba.reading.structured import parse_json

__all__ = ["read_export"]

_HOW = "export the project again as JSON, JSON-MIN or CSV"


def read_export(path: Path) -> list[dict[str, Any]]:
    """Read an export as tasks with ``id``, ``data`` and ``annotations``.

    JSON holds everything. JSON-MIN and CSV have one row for each annotation, and do not say which
    annotations are ground truth.

    Raises
    ------
    DataError
        If the file is missing, damaged, or not such an export.
    """
    rows = _table(path) if path.suffix.lower() in (".csv", ".tsv") else _objects(path)
    return [_task(path, i, row) for i, row in enumerate(rows, 1)]


def _objects(path: Path) -> list[Mapping[str, Any]]:
    text = read_text(path, advice=_HOW)
    return parse_json(
        text, list[Mapping[str, Any]], str(path), advice=_HOW, finite=False, surrogates=True
    )


def _table(path: Path) -> list[Mapping[str, Any]]:
    columns = read_table(path).columns
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


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
    flat = {"sample_id": row["sample_id"], "round": row["round"]}
    result = [
        {"from_name": name, "value": {key: _names(path, row.get(name), key)}}
        for name, key in ((CHOICES, "choices"), (NEW_CLASS, "text"))
    ]
    return {"id": row.get("id", number), "data": flat, "annotations": [{"result": result}]}


def _names(path: Path, cell: Any, key: str) -> list[Any]:
    """The names in a cell, which holds a single name, several as an object or a list, or none."""
    if isinstance(cell, str) and cell.startswith(f'{{"{key}":'):
        with suppress(DataError):  # a damaged cell is then refused as a label
            cell = parse_json(cell, dict[str, Any], f"{path}: the cell {cell[:40]!r}", advice=_HOW)
    if isinstance(cell, Mapping):
        cell = cell.get(key)
    return cell if isinstance(cell, list) else [cell]
