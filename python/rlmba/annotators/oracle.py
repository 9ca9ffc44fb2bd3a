"""Labels that are known already: for experiments, and to rehearse a project without people."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rlmba.annotators.label_table import read_label_table, read_labels, require_writable
from rlmba.errors import AnnotatorError
from rlmba.runfolder.batches import LabelBatch, Tickets

if TYPE_CHECKING:
    from rlmba.data import MultimodalDataset
    from rlmba.data.table import Table

__all__ = ["DatasetOracle", "Oracle"]


class Oracle:
    """Looks labels up in a table, which only :meth:`collect` opens, and once.

    Parameters
    ----------
    folder : path
        The project's folder.
    truth : path
        A table with the columns ``id`` and ``label``. It may hold more ids than are ever asked for. A
        relative path starts at the project's folder.
    """

    def __init__(self, folder: Path, *, truth: Path) -> None:
        self.truth = Path(folder) / str(truth)
        self._tickets = Tickets(Path(folder) / "tickets" / "oracle")

    def request(self, batch: LabelBatch) -> str:
        """Store the batch.

        Raises
        ------
        DataError
            If a class has the name that means "cannot tell" in a table.
        StorageError
            If it cannot be written.
        """
        require_writable(batch.classes)
        return self._tickets.write(batch)

    @cached_property
    def _table(self) -> Table:
        return read_label_table(self.truth)

    def collect(self, ticket: str) -> Mapping[str, str | None]:
        """The labels of the whole batch; None where the table says ``?``.

        Raises
        ------
        AnnotatorError
            If there is no such batch, or the table lacks a label for one of its ids.
        DataError
            If the table cannot be read; see :func:`rlmba.annotators.label_table.read_labels`.
        """
        batch, _ = self._tickets.read(ticket)
        asked = [question.id for question in batch.questions]
        labels = read_labels(
            self._table, ids=asked, classes=batch.classes, open=batch.open, others="ignore"
        )
        missing = [name for name in asked if name not in labels]
        if missing:
            raise AnnotatorError(
                f"{self.truth}: expected a label for each of the {len(asked)} ids asked for, {len(missing)} "
                f"have none, the first is {missing[0]!r}; add them to the table"
            )
        return {name: labels[name] for name in asked}


class DatasetOracle:
    """The annotator of experiments: it answers from the true labels of a data set, in memory.

    Parameters
    ----------
    dataset : MultimodalDataset
    """

    def __init__(self, dataset: MultimodalDataset) -> None:
        self._dataset = dataset
        self._position = {str(i): p for p, i in enumerate(dataset.ids.tolist())}
        self._asked: dict[str, list[str]] = {}

    def request(self, batch: LabelBatch) -> str:
        """Remember the batch, and return its ticket."""
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
