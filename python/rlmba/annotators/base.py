"""The protocol between the loop and those who label, and the batch that goes to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

__all__ = ["Annotator", "LabelBatch", "Question"]


@dataclass(frozen=True)
class Question:
    """One sample that somebody shall label.

    Parameters
    ----------
    id : str
        The sample's id.
    rank : int
        From 1, in the order chosen.
    purpose : {"train", "validation"}
        What the label is for.
    score : float or None
        The strategy's, larger for what it wanted more.
    difficulty : float or None
        U(x), the mean variance of the fused Dirichlet (Eq 4), larger for what the model knows less of.
    prediction : str or None
        The class that the model would give it.
    probability : float or None
        The model's probability of that class.
    texts : mapping of modality to str
        What can be read of the sample.
    files : mapping of modality to str
        Absolute paths of what can be looked at or listened to. Which player suits is the modality's name
        ("image", "video", "audio") or, failing that, the file's type.
    """

    id: str
    rank: int
    purpose: str = "train"
    score: float | None = None
    difficulty: float | None = None
    prediction: str | None = None
    probability: float | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelBatch:
    """Samples to label together.

    Parameters
    ----------
    round : int
        The round that asks, from 0.
    classes : tuple of str
        Names a label may have.
    open : bool
        A label may also be a new name, which becomes a class.
    weights : mapping of modality to float
        AMCB's weights in this round, with sum 1.
    questions : tuple of Question
        In the order of their rank; ids are distinct.
    """

    round: int
    classes: tuple[str, ...]
    open: bool
    weights: Mapping[str, float]
    questions: tuple[Question, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


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
