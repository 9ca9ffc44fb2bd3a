"""A table whose columns, ids, labels, splits and files have been identified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlmba.data.manifest.columns import FEATURES, Columns, find_columns
from rlmba.data.manifest.options import MEDIA, LabelOptions, Options, set_option
from rlmba.data.manifest.reading import Reading
from rlmba.data.manifest.rows import read_ids, read_labels
from rlmba.data.manifest.sources import (
    ShownColumn,
    Sources,
    find_shown,
    find_sources,
    texts_are_files,
)
from rlmba.data.manifest.splits import NOT_USED, read_splits
from rlmba.data.table import Table
from rlmba.errors import UsageError

__all__ = ["ParsedTable", "leave_out", "parse_table"]


@dataclass
class ParsedTable:
    """All rows of a table, with the meaning of its columns.

    Parameters
    ----------
    table : Table
    root : path
        Where relative paths start.
    columns : Columns
    text_is_file, sound : bool
        Whether texts are in files, and whether videos give the modality "audio".
    ids : sequence of str
    labels : int64 array [n]
        Positions in ``classes``; -1 if unknown.
    classes : tuple of str
    splits : int64 array [n]
        Positions in :data:`rlmba.data.manifest.splits.SPLITS`, or
        :data:`~rlmba.data.manifest.splits.NOT_USED`.
    sources : Sources
        Files and texts.
    values : mapping of modality to float64 array [n, D]
        Numbers; NaN where a cell is empty.
    modalities : tuple of str
    present : bool array [n, M]
    shown : dict of str to ShownColumn
        Columns that people see and the network does not read.
    without : list of str
        Modalities that no training row has; :func:`leave_out` finds them.
    left_out : dict of str to str
        Ids of rows that the data set leaves out, and why.
    """

    table: Table
    root: Path
    columns: Columns
    text_is_file: bool
    sound: bool
    ids: Sequence[str]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    splits: NDArray[np.int64]
    sources: Sources
    values: dict[str, NDArray[np.float64]]
    modalities: tuple[str, ...]
    present: NDArray[np.bool_]
    shown: dict[str, ShownColumn]
    without: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def parse_table(
    table: Table, options: Options, labels: LabelOptions, earlier: Reading | None
) -> ParsedTable:
    """Identify what is in a table; if ``earlier`` is given, as in the data set it describes.

    Raises
    ------
    DataError, UsageError
        As :func:`rlmba.data.load_manifest`.
    """
    n = len(table)
    root = (options.root or table.path.parent).absolute()
    if options.root is not None and not root.is_dir():
        raise UsageError(f"option root: expected a folder, got {options.root}")
    if earlier is None:
        columns = find_columns(table, options, labels)
        sound = _wants_sound(table, columns, options)
        text_is_file = bool(columns.text_is_file) or (
            "text" in columns.media and texts_are_files(table.columns[columns.media["text"]], root)
        )
        known, classes = read_labels(table, columns.label, labels.classes, labels.no_label)
        splits = read_splits(table, columns.split, labels.splits)
    else:
        columns = earlier.columns(table, options)
        sound, text_is_file = earlier.sound and "video" in columns.media, earlier.text_is_file
        known, classes = np.full(n, -1, np.int64), labels.classes or ()
        splits = np.zeros(n, np.int64)
    ids = read_ids(table, columns.id, columns.label)
    sources = find_sources(
        table, columns, root, text_is_file=text_is_file, sound=sound, strict=earlier is None
    )
    values = {m: array for m, (_, array) in columns.vectors.items()}
    if columns.numbers:
        numbers = np.stack(list(columns.numbers.values()), axis=1)
        values = {FEATURES: numbers, **values}
    there = {
        m: np.array([s is not None for s in every]) for m, every in sources.by_modality.items()
    }
    there |= {m: np.asarray(~np.isnan(array).all(axis=1)) for m, array in values.items()}
    modalities = tuple(m for m in (*MEDIA, *values) if m in there)
    if earlier is not None:
        modalities = earlier.modalities
        for m in (m for m in modalities if m not in there):
            sources.by_modality[m] = [None] * n
            there[m] = np.zeros(n, np.bool_)
    present = np.stack([there[m] for m in modalities], axis=1)
    return ParsedTable(
        table, root, columns, text_is_file, sound, ids, known, classes, splits, sources, values,
        modalities, present, find_shown(table, columns, root),
    )  # fmt: skip


def _wants_sound(table: Table, columns: Columns, options: Options) -> bool:
    if not options.sound:
        return False
    if "video" not in columns.media:
        raise UsageError(
            f"option sound: expected a column of videos, found none in {table.path}; name it with "
            f"{set_option('columns.video', 'COLUMN')}"
        )
    if "audio" in columns.modalities:
        raise UsageError(
            f"option sound: the sound of the videos would be the modality 'audio', but a column of "
            f"{table.path} is that modality already; drop the option, or leave out the column with "
            f"{set_option('columns.audio', 'null')}"
        )
    return True


def leave_out(parsed: ParsedTable, labels: LabelOptions, earlier: Reading | None) -> None:
    """Record the rows that are not used, and why, and drop modalities that no training row has."""
    reasons: dict[int, str] = {}
    if earlier is None:
        unknown = parsed.labels < 0
        for row in np.flatnonzero(unknown & (parsed.splits == 2)).tolist():
            reasons[row] = "a test row without a label"
        if labels.unlabeled == "drop":
            for row in np.flatnonzero(unknown & (parsed.splits != 2)).tolist():
                reasons[row] = "no label, and the option unlabeled is drop"
        for row in np.flatnonzero(parsed.splits == NOT_USED).tolist():
            reasons[row] = "the option splits leaves its split out"
        learned = np.array([row not in reasons for row in range(len(parsed.ids))])
        learned &= parsed.splits != 2
        some = parsed.present[learned].any(axis=0)
        if some.any():
            parsed.without = [m for m, s in zip(parsed.modalities, some, strict=True) if not s]
            parsed.modalities = tuple(m for m, s in zip(parsed.modalities, some, strict=True) if s)
            parsed.present = parsed.present[:, some]
    named = {m.row for m in parsed.sources.missing}
    for row in np.flatnonzero(~parsed.present.any(axis=1)).tolist():
        reasons[row] = (
            "none of its files is there" if row in named else "all of its cells are empty"
        )
    parsed.left_out = {parsed.ids[row]: reasons[row] for row in sorted(reasons)}
