"""Projects of Label Studio that people have, with a task for each sample and their own labeling config."""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rlmba.annotators.labelstudio.labeling import Control, same, with_classes
from rlmba.annotators.labelstudio.task_form import PREFIX, TaskForm
from rlmba.annotators.labelstudio.tasks import facts
from rlmba.annotators.matching import AskedIds
from rlmba.cells import as_text
from rlmba.errors import AnnotatorError, RlmbaWarning
from rlmba.runfolder.batches import LabelBatch

if TYPE_CHECKING:
    from rlmba.annotators.labelstudio.client import Client

__all__ = ["ask_existing"]

_LONGEST = 1500
"""Characters of the ids in a request, whose address must not be too long for proxies."""
_NAMED, _KEYS = 5, 20
_FOLDER = "folder"


def ask_existing(
    server: Client, project: int, batch: LabelBatch, form: TaskForm, mark: str
) -> Control:
    """Write what is known about the questions of a batch into the data of their tasks.

    Classes that the labeling config lacks are added. Warnings name samples without a task, and tasks that
    another project folder has asked for.

    Parameters
    ----------
    server : Client
    project : int
    batch : LabelBatch
    form : TaskForm
    mark : str
        The mark of this project folder.

    Returns
    -------
    Control
        The control with the classes.

    Raises
    ------
    AnnotatorError
        If no sample has a task, or the labeling config has no such control; nothing is changed then. If a
        request fails. Asking again is safe.
    DataError
        If Label Studio cannot offer one of the classes.
    """
    before = server.label_config(project)
    config, control = with_classes(before, form.control, batch.classes)
    found = _find_tasks(server, project, form, batch.ids)
    _warn_of_others(project, found, form.key(_FOLDER), mark)
    if not same(before, config):
        server.set_label_config(project, config)
    for question in batch.questions:
        said = facts(batch, question, form) | {form.key(_FOLDER): mark}
        for task in found.get(question.id, ()):
            data = {**task["data"], **said}
            if data != task["data"]:
                server.set_data(project, task["id"], data)
    return control


def _warn_of_others(
    project: int, found: Mapping[str, Iterable[Mapping[str, Any]]], key: str, mark: str
) -> None:
    others = [
        t["id"] for tasks in found.values() for t in tasks if t["data"].get(key, mark) != mark
    ]
    if others:
        warnings.warn(
            f"labelstudio: another project folder has asked for {len(others)} of these tasks of project "
            f"{project} (the first is task {others[0]}) and does not find their answers any more; if it is "
            "still used, give each folder a project of its own in Label Studio",
            RlmbaWarning,
            stacklevel=5,
        )


def _find_tasks(
    server: Client, project: int, form: TaskForm, ids: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """The tasks of samples by id, of which a sample may have several."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    known = AskedIds(ids)
    for chunk in _chunks(ids):
        for task in server.tasks_with(project, form.sample, chunk):
            if sample := known.find(form.written_id(task) or ""):
                found[sample].append(task)
    if missing := [i for i in ids if i not in found]:
        # The server finds exact values only; a task may have an id in another way.
        lost = AskedIds(missing)
        survey = _Survey(form)
        numbers = [t["id"] for t in server.every_task(project) if lost.find(survey.written_id(t))]
        for chunk in _chunks(numbers):
            for task in server.tasks_numbered(project, chunk):
                found[lost.find(form.written_id(task) or "") or ""].append(task)
        if missing := [i for i in missing if i not in found]:
            message = (
                f"Label Studio at {server.url}: expected a task for each sample in project {project}, with "
                f"the sample's id as {form.sample!r} in its data (the annotator's option id_key), found none "
                f"for {len(missing)} of {len(ids)} samples: {', '.join(map(repr, missing[:_NAMED]))}"
                f"{', ...' * (len(missing) > _NAMED)}; {survey.advice()}"
            )
            if not found:
                raise AnnotatorError(f"{message}; then ask again")
            warnings.warn(message, RlmbaWarning, stacklevel=5)
    return found


def _chunks(ids: Iterable[Any]) -> Iterator[list[Any]]:
    """Ids in groups whose length allows a request; numbers also as numbers."""
    chunk: list[Any] = []
    size = 0
    for one in ids:
        cells = _cells(one)
        length = len(json.dumps(cells))
        if chunk and size + length > _LONGEST:
            yield chunk
            chunk, size = [], 0
        chunk += cells
        size += length
    if chunk:
        yield chunk


def _cells(one: Any) -> list[Any]:
    """What a task may have for an id: text, or the number that it is."""
    if not isinstance(one, str):
        return [one]
    try:
        number = json.loads(one)
        return [one, number] if type(number) in (int, float) and as_text(number) == one else [one]
    except ValueError:
        return [one]


class _Survey:
    """Reads the ids of all tasks, and says what may be wrong if samples have none."""

    def __init__(self, form: TaskForm) -> None:
        self._form = form
        self._tasks = self._with_id = 0
        self._first = ""
        self._keys: set[str] = set()

    def written_id(self, task: Mapping[str, Any]) -> str:
        """The id of a task; "" if it has none."""
        text = self._form.written_id(task) or ""
        self._tasks += 1
        self._with_id += bool(text)
        self._first = self._first or text
        self._keys.update(key for key in task["data"] if not key.startswith(PREFIX))
        return text

    def advice(self) -> str:
        if not self._tasks:
            return "the project has no tasks: import them"
        if not self._with_id:
            keys = sorted(self._keys)[:_KEYS]
            return f"none of its {self._tasks:,} tasks has this key, the keys are {keys}: correct id_key"
        return (
            f"{self._with_id:,} of its {self._tasks:,} tasks have an id there, such as {self._first!r}: "
            "import the missing ones and ask again with `rlmba next DIR`, or train without these samples by "
            "`rlmba collect DIR --partial`"
        )
