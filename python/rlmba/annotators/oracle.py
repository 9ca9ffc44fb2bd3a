"""Labels that are known already: rehearsals of a project without people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rlmba.annotators.answers import read_labels
from rlmba.errors import AnnotatorError
from rlmba.runfolder.batches import LabelBatch, Tickets

__all__ = ["Oracle"]


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
