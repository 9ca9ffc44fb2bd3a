"""A project's rounds in turn: the loop of every run, with people as annotators."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from rlmba.learner.drive import drive
from rlmba.project.answers import CollectedLabels, collect
from rlmba.project.folder import open_project, read_project
from rlmba.project.query import Query, ask
from rlmba.project.state import advice_of, open_batch

__all__ = ["ProjectRounds", "Watcher", "loop"]


class Watcher(Protocol):
    """Told how the rounds go on."""

    def serving(self, url: str) -> None:
        """The labeling page is at ``url``, for as long as the loop runs."""

    def stage(self, stage: str, done: int = 0, total: int = 0) -> None:
        """A stage begins."""

    def asked(self, query: Query) -> None:
        """A batch is with the annotator."""

    def waiting(self, answered: int, asked: int, trouble: str) -> None:
        """Some samples of the batch have an answer; ``trouble`` says why they cannot be looked at."""

    def collected(self, found: CollectedLabels) -> None:
        """Answers were collected; with a record a round is complete."""


def loop(
    path: Path,
    watcher: Watcher,
    *,
    rounds: int | None = None,
    until_advised: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Ask, wait for the answers, learn, until nothing is left to do.

    Parameters
    ----------
    path : path
        A project's folder. It is locked only while something is chosen, collected or trained.
    watcher : Watcher
    rounds : int or None
        Stop after so many more complete rounds; None: ``rounds`` of the configuration after round 0, or no
        such bound.
    until_advised : bool
        Stop as soon as another batch is not expected to be worth it.
    sleep : callable
        Waits for a number of seconds.

    Returns
    -------
    str
        Why it stopped.

    Raises
    ------
    AnnotatorError
        If a batch cannot be handed over. Answers that cannot be had for the moment are waited for.
    """
    with _page(path, watcher):
        return drive(ProjectRounds(path, watcher, rounds, until_advised), sleep=sleep)


class ProjectRounds:
    """The :class:`~rlmba.learner.drive.Rounds` of a project. The folder is locked only during a step.

    Parameters
    ----------
    path, watcher, rounds, until_advised
        See :func:`loop`.
    """

    def __init__(
        self,
        path: Path,
        watcher: Watcher,
        rounds: int | None = None,
        until_advised: bool = False,
    ) -> None:
        self.path = path
        self.watcher = watcher
        self._rounds = rounds
        self._until_advised = until_advised
        self._done = 0
        self._seen: tuple[int, int, str] | None = None

    def finished(self) -> str | None:
        """The reason why no further round begins; None if a round may begin."""
        if self._rounds is not None:
            if self._done >= self._rounds:
                return f"{self._done} rounds are complete, as asked for"
        else:
            project = read_project(self.path)
            most = project.config.rounds
            if most is not None and project.rounds > most:
                return f"all {most} rounds after round 0 are complete"
        if self._until_advised and self._done:
            project = read_project(self.path)
            advice = advice_of(project, project.records)
            if advice is not None and advice.stop:
                return advice.text
        return None

    def ask(self) -> str | None:
        """Choose a batch and hand it over. Returns the reason if there is no batch, otherwise None."""
        self._seen = None
        with open_project(self.path) as project:
            query = ask(project, self.watcher.stage)
        self.watcher.asked(query)
        return None if query.batch is not None or query.ready else query.why

    def answers(self) -> tuple[int, int, str]:
        """Number of answers so far, size of the batch, and why answers cannot be read ("" if they can)."""
        found = open_batch(read_project(self.path))[1:]
        if found != self._seen:
            self.watcher.waiting(*found)
            self._seen = found
        return found

    def learn(self) -> None:
        """Collect the answers and train."""
        with open_project(self.path) as project:
            found = collect(project, announce=self.watcher.stage)
        self.watcher.collected(found)
        self._done += found.record is not None


@contextlib.contextmanager
def _page(path: Path, watcher: Watcher) -> Iterator[None]:
    """Serve the labeling page meanwhile, where people label in it."""
    project = read_project(path)
    if project.config.project.annotator != "browser":
        yield
        return
    from rlmba.annotators.browser import Browser, start

    annotator = project.annotator()  # raises where the page may not do what its options say
    assert isinstance(annotator, Browser)
    with start(path, annotator.host, annotator.port) as page:
        watcher.serving(page.url)
        yield
