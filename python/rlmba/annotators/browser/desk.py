"""What the page asks of the server: the open batch, a sample for each tab, and the writing of answers."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rlmba.annotators.browser.annotator import Browser, nearest
from rlmba.annotators.browser.answers import Answer, AnswerLog, Answers, Entry
from rlmba.errors import AnnotatorError, UsageError
from rlmba.reading.structured import find_json
from rlmba.runfolder.batches import LabelBatch, Pending, Question

__all__ = ["AnsweredMeanwhileError", "Batch", "Desk"]

_HELD = 60.0
"""Seconds for which a sample counts as open in a tab that was last heard of then."""

_NAME_LENGTH = 200


class AnsweredMeanwhileError(AnnotatorError):
    """Somebody else has answered since the sample was shown.

    Attributes
    ----------
    answer : Answer
        What the other one said.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__("somebody else has answered this one meanwhile")
        self.answer = answer


@dataclass(frozen=True)
class Batch:
    """A batch that was asked for.

    Parameters
    ----------
    ticket : str
    key : str
        Differs where anything in the batch does.
    content : LabelBatch
    questions : dict
        Its questions by sample id, in the order of their rank.
    """

    ticket: str
    key: str
    content: LabelBatch
    questions: dict[str, Question]


class Desk:
    """The state of one project's page. Methods may be called from any thread.

    Parameters
    ----------
    folder : path
        The project's folder; which batch is open is read from its ``pending.json``.
    clock : callable
        Seconds that only grow.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._browser = Browser(folder)
        self._pending = folder / "pending.json"
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, tuple[str, str, float]] = {}
        self._logs: dict[str, AnswerLog] = {}
        self._batches: dict[str, tuple[tuple[int, int, int], Batch]] = {}

    def current(self) -> Batch | str:
        """The batch to label now, or why there is none."""
        try:
            advice = "run `rlmba next` again"
            pending = find_json(self._pending, Pending, advice=advice, error=AnnotatorError)
            if pending is None:
                return "No batch to label now: the model is learning, or `rlmba next` has not been run."
            if pending.annotator != "browser":
                return (
                    f"Round {pending.round} is not labeled here: it went to the annotator "
                    f"{pending.annotator!r}."
                )
            return self.batch(pending.ticket)
        except AnnotatorError as error:
            return str(error)

    def batch(self, ticket: str) -> Batch:
        """The batch behind a ticket, open or past.

        Raises
        ------
        AnnotatorError
            If there is none.
        """
        try:
            status = (self._browser.tickets.folder / f"{ticket}.json").stat()
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        except (OSError, ValueError):
            stamp = (0, 0, 0)
        kept = self._batches.get(ticket)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        content = self._browser.batch(ticket)
        key = hashlib.sha256(json.dumps([ticket, content.to_dict()]).encode()).hexdigest()[:16]
        ranked = sorted(content.questions, key=lambda question: question.rank)
        batch = Batch(ticket, key, content, {question.id: question for question in ranked})
        self._batches[ticket] = stamp, batch
        return batch

    def answers(self, batch: Batch) -> Answers:
        """What has been said of it so far."""
        return self._log(batch).read()

    def classes(self, batch: Batch, answers: Answers) -> list[str]:
        """The batch's classes, then those that people added, in the order in which they did."""
        known = list(batch.content.classes)
        return known + [name for name in answers.labels if name not in known]

    def touch(self, batch: Batch, session: str, at: str) -> None:
        """Note that a tab still shows a sample."""
        if at in batch.questions:
            with self._lock:
                self._open[session] = batch.ticket, at, self._clock()

    def choose(
        self, batch: Batch, session: str, skipped: Sequence[str] = (), leaving: str = ""
    ) -> list[str]:
        """What a tab shall show now, and after that; none where all is answered.

        By rank, after these what the tab has skipped, in that order, after these what another tab
        has open; the one it is leaving last of all. The first one is then open in this tab.
        """
        answered = self.answers(batch).current
        with self._lock:
            now = self._clock()
            self._open = {s: o for s, o in self._open.items() if now - o[2] < _HELD}
            others = {
                i for s, (t, i, _) in self._open.items() if s != session and t == batch.ticket
            }
            places = {i: place for place, i in enumerate(skipped, start=1)}
            left = [i for i in batch.questions if i not in answered]
            left.sort(key=lambda i: (i == leaving, i in others, places.get(i, 0)))
            if left:
                self._open[session] = batch.ticket, left[0], now
            return left[:2]

    def answer(self, batch: Batch, entry: Entry, base: int) -> Answers:
        """Write an answer down, or that one is taken back.

        Nothing is written where it says what holds already: an answer may be sent again.

        Parameters
        ----------
        batch : Batch
        entry : Entry
        base : int
            The sample's ``version`` when it was shown to the person.

        Raises
        ------
        AnsweredMeanwhileError
            If it would replace an answer of another tab that was not there then.
        UsageError
            If the sample is not in the batch, or the label is no class and cannot become one.
        StorageError
            If the disk refuses; what was said before is unharmed.
        """
        if entry.id not in batch.questions:
            raise UsageError(f"expected a sample of {batch.ticket}, got {entry.id!r}")

        def wanted(now: Answers) -> bool:
            there = now.current.get(entry.id)
            if there is None:
                return not entry.undo
            if not entry.undo and there.label == entry.label:
                return False
            own = entry.session != "" and there.session == entry.session
            if there.version != base and not own:
                raise AnsweredMeanwhileError(there)
            return True

        if entry.label is not None and not entry.undo:
            entry = replace(entry, label=self._checked(batch, entry.label))
        return self._log(batch).append(entry, wanted)

    def _checked(self, batch: Batch, label: str) -> str:
        classes = self.classes(batch, self.answers(batch))
        if label in classes:
            return label
        if not batch.content.open:
            raise UsageError(f"expected one of {classes}, got {label!r}{nearest(label, classes)}")
        name = " ".join(unicodedata.normalize("NFC", label).split())
        if not name or len(name) > _NAME_LENGTH or not name.isprintable():
            raise UsageError(
                f"expected a class's name, 1 to {_NAME_LENGTH} characters that can be printed, got {label!r}"
            )
        for there in classes:
            if there.casefold() == name.casefold():
                if there == name:
                    return name
                raise UsageError(f"there is a class {there!r} already; choose that instead")
        return name

    def _log(self, batch: Batch) -> AnswerLog:
        with self._lock:
            return self._logs.setdefault(batch.ticket, self._browser.log(batch.ticket))
