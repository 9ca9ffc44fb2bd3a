"""Progress of a run: a bar on a terminal, and one plain line per round everywhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from rlmba.cli.counter import stages
from rlmba.cli.screen import console
from rlmba.config import RunConfig
from rlmba.markup import visible
from rlmba.types import RoundRecord

if TYPE_CHECKING:
    from rlmba.learner.query import Announce

__all__ = ["run_progress", "training_progress"]


class _RunProgress:
    """Prints the progress of a run; see :class:`rlmba.learner.Observer`."""

    def __init__(self, folder: Path, progress: Progress, show: Announce | None) -> None:
        self._folder = folder
        self._progress = progress
        self._show = show  # None on a terminal, where the bar shows the same
        self._task: TaskID | None = None
        self._count: TaskID | None = None

    def features(self, done: int, total: int) -> None:
        if self._count is None:
            self._say(f"computing features of {total:,} samples with frozen encoders, once")
            self._count = self._progress.add_task("features", total=total)
        self._progress.update(self._count, completed=done, visible=done < total)
        if self._show is not None:
            self._show("features" if done < total else "", done, total)

    def begin(self, config: RunConfig, done: int) -> None:
        rounds = int(config.last_round or 0)
        labels = (
            f"{config.initial_labels} labels, then {rounds} x {config.batch_size}"
            if config.budgets is None
            else f"{', '.join(map(str, config.budgets))} labels"
        )
        self._say(
            f"{config.strategy} on {config.dataset}, fusion {config.fusion}, seed {config.seed}: "
            f"{labels}, into {self._folder}"
        )
        if done:
            self._say(f"resumed after round {done - 1}")
        self._task = self._progress.add_task("starting", total=rounds + 1, completed=done)

    def stage(self, number: int, name: str) -> None:
        if self._task is not None:
            self._progress.update(self._task, description=f"round {number}: {name}")

    def round(self, record: RoundRecord) -> None:
        evaluation = record.test or record.validation
        heads = "  ".join(f"{h} {m.top1:.3f}" for h, m in evaluation.heads.items())
        figures = f"{heads}  macro {evaluation.mm.top1_macro:.3f}"
        if evaluation.majority is not None:
            figures += f"  largest class {evaluation.majority:.3f}"
        seconds = sum(record.seconds.values())
        self._say(
            f"round {record.round:2d}  labels {record.labels:5d}  {figures}  ({seconds:.1f} s)"
        )
        if self._task is not None:
            self._progress.advance(self._task)

    def _say(self, text: str) -> None:
        self._progress.console.print(visible(text), soft_wrap=True)


@contextlib.contextmanager
def run_progress(folder: Path) -> Iterator[_RunProgress]:
    """Yield an observer that prints to stderr: with a bar on a terminal, else with lines about features."""
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(_progress())
        show = None if sys.stderr.isatty() else stack.enter_context(stages())
        yield _RunProgress(folder, progress, show)


@contextlib.contextmanager
def training_progress(
    episodes: int, parallel: int
) -> Iterator[Callable[[str, Mapping[str, Any]], None]]:
    """Yield a function that prints a step of policy training: the left-out data set and its metrics."""
    with _progress() as progress:
        task = progress.add_task("episodes", total=episodes)

        def step(left_out: str, figures: Mapping[str, Any]) -> None:
            name = f"without {left_out}: " if left_out else ""
            progress.console.print(
                f"{visible(name)}episodes {figures['episodes']:5d}  return {figures['return']:.4f}  "
                f"moving {figures['moving_return']:.4f}  entropy {figures['entropy']:.2f}",
                soft_wrap=True,
            )
            progress.update(task, completed=figures["episodes"] - parallel)
            progress.advance(task, parallel)

        yield step


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:<20}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
