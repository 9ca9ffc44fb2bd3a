"""Questions as tasks of Label Studio."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlmba.annotators.labelstudio.labeling import Column, Control, column
from rlmba.annotators.labelstudio.media import MediaTransport, tag_of
from rlmba.annotators.labelstudio.task_form import OWN, RANK, TaskForm
from rlmba.annotators.matching import storable
from rlmba.errors import RlmbaWarning
from rlmba.runfolder.batches import LabelBatch, Question

__all__ = [
    "MODEL",
    "asked_again",
    "columns",
    "facts",
    "is_version",
    "prediction",
    "predictions",
    "tasks",
    "version",
]

MODEL = "rlmba"
"""The name of a project's model in Label Studio."""


_CONTROL = Control()


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
        data: dict[str, Any] = dict.fromkeys(keys, "")
        data |= {"sample_id": question.id} | facts(batch, question)
        data["about"] = _about(batch, question, notes[question.id])
        data |= {key: addresses[path] for (id_, key), path in shown.items() if id_ == question.id}
        data |= {column(m, "Text").key: storable(text) for m, text in question.texts.items()}
        guess = prediction(batch, question)
        made.append({"data": data} | ({} if guess is None else {"predictions": [guess]}))
    return made


def asked_again(task: Mapping[str, Any], votes: int, form: TaskForm = OWN) -> dict[str, Any]:
    """Another task for a question with a tie.

    Parameters
    ----------
    task : mapping
        Any of the question's tasks.
    votes : int
        The number of answers to all of its tasks.
    form : TaskForm
        The keys of the project's tasks.
    """
    data = dict(task["data"])
    lines = str(data.get(form.key("about"), "")).split("\n")
    kept = [line for line in lines if line and not line.startswith(_AGAIN)]
    data[form.key("about")] = "\n".join([*kept, f"{_AGAIN} {votes} answers are equally divided"])
    data[form.key("again")] = votes
    return {"data": data}


def facts(batch: LabelBatch, question: Question, form: TaskForm = OWN) -> dict[str, Any]:
    """What a task's data say about its question, to sort and filter by."""
    found = {
        "round": batch.round,
        "rank": question.rank,
        "purpose": question.purpose,
        "uncertainty": _finite(question.difficulty),
        "score": _finite(question.score),
    }
    return {form.key(name): value for name, value in found.items()} | {RANK: question.rank}


def version(batch: LabelBatch) -> str:
    """The version of the predictions of a batch, as Label Studio shows it."""
    return f"round {batch.round}"


def is_version(shown: str) -> bool:
    """Whether a version that a project of Label Studio shows was written by rlmba."""
    return shown == MODEL or re.fullmatch(r"round [0-9]+", shown) is not None


def prediction(
    batch: LabelBatch, question: Question, control: Control = _CONTROL
) -> dict[str, Any] | None:
    """The predicted class in Label Studio's format of predictions; None if the model predicts none."""
    if question.prediction is None:
        return None
    choice = control.choices.get(question.prediction, question.prediction)
    result = {
        "from_name": control.name,
        "to_name": control.to_name,
        "type": "choices",
        "value": {"choices": [choice]},
    }
    made: dict[str, Any] = {"model_version": version(batch), "result": [result]}
    if (probability := _finite(question.probability)) is not None:
        made["score"] = probability
    return made


def predictions(
    batch: LabelBatch,
    shown: Iterable[tuple[Mapping[str, Any], Question | None]],
    control: Control = _CONTROL,
) -> list[dict[str, Any]]:
    """The predictions to add to tasks that have none of the batch's version.

    Parameters
    ----------
    batch : LabelBatch
    shown : iterable of (task, Question or None)
        Tasks with ``id`` and ``predictions``, and the question of each, if it has one.
    control : Control
        The control with the classes.

    Returns
    -------
    list of dict
        As of :func:`prediction`, with the number of the ``task``.
    """
    found = []
    for task, question in shown:
        there = {known.get("model_version") for known in task["predictions"]}
        made = None if question is None else prediction(batch, question, control)
        if made is not None and made["model_version"] not in there:
            found.append({"task": task["id"], **made})
    return found


_AGAIN = "asked again:"


def _hidden(path: Path, tag: str | None, media: MediaTransport) -> str | None:
    if tag is None:
        return "it is not an image, sound or video"
    if not path.is_file():
        return "the file is missing"
    if not os.access(path, os.R_OK):
        return "there is no permission to read it"
    return media.refused(path, tag)


def _about(batch: LabelBatch, question: Question, notes: Sequence[str]) -> str:
    purpose = "" if question.purpose == "train" else f", for {question.purpose}"
    about = f"question {question.rank} of round {batch.round}{purpose}: {question.id}"
    return "\n".join([about, *notes])


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
