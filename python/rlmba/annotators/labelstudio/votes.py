"""One label for each question, from the annotations that people gave."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from rlmba.annotators.labelstudio.labeling import CANNOT_TELL_ALIAS, NEW_CLASS
from rlmba.annotators.labelstudio.task_form import OWN, TaskForm
from rlmba.annotators.matching import AskedIds, ClassNames
from rlmba.cells import as_text
from rlmba.errors import DataError
from rlmba.runfolder.batches import LabelBatch, Question

__all__ = ["AskedBatch", "Decision", "decide", "votes"]


class Vote(NamedTuple):
    """The label of one annotation, None for "cannot tell". ``truth``: it is marked as ground truth."""

    label: str | None
    truth: bool


class Decision(NamedTuple):
    """The result of the votes on a batch.

    Parameters
    ----------
    labels : mapping of id to str or None
        The labels of the questions that are decided; None for "cannot tell".
    ties : mapping of id to int
        The questions with a tie between labels, and their numbers of votes.
    unused : list of str
        The answered tasks whose answers do not count, each with the reason.
    """

    labels: dict[str, str | None]
    ties: dict[str, int]
    unused: list[str]


class AskedBatch:
    """Finds the question of a batch that a task from Label Studio is about.

    Parameters
    ----------
    batch : LabelBatch
    rounds : collection of int or None
        The other rounds that were asked for; None if any other round may have been.
    form : TaskForm
        The keys of the project's tasks.
    """

    def __init__(
        self, batch: LabelBatch, rounds: Collection[int] | None = None, form: TaskForm = OWN
    ) -> None:
        self.batch = batch
        self.form = form
        self.names = ClassNames(batch.classes, open=batch.open, numbers=True)
        self._ids = AskedIds(question.id for question in batch.questions)
        self._earlier = AskedIds(question.id for question in batch.leftovers)
        self._questions = {q.id: q for q in (*batch.leftovers, *batch.questions)}
        self._rounds = rounds

    def question(self, task: Mapping[str, Any]) -> str | None:
        """The sample's id if the task is about a question of this batch, else None."""
        return None if self.why_not(task) is not None else self.sample(task)

    def other_round(self, task: Mapping[str, Any]) -> bool:
        """Whether the task belongs to another round that was asked for."""
        number = self.form.round_of(task)
        return number != self.batch.round and (self._rounds is None or number in self._rounds)

    def why_not(self, task: Mapping[str, Any]) -> str | None:
        """Why the task is not about a question of this batch; None if it is."""
        data, form, number = task["data"], self.form, self.form.round_of(task)
        if number != self.batch.round:
            return f"round {data.get(form.key('round'))!r} was not asked"
        if self.sample(task) is None:
            return f"{form.sample} {data.get(form.sample)!r} was not asked for in round {number}"
        return None

    def sample(self, task: Mapping[str, Any]) -> str | None:
        """The id of the batch's sample that a task of any round shows, or None."""
        text = self.form.written_id(task)
        return None if text is None else self._ids.find(text)

    def predicted(self, task: Mapping[str, Any]) -> Question | None:
        """The question or leftover of the batch whose sample a task of any round shows, or None."""
        text = self.form.written_id(task)
        if text is None:
            return None
        return self._questions.get(self._ids.find(text) or self._earlier.find(text) or "")


