"""Progress of work on many samples: a bar on a terminal, otherwise a line every 30 seconds."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rlmba.cli.screen import console

__all__ = ["counter"]

_SECONDS = 30.0
"""Time between lines."""


@contextlib.contextmanager
def counter(what: str) -> Iterator[Callable[[int, int], None]]:
    """Make a function that shows the number of samples done and the total; it prints to stderr."""
    if not sys.stderr.isatty():
        yield _plain(what)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _plain(what: str) -> Callable[[int, int], None]:
    next_line = time.monotonic() + _SECONDS
    ended = False

    def show(done: int, total: int) -> None:
        nonlocal next_line, ended
        if ended or (done < total and time.monotonic() < next_line):
            return
        next_line = time.monotonic() + _SECONDS
        ended = done == total
        print(f"{what}: {done:,} of {total:,}", file=sys.stderr, flush=True)  # noqa: T201

    return show
