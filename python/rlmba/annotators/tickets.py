"""Batches that were asked for, on disk until nobody needs them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlmba.annotators.base import LabelBatch
from rlmba.errors import AnnotatorError
from rlmba.reading.structured import find_json
from rlmba.storage import atomic_write_text, is_plain_name, make_folder

__all__ = ["Pending", "Tickets"]


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
        kept = find_json(path, _Ticket, advice=advice, error=AnnotatorError, finite=False)
        if kept is None:
            raise AnnotatorError(
                f"{path}: expected a batch that was asked for, found none; ask again with `rlmba next`"
            )
        return kept.batch, kept.notes