def decide(asked: AskedBatch, tasks: Iterable[Mapping[str, Any]]) -> Decision:
    """Decide the label of each question by the most frequent vote on all of its tasks.

    If annotations are marked as ground truth, only those count. A tie decides nothing.

    Parameters
    ----------
    asked : AskedBatch
        The batch. Tasks of other rounds that were asked for are ignored.
    tasks : iterable of mapping
        With ``id``, ``data`` and ``annotations``, as in Label Studio's API and its JSON export.

    Raises
    ------
    DataError
        If an annotation's label is not one of the classes.
    """
    ballots: dict[str, list[Vote]] = defaultdict(list)
    unused = []
    for task in tasks:
        sample = asked.question(task)
        if sample is not None:
            ballots[sample].extend(votes(asked, task))
            control = asked.form.control
            if any(_elsewhere(given, control) for given in task["annotations"]):
                unused.append(f"task {task['id']}: no answer in {control!r} nor {NEW_CLASS!r}")
        elif not asked.other_round(task) and _answered(task, asked.form.control):
            unused.append(f"task {task['id']}: {asked.why_not(task)}")
    labels: dict[str, str | None] = {}
    ties: dict[str, int] = {}
    for question in asked.batch.questions:
        ballot = ballots.get(question.id, [])
        counted = [vote for vote in ballot if vote.truth] or ballot
        ranking = Counter(vote.label for vote in counted).most_common(2)
        if len(ranking) == 2 and ranking[0][1] == ranking[1][1]:
            ties[question.id] = len(counted)
        elif ranking:
            labels[question.id] = ranking[0][0]
    return Decision(labels, ties, unused)


def votes(asked: AskedBatch, task: Mapping[str, Any]) -> list[Vote]:
    """The votes of a task's annotations. Cancelled and empty annotations have none.

    Raises
    ------
    DataError
        If a label is not one of the classes.
    """
    found = []
    for annotation in task["annotations"]:
        try:
            said = _says(annotation, asked.form.control)
        except ValueError as error:
            raise DataError(
                f"{_place(asked, task)}: {error}; correct the annotation there"
            ) from None
        if len(set(said)) > 1:
            raise DataError(
                f"{_place(asked, task)}: expected one class, got {sorted(set(said))}; "
                "correct the annotation there"
            )
        if said:
            label = _checked(asked, task, said[0])
            found.append(Vote(label, bool(annotation.get("ground_truth"))))
    return found


def _answered(task: Mapping[str, Any], control: str) -> bool:
    try:
        return any(_says(annotation, control) for annotation in task["annotations"])
    except ValueError:
        return True


def _elsewhere(annotation: Mapping[str, Any], control: str) -> bool:
    """Whether an annotation has results in other controls only."""
    controls = {item.get("from_name") for item in annotation.get("result") or ()}
    return bool(controls - {control, NEW_CLASS} and not annotation.get("was_cancelled")) and not (
        _says(annotation, control)
    )


def _says(annotation: Mapping[str, Any], control: str) -> list[str]:
    """The names that an annotation gives; none if it was cancelled or is empty.

    Raises
    ------
    ValueError
        If one of them is not text.
    """
    if annotation.get("was_cancelled"):
        return []
    said = _said(annotation.get("result") or (), control)
    # A written name counts over a choice.
    return said[NEW_CLASS] or said[control]


def _said(result: Iterable[Mapping[str, Any]], control: str) -> dict[str, list[str]]:
    """The names by control, without those of other controls."""
    said: dict[str, list[str]] = {control: [], NEW_CLASS: []}
    for item in result:
        value, name = item.get("value") or {}, item.get("from_name")
        if name not in said:
            continue
        cells = value.get("choices" if name == control else "text")
        cells = cells if isinstance(cells, list) else [cells]
        said[name] += [text for text in map(as_text, cells) if text is not None]
    return said


def _checked(asked: AskedBatch, task: Mapping[str, Any], label: str) -> str | None:
    if label == CANNOT_TELL_ALIAS:
        return None
    name = asked.names.find(label)
    if name is not None:
        return name
    raise DataError(
        f"{_place(asked, task)}: {asked.names.refusal(label)}. If the choice was renamed in the labeling "
        "config, restore its name and correct the annotation there; nothing that was entered is lost"
    )


def _place(asked: AskedBatch, task: Mapping[str, Any]) -> str:
    return f"Label Studio, task {task['id']} (sample {task['data'].get(asked.form.sample)!r})"
