"""Identify the columns of a table: the id, the label, the split, modalities and features."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.cells import as_text, is_missing, one_line
from rlmba.data.manifest.options import MEDIA, LabelOptions, Options, set_option
from rlmba.data.manifest.values import (
    PLAIN,
    AmbiguousError,
    BeyondError,
    MixedError,
    Notation,
    RaggedError,
    notation_of,
    numbers_of,
    vectors_of,
)
from rlmba.data.table import Table
from rlmba.errors import DataError, RlmbaWarning, UsageError

__all__ = [
    "FEATURES",
    "Columns",
    "file_kind",
    "find_columns",
    "find_id",
    "is_file_name",
    "named",
    "named_as_files",
]

FEATURES = "features"
"""The modality formed by all columns that hold one number in each cell."""

_TEXT_FILE = "text_file"
_FILE_ENDS = ("path", "file", "filename", "file_name")
_NAMES: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "caption", "title", "description", "sentence", "body"),
    _TEXT_FILE: tuple(f"text_{end}" for end in _FILE_ENDS),
    "image": (
        *("image", "img", "photo", "picture"),
        *(f"{name}_{end}" for name in ("image", "img", "photo") for end in _FILE_ENDS),
    ),
    "video": (
        *("video", "clip", "movie"),
        *(f"{name}_{end}" for name in ("video", "clip") for end in _FILE_ENDS),
    ),
    "audio": (
        *("audio", "wav", "sound"),
        *(f"{name}_{end}" for name in ("audio", "wav", "sound") for end in _FILE_ENDS),
    ),
}
# The suffixes of the files of a column that is only called "file_name", as in a metadata.csv.
_FILE_NAMES = ("file_name", "filename")
_KINDS: Mapping[str, tuple[str, ...]] = {
    _TEXT_FILE: (".txt",),
    "image": (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"),
    "video": (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".3gp"),
    "audio": (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac"),
}
_COUNTERS = frozenset(
    {"", "index", "idx", "row", "rank", "score", "difficulty", "line", "nr", "no"}
)
_FEW = 4  # in so few rows, numbers may be consecutive by accident
_LIKE_LABELS = frozenset({"class", "category", "target", "y", "label", "labels", "label_id"})
# These names have another meaning where modalities are named.
_RESERVED = frozenset({"mm", "unreadable", _TEXT_FILE})


@dataclass(frozen=True)
class Columns:
    """The meaning of each column of a table.

    Parameters
    ----------
    id : str
    label, split : str or None
        None if the table has no such column.
    media : mapping of modality to str
        The columns of "text", "image", "video" and "audio", as far as there are any, in this order.
    text_is_file : bool or None
        Whether the name of the text column says that it holds paths; None: its values decide.
    numbers : mapping of str to float64 array [n]
        The columns of :data:`FEATURES`; NaN where a cell is empty.
    notations : mapping of str to Notation
        How the numbers of these columns are written, unless they are written as programs write them.
    vectors : mapping of modality to (str, float64 array [n, D])
        Columns with a list of numbers in each cell; a row of NaN where a cell is empty.
    shown_only : tuple of str
        Columns that people see and the network does not read.
    hidden : tuple of str
        Columns that people do not see.
    unused : mapping of str to str
        Columns that are not used, and why.
    """

    id: str
    label: str | None = None
    split: str | None = None
    media: Mapping[str, str] = field(default_factory=dict)
    text_is_file: bool | None = None
    numbers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    notations: Mapping[str, Notation] = field(default_factory=dict)
    vectors: Mapping[str, tuple[str, NDArray[np.float64]]] = field(default_factory=dict)
    shown_only: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    unused: Mapping[str, str] = field(default_factory=dict)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of all modalities, in order."""
        return (*self.media, *([FEATURES] if self.numbers else []), *self.vectors)

    def of(self) -> dict[str, str]:
        """Column by modality, except the columns of single numbers."""
        return {**self.media, **{m: column for m, (column, _) in self.vectors.items()}}


