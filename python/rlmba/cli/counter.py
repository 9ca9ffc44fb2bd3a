"""Progress of long work: a bar on a terminal, otherwise a line every ten seconds."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rlmba.progress import Announce, announced_to

if TYPE_CHECKING:
    from rich.progress import Progress, Task

__all__ = ["counter", "stages"]

SECONDS = 10.0
"""Time between lines, and before the first one."""


@contextlib.contextmanager
def stages() -> Iterator[Announce]:
    """Yield a function that shows a stage, and how much of it is done, on stderr.

    What the block announces (:mod:`rlmba.progress`) is shown as well.
    """
    if sys.stderr.isatty():
        with _bar() as progress:
            show = _on_terminal(progress)
            with announced_to(show):
                yield show
        return
    lines = _Lines()
    thread = threading.Thread(target=lines.print_regularly, daemon=True)
    thread.start()
    try:
        with announced_to(lines.show):
            yield lines.show
    finally:
        lines.ended.set()
        thread.join()


@contextlib.contextmanager
def counter(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows the number of samples done and the total, on stderr."""
    counts = (0, 0)

    def count(done: int, total: int) -> None:
        nonlocal counts
        counts = done, total
        show(what, done, total)

    with stages() as show:
        show(what)
        yield count
    if counts[1] and not sys.stderr.isatty():
        print(f"{what}: {counts[0]:,} of {counts[1]:,}", file=sys.stderr, flush=True)  # noqa: T201


class _Lines:
    """Prints a line about the current stage from time to time."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._stage = ""
        self._done = self._total = self._first = 0
        self._began = time.monotonic()

    def show(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Change what the next line says; an empty stage prints nothing."""
        if stage != self._stage:
            self._stage, self._began = stage, time.monotonic()
            self._first = done  # by an earlier command, say nothing about the rate
        self._done, self._total = done, total

    def print_regularly(self) -> None:
        """Print until the work has ended."""
        last = ""
        while not self.ended.wait(SECONDS):
            line = self._line() if self._stage else ""
            if line and line != last:
                print(line, file=sys.stderr, flush=True)  # noqa: T201
            last = line

    def _line(self) -> str:
        seconds = max(1e-9, time.monotonic() - self._began)
        if not self._total:
            return f"{self._stage} ... {_duration(seconds)}"
        rate = (self._done - self._first) / seconds
        left = f", about {_duration((self._total - self._done) / rate)} left" if rate else ""
        return f"{self._stage}: {self._done:,} of {self._total:,}, {rate:.1f} per second{left}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _bar() -> Progress:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.table import Column

    from rlmba.cli.screen import console

    class Count(TextColumn):
        """Number of samples and samples per second."""

        def render(self, task: Task) -> str:  # type: ignore[override]
            if task.total is None:
                return ""
            speed = f", {task.speed:.1f} per second" if task.speed else ""
            return f"{int(task.completed):,} of {int(task.total):,}{speed}"

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        Count("", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # otherwise results would go to the terminal
    )


def _on_terminal(progress: Progress) -> Announce:
    task = progress.add_task("starting", total=None)
    current = ""

    def show(stage: str, done: int = 0, total: int = 0) -> None:
        nonlocal current
        if stage != current:
            current = stage
            progress.reset(task, description=stage, total=None)
        progress.update(task, description=stage, completed=done, total=total or None)

    return show
