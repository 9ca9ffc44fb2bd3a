"""A table that people fill with labels, in a spreadsheet or with whatever they like."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rlmba.annotators.answers import CANNOT_TELL, read_labels
from rlmba.errors import AnnotatorError, DataError, RlmbaWarning, StorageError, UsageError
from rlmba.markup import command
from rlmba.reading.files import open_regular
from rlmba.runfolder.batches import LabelBatch, Question, Tickets
from rlmba.spreadsheet import guarded, guarded_name, longest
from rlmba.storage import atomic_write_bytes, make_folder
from rlmba.tables import SEPARATORS, write_table

__all__ = ["LabelFile"]


class LabelFile:
    """Writes ``to_label.csv`` and reads it back with the column ``label`` filled, by id.

    The file of an earlier round moves to ``labeled/round_003.csv`` in the project's folder when another
    round is asked for; labels may be corrected there, too. A file that somebody filled is never replaced.

    Parameters
    ----------
    folder : path
        The project's.
    path : path
        The file; default ``to_label.csv`` in the folder, from where a relative path counts.
    separator : str
        Between its cells when it is written: a comma, semicolon, tab or bar. Excel opens a file by a
        double click rightly only if it has the separator of the country's settings: a semicolon where
        numbers have a decimal comma. It is read back with any.

    Raises
    ------
    UsageError
        If the file's name does not end in .csv, or the separator is another.
    """

    def __init__(self, folder: Path, *, path: Path | None = None, separator: str = ",") -> None:
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
        self._tickets = Tickets(self.folder / "tickets" / "file")

    def request(self, batch: LabelBatch) -> str:
        """Write the batch for people to label; one that is there already stays as it is.

        Asked for other samples in the same round, the file is written anew with the answers it had for
        those that are in both; the file before is kept in ``labeled/`` if it had answers.

        Raises
        ------
        AnnotatorError
            If a file is there that no round of this project asked for.
        DataError
            If labels in the file that is to be replaced cannot be used, or an id cannot be written.
        StorageError
            If it cannot be written.
        """
        newest, place = self._newest(), self._place(batch.round)
        before = self._asked(batch.round)
        if before is None and place == self.path and place.exists():
            if newest is None or self._archived(newest).exists():
                raise AnnotatorError(
                    f"{place} is there already, and no round of this project has written it; move it away, "
                    "or give another name with the annotator's option path. Labels in it can be taken with "
                    f"`{command('collect', self.folder)} --labels FILE`"
                )
            _move(place, self._archived(newest))
        if before is not None and place.exists():
            if set(_ids(before)) != set(_ids(batch)):
                self._replace(place, before, batch)
            return self._tickets.write(batch)
        # The ticket first: the file then belongs to a round from its first moment.
        ticket = self._tickets.write(batch)
        self._write(place, batch, {})
        return ticket

    def collect(self, ticket: str) -> Mapping[str, str | None]:
        """Labels filled in so far; see :func:`rlmba.annotators.answers.read_labels`.

        Raises
        ------
        AnnotatorError
            If there is no such ticket, or the file of the latest round is not there, or an earlier
            round's in its place. That of an earlier round may be missing: then there is a warning, and no
            answers.
        DataError
            If the file or a label in it cannot be used. It stays as it is.
        """
        batch, _ = self._tickets.read(ticket)
        place = self._place(batch.round)
        if not place.exists():
            if place != self.path:
                warnings.warn(
                    f"{place} is missing: labels of round {batch.round} cannot be corrected there",
                    RlmbaWarning,
                    stacklevel=2,
                )
                return {}
            raise AnnotatorError(
                f"{place}: expected the file with labels of round {batch.round}, found none; put it back, or "
                f"`{command('next', self.folder)}` writes it anew, without labels"
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

    def _refuse_earlier(self, place: Path, round_: int) -> None:
        """Say so if it is an earlier round's file that a spreadsheet, still open, has saved over this one."""
        for earlier in range(round_ - 1, -1, -1):
            batch = self._asked(earlier) if place == self.path else None
            if batch is None:
                continue
            with suppress(DataError):
                read_labels(place, ids=_ids(batch), classes=batch.classes, open=batch.open)
                raise AnnotatorError(
                    f"{place} has the samples of round {earlier}, not of round {round_}; was the earlier "
                    f"file saved over it? Move it away, to {self._archived(earlier)} if it has corrections, "
                    f"and `{command('next', self.folder)}` writes that of round {round_} anew"
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
        """Where a round's file is or is to be: the latest round's at ``path`` unless it was moved."""
        newest, archived = self._newest(), self._archived(round_)
        latest = newest is None or round_ >= newest
        return self.path if latest and not archived.exists() else archived

    def _replace(self, place: Path, before: LabelBatch, batch: LabelBatch) -> None:
        # Read as either batch's file: a process may have died between this and the ticket.
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
        columns[f"weight_{modality}"] = [weight] * len(questions)
    for shown in ([q.texts for q in questions], [q.files for q in questions]):
        for modality in dict.fromkeys(name for of_one in shown for name in of_one):
            name = guarded(modality)
            while name in columns or not name:
                name += "_"
            columns[name] = [
                guarded(longest(_writable(of_one[modality]))) if modality in of_one else None
                for of_one in shown
            ]
    return columns


def _writable(text: str) -> str:
    """Without what no CSV can hold; a text is there to be read, nothing is found by it."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


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
    """Four digits: people read them."""
    return None if value is None else float(f"{value:.4g}")
