"""From a table to a data set."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.data.manifest.again import Again
from rlmba.data.manifest.columns import FEATURES, Columns, find_columns
from rlmba.data.manifest.dataset import ManifestDataset, Rows
from rlmba.data.manifest.measures import foreign_texts, usual_seconds, usual_side, usual_tokens
from rlmba.data.manifest.options import MEDIA, LabelOptions, Options, set_option
from rlmba.data.manifest.rows import read_ids, read_labels, read_splits
from rlmba.data.manifest.scale import Scale
from rlmba.data.manifest.sources import Sources, find_sources, texts_are_files
from rlmba.data.manifest.summary import missing_line, summarize
from rlmba.data.media.content import Recipe
from rlmba.data.media.tokens import with_vocabulary
from rlmba.data.table import Table
from rlmba.errors import DataError, RlmbaWarning, UsageError

__all__ = ["Draft", "build"]

_LISTED = 5


def build(
    table: Table,
    name: str,
    options: Options,
    labels: LabelOptions,
    reading: Mapping[str, Any] | None = None,
) -> ManifestDataset:
    """Make the data set of a table; warns of what is missing or left out.

    Parameters
    ----------
    table : Table
    name : str
        Name of the data set.
    options : Options
    labels : LabelOptions
    reading : mapping or None
        Of another data set, by which this table is read.

    Raises
    ------
    DataError, UsageError
        As :func:`rlmba.data.load_manifest`.
    """
    if not len(table):
        raise DataError(f"{table.path}: expected rows, got none; is the file cut off?")
    again = None if reading is None else Again(reading)
    draft = _draft(table, options, labels, again)
    _leave_out(draft, labels, again)
    kept = np.array([i not in draft.left_out for i in draft.ids], np.bool_)
    _warn(draft)
    if not kept.any():
        raise DataError(
            f"{table.path}: none of its {len(table):,} rows can be used: "
            f"{_reasons(draft.left_out)}. {missing_line(draft.ids, draft.sources.missing)}"
        )
    if (draft.splits[kept] == 2).all():
        raise DataError(
            f"{table.path}: expected rows to train on, got {int(kept.sum()):,} rows of test alone; "
            f"{_reasons(draft.left_out)}"
        )
    return _finish(draft, np.flatnonzero(kept), name, options, again)


@dataclass
class Draft:
    """A table, understood; nothing left out yet. ``present`` is bool [n, M]."""

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
    without: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def _draft(table: Table, options: Options, labels: LabelOptions, again: Again | None) -> Draft:
    n = len(table)
    root = (options.root or table.path.parent).absolute()
    if options.root is not None and not root.is_dir():
        raise UsageError(f"option root: expected a folder, got {options.root}")
    if again is None:
        columns = find_columns(table, options, labels)
        sound = _wants_sound(table, columns, options)
        text_is_file = bool(columns.text_is_file) or (
            "text" in columns.media and texts_are_files(table.columns[columns.media["text"]], root)
        )
        known, classes = read_labels(table, columns.label, labels.classes)
        splits = read_splits(table, columns.split)
    else:
        columns = again.columns(table, options)
        sound, text_is_file = again.sound and "video" in columns.media, again.text_is_file
        known, classes = np.full(n, -1, np.int64), labels.classes or ()
        splits = np.zeros(n, np.int64)
    ids = read_ids(table, columns.id, columns.label)
    sources = find_sources(
        table, columns, root, text_is_file=text_is_file, sound=sound, strict=again is None
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
    if again is not None:
        modalities = again.modalities
        for m in (m for m in modalities if m not in there):
            sources.by_modality[m] = [None] * n
            there[m] = np.zeros(n, np.bool_)
    present = np.stack([there[m] for m in modalities], axis=1)
    return Draft(
        table, root, columns, text_is_file, sound, ids, known, classes, splits, sources, values,
        modalities, present,
    )  # fmt: skip


def _wants_sound(table: Table, columns: Columns, options: Options) -> bool:
    if not options.sound:
        return False
    if "video" not in columns.media:
        raise UsageError(
            f"option sound: expected videos whose sound could be taken, got none in {table.path}; say "
            f"which column they are with {set_option('columns.video', 'COLUMN')}"
        )
    if "audio" in columns.modalities:
        raise UsageError(
            f"option sound: the videos' sound would be the modality 'audio', which a column of {table.path} "
            f"is already; leave one of them out, the column with {set_option('columns.audio', 'null')}"
        )
    return True


def _leave_out(draft: Draft, labels: LabelOptions, again: Again | None) -> None:
    """Note rows that cannot or shall not be used, and why; modalities that nobody learns go as well."""
    reasons: dict[int, str] = {}
    if again is None:
        unknown = draft.labels < 0
        for row in np.flatnonzero(unknown & (draft.splits == 2)).tolist():
            reasons[row] = "a test row without a label"
        if labels.unlabeled == "drop":
            for row in np.flatnonzero(unknown & (draft.splits != 2)).tolist():
                reasons[row] = "no label, and the option unlabeled is drop"
        learned = np.array([row not in reasons for row in range(len(draft.ids))])
        learned &= draft.splits != 2
        some = draft.present[learned].any(axis=0)
        if some.any():
            draft.without = [m for m, s in zip(draft.modalities, some, strict=True) if not s]
            draft.modalities = tuple(m for m, s in zip(draft.modalities, some, strict=True) if s)
            draft.present = draft.present[:, some]
    named = {m.row for m in draft.sources.missing}
    for row in np.flatnonzero(~draft.present.any(axis=1)).tolist():
        gone = "none of its files is there" if row in named else "nothing in it but empty cells"
        reasons[row] = gone
    draft.left_out = {draft.ids[row]: reasons[row] for row in sorted(reasons)}


def _reasons(left_out: Mapping[str, str]) -> str:
    """How many rows were left out and why, in one line."""
    if not left_out:
        return "none was left out"
    counts: dict[str, list[str]] = {}
    for id_, why in left_out.items():
        counts.setdefault(why, []).append(id_)
    return "; ".join(
        f"{len(ids):,} left out ({why}): {', '.join(map(repr, ids[:_LISTED]))}"
        + (", ..." if len(ids) > _LISTED else "")
        for why, ids in counts.items()
    )


def _foreign(draft: Draft) -> str:
    """What is to be said of texts that are not UTF-8; "" where all are."""
    if not draft.text_is_file:
        return ""
    found = foreign_texts([s for s in draft.sources.by_modality.get("text", ()) if s is not None])
    if not found:
        return ""
    return (
        f"texts that are not UTF-8, of those looked at: {len(found):,}, the first {found[0]}; the network "
        "and the people who label read them as Windows-1252. If letters do not look right there, save these "
        "files as UTF-8"
    )


def _warn(draft: Draft) -> None:
    told = {i: why for i, why in draft.left_out.items() if "unlabeled" not in why}
    lines = [
        missing_line(draft.ids, draft.sources.missing) + "; they count as absent"
        if draft.sources.missing
        else "",
        f"of {len(draft.ids):,} rows {_reasons(told)}" if told else "",
        _foreign(draft),
    ]
    for line in filter(None, lines):
        warnings.warn(f"{draft.table.path}: {line}", RlmbaWarning, stacklevel=4)


def _finish(
    draft: Draft,
    kept: NDArray[np.int64],
    name: str,
    options: Options,
    again: Again | None,
) -> ManifestDataset:
    splits = draft.splits[kept]
    values = {m: draft.values[m][kept] for m in draft.modalities if m in draft.values}
    training = np.flatnonzero(splits != 2)
    scales = (
        {m: Scale.fit(v, training) for m, v in values.items()} if again is None else again.scales
    )
    sources = {
        m: [draft.sources.by_modality[m][row] for row in kept.tolist()]
        for m in draft.modalities
        if m not in values
    }
    recipe = _recipe(options, sources) if again is None else again.recipe
    ids = [draft.ids[row] for row in kept.tolist()]
    rows = Rows(
        ids=ids,
        labels=draft.labels[kept],
        classes=draft.classes,
        splits=splits,
        modalities=draft.modalities,
        present=draft.present[kept],
        sources=sources,
        numbers={m: scales[m](v, ids) for m, v in values.items()},
        told={c: v[kept] for c, v in draft.columns.numbers.items()},
    )
    columns = {m: c for m, c in draft.columns.of().items() if m in draft.modalities}
    numbers = list(draft.columns.numbers) if FEATURES in draft.modalities else []
    reading = {
        "id": draft.columns.id,
        "modalities": list(draft.modalities),
        "columns": columns,
        "numbers": numbers,
        "text_is_file": draft.text_is_file,
        "sound": draft.sound,
        "scales": {m: scale.to_dict() for m, scale in scales.items()},
        "recipe": asdict(recipe),
    }
    return ManifestDataset(
        name,
        rows,
        recipe=recipe,
        root=draft.root,
        reading=reading,
        found=summarize(draft, rows),
        left_out=draft.left_out,
        settled=_settled(draft, columns, numbers, recipe),
    )


def _recipe(options: Options, sources: Mapping[str, Sequence[Any]]) -> Recipe:
    """The recipe with what depends on the data: lengths, size of images, the tokenizer's vocabulary."""
    recipe = options.recipe
    if "text" not in sources:
        recipe = replace(recipe, tokenizer="")
    seconds = options.seconds
    if seconds is None:
        heard = sources.get("audio") or sources.get("video") or ()
        seconds = usual_seconds([s.path for s in heard if s is not None])
    side = options.image_side
    if side is None:
        side = usual_side([s.path for s in sources.get("image", ()) if s is not None])
    recipe = with_vocabulary(replace(recipe, seconds=seconds, image_side=side))
    if options.tokens is None and (texts := sources.get("text")):
        tokens = usual_tokens([s for s in texts if s is not None], recipe)
        recipe = replace(recipe, tokens=tokens)
    return recipe


def _settled(
    draft: Draft, columns: Mapping[str, str], numbers: list[str], recipe: Recipe
) -> dict[str, Any]:
    named = dict(columns)
    if draft.text_is_file and "text" in named:
        named["text_file"] = named.pop("text")
    settled: dict[str, Any] = {"columns": named, "features": numbers}
    if {"audio", "video"} & set(draft.modalities):
        settled["seconds"] = recipe.seconds
    if "text" in draft.modalities:
        settled["tokens"] = recipe.tokens
    if "image" in draft.modalities:
        settled["image_side"] = recipe.image_side
    return settled
