"""Files and texts that a table's cells name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlmba.cells import is_missing
from rlmba.data.manifest.columns import Columns
from rlmba.data.manifest.options import set_option
from rlmba.data.manifest.values import one_line
from rlmba.data.media.catalogue import Form, Source
from rlmba.data.media.problems import missing_or_empty
from rlmba.data.table import Table
from rlmba.errors import DataError

__all__ = ["Missing", "Sources", "find_sources", "texts_are_files"]

_FORMS: dict[str, Form] = {"text": "text", "image": "image", "video": "clip", "audio": "wav"}
_ADDRESS = re.compile(r"[a-z][a-z0-9+.\-]+://", re.IGNORECASE)
_LONGEST_PATH = 4096
_LARGEST_TEXT = 2**24
_THREADS = 16


@dataclass(frozen=True)
class Missing:
    """A file that a row names and that cannot be used."""

    row: int
    modality: str
    path: Path
    why: str


@dataclass
class Sources:
    """What there is of each row.

    ``by_modality`` holds a list as long as the table for each modality, None where the row has
    nothing of it; ``missing`` the files that are named but not there.
    """

    by_modality: dict[str, list[Source | None]] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)


def texts_are_files(values: Sequence[Any], root: Path) -> bool:
    """Whether cells are paths of ``.txt`` files: all of them end so, and one of the files is there."""
    texts = [v.strip() for v in values if not is_missing(v) and isinstance(v, str)]
    if not texts or not all(t.lower().endswith(".txt") and "\n" not in t for t in texts):
        return False
    return any(_exists(root / t) for t in texts)


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def find_sources(
    table: Table, columns: Columns, root: Path, *, text_is_file: bool, sound: bool, strict: bool
) -> Sources:
    """Find the file or text behind every cell.

    Parameters
    ----------
    table : Table
    columns : Columns
        ``media`` is used.
    root : path
        Where relative paths begin; they may not leave it.
    text_is_file : bool
        Texts are in files.
    sound : bool
        Videos give the modality "audio" as well.
    strict : bool
        Refuse a modality all of whose files are missing.

    Raises
    ------
    DataError
        If a cell is no path, leads out of the root, or nothing is where a whole column says.
    """
    found = Sources()
    for modality, column in columns.media.items():
        values = table.columns[column]
        if modality == "text" and not text_is_file:
            found.by_modality[modality] = _texts(table, column)
            continue
        paths = [_path(table, row, column, value, root) for row, value in enumerate(values)]
        with ThreadPoolExecutor(_THREADS) as pool:
            looked = list(pool.map(_look, paths, chunksize=64))
        sources: list[Source | None] = []
        for row, path in enumerate(paths):
            there, why = looked[row]
            if path is not None and modality == "text" and not why:
                why = _too_large(there or path)
            if path is not None and why:
                found.missing.append(Missing(row, modality, path, why))
            usable = there if path is not None and not why else None
            sources.append(None if usable is None else Source(_FORMS[modality], usable))
        named = sum(p is not None for p in paths)
        if strict and named and not any(sources):
            first = next(m for m in found.missing if m.modality == modality)
            raise DataError(
                f"{table.path}: none of the {named:,} files of column {column!r} ({modality}) is there; the "
                f"first is {first.path} ({first.why}). Bring them back, say where they are with "
                f"{set_option('root', 'FOLDER')}, or leave the column out with "
                f"{set_option(f'columns.{modality}', 'null')}"
            )
        found.by_modality[modality] = sources
        if modality == "video" and sound:
            found.by_modality["audio"] = list(sources)
    return found


def _texts(table: Table, column: str) -> list[Source | None]:
    texts = table.texts(column)
    return [None if text is None else Source("text", text=text) for text in texts]


def _path(table: Table, row: int, column: str, value: Any, root: Path) -> Path | None:
    """A cell as a path; None where it is empty."""
    if is_missing(value):
        return None
    start = f"{table.place(row)}: column {column!r}: expected "
    if not isinstance(value, str):
        raise DataError(
            f"{start}the path of a file, got a {type(value).__name__}; files inside a table are read by the "
            "data set huggingface"
        )
    text = value.strip()
    if problem := one_line(text, _LONGEST_PATH):
        raise DataError(f"{start}the path of a file: {problem}, got {text[:80]!r}")
    if _ADDRESS.match(text):
        raise DataError(
            f"{start}the path of a file here, got the address {text[:80]!r}; fetch the files and name "
            "them by their paths"
        )
    path = Path(text)
    if not path.is_absolute() and ".." in re.split(r"[/\\]", text):
        raise DataError(
            f"{start}a path below {root}, got {text!r}, which leads out of it; give the folder that "
            f"holds all files with {set_option('root', 'FOLDER')}, or an absolute path"
        )
    return root / path


def _look(path: Path | None) -> tuple[Path | None, str]:
    """Where a file is, and what is wrong with it; also where a path has a Windows program's backslashes."""
    if path is None:
        return None, ""
    why = missing_or_empty(path)
    if why and "\\" in str(path):
        turned = Path(str(path).replace("\\", "/"))
        if not missing_or_empty(turned):
            return turned, ""
    return path, why


def _too_large(path: Path) -> str:
    size = path.stat().st_size
    return f"a text of {size / 2**20:,.0f} MiB, at most 16 are read" if size > _LARGEST_TEXT else ""
