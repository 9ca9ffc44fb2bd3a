"""Build a data set from a table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.data.manifest.columns import FEATURES
from rlmba.data.manifest.dataset import ManifestDataset, ManifestRows
from rlmba.data.manifest.measures import (
    foreign_texts,
    usual_seconds,
    usual_side,
    usual_texts,
    usual_tokens,
)
from rlmba.data.manifest.options import LabelOptions, Options, set_option
from rlmba.data.manifest.parsed_table import ParsedTable, leave_out, parse_table
from rlmba.data.manifest.reading import Reading
from rlmba.data.manifest.scale import Scale
from rlmba.data.manifest.summary import missing_line, summarize
from rlmba.data.media.content import Recipe
from rlmba.data.media.tokens import (
    cached_tokenizer,
    length_of,
    with_vocabulary,
    without_spaces,
)
from rlmba.data.table import Table
from rlmba.errors import DataError, RlmbaWarning, UsageError

__all__ = ["build"]

_LISTED = 5


def build(
    table: Table,
    name: str,
    options: Options,
    labels: LabelOptions,
    reading: Mapping[str, Any] | None = None,
) -> ManifestDataset:
    """Build the data set of a table, and warn of missing files and rows that are left out.

    Parameters
    ----------
    table : Table
    name : str
        Name of the data set.
    options : Options
    labels : LabelOptions
    reading : mapping or None
        The :meth:`~rlmba.data.MultimodalDataset.reading` of another data set; this table is then read as
        that one was.

    Raises
    ------
    DataError, UsageError
        As :func:`rlmba.data.load_manifest`.
    """
    if not len(table):
        raise DataError(f"{table.path}: expected rows, got none; is the file cut off?")
    earlier = None if reading is None else Reading(reading)
    parsed = parse_table(table, options, labels, earlier)
    leave_out(parsed, labels, earlier)
    kept = np.array([i not in parsed.left_out for i in parsed.ids], np.bool_)
    if earlier is None:
        encoding, foreign = _encoding(parsed, options)
        options = replace(options, recipe=replace(options.recipe, encoding=encoding))
    else:
        foreign = ""
    _warn(parsed, foreign)
    if not kept.any():
        raise DataError(
            f"{table.path}: none of its {len(table):,} rows can be used: "
            f"{_reasons(parsed.left_out)}. {missing_line(parsed.ids, parsed.sources.missing)}"
        )
    if (parsed.splits[kept] == 2).all():
        raise DataError(
            f"{table.path}: expected rows to train on, got only {int(kept.sum()):,} test rows; "
            f"{_reasons(parsed.left_out)}"
        )
    return _finish(parsed, np.flatnonzero(kept), name, options, earlier)


def _reasons(left_out: Mapping[str, str]) -> str:
    """One line that says how many rows were left out, and why."""
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


def _encoding(parsed: ParsedTable, options: Options) -> tuple[str, str]:
    """The encoding of text files that are not UTF-8, and a line about them; "" if there are none."""
    if options.encoding is not None or not parsed.text_is_file:
        return options.encoding or "cp1252", ""
    texts = [s for s in parsed.sources.by_modality.get("text", ()) if s is not None]
    found, read, encoding = foreign_texts(texts)
    if not found:
        return encoding, ""
    return encoding, (
        f"{len(found):,} of {read:,} text files that were checked are not UTF-8, the first is {found[0]}; "
        f"they are read as {encoding}, for the network and for people who label. If letters look wrong, set "
        f"{set_option('encoding', 'NAME')}"
    )


def _warn(parsed: ParsedTable, foreign: str) -> None:
    unexpected = {i: why for i, why in parsed.left_out.items() if "the option" not in why}
    lines = [
        missing_line(parsed.ids, parsed.sources.missing) + "; they count as absent"
        if parsed.sources.missing
        else "",
        f"of {len(parsed.ids):,} rows {_reasons(unexpected)}" if unexpected else "",
        foreign,
    ]
    for name, column in parsed.shown.items():
        if column.missing:
            lines.append(f"shown column {name!r}: {missing_line(parsed.ids, column.missing)}")
    for line in filter(None, lines):
        warnings.warn(f"{parsed.table.path}: {line}", RlmbaWarning, stacklevel=4)


def _finish(
    parsed: ParsedTable,
    kept: NDArray[np.int64],
    name: str,
    options: Options,
    earlier: Reading | None,
) -> ManifestDataset:
    splits = parsed.splits[kept]
    values = {m: parsed.values[m][kept] for m in parsed.modalities if m in parsed.values}
    training = np.flatnonzero(splits != 2)
    scales = (
        {m: Scale.fit(v, training) for m, v in values.items()}
        if earlier is None
        else earlier.scales
    )
    sources = {
        m: [parsed.sources.by_modality[m][row] for row in kept.tolist()]
        for m in parsed.modalities
        if m not in values
    }
    recipe = _recipe(options, sources) if earlier is None else earlier.recipe
    ids = [parsed.ids[row] for row in kept.tolist()]
    rows = ManifestRows(
        ids=ids,
        labels=parsed.labels[kept],
        classes=parsed.classes,
        splits=splits,
        modalities=parsed.modalities,
        present=parsed.present[kept],
        sources=sources,
        numbers={m: scales[m](v, ids) for m, v in values.items()},
        shown_numbers={
            c: v[kept] for c, v in parsed.columns.numbers.items() if c not in parsed.columns.hidden
        },
        percent=frozenset(c for c, n in parsed.columns.notations.items() if n.percent),
        shown_only={c: [s.cells[row] for row in kept.tolist()] for c, s in parsed.shown.items()},
        hidden=frozenset(m for m, c in parsed.columns.of().items() if c in parsed.columns.hidden),
    )
    columns = {m: c for m, c in parsed.columns.of().items() if m in parsed.modalities}
    numbers = list(parsed.columns.numbers) if FEATURES in parsed.modalities else []
    reading = {
        "id": parsed.columns.id,
        "modalities": list(parsed.modalities),
        "columns": columns,
        "numbers": numbers,
        "notations": {c: notation._asdict() for c, notation in parsed.columns.notations.items()},
        "text_is_file": parsed.text_is_file,
        "sound": parsed.sound,
        "audio": options.audio if earlier is None else earlier.audio,
        "scales": {m: scale.to_dict() for m, scale in scales.items()},
        "recipe": asdict(recipe),
    }
    return ManifestDataset(
        name,
        rows,
        recipe=recipe,
        root=parsed.root,
        reading=reading,
        found=summarize(parsed, rows),
        left_out=parsed.left_out,
        settled=_settled(parsed, columns, numbers, recipe),
    )


def _recipe(options: Options, sources: Mapping[str, Sequence[Any]]) -> Recipe:
    """The recipe with the values that depend on the data: lengths, image size and vocabulary."""
    recipe = options.recipe
    if "text" not in sources:
        recipe = replace(recipe, tokenizer="")
    elif not recipe.tokenizer:
        spaceless = without_spaces(usual_texts([s for s in sources["text"] if s], recipe))
        recipe = replace(recipe, tokenizer="characters" if spaceless else "words")
    seconds = options.seconds
    if seconds is None:
        heard = sources.get("audio") or sources.get("video") or ()
        seconds = usual_seconds([s.path for s in heard if s is not None])
    side = options.image_side
    if side is None:
        side = usual_side([s.path for s in sources.get("image", ()) if s is not None])
    recipe = with_vocabulary(replace(recipe, seconds=seconds, image_side=side))
    fixed = length_of(cached_tokenizer(recipe.tokenizer)) if recipe.tokenizer else None
    if fixed is not None and options.tokens not in (None, fixed):
        raise UsageError(
            f"option tokens: the tokenizer {recipe.tokenizer!r} makes {fixed} tokens of every text, got "
            f"{options.tokens}; omit this option"
        )
    if fixed is None and options.tokens is None and (texts := sources.get("text")):
        tokens = usual_tokens([s for s in texts if s is not None], recipe)
        recipe = replace(recipe, tokens=tokens)
    return recipe


def _settled(
    parsed: ParsedTable, columns: Mapping[str, str], numbers: list[str], recipe: Recipe
) -> dict[str, Any]:
    named = dict(columns)
    if parsed.text_is_file and "text" in named:
        named["text_file"] = named.pop("text")
    settled: dict[str, Any] = {"columns": named, "features": numbers}
    if {"audio", "video"} & set(parsed.modalities):
        settled["seconds"] = recipe.seconds
    if "text" in parsed.modalities:
        settled |= {"tokens": recipe.tokens, "tokenizer": recipe.tokenizer}
    if parsed.text_is_file and "text" in parsed.modalities:
        settled["encoding"] = recipe.encoding
    if "image" in parsed.modalities:
        settled["image_side"] = recipe.image_side
    return settled
