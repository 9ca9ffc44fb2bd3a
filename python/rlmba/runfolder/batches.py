"""Batches that were asked for, on disk until nobody needs them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlmba.errors import AnnotatorError
from rlmba.reading.structured import find_json
from rlmba.storage import atomic_write_text, is_plain_name, make_folder

__all__ = ["LabelBatch", "Pending", "Question", "Tickets"]


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

    @property
    def ids(self) -> list[str]:
        """Ids of the samples, in the order of their rank."""
        return [question.id for question in self.questions]

    def __len__(self) -> int:
        return len(self.questions)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


@dataclass(frozen=True)
class Pending:
    """Who has the batch of a ``round`` now, under which ``ticket``: a project's ``pending.json``."""

    round: int
    annotator: str
    ticket: str


@dataclass(frozen=True)
class _Ticket:
    """A batch's file."""

    batch: LabelBatch
    notes: dict[str, Any]


class Tickets:
    """A folder with a JSON file for each batch, ``round_003.json``: the batch, and an annotator's notes.

    Parameters
    ----------
    folder : path
        Made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, batch: LabelBatch, notes: Mapping[str, Any] | None = None) -> str:
        """Keep a batch, in place of an earlier one of its round; returns its ticket.

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
        """Rounds whose batches are here."""
        numbers = (path.stem.removeprefix("round_") for path in self.folder.glob("round_*.json"))
        return {int(number) for number in numbers if number.isdecimal()}

    def read(self, ticket: str) -> tuple[LabelBatch, dict[str, Any]]:
        """The batch behind a ticket, and the notes on it.

        Raises
        ------
        AnnotatorError
            If there is none, its file is damaged, or the ticket is no name.
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
                f"{path}: expected a batch that was asked for, found none; ask again with `rlmba next`"
            )
        return kept.batch, kept.notes
