"""Find the files and texts that the cells of a table name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlmba.cells import as_text, is_missing, one_line
from rlmba.data.manifest.columns import Columns, named_as_files
from rlmba.data.manifest.options import set_option
from rlmba.data.media.catalogue import Source, StorageForm
from rlmba.data.media.problems import missing_or_empty
from rlmba.data.table import Table
from rlmba.errors import DataError
from rlmba.progress import counted

__all__ = [
    "Missing",
    "ShownColumn",
    "Sources",
    "find_shown",
    "find_sources",
    "texts_are_files",
]

_FORMS: dict[str, StorageForm] = {"text": "text", "image": "image", "video": "clip", "audio": "wav"}
_ADDRESS = re.compile(r"[a-z][a-z0-9+.\-]+://", re.IGNORECASE)
_LONGEST_PATH = 4096
_LARGEST_TEXT = 2**24
_THREADS = 16


@dataclass(frozen=True)
class Missing:
    """A file that a row names but that cannot be used."""

    row: int
    modality: str
    path: Path
    why: str


@dataclass
class Sources:
    """The files and texts of all rows.

    ``by_modality`` maps each modality to a list as long as the table, with None where the row lacks the
    modality. ``missing`` lists the files that rows name but that cannot be used.
    """

    by_modality: dict[str, list[Source | None]] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)


def texts_are_files(values: Sequence[Any], root: Path) -> bool:
    """Whether cells are paths of ``.txt`` files: all of them end in .txt, and at least one file exists."""
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
        Only ``media`` is used.
    root : path
        The folder that relative paths start from; they may not lead out of it.
    text_is_file : bool
        Whether texts are in files.
    sound : bool
        Whether videos also give the modality "audio".
    strict : bool
        Whether it is an error if all files of a modality are missing.

    Raises
    ------
    DataError
        If a cell is not a path, or leads out of the root, or no file of a column exists.
    """
    found = Sources()
    for modality, column in columns.media.items():
        values = table.columns[column]
        if modality == "text" and not text_is_file:
            found.by_modality[modality] = _texts(table, column)
            continue
        paths = [_path(table, row, column, value, root) for row, value in enumerate(values)]
        with ThreadPoolExecutor(_THREADS) as pool:
            looking = pool.map(_look, paths, chunksize=64)
            looked = list(counted(f"checking files ({modality})", looking, len(paths)))
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
                f"{table.path}: none of the {named:,} files of column {column!r} ({modality}) can be used; "
                f"the first is {first.path} ({first.why}). Restore the files, give their folder with "
                f"{set_option('root', 'FOLDER')}, or leave the column out with "
                f"{set_option(f'columns.{modality}', 'null')}"
            )
        found.by_modality[modality] = sources
        if modality == "video" and sound:
            found.by_modality["audio"] = list(sources)
    return found


@dataclass
class ShownColumn:
    """A column that people see and the network does not read.

    Parameters
    ----------
    cells : sequence of str, path or None
        By row: a text, or the path of a file that exists. None where there is nothing to show.
    files : bool
        Whether its cells are paths.
    missing : list of Missing
        Files that rows name but that cannot be shown.
    """

    cells: Sequence[str | Path | None]
    files: bool
    missing: list[Missing]


def find_shown(table: Table, columns: Columns, root: Path) -> dict[str, ShownColumn]:
    """What people see of the columns ``columns.shown_only``, by column.

    The cells of a column are paths if all of them look like names of files and one of these exists, or
    if the column has the usual name of files. Otherwise they are texts. No cell is an error.
    """
    return {name: _shown(table, name, root) for name in columns.shown_only}


def _shown(table: Table, name: str, root: Path) -> ShownColumn:
    values = table.columns[name]
    paths: list[Path | None] = []
    unlike = False
    for value in values:
        path = None
        if not is_missing(value):
            try:
                path = _path_of(value, root)
            except ValueError:
                unlike = True
            unlike = unlike or path is None or not path.suffix
        paths.append(path)
    if not unlike or named_as_files(name):
        with ThreadPoolExecutor(_THREADS) as pool:
            looked = list(pool.map(_look, paths, chunksize=64))
        there = [None if why else path for path, why in looked]
        if any(there) or named_as_files(name):
            missing = [
                Missing(row, name, path, looked[row][1])
                for row, path in enumerate(paths)
                if path is not None and there[row] is None
            ]
            return ShownColumn(there, True, missing)
    return ShownColumn([_as_shown_text(value) for value in values], False, [])


def _as_shown_text(value: Any) -> str | None:
    try:
        return as_text(value)
    except ValueError:  # lists and objects, which are no ids and labels, can be shown all the same
        return str(value)


def _texts(table: Table, column: str) -> list[Source | None]:
    texts = table.texts(column)
    return [None if text is None else Source("text", text=text) for text in texts]


def _path(table: Table, row: int, column: str, value: Any, root: Path) -> Path | None:
    """A cell as a path; None if it is empty."""
    if is_missing(value):
        return None
    try:
        return _path_of(value, root)
    except ValueError as error:
        raise DataError(f"{table.place(row)}: column {column!r}: expected {error}") from None


def _path_of(value: Any, root: Path) -> Path:
    """A cell that is not empty as a path.

    Raises
    ------
    ValueError
        If it cannot be the path of a file; the message says what was expected.
    """
    if not isinstance(value, str):
        raise ValueError(
            f"the path of a file, got a {type(value).__name__}; use the data set huggingface for files that "
            "are embedded in a table"
        )
    text = value.strip()
    if problem := one_line(text, _LONGEST_PATH):
        raise ValueError(f"the path of a file: {problem}, got {text[:80]!r}")
    if _ADDRESS.match(text):
        raise ValueError(
            f"the path of a local file, got the address {text[:80]!r}; download the files and give "
            "their paths"
        )
    path = Path(text)
    if ".." in text and not path.is_absolute() and ".." in re.split(r"[/\\]", text):
        raise ValueError(
            f"a path below {root}, got {text!r}, which leads out of it; give the folder that contains all "
            f"files with {set_option('root', 'FOLDER')}, or an absolute path"
        )
    return root / path


def _look(path: Path | None) -> tuple[Path | None, str]:
    """Where a file is, and why it cannot be used.

    Backslashes are tried as slashes, and names in the composed and the decomposed form of Unicode: the
    table and the file system may spell "é" differently.
    """
    if path is None:
        return None, ""
    why = missing_or_empty(path)
    if why and "\\" in str(path):
        turned = Path(str(path).replace("\\", "/"))
        if not missing_or_empty(turned):
            return turned, ""
        path = turned
    if why and not str(path).isascii():
        for form in ("NFC", "NFD"):
            other = Path(unicodedata.normalize(form, str(path)))
            if not missing_or_empty(other):
                return other, ""
    return path, why


def _too_large(path: Path) -> str:
    size = path.stat().st_size
    return f"a text of {size / 2**20:,.0f} MiB, expected at most 16" if size > _LARGEST_TEXT else ""
