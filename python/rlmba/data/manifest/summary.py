"""What was found in a manifest, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rlmba.data.manifest.columns import FEATURES
from rlmba.data.manifest.rows import SPLITS
from rlmba.data.manifest.sources import Missing

if TYPE_CHECKING:
    from rlmba.data.manifest.build import Draft
    from rlmba.data.manifest.dataset import Rows

__all__ = ["missing_line", "summarize"]

_NAMED = 5
_CLASSES = 20
_NUMBERS = 8


def missing_line(ids: Sequence[str], missing: Sequence[Missing]) -> str:
    """How many files are missing, the first five by name; "" where none is."""
    if not missing:
        return ""
    first = [f"{ids[m.row]!r} ({m.modality} {m.path}: {m.why})" for m in missing[:_NAMED]]
    more = ", ..." if len(missing) > _NAMED else ""
    return f"{len(missing):,} files that rows name cannot be used: {', '.join(first)}{more}"


def summarize(draft: Draft, rows: Rows) -> list[str]:
    """Lines on rows, modalities, labels, and what was missing or not used."""
    n, columns = len(rows.ids), draft.columns
    counts = np.bincount(rows.splits, minlength=len(SPLITS)).tolist()
    parts = ", ".join(f"{c:,} {s}" for s, c in zip(SPLITS, counts, strict=True) if c)
    lines = [f"{draft.table.path}: {len(draft.ids):,} rows, {n:,} of them usable ({parts})"]
    for at, modality in enumerate(rows.modalities):
        has = int(rows.present[:, at].sum())
        lines.append(f"{modality}: {_origin(draft, modality)}; {has:,} of {n:,} rows have it")
    lines.append(_labels(draft, rows))
    lines += [f"{m}: not used, no training row has it" for m in draft.without]
    if draft.sources.missing:
        lines.append(missing_line(draft.ids, draft.sources.missing))
    if draft.left_out:
        reasons: dict[str, int] = {}
        for why in draft.left_out.values():
            reasons[why] = reasons.get(why, 0) + 1
        told = ", ".join(f"{count:,} ({why})" for why, count in reasons.items())
        lines.append(f"rows left out: {told}")
    if columns.unused:
        told = ", ".join(f"{c!r} ({why})" for c, why in columns.unused.items())
        lines.append(f"columns not used: {told}")
    return lines


def _origin(draft: Draft, modality: str) -> str:
    columns = draft.columns
    if modality == FEATURES and columns.numbers:
        names = list(columns.numbers)
        listed = ", ".join(map(repr, names[:_NUMBERS])) + (", ..." if len(names) > _NUMBERS else "")
        return f"{len(names)} columns of numbers: {listed}"
    if modality == "audio" and draft.sound:
        return f"the sound of column {columns.media['video']!r}"
    name = columns.of().get(modality)
    if name is None:
        return "no column"
    if modality in columns.vectors:
        return f"lists of {columns.vectors[modality][1].shape[1]} numbers in column {name!r}"
    kind = "texts" if modality == "text" and not draft.text_is_file else "files"
    return f"{kind} of column {name!r}"


def _labels(draft: Draft, rows: Rows) -> str:
    if draft.columns.label is None:
        return "labels: no column of labels" + (
            f"; classes {', '.join(rows.classes)}" if rows.classes else ""
        )
    known = rows.labels[rows.labels >= 0]
    counts = np.bincount(known, minlength=len(rows.classes)).tolist()
    named = [f"{c} {k:,}" for c, k in zip(rows.classes, counts, strict=True)]
    listed = ", ".join(named[:_CLASSES]) + (", ..." if len(named) > _CLASSES else "")
    return (
        f"labels: column {draft.columns.label!r}; {len(known):,} of {len(rows.ids):,} rows have one"
        + (f" ({listed})" if named else "")
    )
