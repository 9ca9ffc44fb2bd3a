"""Argilla through files: write a batch as a dataset to import, and read responses from exported records."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlmba.annotators.guidance import guidance
from rlmba.annotators.labelstudio.labeling import CHOICES, NEW_CLASS, Column, column
from rlmba.annotators.labelstudio.media import InlineMedia, tag_of
from rlmba.annotators.matching import CANNOT_TELL, storable
from rlmba.data.table import Table
from rlmba.errors import DataError, RlmbaWarning
from rlmba.runfolder.batches import LabelBatch, Question
from rlmba.storage import atomic_write_text, make_folder

__all__ = ["is_records", "labels_of", "write_batch"]

_SAMPLE = "sample"
_HOW = "export the records again with dataset.records.to_json(FILE)"


def write_batch(folder: Path, batch: LabelBatch, project: Path) -> None:
    """Write a batch as a folder that ``argilla.Dataset.from_disk`` imports.

    Each sample is a record with its id as the record's id, its texts and images as fields, and its rank,
    score and difficulty as metadata. The question ``label`` has the classes and ``?`` for "cannot tell".
    If new classes are allowed, an optional question ``new_class`` is added. The class that the model
    predicts is not a suggestion: Argilla preselects suggestions, and people then tend to agree with them.

    Parameters
    ----------
    folder : path
        Created if it does not exist.
    batch : LabelBatch
    project : path
        The project's folder. The dataset gets its name and instructions.

    Raises
    ------
    DataError
        If no sample has anything that Argilla can show.
    StorageError
        If a file cannot be written.
    """
    media = InlineMedia()
    shown: dict[Column, None] = {}
    records = []
    hidden: list[str] = []
    for q in batch.questions:
        fields: dict[str, str] = {_SAMPLE: storable(q.id)}
        for modality, text in q.texts.items():
            shown[entry := column(modality, "Text")] = None
            fields[_name(entry)] = storable(text)
        for modality, name in q.files.items():
            if (path := _image(modality, Path(name), media)) is None:
                hidden.append(q.id)
                continue
            shown[entry := column(modality, "Image")] = None
            fields[_name(entry)] = media.addresses([path])[path]
        records.append(_record(q, fields))
    if not shown:
        raise DataError(
            f"argilla: expected samples with texts or images, got {len(batch)} with neither; remove the "
            "option tool, or use the annotator 'browser' or 'labelstudio'"
        )
    if hidden:
        warnings.warn(
            f"argilla: {len(hidden)} files of this batch cannot be shown (missing, not an image, or above "
            f"{InlineMedia.limit >> 20} MiB); the first is of sample {hidden[0]!r}",
            RlmbaWarning,
            stacklevel=4,
        )
    name = re.sub(r"[^\w-]", "_", project.resolve().name, flags=re.ASCII)
    rules = guidance(project).instructions.strip() or None
    dataset = {
        "name": f"{name}_round_{batch.round:03d}".lower().strip("_-"),
        "status": "draft",
        "guidelines": rules,
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
    }
    settings = {
        "guidelines": rules,
        "fields": _fields(shown),
        "questions": _questions(batch),
        "metadata": [
            _named(key, {"type": kind}, visible_for_annotators=True)
            for key, kind in (("rank", "integer"), ("score", "float"), ("difficulty", "float"))
        ],
        "vectors": [],
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": None,
    }
    make_folder(folder / ".argilla")
    atomic_write_text(folder / ".argilla" / "dataset.json", _json(dataset))
    atomic_write_text(folder / ".argilla" / "settings.json", _json(settings))
    atomic_write_text(folder / "records.json", _json(records))


def _image(modality: str, path: Path, media: InlineMedia) -> Path | None:
    if tag_of(modality, path) != "Image" or not path.is_file() or media.refused(path, "Image"):
        return None
    return path


def _name(entry: Column) -> str:
    return entry.key.lower()  # Argilla does not accept capital letters


def _named(name: str, settings: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "title": name, "settings": dict(settings), **more}


def _fields(shown: Mapping[Column, None]) -> list[dict[str, Any]]:
    fields = [_named(_SAMPLE, {"type": "text", "use_markdown": False}, required=True)]
    for entry in shown:
        kind = (
            {"type": "image"} if entry.tag == "Image" else {"type": "text", "use_markdown": False}
        )
        fields.append(_named(_name(entry), kind, required=False) | {"title": entry.title})
    return fields


def _questions(batch: LabelBatch) -> list[dict[str, Any]]:
    made = []
    if batch.classes:
        options = [{"value": c, "text": c, "description": None} for c in batch.classes]
        options.append({"value": CANNOT_TELL, "text": "cannot tell", "description": None})
        made.append(_named(CHOICES, {"type": "label_selection", "options": options}, required=True))
    if batch.open:
        field = {"type": "text", "use_markdown": False}
        made.append(_named(NEW_CLASS, field, required=not batch.classes) | {"title": "New class"})
    return made


def _record(question: Question, fields: Mapping[str, str]) -> dict[str, Any]:
    numbers = {"rank": question.rank, "score": question.score, "difficulty": question.difficulty}
    return {
        "id": question.id,
        "fields": dict(fields),
        "metadata": {k: v for k, v in numbers.items() if v is not None and math.isfinite(v)},
        "suggestions": {},
        "responses": {},
        "vectors": {},
        "status": "pending",
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def is_records(table: Table) -> bool:
    """Whether a table of JSON objects holds records of Argilla."""
    return {"id", "responses"} <= set(table.columns) and "label" not in table.columns


def labels_of(table: Table) -> Table:
    """Read the labels from records that ``dataset.records.to_json`` or ``Dataset.to_disk`` has written.

    The most frequent response of a record is its label. A record has no label if its status is not
    ``completed`` (its responses may be drafts), or if there is a tie, about which a warning is given. If a
    person has answered both questions, ``new_class`` takes precedence over ``label``.

    Parameters
    ----------
    table : Table
        A table for which :func:`is_records` is true.

    Returns
    -------
    Table
        A table with the columns ``id`` and ``label``.

    Raises
    ------
    DataError
        If responses are not those of Argilla, or belong to other questions.
    """
    states = table.columns.get("status", [None] * len(table))
    labels: list[Any] = []
    ties = []
    for row, (responses, status) in enumerate(zip(table.column("responses"), states, strict=True)):
        counts = (
            Counter(_votes(table, row, responses)) if status in (None, "completed") else Counter()
        )
        ranking = counts.most_common(2)
        tie = len(ranking) == 2 and ranking[0][1] == ranking[1][1]
        ties += [row] * tie
        labels.append(ranking[0][0] if ranking and not tie else None)
    if ties:
        warnings.warn(
            f"{table.path}: responses are equally divided on {len(ties)} records, which get no label; the "
            f"first is {table.column('id')[ties[0]]!r}. Let somebody else respond to them, and export again",
            RlmbaWarning,
            stacklevel=4,
        )
    return Table(table.path, {"id": table.column("id"), "label": labels}, table.lines, table.unit)


def _votes(table: Table, row: int, responses: Any) -> list[str]:
    """The labels of a record, one from each person."""
    if responses is None or responses == {}:
        return []
    if not isinstance(responses, Mapping):
        raise DataError(
            f"{table.place(row)}: responses: expected an object of questions, got {str(responses)[:60]!r}; "
            f"{_HOW}"
        )
    if not {CHOICES, NEW_CLASS} & set(responses):
        raise DataError(
            f"{table.place(row)}: expected responses to the question {CHOICES!r} or {NEW_CLASS!r}, got "
            f"responses to {sorted(map(str, responses))[:10]}; rename the question, and export again"
        )
    said: dict[str, str] = {}
    for question in (CHOICES, NEW_CLASS):
        given = responses.get(question) or []
        for i, response in enumerate(given if isinstance(given, list) else [given]):
            if not isinstance(response, Mapping) or not isinstance(response.get("value"), str):
                raise DataError(
                    f"{table.place(row)}: question {question!r}: expected responses with one text as their "
                    f"value, got {str(response)[:60]!r}; {_HOW}, of a dataset with a label question"
                )
            if text := response["value"].strip():
                said[str(response.get("user_id", i))] = text
    return list(said.values())
