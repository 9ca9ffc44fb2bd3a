"""The annotator `file`: a table that people fill with labels, in a spreadsheet or any other program."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rlmba.annotators.label_table import read_labels, require_writable
from rlmba.annotators.matching import CANNOT_TELL, storable
from rlmba.errors import AnnotatorError, DataError, RlmbaWarning, StorageError, UsageError
from rlmba.markup import command
from rlmba.reading.files import open_regular
from rlmba.runfolder.batches import LabelBatch, Question, Tickets
from rlmba.spreadsheet import guarded, guarded_name, longest
from rlmba.storage import atomic_write_bytes, make_folder
from rlmba.tables import SEPARATORS, write_table

__all__ = ["LabelFile"]

_TOOLS = ("cvat", "argilla")


class LabelFile:
    """Writes ``to_label.csv``, and reads the labels that people enter in its column ``label``.

    When the next round is asked for, the file of the round before moves to ``labeled/round_003.csv`` in the
    project's folder. Labels can still be corrected there. A file with labels is never overwritten.

    Parameters
    ----------
    folder : path
        The project's folder.
    path : path
        The file. A relative path starts at the project's folder. Default ``to_label.csv``.
    separator : str
        What separates the cells when the file is written: a comma, semicolon, tab or bar. When it is read,
        all of them are recognized. Excel opens a file correctly by a double click only if the separator is
        that of the country's settings: a semicolon where numbers have a decimal comma.
    tool : {"cvat", "argilla"} or None
        A labeling tool for which each batch is also written, to the folder ``cvat`` or ``argilla``. ``rlmba
        collect --labels FILE`` reads the tool's exports.

    Raises
    ------
    UsageError
        If the file's name does not end in .csv, or the separator or the tool is not one of these.
    """

    def __init__(
        self,
        folder: Path,
        *,
        path: Path | None = None,
        separator: str = ",",
        tool: str | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.path = self.folder / str(path or "to_label.csv")
        self.separator = separator
        if self.path.suffix.lower() != ".csv":
            raise UsageError(
                f"annotator 'file', option path: expected a name ending in .csv, got {str(path)!r}"
            )
        if separator not in SEPARATORS:
            raise UsageError(
                f"annotator 'file', option separator: expected one of {list(SEPARATORS)}, got {separator!r}"
            )
        if tool not in (None, *_TOOLS):
            raise UsageError(
                f"annotator 'file', option tool: expected one of {list(_TOOLS)}, got {tool!r}"
            )
        self._tool = tool
        self._tickets = Tickets(self.folder / "tickets" / "file")

    def request(self, batch: LabelBatch) -> str:
        """Write the batch for people to label. A file of the same batch is left as it is.

        If other samples of the same round are asked for, the file is written again, with its answers to the
        samples that are in both. If the previous file had answers, a copy of it is kept in ``labeled/``.

        Raises
        ------
        AnnotatorError
            If there is a file that no round of this project asked for.
        DataError
            If labels in the file to replace are not allowed, an id cannot be written, a class has the
            name that means "cannot tell", or the tool cannot show the batch.
        StorageError
            If the file cannot be written.
        """
        require_writable(batch.classes)
        self._export(batch)
        newest, place = self._newest(), self._place(batch.round)
        before = self._asked(batch.round)
        if before is None and place == self.path and place.exists():
            if newest is None or self._archived(newest).exists():
                raise AnnotatorError(
                    f"{place} exists already, and no round of this project wrote it; move it away, or give "
                    "another name with the annotator's option path. To use the labels in it, run "
                    f"`{command('collect', self.folder)} --labels FILE`"
                )
            _move(place, self._archived(newest))
        if before is not None and place.exists():
            if set(_ids(before)) != set(_ids(batch)):
                self._replace(place, before, batch)
            return self._tickets.write(batch)
        # The ticket is written first, so that the file belongs to a round from the start.
        ticket = self._tickets.write(batch)
        self._write(place, batch, {})
        return ticket

    def collect(self, ticket: str) -> Mapping[str, str | None]:
        """The labels entered so far; see :func:`rlmba.annotators.label_table.read_labels`.

        If the file of an earlier round is missing, there is a warning and no answer.

        Raises
        ------
        AnnotatorError
            If there is no such ticket, or the file of the latest round is missing or is that of an earlier
            round.
        DataError
            If the file cannot be read or a label is not allowed. The file is not changed.
        """
        batch, _ = self._tickets.read(ticket)
        place = self._place(batch.round)
        if not place.exists():
            if place != self.path:
                warnings.warn(
                    f"{place} is missing, so labels of round {batch.round} cannot be corrected there",
                    RlmbaWarning,
                    stacklevel=2,
                )
                return {}
            raise AnnotatorError(
                f"{place}: expected the file with labels of round {batch.round}, found none; put it back, or "
                f"let `{command('next', self.folder)}` write it again, without labels"
            )
        classes: Sequence[str] = batch.classes
        newest = self._newest()
        if batch.open and newest is not None:
            classes = self._tickets.read(_ticket(newest))[0].classes
        try:
            return read_labels(place, ids=_ids(batch), classes=classes, open=batch.open)
        except DataError:
            self._refuse_earlier(place, batch.round)
            raise

    def _export(self, batch: LabelBatch) -> None:
        """Write the batch for the labeling tool, if there is one."""
        if self._tool == "cvat":
            from rlmba.annotators import cvat

            cvat.write_batch(self.folder / "cvat", batch)
        elif self._tool == "argilla":
            from rlmba.annotators import argilla

            argilla.write_batch(self.folder / "argilla" / _ticket(batch.round), batch, self.folder)

    def _refuse_earlier(self, place: Path, round_: int) -> None:
        """Raise if a spreadsheet that was still open has saved an earlier round's file over this one."""
        for earlier in range(round_ - 1, -1, -1):
            batch = self._asked(earlier) if place == self.path else None
            if batch is None:
                continue
            with suppress(DataError):
                read_labels(place, ids=_ids(batch), classes=batch.classes, open=batch.open)
                raise AnnotatorError(
                    f"{place} has the samples of round {earlier}, not of round {round_}; was the earlier "
                    f"file saved over it? Move it away (to {self._archived(earlier)} if it has corrections), "
                    f"and let `{command('next', self.folder)}` write the file of round {round_} again"
                )

    def _asked(self, round_: int) -> LabelBatch | None:
        if not (self._tickets.folder / f"{_ticket(round_)}.json").exists():
            return None
        return self._tickets.read(_ticket(round_))[0]

    def _newest(self) -> int | None:
        return max(self._tickets.rounds(), default=None)

    def _archived(self, round_: int) -> Path:
        return self.folder / "labeled" / f"{_ticket(round_)}.csv"

    def _place(self, round_: int) -> Path:
        """The path of a round's file: ``path`` for the latest round, unless its file was moved."""
        newest, archived = self._newest(), self._archived(round_)
        latest = newest is None or round_ >= newest
        return self.path if latest and not archived.exists() else archived

    def _replace(self, place: Path, before: LabelBatch, batch: LabelBatch) -> None:
        # The file may belong to either batch: a process may have died between this and the ticket.
        ids = {*_ids(before), *_ids(batch)}
        answers = read_labels(place, ids=ids, classes=batch.classes, open=batch.open)
        if answers:
            kept = (
                self.folder / "labeled" / f"{_ticket(batch.round)}_before_{i}.csv"
                for i in range(1, 1000)
            )
            _copy(place, next(path for path in kept if not path.exists()))
        self._write(place, batch, answers)

    def _write(self, place: Path, batch: LabelBatch, answers: Mapping[str, str | None]) -> None:
        make_folder(place.parent)
        write_table(place, _columns(batch, answers), bom=True, separator=self.separator)


