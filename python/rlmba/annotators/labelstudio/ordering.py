"""The order of the tasks in Label Studio: the latest batch by rank, then earlier batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rlmba.annotators.labelstudio.task_form import OWN, RANK, TaskForm
from rlmba.annotators.labelstudio.votes import AskedBatch
from rlmba.runfolder.batches import LabelBatch

__all__ = ["TAB", "VIEW", "new_ranks"]

TAB = "rlmba: next first"
"""The title of the tab that is sorted by the rank."""

_COLUMN = f"tasks:data.{RANK}"
_HIDDEN = [
    f"tasks:{name}"
    for name in (
        "inner_id", "completed_at", "total_predictions", "annotators", "annotations_results",
        "annotations_ids", "predictions_model_versions", "file_upload", "storage_filename", "created_at",
        "updated_at", "updated_by", "avg_lead_time", "draft_exists", "data.about", "data.rank",
    )
]  # fmt: skip
VIEW: Mapping[str, Any] = {
    "type": "list",
    "target": "tasks",
    "ordering": [_COLUMN],
    # Without this, Label Studio sorts numbers as text.
    "columnsDisplayType": {_COLUMN: "Number"},
    # Label Studio loads the columns of predictions only if some columns are hidden by name.
    "hiddenColumns": {"explore": _HIDDEN, "labeling": _HIDDEN},
    "filters": {
        "conjunction": "and",
        "items": [
            {
                "filter": "filter:tasks:total_annotations",
                "operator": "equal",
                "type": "Number",
                "value": 0,
            }
        ],
    },
}
"""That tab: tasks without an answer, the smallest rank first."""


def new_ranks(
    batch: LabelBatch, tasks: Iterable[Mapping[str, Any]], form: TaskForm = OWN
) -> list[tuple[Mapping[str, Any], int]]:
    """The tasks whose rank is to change, and their new ranks.

    Tasks of the batch have the rank of their question. Tasks of earlier rounds follow, the latest round
    first, each round in its own order. Tasks that do not belong to a question are not changed; they come
    last.

    Parameters
    ----------
    batch : LabelBatch
        The latest batch.
    tasks : iterable of mapping
        Tasks without an answer, with ``id`` and ``data``.
    form : TaskForm
        The keys of the project's tasks.
    """
    asked = AskedBatch(batch, form=form)
    rank_of = {question.id: question.rank for question in batch.questions}
    last = max(rank_of.values(), default=0)
    ranked = []
    others = []
    for task in tasks:
        sample = asked.question(task)
        if sample is not None:
            ranked.append((task, rank_of[sample]))
        elif form.round_of(task) is not None:
            others.append(task)
    others.sort(key=lambda task: _age(task, form))
    ranked += [(task, last + place) for place, task in enumerate(others, start=1)]
    return [(task, rank) for task, rank in ranked if task["data"].get(RANK) != rank]


def _age(task: Mapping[str, Any], form: TaskForm) -> tuple[int, float, int]:
    rank = task["data"].get(form.key("rank"))
    return (
        -(form.round_of(task) or 0),
        rank if isinstance(rank, int | float) else float("inf"),
        task["id"],
    )
