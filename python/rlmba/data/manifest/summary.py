"""Describe to the user what was found in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rlmba.data.manifest.columns import FEATURES
from rlmba.data.manifest.parsed_table import ParsedTable
from rlmba.data.manifest.sources import Missing, ShownColumn
from rlmba.data.manifest.splits import SPLITS
from rlmba.data.manifest.values import Notation

if TYPE_CHECKING:
    from rlmba.data.manifest.dataset import ManifestRows

__all__ = ["missing_line", "summarize"]

_NAMED = 5
_CLASSES = 20
_NUMBERS = 8


def missing_line(ids: Sequence[str], missing: Sequence[Missing]) -> str:
    """One line with the number of missing files and the first five of them; "" if none is missing."""
    if not missing:
        return ""
    first = [f"{ids[m.row]!r} ({m.modality} {m.path}: {m.why})" for m in missing[:_NAMED]]
    more = ", ..." if len(missing) > _NAMED else ""
    return f"{len(missing):,} files named in the table cannot be used: {', '.join(first)}{more}"


def summarize(parsed: ParsedTable, rows: ManifestRows) -> list[str]:
    """Lines about rows, modalities, labels, missing files and unused columns."""
    n, columns = len(rows.ids), parsed.columns
    counts = np.bincount(rows.splits, minlength=len(SPLITS)).tolist()
    parts = ", ".join(f"{c:,} {s}" for s, c in zip(SPLITS, counts, strict=True) if c)
    lines = [f"{parsed.table.path}: {len(parsed.ids):,} rows, {n:,} of them usable ({parts})"]
    for at, modality in enumerate(rows.modalities):
        has = int(rows.present[:, at].sum())
        lines.append(f"{modality}: {_origin(parsed, modality)}; {has:,} of {n:,} rows have it")
    lines.append(_labels(parsed, rows))
    lines += [f"{m}: not used, no training row has it" for m in parsed.without]
    if parsed.sources.missing:
        lines.append(missing_line(parsed.ids, parsed.sources.missing))
    if parsed.left_out:
        reasons: dict[str, int] = {}
        for why in parsed.left_out.values():
            reasons[why] = reasons.get(why, 0) + 1
        listed = ", ".join(f"{count:,} ({why})" for why, count in reasons.items())
        lines.append(f"rows left out: {listed}")
    if parsed.shown:
        listed = ", ".join(f"{c!r} ({_kind(s)})" for c, s in parsed.shown.items())
        lines.append(f"shown to people, not read by the network: {listed}")
    if columns.hidden:
        lines.append(f"hidden from people: {', '.join(map(repr, columns.hidden))}")
    if columns.unused:
        listed = ", ".join(f"{c!r} ({why})" for c, why in columns.unused.items())
        lines.append(f"columns not used: {listed}")
    return lines


def _origin(parsed: ParsedTable, modality: str) -> str:
    columns = parsed.columns
    if modality == FEATURES and columns.numbers:
        names = list(columns.numbers)
        listed = ", ".join(map(repr, names[:_NUMBERS])) + (", ..." if len(names) > _NUMBERS else "")
        return f"{len(names)} columns of numbers: {listed}{_written(columns.notations)}"
    if modality == "audio" and parsed.sound:
        return f"the sound of column {columns.media['video']!r}"
    name = columns.of().get(modality)
    if name is None:
        return "no column"
    if modality in columns.vectors:
        return f"lists of {columns.vectors[modality][1].shape[1]} numbers in column {name!r}"
    kind = "texts" if modality == "text" and not parsed.text_is_file else "files"
    return f"{kind} of column {name!r}"


def _kind(column: ShownColumn) -> str:
    missing = f", {len(column.missing):,} of them missing" if column.missing else ""
    return f"files{missing}" if column.files else "texts"


def _written(notations: Mapping[str, Notation]) -> str:
    """How many columns of numbers have a decimal comma, separators of thousands or a percent sign."""
    counts = {
        "with a decimal comma": sum(n.decimal == "comma" for n in notations.values()),
        "with commas between thousands": sum(n.decimal == "point" for n in notations.values()),
        "with a percent sign": sum(n.percent for n in notations.values()),
    }
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f" ({told})" if told else ""


def _labels(parsed: ParsedTable, rows: ManifestRows) -> str:
    if parsed.columns.label is None:
        return "labels: no column of labels" + (
            f"; classes {', '.join(rows.classes)}" if rows.classes else ""
        )
    known = rows.labels[rows.labels >= 0]
    counts = np.bincount(known, minlength=len(rows.classes)).tolist()
    named = [f"{c} {k:,}" for c, k in zip(rows.classes, counts, strict=True)]
    listed = ", ".join(named[:_CLASSES]) + (", ..." if len(named) > _CLASSES else "")
    return (
        f"labels: column {parsed.columns.label!r}; {len(known):,} of {len(rows.ids):,} rows have one"
        + (f" ({listed})" if named else "")
    )