def find_id(table: Table, name: str) -> str:
    """The column of ids, by its name in upper or lower case; "file_name" if there is no column "id".

    Raises
    ------
    DataError
        If there is none; the message names columns that could be used.
    """
    found = named(table, name)
    if found is not None:
        return found
    possible = [c for c, values in table.columns.items() if _distinct(values)]
    if name == "id" and (files := [c for c in possible if is_file_name(c)]):
        return files[0]
    raise DataError(
        f"{table.path}: expected a column {name!r} with a distinct id in each row, got "
        f"{list(table.columns)}; "
        + (
            f"{', '.join(map(repr, possible[:5]))} can be used: {set_option('id', possible[0])}"
            if possible
            else "none of them has distinct values: add a column of ids"
        )
    )


def find_columns(table: Table, options: Options, labels: LabelOptions) -> Columns:
    """Identify the columns by the options, by their names and by their values.

    Raises
    ------
    DataError
        If a column that is needed is not there, or holds values of another kind.
    UsageError
        If an option names a column that is not there, two columns could be the same modality, or there
        is no modality at all.
    """
    taken = {"id": find_id(table, options.id)}
    for key, name in (("label", labels.label), ("split", labels.split)):
        column = named(table, name)
        if column is not None:
            taken[key] = column
        elif name != key:
            raise UsageError(f"option {key}: {_no_column(table, name)}")
    # The names of files can be the ids as well.
    files = [taken["id"]] if is_file_name(taken["id"]) else []
    others = {key: column for key, column in taken.items() if column not in files}
    chosen = _chosen(table, options.columns, others)
    uses = {column: key for key, column in {**taken, **chosen}.items()}
    shown_only = _listed(table, "shown_columns", options.shown_only, uses)
    uses |= dict.fromkeys(shown_only, "shown_columns")
    # Labels and splits are never shown, so that listing them changes nothing.
    always = {c: use for c, use in uses.items() if use in ("id", "shown_columns")}
    hidden = _listed(table, "hidden_columns", options.hidden, always)
    free = [c for c in table.columns if c not in uses]
    files = [c for c in files if c not in chosen.values()]
    wanted = _listed(table, "features", options.features or (), uses)
    media, vectors = _by_option(table, chosen)
    excluded = {m for m, c in options.columns.items() if c is None}
    rest = [c for c in free if c not in wanted and _plain(c) not in excluded]
    unused = _by_name(table, [*rest, *files], media, vectors, excluded)
    is_file = True if _TEXT_FILE in media else None
    if is_file:
        media["text"] = media.pop(_TEXT_FILE)
    used = {*media.values(), *(c for c, _ in vectors.values())}
    rest = [c for c in free if c not in used]
    unused |= {c: "not wanted" for c in rest if _plain(c) in excluded}
    numbers, notations = _numbers(
        table, wanted if options.features is not None else rest, options, unused
    )
    for column in rest:
        if column not in numbers and column not in unused:
            unused[column] = "neither numbers nor the name of a modality"
    if FEATURES in vectors and numbers:
        raise UsageError(
            f"{table.path}: column {vectors[FEATURES][0]!r} would be the modality {FEATURES!r}, but so "
            f"would the columns of numbers {list(numbers)}; give it another name with "
            f"{set_option('columns.embedding', vectors[FEATURES][0])}, or leave the numbers out with "
            f"{set_option('features', '[]')}"
        )
    columns = Columns(
        id=taken["id"],
        label=taken.get("label"),
        split=taken.get("split"),
        media={m: media[m] for m in MEDIA if m in media},
        text_is_file=is_file,
        numbers=numbers,
        notations=notations,
        vectors=vectors,
        shown_only=shown_only,
        hidden=hidden,
        unused=unused,
    )
    if not columns.modalities:
        raise UsageError(
            f"{table.path}: expected a column of images, texts, sounds, videos or numbers, got "
            f"{list(table.columns)}"
            + "".join(f", {c!r} not used ({why})" for c, why in unused.items())
            + f"; name a column with, say, {set_option('columns.image', 'COLUMN')}"
        )
    return columns


def is_file_name(column: str) -> bool:
    """Whether a column names files of any kind, as in the metadata of a folder of media."""
    return _plain(column) in _FILE_NAMES


def file_kind(names: Sequence[Any]) -> str:
    """What files with these names are, by their suffixes: a key of the option ``columns``.

    "" if there are none, or they are of several kinds or of an unknown one.
    """
    suffixes = {PurePath(v.strip()).suffix.lower() for v in names if isinstance(v, str)} - {""}
    found = [kind for kind, known in _KINDS.items() if suffixes and suffixes <= set(known)]
    return found[0] if found else ""


