"""Progress of long work: what is being done, and how much of it, told to whoever shows it.

A command opens :func:`announced_to`, and everything that it calls may :func:`announce`. No function needs a
parameter for it, so data sets and other parts from outside this package keep their own signatures.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Protocol, TypeVar

__all__ = ["Announce", "announce", "announced_to", "counted", "silent"]

_Item = TypeVar("_Item")

_SECONDS = 0.1
"""Least time between two counts of the same stage."""


class Announce(Protocol):
    """Called with the name of each stage as it begins, and during long ones with what is done of it."""

    def __call__(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Show the stage; ``total`` is 0 where there is nothing to count."""


def silent(stage: str, done: int = 0, total: int = 0) -> None:
    """Announce nothing."""


_listener: ContextVar[Announce] = ContextVar("_listener", default=silent)


@contextlib.contextmanager
def announced_to(listener: Announce) -> Iterator[None]:
    """Pass what is announced in the block, in this thread, to ``listener``."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def announce(stage: str, done: int = 0, total: int = 0) -> None:
    """Tell the command that runs what is being done; without a command, nothing happens.

    Parameters
    ----------
    stage : str
        A few words such as "reading the data".
    done, total : int
        How much of it is done; 0 where there is nothing to count.
    """
    _listener.get()(stage, done, total)


def counted(stage: str, items: Iterable[_Item], total: int) -> Iterator[_Item]:
    """Yield items, and announce how many of ``total`` have been processed.

    An item counts as processed once the next one is requested.
    """
    due = 0.0
    done = 0
    for done, item in enumerate(items):
        if time.monotonic() >= due:
            announce(stage, done, total)
            due = time.monotonic() + _SECONDS
        yield item
    announce(stage, min(done + 1, total), total)
