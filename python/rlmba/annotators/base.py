"""The protocol between the learner and whoever answers its queries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rlmba.runfolder.batches import LabelBatch

__all__ = ["Annotator"]


class Annotator(Protocol):
    """Takes a batch of questions and later gives their labels.

    Both may be called from different processes: what has to last between them lies on disk, in the
    folder that the annotator was made with.
    """

    def request(self, batch: LabelBatch) -> str:
        """Ask; returns a ticket to collect the labels with, a file name without folder.

        Asking again for a batch of the same round gives the same ticket and loses no answer.

        Raises
        ------
        AnnotatorError
            If it cannot be asked; what to do is in the message, and asking again is safe.
        """
        ...

    def collect(self, ticket: str) -> Mapping[str, str | None]:
        """Class names by sample id, as far as there are answers; None: people cannot tell.

        May be called as often as wanted, also long after; the latest answer to a question counts.

        Raises
        ------
        AnnotatorError, DataError
            If answers cannot be had or cannot be used; what to do is in the message. Nothing is lost.
        """
        ...