def _ticket(round_: int) -> str:
    return f"round_{round_:03d}"


def _ids(batch: LabelBatch) -> list[str]:
    return [question.id for question in batch.questions]


def _columns(batch: LabelBatch, answers: Mapping[str, str | None]) -> dict[str, list[Any]]:
    questions = batch.questions

    def label(q: Question) -> str | None:
        if q.id not in answers:
            return None
        answer = answers[q.id]
        return CANNOT_TELL if answer is None else guarded_name(answer)

    columns: dict[str, list[Any]] = {
        "id": [guarded_name(q.id) for q in questions],
        "label": [label(q) for q in questions],
        "rank": [q.rank for q in questions],
        "purpose": [q.purpose for q in questions],
        "prediction": [
            None if q.prediction is None else guarded_name(q.prediction) for q in questions
        ],
        "probability": [_short(q.probability) for q in questions],
        "score": [_short(q.score) for q in questions],
        "difficulty": [_short(q.difficulty) for q in questions],
    }
    for modality, weight in batch.weights.items():
        columns[f"weight_{storable(modality)}"] = [weight] * len(questions)
    for shown in ([q.texts for q in questions], [q.files for q in questions]):
        for modality in dict.fromkeys(name for of_one in shown for name in of_one):
            name = guarded(storable(modality))
            while name in columns or not name:
                name += "_"
            columns[name] = [
                guarded(longest(storable(of_one[modality]))) if modality in of_one else None
                for of_one in shown
            ]
    return columns


def _copy(source: Path, target: Path) -> None:
    make_folder(target.parent)
    try:
        with open(source, "rb", opener=open_regular) as file:
            content = file.read()
    except OSError as error:
        raise StorageError(f"could not read {source} ({error.strerror or error})") from error
    atomic_write_bytes(target, content)


def _move(source: Path, target: Path) -> None:
    make_folder(target.parent)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:  # another file system
            raise StorageError(
                f"could not move {source} to {target} ({error.strerror or error})"
            ) from error
        _copy(source, target)
        source.unlink()


def _short(value: float | None) -> float | None:
    """A number with four digits, for people to read."""
    return None if value is None else float(f"{value:.4g}")
