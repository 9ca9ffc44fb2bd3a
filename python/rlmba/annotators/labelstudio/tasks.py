"""Questions as tasks of Label Studio."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlmba.annotators.labelstudio.labeling import CHOICES, Column, column
from rlmba.annotators.labelstudio.media import MediaTransport, tag_of
from rlmba.annotators.matching import storable
from rlmba.errors import RlmbaWarning
from rlmba.runfolder.batches import LabelBatch, Question

__all__ = ["asked_again", "columns", "tasks"]


def columns(batch: LabelBatch) -> list[Column]:
    """The columns that the questions of a batch need: files, then texts, in the order of first use."""
    found: dict[Column, None] = {}
    for question in batch.questions:
        for modality, name in question.files.items():
            if tag := tag_of(modality, Path(name)):
                found[column(modality, tag)] = None
    for question in batch.questions:
        for modality in question.texts:
            found[column(modality, "Text")] = None
    return list(found)


def tasks(
    batch: LabelBatch, questions: Sequence[Question], media: MediaTransport, keys: Iterable[str]
) -> list[dict[str, Any]]:
    """The tasks to import, in the order of the questions.

    If a file is missing or Label Studio cannot show it, the task says so, and a warning names the first one.

    Parameters
    ----------
    batch : LabelBatch
        The batch of the questions.
    questions : sequence of Question
        Some of them.
    media : MediaTransport
        How files reach Label Studio.
    keys : iterable of str
        The keys that the labeling config needs. They are empty in questions that have no such data.

    Returns
    -------
    list of dict
        With ``data`` and, if the model has predicted a class, ``predictions``.
    """
    shown: dict[tuple[str, str], Path] = {}
    notes: dict[str, list[str]] = {question.id: [] for question in questions}
    for question in questions:
        for modality, name in question.files.items():
            path = Path(name)
            tag = tag_of(modality, path)
            if reason := _hidden(path, tag, media):
                notes[question.id].append(f"{modality}: {path.name} cannot be shown ({reason})")
            elif tag is not None:
                shown[question.id, column(modality, tag).key] = path
    _warn(notes)
    addresses = media.addresses(list(shown.values()))
    made = []
    for question in questions:
        data = dict.fromkeys(keys, "") | _facts(batch, question, notes[question.id])
        data |= {key: addresses[path] for (id_, key), path in shown.items() if id_ == question.id}
        data |= {column(m, "Text").key: storable(text) for m, text in question.texts.items()}
        made.append({"data": data} | _prediction(batch, question))
    return made


def asked_again(task: Mapping[str, Any], votes: int) -> dict[str, Any]:
    """Another task for a question with a tie.

    Parameters
    ----------
    task : mapping
        Any of the question's tasks.
    votes : int
        The number of answers to all of its tasks.
    """
    data = dict(task["data"])
    lines = str(data.get("about", "")).split("\n")
    kept = [line for line in lines if not line.startswith(_AGAIN)]
    data["about"] = "\n".join([*kept, f"{_AGAIN} {votes} answers are equally divided"])
    data["again"] = votes
    return {"data": data}


_AGAIN = "asked again:"


def _hidden(path: Path, tag: str | None, media: MediaTransport) -> str | None:
    if tag is None:
        return "it is not an image, sound or video"
    if not path.is_file():
        return "the file is missing"
    if not os.access(path, os.R_OK):
        return "there is no permission to read it"
    return media.refused(path, tag)


def _facts(batch: LabelBatch, question: Question, notes: Sequence[str]) -> dict[str, Any]:
    purpose = "" if question.purpose == "train" else f", for {question.purpose}"
    about = f"question {question.rank} of round {batch.round}{purpose}: {question.id}"
    return {
        "sample_id": question.id,
        "round": batch.round,
        "rank": question.rank,
        "purpose": question.purpose,
        "uncertainty": _finite(question.difficulty),
        "score": _finite(question.score),
        "about": "\n".join([about, *notes]),
    }


def _prediction(batch: LabelBatch, question: Question) -> dict[str, Any]:
    if question.prediction is None:
        return {}
    result = {
        "from_name": CHOICES,
        "to_name": "about",
        "type": "choices",
        "value": {"choices": [question.prediction]},
    }
    prediction: dict[str, Any] = {"model_version": f"round {batch.round}", "result": [result]}
    if (probability := _finite(question.probability)) is not None:
        prediction["score"] = probability
    return {"predictions": [prediction]}


def _finite(number: float | None) -> float | None:
    """The number, or None if JSON cannot represent it."""
    return number if number is not None and math.isfinite(number) else None


def _warn(notes: Mapping[str, Sequence[str]]) -> None:
    missing = [(id_, note) for id_, lines in notes.items() for note in lines]
    if missing:
        id_, note = missing[0]
        warnings.warn(
            f"labelstudio: {len(missing)} files of this batch cannot be shown; the first is of sample "
            f"{id_!r}, {note}",
            RlmbaWarning,
            stacklevel=3,
        )
