"""Folders of images, sounds or videos with class folders or tables of metadata, as Hugging Face has them."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlmba.data.manifest.build import build
from rlmba.data.manifest.columns import file_kind, named
from rlmba.data.manifest.dataset import ManifestDataset
from rlmba.data.manifest.options import LabelOptions, Options
from rlmba.data.manifest.splits import is_split
from rlmba.data.table import Table, read_table
from rlmba.errors import DataError, RlmbaWarning

__all__ = ["load_media_folder"]

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_FILE_NAME = "file_name"
_CLASS = "class folder"


def load_media_folder(
    folder: Path, options: Options, labels: LabelOptions, reading: Mapping[str, Any] | None
) -> ManifestDataset:
    """Load an ImageFolder, AudioFolder or VideoFolder of the library datasets.

    With ``metadata.csv``, ``metadata.jsonl`` or ``metadata.parquet``, in the folder or in each folder
    of a split, the rows are those of the tables, whose column ``file_name`` is relative to the table.
    Otherwise, every image (or every sound, or every video, whichever is most frequent) is a row. The
    first folder of a path is its split if the folders are named like splits. Without a column of
    labels, the folder that a file is in is its class, if there are two or more.

    Raises
    ------
    DataError
        If there are neither media nor metadata, or the rows cannot be used.
    """
    tables, media = _search(folder)
    table = _joined(folder, tables) if tables else _listed(folder, media)
    if tables:
        _warn_of_others(table, media)
    options = replace(options, root=options.root or folder)
    return build(*_with_folders(table, folder, options, labels), reading)


def _search(folder: Path) -> tuple[list[str], list[str]]:
    """The tables of metadata and the media below a folder, relative to it, in the order of their names."""
    tables: list[str] = []
    media: list[str] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__")))
        start = Path(parent).relative_to(folder)
        here = [name for name in names if name in _METADATA]
        if len(here) > 1:
            raise DataError(
                f"{parent}: expected one table of metadata, got {sorted(here)}; keep one"
            )
        tables += [(start / name).as_posix() for name in here]
        media += [
            (start / name).as_posix()
            for name in sorted(names)
            if not name.startswith(".") and file_kind([name]) in ("image", "audio", "video")
        ]
    return tables, media


def _joined(folder: Path, tables: Sequence[str]) -> Table:
    """The rows of all tables, with file names relative to the folder."""
    columns: dict[str, list[Any]] = {}
    rows = 0
    for place in tables:
        table = read_table(folder / place)
        start = Path(place).parent
        if not any(c.lower().endswith(_FILE_NAME) for c in table.columns):
            raise DataError(
                f"{table.path}: expected a column {_FILE_NAME!r} with the name of each row's file, relative "
                f"to {table.path.parent}, got {list(table.columns)}; rename the column"
            )
        for name, cells in table.columns.items():
            column = columns.setdefault(name, [None] * rows)
            column += _below(start, cells) if name.lower().endswith(_FILE_NAME) else cells
        rows += len(table)
        for column in columns.values():
            column.extend([None] * (rows - len(column)))
    if len(tables) == 1:
        return replace(table, columns=columns)
    return Table(folder, columns, list(range(1, rows + 1)), "row")


def _below(start: Path, names: Sequence[Any]) -> list[Any]:
    return [
        (start / n.strip()).as_posix() if isinstance(n, str) and n.strip() else n for n in names
    ]


def _warn_of_others(table: Table, media: Sequence[str]) -> None:
    listed = {
        cell
        for name, cells in table.columns.items()
        if name.lower().endswith(_FILE_NAME)
        for cell in cells
    }
    _warn(table.path, [name for name in media if name not in listed], "are not in the metadata")


def _listed(folder: Path, media: Sequence[str]) -> Table:
    """One row for each file of the most frequent kind."""
    if not media:
        raise DataError(
            f"{folder}: expected images, sounds or videos, in class folders or with {', '.join(_METADATA)}, "
            "found none; a folder that save_to_disk wrote, with all its files, is read by the data set "
            "huggingface (`rlmba init DIR --huggingface FOLDER`)"
        )
    kinds = {name: file_kind([name]) for name in media}
    (most, _), *_ = Counter(kinds.values()).most_common(1)
    _warn(folder, [name for name in media if kinds[name] != most], f"have another kind than {most}")
    files: list[Any] = [name for name in media if kinds[name] == most]
    return Table(folder, {_FILE_NAME: files}, list(range(1, len(files) + 1)), "row")


def _warn(path: Path, names: Sequence[str], why: str) -> None:
    if names:
        first = ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
        warnings.warn(
            f"{path}: {len(names):,} files {why} and are not used: {first}",
            RlmbaWarning,
            stacklevel=5,
        )


def _with_folders(
    table: Table, folder: Path, options: Options, labels: LabelOptions
) -> tuple[Table, str, Options, LabelOptions]:
    """The arguments of :func:`build`, with splits and classes from the names of folders."""
    column = named(table, _FILE_NAME)
    if column is None:
        return table, folder.name, options, labels
    columns = dict(table.columns)
    parents = [
        Path(cell.replace("\\", "/")).parts[:-1] if isinstance(cell, str) else ()
        for cell in columns[column]
    ]
    first = dict.fromkeys(p[0] for p in parents if p)
    if named(table, labels.split) is None and _are_splits(list(first), labels.splits):
        columns[labels.split] = [p[0] if p else None for p in parents]
        parents = [p[1:] for p in parents]
    if labels.label == "label" and named(table, "label") is None:
        classes = [p[-1] if p else None for p in parents]
        if len({c for c in classes if c is not None}) > 1:
            columns[_CLASS] = classes
            labels = replace(labels, label=_CLASS)
    return replace(table, columns=columns), folder.name, options, labels


def _are_splits(names: Sequence[str], given: Mapping[str, str | None]) -> bool:
    """Whether folders are splits: all are named like one, or the option ``splits`` names one of them.

    A single class may be called "pool" or "test". If one of them is called "train" or "training", an
    error asks what the others are.
    """
    known = {name.strip().lower() for name in given} | {"train", "training"}
    return bool(names) and (
        all(map(is_split, names)) or any(name.lower() in known for name in names)
    )
