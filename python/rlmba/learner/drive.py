"""The loop of every run: propose a batch, wait for its answers, learn from them, and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["Rounds", "drive"]

FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
"""Seconds between two looks at the annotator: at first, and at most."""


class Rounds(Protocol):
    """A run as :func:`drive` sees it: an experiment with an oracle, or a project with people."""

    def finished(self) -> str | None:
        """Why no further round is to begin; None where one is."""
        ...

    def ask(self) -> str | None:
        """Propose a batch and hand it to the annotator; why there is none to propose, if that ends it."""
        ...

    def answers(self) -> tuple[int, int, str]:
        """Answers to the batch so far, its size, and why they cannot be looked at for the moment."""
        ...

    def learn(self) -> None:
        """Take the answers in, train, evaluate and record the round."""
        ...


def drive(rounds: Rounds, *, sleep: Callable[[float], None] = time.sleep) -> str:
    """Run rounds until there is a reason to stop.

    Parameters
    ----------
    rounds : Rounds
    sleep : callable
        Waits for a number of seconds, while annotators have not answered all of a batch.

    Returns
    -------
    str
        Why it stopped.
    """
    while True:
        why = rounds.finished() or rounds.ask()
        if why is not None:
            return why
        _wait(rounds, sleep)
        rounds.learn()


def _wait(rounds: Rounds, sleep: Callable[[float], None]) -> None:
    """Return when every sample of the batch has an answer."""
    wait, last = FIRST_WAIT, None
    while True:
        found = rounds.answers()
        answered, size, trouble = found
        if answered == size and not trouble:
            return
        wait = FIRST_WAIT if found != last else min(2 * wait, LONGEST_WAIT)
        last = found
        sleep(wait)
