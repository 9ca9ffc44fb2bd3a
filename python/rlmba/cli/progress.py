"""Progress of runs and of policy training: stages with their counts, and one plain line per round or step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlmba.cli.counter import stages
from rlmba.cli.screen import say
from rlmba.config import RunConfig
from rlmba.types import RoundRecord

if TYPE_CHECKING:
    from rlmba.progress import Announce

__all__ = ["run_progress", "training_progress"]


class _RunProgress:
    """Prints the progress of a run; see :class:`rlmba.learner.Observer`."""

    def __init__(self, folder: Path, show: Announce) -> None:
        self._folder = folder
        self._show = show
        self._rounds = 0
        self._counting = False

    def features(self, done: int, total: int) -> None:
        if not self._counting:
            self._counting = True
            _say(f"computing features of {total:,} samples with frozen encoders, once")
        self._show("features" if done < total else "", done, total)

    def begin(self, config: RunConfig, done: int) -> None:
        self._rounds = int(config.last_round or 0)
        labels = (
            f"{config.initial_labels} labels, then {self._rounds} x {config.batch_size}"
            if config.budgets is None
            else f"{', '.join(map(str, config.budgets))} labels"
        )
        _say(
            f"{config.strategy} on {config.dataset}, fusion {config.fusion}, seed {config.seed}: "
            f"{labels}, into {self._folder}"
        )
        if done:
            _say(f"resumed after round {done - 1}")

    def stage(self, number: int, name: str, done: int = 0, total: int = 0) -> None:
        self._show(f"round {number} of {self._rounds}: {name}", done, total)

    def round(self, record: RoundRecord) -> None:
        evaluation = record.test or record.validation
        heads = "  ".join(f"{h} {m.top1:.3f}" for h, m in evaluation.heads.items())
        figures = f"{heads}  macro {evaluation.mm.top1_macro:.3f}"
        if evaluation.majority is not None:
            figures += f"  largest class {evaluation.majority:.3f}"
        seconds = sum(record.seconds.values())
        _say(f"round {record.round:2d}  labels {record.labels:5d}  {figures}  ({seconds:.1f} s)")


@contextlib.contextmanager
def run_progress(folder: Path) -> Iterator[_RunProgress]:
    """Yield an observer that prints to stderr."""
    with stages() as show:
        yield _RunProgress(folder, show)


@contextlib.contextmanager
def training_progress(episodes: int) -> Iterator[Callable[[str, Mapping[str, Any]], None]]:
    """Yield a function that prints a step of policy training: the left-out data set and its metrics."""
    with stages() as show:

        def step(left_out: str, figures: Mapping[str, Any]) -> None:
            name = f"without {left_out}: " if left_out else ""
            _say(
                f"{name}episodes {figures['episodes']:5d}  return {figures['return']:.4f}  "
                f"moving {figures['moving_return']:.4f}  entropy {figures['entropy']:.2f}"
            )
            show(f"{name}episodes", figures["episodes"], episodes)

        show("episodes", 0, episodes)
        yield step


def _say(text: str) -> None:
    say(text, stderr=True)
