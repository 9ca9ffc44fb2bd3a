"""Batches that annotators were asked to label, and the files that keep them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlmba.errors import AnnotatorError
from rlmba.reading.structured import find_json
from rlmba.storage import atomic_write_text, is_plain_name, make_folder

__all__ = ["LabelBatch", "Question", "Tickets"]


@dataclass(frozen=True)
class Question:
    """One sample to label.

    Parameters
    ----------
    id : str
        The sample's id.
    rank : int
        The sample's place in the order chosen, from 1.
    purpose : {"train", "validation"}
        What the label is for.
    score : float or None
        The strategy's score; larger for samples that it prefers.
    difficulty : float or None
        U(x), the mean variance of the fused Dirichlet distribution (Eq 4); larger where the model is less
        certain.
    prediction : str or None
        The class that the model predicts.
    probability : float or None
        The model's probability of that class.
    texts : mapping of modality to str
        The sample's texts.
    files : mapping of modality to str
        Absolute paths of the sample's files. The modality's name ("image", "video", "audio") decides how a
        file is shown; for other names, the file's type does.
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
    """A batch of samples to label.

    Parameters
    ----------
    round : int
        The round that the batch belongs to, from 0.
    classes : tuple of str
        Names of the classes that are known. It may be empty if ``open``.
    open : bool
        Whether a label may also be a new name, which becomes a class.
    weights : mapping of modality to float
        AMCB's weights in this round; their sum is 1.
    questions : tuple of Question
        In the order of their rank; their ids are distinct.
    leftovers : tuple of Question
        Questions of earlier batches that nobody has answered and that are not asked again now, with the
        current model's predictions. No answers are expected for them. Empty unless the annotator names
        them.
    """

    round: int
    classes: tuple[str, ...]
    open: bool
    weights: Mapping[str, float]
    questions: tuple[Question, ...]
    leftovers: tuple[Question, ...] = ()

    @property
    def ids(self) -> list[str]:
        """Ids of the samples, in the order of their rank."""
        return [question.id for question in self.questions]

    def __len__(self) -> int:
        return len(self.questions)

    def to_dict(self) -> dict[str, Any]:
        """The batch as values that JSON can represent."""
        return asdict(self)


@dataclass(frozen=True)
class _Ticket:
    """The content of a batch's file."""

    batch: LabelBatch
    notes: dict[str, Any]


class Tickets:
    """A folder with one JSON file for each batch, ``round_003.json``: the batch and an annotator's notes.

    Parameters
    ----------
    folder : path
        Created by the first :meth:`write`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, batch: LabelBatch, notes: Mapping[str, Any] | None = None) -> str:
        """Store a batch, replacing an earlier one of its round. Returns its ticket.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        ticket = f"round_{batch.round:03d}"
        make_folder(self.folder)
        data = {"batch": batch.to_dict(), "notes": dict(notes or {})}
        atomic_write_text(self.folder / f"{ticket}.json", json.dumps(data, indent=1) + "\n")
        return ticket

    def rounds(self) -> set[int]:
        """The rounds whose batches are stored here."""
        numbers = (path.stem.removeprefix("round_") for path in self.folder.glob("round_*.json"))
        return {int(number) for number in numbers if number.isdecimal()}

    def read(self, ticket: str) -> tuple[LabelBatch, dict[str, Any]]:
        """The batch with a ticket, and the notes on it.

        Raises
        ------
        AnnotatorError
            If there is none, its file is damaged, or the ticket is not a plain name.
        """
        if not is_plain_name(ticket):
            raise AnnotatorError(f"expected a ticket such as round_003, got {ticket!r:.200}")
        path = self.folder / f"{ticket}.json"
        advice = "delete it and ask again with `rlmba next`"
        kept = find_json(
            path, _Ticket, advice=advice, error=AnnotatorError, finite=False, surrogates=True
        )
        if kept is None:
            raise AnnotatorError(
                f"{path}: expected the file of a batch, found none; ask again with `rlmba next`"
            )
        return kept.batch, kept.notes
