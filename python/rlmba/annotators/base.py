"""The protocol between the learner and the annotators that answer its queries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from rlmba.runfolder.batches import LabelBatch

__all__ = ["Annotator", "ShowsEarlierQuestions"]


class Annotator(Protocol):
    """Takes a batch of questions and later returns their labels.

    The two methods may be called from different processes. What must last between the calls is kept on
    disk, in the folder that the annotator was created with.
    """

    def request(self, batch: LabelBatch) -> str:
        """Ask for the labels of a batch.

        Returns the ticket to collect them with, which is a file name without a folder.

        A second request for the same round returns the same ticket and loses no answer.

        Raises
        ------
        AnnotatorError, DataError
            If the request fails. The message says what to do; requesting again is safe.
        """
        ...

    def collect(self, ticket: str) -> Mapping[str, str | None]:
        """The answers so far: class names by sample id, or None for "cannot tell".

        It may be called at any time and any number of times. The latest answer to a question counts.

        Raises
        ------
        AnnotatorError, DataError
            If the answers cannot be read or are not allowed. The message says what to do; no answer is lost.
        """
        ...


@runtime_checkable
class ShowsEarlierQuestions(Protocol):
    """An annotator that also shows the questions of earlier batches that nobody has answered.

    A batch for it has the current model's predictions for them, as its ``leftovers``.
    """

    def asked(self) -> list[str]:
        """Ids of all samples that were asked for, those of the latest batch first."""
        ...
