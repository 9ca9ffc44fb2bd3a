"""Rounds in turn: ask, wait for people, learn, ask again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from rlmba.project.asking import Asking, ask
from rlmba.project.folder import opened, read
from rlmba.project.status import advice_of, open_batch
from rlmba.project.taking import Taking, take

__all__ = ["Watcher", "loop"]

WAIT = 0.2
LONGEST_WAIT = 5.0
"""Seconds between looks at the annotator: the first, and the longest, which it grows to."""


class Watcher(Protocol):
    """Told how the rounds go on."""

    def serving(self, url: str) -> None:
        """The page to label in is at ``url``, for as long as the loop runs."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def asked(self, asking: Asking) -> None:
        """A batch is with the annotator."""

    def waiting(self, answered: int, asked: int, trouble: str) -> None:
        """So many of so many samples have an answer; ``trouble`` says why they cannot be looked at."""

    def taken(self, taking: Taking) -> None:
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
        Waits so many seconds.

    Returns
    -------
    str
        Why it stopped.

    Raises
    ------
    AnnotatorError
        If a batch cannot be handed over. Answers that cannot be had for the moment are waited for.
    """
    done = 0
    with _page(path, watcher):
        while True:
            if rounds is not None and done >= rounds:
                return f"{done} rounds are complete, as asked for"
            with opened(path) as project:
                most = project.config.rounds
                if rounds is None and most is not None and project.rounds > most:
                    return f"all {most} rounds after round 0 are complete"
                asking = ask(project, watcher.stage)
            watcher.asked(asking)
            if asking.batch is None and not asking.ready:
                return asking.why
            taking = _taken(path, watcher, sleep)
            watcher.taken(taking)
            done += taking.record is not None
            if until_advised and taking.record is not None:
                with opened(path) as project:
                    advice = advice_of(project, project.writable().records)
                if advice is not None and advice.stop:
                    return advice.text


def _taken(path: Path, watcher: Watcher, sleep: Callable[[float], None]) -> Taking:
    """Wait until every sample of the batch is answered, then train."""
    wait = WAIT
    last: tuple[int, int, str] | None = None
    while True:
        state = open_batch(read(path))[1:]
        if state != last:
            watcher.waiting(*state)
            last, wait = state, WAIT
        answered, n, trouble = state
        if answered == n and not trouble:
            with opened(path) as project:
                return take(project, announce=watcher.stage)
        sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)


@contextlib.contextmanager
def _page(path: Path, watcher: Watcher) -> Iterator[None]:
    """Serve the labeling page meanwhile, where people label in it."""
    project = read(path)
    if project.config.project.annotator != "browser":
        yield
        return
    from rlmba.annotators.browser import Browser, start

    annotator = project.annotator()  # raises where the page is not allowed what its options say
    assert isinstance(annotator, Browser)
    with start(path, annotator.host, annotator.port) as page:
        watcher.serving(page.url)
        yield