def named(table: Table, name: str) -> str | None:
    """The column with this name, or the only one that differs by upper and lower case; None: no column."""
    if name in table.columns:
        return name
    same = [c for c in table.columns if c.lower() == name.lower()]
    return same[0] if len(same) == 1 else None


def named_as_files(column: str) -> bool:
    """Whether a column has one of the names by which columns of files are recognized."""
    return any(_plain(column) in names for kind, names in _NAMES.items() if kind != "text")


def _plain(column: str) -> str:
    return re.sub(r"[\s\-]+", "_", column.strip().lower())


def _no_column(table: Table, name: str) -> str:
    close = difflib.get_close_matches(name, table.columns, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    return f"{table.path} has no column {name!r}{guess} It has {list(table.columns)}"


def _distinct(values: Sequence[Any]) -> bool:
    try:
        texts = [as_text(v) for v in values]
    except ValueError:
        return False
    return None not in texts and len(set(texts)) == len(texts)


def _chosen(
    table: Table, columns: Mapping[str, str | None], taken: Mapping[str, str]
) -> dict[str, str]:
    """Columns that the option ``columns`` assigns to modalities, checked."""
    chosen: dict[str, str] = {}
    for modality, name in columns.items():
        if name is None:
            continue
        column = named(table, name)
        if column is None:
            raise UsageError(f"option columns: {modality}: {_no_column(table, name)}")
        before = {**taken, **chosen}
        other = next((k for k, c in before.items() if c == column), None)
        if other is not None:
            raise UsageError(
                f"option columns: expected a different column for each modality, got {column!r} for "
                f"both {modality!r} and {other!r}"
            )
        chosen[modality] = column
    if "text" in chosen and _TEXT_FILE in chosen:
        raise UsageError("option columns: expected text or text_file, got both; leave one out")
    return chosen


def _listed(
    table: Table, option: str, names: Sequence[str], uses: Mapping[str, str]
) -> tuple[str, ...]:
    """Columns that an option lists, checked; ``uses`` are columns that it cannot list, and their use."""
    listed: list[str] = []
    for name in names:
        column = named(table, name)
        if column is None:
            raise UsageError(f"option {option}: {_no_column(table, name)}")
        if column in uses or column in listed:
            why = f"is used as {uses[column]!r}" if column in uses else "is listed twice"
            raise UsageError(
                f"option {option}: expected columns without another use, got {column!r}, which {why}; "
                "remove it from the option"
            )
        listed.append(column)
    return tuple(listed)


def _by_option(
    table: Table, chosen: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, tuple[str, NDArray[np.float64]]]]:
    """Media and vectors among the columns that the option ``columns`` names."""
    media: dict[str, str] = {}
    vectors: dict[str, tuple[str, NDArray[np.float64]]] = {}
    for modality, column in chosen.items():
        values = table.columns[column]
        try:
            array = None if modality in ("text", _TEXT_FILE) else vectors_of(values)
        except RaggedError as error:
            row, problem = error.args
            raise DataError(
                f"{table.place(row)}: column {column!r} {problem}; repair the row, or leave the column "
                f"out with {set_option(f'columns.{modality}', 'null')}"
            ) from None
        if array is not None:
            _check_name(modality, column)
            vectors[modality] = (column, array)
        elif modality in _NAMES:
            media[modality] = column
        else:
            raise UsageError(
                f"option columns: expected {modality!r} to be one of {list(_NAMES)}, or its column "
                f"{column!r} to hold a list of numbers in each row"
            )
    return media, vectors


