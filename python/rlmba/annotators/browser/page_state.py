"""The state of a labeling page: the open batch, which sample each tab shows, and the answers."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from rlmba.annotators.browser.annotator import Browser
from rlmba.annotators.browser.answer_log import (
    AnswerEvent,
    AnswerLog,
    AnswerState,
    CurrentAnswer,
)
from rlmba.annotators.guidance import guidance
from rlmba.annotators.matching import CANNOT_TELL, ClassNames
from rlmba.cells import LONGEST_NAME
from rlmba.config.schema import ProjectConfig
from rlmba.errors import AnnotatorError, RunFolderError, UsageError
from rlmba.runfolder.batches import LabelBatch, Question
from rlmba.runfolder.labels import LabelLog
from rlmba.runfolder.pending import read_pending
from rlmba.storage import holder

__all__ = ["AnswerConflictError", "PageState", "ShownBatch"]

_HELD = 60.0
"""Seconds for which a sample counts as open in a tab after the tab was last heard of."""


class AnswerConflictError(AnnotatorError):
    """Somebody else has answered the sample since it was shown.

    Attributes
    ----------
    answer : CurrentAnswer
        The other person's answer.
    """

    def __init__(self, answer: CurrentAnswer) -> None:
        super().__init__("somebody else has answered this sample in the meantime")
        self.answer = answer


@dataclass(frozen=True)
class ShownBatch:
    """A batch as the page shows it.

    Parameters
    ----------
    ticket : str
    key : str
        Differs between batches that differ in anything.
    content : LabelBatch
    questions : dict
        The batch's questions by sample id, in the order of their rank.
    """

    ticket: str
    key: str
    content: LabelBatch
    questions: dict[str, Question]

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """What at least one of the samples shows: the names of files, then those of texts."""
        every = self.questions.values()
        return tuple(
            dict.fromkeys([m for q in every for m in q.files] + [m for q in every for m in q.texts])
        )


class PageState:
    """The state of one project's page. All methods may be called from any thread.

    Parameters
    ----------
    folder : path
        The project's folder. Its ``pending.json`` says which batch is open.
    clock : callable
        Returns monotonic seconds.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._browser = Browser(folder)
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, tuple[str, str, float]] = {}
        self._logs: dict[str, AnswerLog] = {}
        self._batches: dict[str, tuple[tuple[int, int, int], ShownBatch]] = {}

    def current(self) -> ShownBatch | str:
        """The batch to label now, or why there is none."""
        try:
            pending = read_pending(self._folder)
            if pending is None or not pending.annotator:
                return (
                    "There is no batch to label now. Run `rlmba next` to choose one; this page then "
                    "continues automatically."
                )
            if pending.annotator != "browser":
                return (
                    f"Round {pending.round} is not labeled on this page but by the annotator "
                    f"{pending.annotator!r}."
                )
            return self.batch(pending.ticket)
        except (AnnotatorError, RunFolderError) as error:
            return str(error)

    def project(self) -> ProjectConfig:
        """See :func:`rlmba.annotators.guidance.guidance`."""
        return guidance(self._folder)

    def work(self) -> str:
        """What another command is doing with the project's folder at the moment; "" if nothing."""
        if holder(self._folder) is None:
            return ""
        try:
            seconds = max(0, round(time.time() - (self._folder / "lock").stat().st_mtime))
            if read_pending(self._folder) is None:
                return f"The next batch is being chosen ({seconds} s)."
            known = LabelLog(self._folder / "labels.jsonl").current().values()
        except (OSError, RunFolderError):
            return ""
        labels = sum(label is not None for label in known)
        return f"The model is being trained on {labels} labels ({seconds} s)."

    def batch(self, ticket: str) -> ShownBatch:
        """The batch with a ticket, whether open or past.

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
        batch = ShownBatch(ticket, key, content, {question.id: question for question in ranked})
        self._batches[ticket] = stamp, batch
        return batch

    def answers(self, batch: ShownBatch) -> AnswerState:
        """The answers to a batch so far."""
        return self._log(batch).read()

    def classes(self, batch: ShownBatch, answers: AnswerState) -> list[str]:
        """The batch's classes, followed by those that current answers added, in the order of first use."""
        known = list(batch.content.classes)
        return known + [name for name in answers.labels if name not in known]

    def touch(self, batch: ShownBatch, session: str, at: str) -> None:
        """Record that a tab still shows a sample."""
        if at in batch.questions:
            with self._lock:
                self._open[session] = batch.ticket, at, self._clock()

    def choose(
        self, batch: ShownBatch, session: str, skipped: Sequence[str] = (), leaving: str = ""
    ) -> list[str]:
        """The ids of the sample that a tab shows next and of the one after it.

        Samples without an answer come in the order of their rank, then those that the tab skipped, in that
        order, then those that other tabs show, and last the one that the tab is leaving. The first of the
        result then counts as shown by this tab. If all samples are answered, the result is empty.
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

    def answer(self, batch: ShownBatch, event: AnswerEvent, base: int) -> AnswerState:
        """Record an answer, or that one is taken back.

        Nothing is written if the event changes nothing: an answer may be sent again.

        Parameters
        ----------
        batch : ShownBatch
        event : AnswerEvent
        base : int
            The sample's ``version`` when it was shown to the person.

        Raises
        ------
        AnswerConflictError
            If it would replace an answer of another tab that did not exist then.
        UsageError
            If the sample is not in the batch, or the label is not a class and cannot become one.
        StorageError
            If it cannot be written; earlier answers are unchanged.
        """
        if event.id not in batch.questions:
            raise UsageError(f"expected a sample of {batch.ticket}, got {event.id!r}")

        def wanted(now: AnswerState) -> bool:
            there = now.current.get(event.id)
            if there is None:
                return not event.undo
            if not event.undo and there.label == event.label:
                return False
            same_tab = event.session != "" and there.session == event.session
            if there.version != base and not same_tab:
                raise AnswerConflictError(there)
            return True

        if event.label is not None and not event.undo:
            event = replace(event, label=self._checked(batch, event.label))
        return self._log(batch).append(event, wanted)

    def _checked(self, batch: ShownBatch, label: str) -> str:
        classes = self.classes(batch, self.answers(batch))
        if label in classes:
            return label
        if not batch.content.open:
            raise UsageError(ClassNames(classes, open=False).refusal(label))
        name = " ".join(unicodedata.normalize("NFC", label).split())
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise UsageError(
                f"expected a class name of 1 to {LONGEST_NAME} printable characters, got {label!r}"
            )
        if name == CANNOT_TELL:
            raise UsageError(
                f"a new class cannot be called {name!r}; if you cannot tell, press that button"
            )
        for there in classes:
            if there.casefold() == name.casefold():
                if there == name:
                    return name
                raise UsageError(f"the class {there!r} exists already; choose it instead")
        return name

    def _log(self, batch: ShownBatch) -> AnswerLog:
        with self._lock:
            return self._logs.setdefault(batch.ticket, self._browser.log(batch.ticket))
