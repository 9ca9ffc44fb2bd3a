"""From annotations to one label a question."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rlmba.annotators.base import LabelBatch
from rlmba.annotators.labelstudio.labeling import CANNOT_TELL, CHOICES, NEW_CLASS
from rlmba.errors import DataError

__all__ = ["Decided", "decide", "votes"]


class Vote(NamedTuple):
    """What one annotation says; ``label`` None: cannot tell. ``truth``: marked as ground truth."""

    label: str | None
    truth: bool


class Decided(NamedTuple):
    """What the votes of a batch come to.

    Parameters
    ----------
    labels : mapping of id to str or None
        Of the questions that are answered; None: people cannot tell.
    ties : mapping of id to int
        Questions whose answers are equally divided, and how many answers these are.
    """

    labels: dict[str, str | None]
    ties: dict[str, int]


def decide(batch: LabelBatch, tasks: Iterable[Mapping[str, Any]]) -> Decided:
    """The label of each question, by the majority of the votes on all of its tasks.

    Annotations marked as ground truth count alone where there are any. Of equally frequent labels none is
    taken.

    Parameters
    ----------
    batch : LabelBatch
        What was asked. Tasks of other rounds, or about other samples, are passed over.
    tasks : iterable of mapping
        With ``id``, ``data`` and ``annotations``, as Label Studio's API and its JSON export have them.

    Raises
    ------
    DataError
        If an annotation's label is none of the batch's.
    """
    asked = {question.id for question in batch.questions}
    ballots: dict[str, list[Vote]] = defaultdict(list)
    for task in tasks:
        sample = task["data"].get("sample_id")
        if sample in asked and task["data"].get("round") == batch.round:
            ballots[sample].extend(votes(batch, task))
    labels: dict[str, str | None] = {}
    ties: dict[str, int] = {}
    for question in batch.questions:
        ballot = ballots.get(question.id, [])
        counted = [vote for vote in ballot if vote.truth] or ballot
        ranking = Counter(vote.label for vote in counted).most_common(2)
        if len(ranking) == 2 and ranking[0][1] == ranking[1][1]:
            ties[question.id] = len(counted)
        elif ranking:
            labels[question.id] = ranking[0][0]
    return Decided(labels, ties)


def votes(batch: LabelBatch, task: Mapping[str, Any]) -> list[Vote]:
    """What the annotations of a task say; those that were cancelled, or are empty, say nothing.

    Raises
    ------
    DataError
        If a label is none of the batch's.
    """
    found = []
    for annotation in task["annotations"]:
        if annotation.get("was_cancelled"):
            continue
        said = _said(annotation.get("result") or ())
        if new := [name for name in said[NEW_CLASS] if name]:
            said[CHOICES] = new  # who writes a name means it, whatever is chosen above it
        if len(set(said[CHOICES])) > 1:
            raise DataError(
                f"{_place(task)}: expected one class, got {sorted(set(said[CHOICES]))}; "
                "correct the annotation there"
            )
        if said[CHOICES]:
            label = _checked(batch, task, said[CHOICES][0])
            found.append(Vote(label, bool(annotation.get("ground_truth"))))
    return found


def _said(result: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Names by control, those of other controls left out."""
    said: dict[str, list[str]] = {CHOICES: [], NEW_CLASS: []}
    for item in result:
        value = item.get("value") or {}
        if item.get("from_name") == CHOICES:
            said[CHOICES].extend(map(str, value.get("choices") or ()))
        elif item.get("from_name") == NEW_CLASS:
            text = value.get("text") or ()
            said[NEW_CLASS].extend(
                str(t).strip() for t in ([text] if isinstance(text, str) else text)
            )
    return said


def _checked(batch: LabelBatch, task: Mapping[str, Any], label: str) -> str | None:
    if label == CANNOT_TELL:
        return None
    if label in batch.classes or batch.open:
        return label
    near = difflib.get_close_matches(label, batch.classes, 1, 0)
    advice = f"; nearest is {near[0]!r}" if near else ""
    raise DataError(
        f"{_place(task)}: label {label!r} is none of the classes ({_listed(batch.classes)}){advice}. If the "
        "choice was renamed in the labeling config, name it as before and correct the annotation there; "
        "nothing of what was entered is lost"
    )


def _place(task: Mapping[str, Any]) -> str:
    return f"Label Studio, task {task['id']} (sample {task['data'].get('sample_id')!r})"


def _listed(classes: Iterable[str]) -> str:
    names = list(classes)
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(names[:20]) + more