def _by_name(
    table: Table,
    rest: Sequence[str],
    media: dict[str, str],
    vectors: dict[str, tuple[str, NDArray[np.float64]]],
    excluded: set[str],
) -> dict[str, str]:
    """Add columns that are recognized by name or values; returns columns that are damaged, and why."""
    broken: dict[str, str] = {}
    candidates: dict[str, list[str]] = {}
    kinds: dict[str, str] = {}
    for column in rest:
        values = table.columns[column]
        named = next((m for m, names in _NAMES.items() if _plain(column) in names), None)
        if is_file_name(column):
            named = file_kind(values) or None
        try:
            array = None if named in ("text", _TEXT_FILE) else vectors_of(values)
        except RaggedError as error:
            row, problem = error.args
            warnings.warn(
                f"{table.place(row)}: column {column!r} {problem}; the column is not used",
                RlmbaWarning,
                stacklevel=5,
            )
            broken[column] = f"{problem} in {table.place(row).rpartition(', ')[2]}"
            continue
        if array is not None and column not in {*vectors, *media}:
            _check_name(column, column)
            vectors[column] = (column, array)
        elif named is not None and any(not is_missing(v) for v in values):
            kinds[column] = named
            candidates.setdefault("text" if named == _TEXT_FILE else named, []).append(column)
    for modality, columns in candidates.items():
        if modality in {*media, *vectors, *excluded} or (
            modality == "text" and _TEXT_FILE in media
        ):
            continue
        own = [c for c in columns if _plain(c) == modality] or columns
        if len(own) > 1:  # a column that says what it holds takes precedence over file names
            own = [c for c in own if not is_file_name(c)]
        if len(own) > 1:
            raise UsageError(
                f"{table.path}: columns {', '.join(map(repr, own))} could each be the modality "
                f"{modality!r}; choose one with {set_option(f'columns.{modality}', own[0])}"
            )
        media[kinds[own[0]]] = own[0]
    return broken


def _check_name(modality: str, column: str) -> None:
    if problem := one_line(modality):
        raise UsageError(
            f"column {column[:80]!r} holds lists of numbers and would be a modality, but {modality[:80]!r} "
            f"cannot be its name: {problem}; rename the column in the table"
        )
    if modality in _RESERVED or not modality or modality != modality.strip():
        raise UsageError(
            f"column {column!r} holds lists of numbers, but {modality!r} cannot be the name of a modality; "
            f"give it another name with {set_option('columns.embedding', column or 'COLUMN')}"
        )


def _numbers(
    table: Table, columns: Sequence[str], options: Options, unused: dict[str, str]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, Notation]]:
    """Numeric columns among ``columns``, and notations that are not plain.

    The other columns are added to ``unused``, with the reason.
    """
    if options.features is None and FEATURES in options.columns and not options.columns[FEATURES]:
        return {}, {}
    found: dict[str, NDArray[np.float64]] = {}
    notations: dict[str, Notation] = {}
    for column in columns:
        if column in unused:
            continue
        if options.features is None and (why := _other_meaning(column)):
            unused[column] = why
            continue
        try:
            notation = notation_of(table.columns[column], options.decimal)
            numbers = numbers_of(table.columns[column], notation)
        except AmbiguousError as error:
            row, problem = error.args
            raise DataError(
                f"{table.place(row)}: column {column!r} {problem}; say which with "
                f"{set_option('decimal', 'comma')} or {set_option('decimal', 'point')}, or list the columns "
                f"of numbers to use in the option features"
            ) from None
        except RaggedError as error:
            row, problem = error.args
            if options.features is not None:
                raise DataError(
                    f"{table.place(row)}: column {column!r} {problem}, expected a number or an empty cell; "
                    "repair the row, or remove the column from the option features"
                ) from None
            if isinstance(error, MixedError):
                unused[column] = f"{problem}: {table.place(row).rpartition(', ')[2]}"
                warnings.warn(
                    f"{table.place(row)}: column {column!r} {problem}; the column is not used",
                    RlmbaWarning,
                    stacklevel=2,
                )
            elif problem and (row or isinstance(error, BeyondError)):
                unused[column] = (
                    f"not all numbers: {problem} in {table.place(row).rpartition(', ')[2]}"
                )
            continue
        why = "" if options.features is not None else _no_feature(numbers)
        if why:
            unused[column] = why
            continue
        found[column] = numbers
        if notation != PLAIN:
            notations[column] = notation
    return found, notations


def _other_meaning(column: str) -> str:
    """Why a column is not a feature, by its name; "" if the name does not say."""
    name = _plain(column)
    if name in _COUNTERS or name.startswith("unnamed"):
        return "named like a row counter or a score"
    return "named like a label" if name in _LIKE_LABELS else ""


def _no_feature(numbers: NDArray[np.float64]) -> str:
    """Why a column of numbers is not a feature; "" if it is."""
    there = numbers[~np.isnan(numbers)]
    if not len(there):
        return "empty"
    if len(there) == len(numbers) > _FEW and there[0] in (0, 1) and (np.diff(there) == 1).all():
        return "counts the rows"
    return ""
