"""Labels that are known already: experiments, and rehearsals of a project without people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rlmba.annotators.answers import read_labels
from rlmba.data import MultimodalDataset
from rlmba.errors import AnnotatorError
from rlmba.runfolder.batches import LabelBatch, Tickets

__all__ = ["DatasetOracle", "Oracle"]


class Oracle:
    """Looks labels up in a table. Only :meth:`collect` opens it.

    Parameters
    ----------
    folder : path
        The project's.
    truth : path
        A table with the columns id and label, which may hold more ids than are ever asked; a relative
        path counts from the project's folder.
    """

    def __init__(self, folder: Path, *, truth: Path) -> None:
        self.truth = Path(folder) / str(truth)
        self._tickets = Tickets(Path(folder) / "tickets" / "oracle")

    def request(self, batch: LabelBatch) -> str:
        """Keep the batch."""
        return self._tickets.write(batch)

    def collect(self, ticket: str) -> Mapping[str, str | None]:
        """Labels of all of the batch; None where the table says ``?``.

        Raises
        ------
        AnnotatorError
            If ids have no label in the table.
        DataError
            If the table cannot be used; see :func:`rlmba.annotators.answers.read_labels`.
        """
        batch, _ = self._tickets.read(ticket)
        asked = [question.id for question in batch.questions]
        labels = read_labels(
            self.truth, ids=asked, classes=batch.classes, open=batch.open, others="ignore"
        )
        missing = [name for name in asked if name not in labels]
        if missing:
            raise AnnotatorError(
                f"{self.truth}: expected a label for each of the {len(asked)} ids asked for, {len(missing)} "
                f"have none, the first is {missing[0]!r}; add them there"
            )
        return {name: labels[name] for name in asked}


class DatasetOracle:
    """Answers from the true labels of a data set, at once and from memory: the annotator of experiments.

    Parameters
    ----------
    dataset : MultimodalDataset
    """

    def __init__(self, dataset: MultimodalDataset) -> None:
        self._dataset = dataset
        self._position = {str(i): p for p, i in enumerate(dataset.ids.tolist())}
        self._asked: dict[str, list[str]] = {}

    def request(self, batch: LabelBatch) -> str:
        """Remember the batch; returns its ticket."""
        ticket = f"round_{batch.round:03d}"
        self._asked = {ticket: [question.id for question in batch.questions]}
        return ticket

    def collect(self, ticket: str) -> Mapping[str, str | None]:
        """The true class of every sample of the batch.

        Raises
        ------
        AnnotatorError
            If that batch was not the last one.
        """
        if ticket not in self._asked:
            raise AnnotatorError(f"expected the ticket of the last batch, got {ticket!r}")
        labels, classes = self._dataset.labels, self._dataset.classes
        return {i: classes[labels[self._position[i]]] for i in self._asked[ticket]}
