"""Progress of a comparison: a live table on a terminal, otherwise a line per run and every ten seconds."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rlmba.cli.counter import stages
from rlmba.cli.screen import console
from rlmba.markup import visible
from rlmba.progress import silent

if TYPE_CHECKING:
    from rlmba.experiments.sweep import RunProgress, SweepPlan
    from rlmba.progress import Announce

__all__ = ["comparison_progress"]

_COLUMN = 24
"""Largest width of a data set's column, in characters."""


class _ComparisonProgress:
    """Observer of a comparison: see :class:`rlmba.experiments.sweep.SweepObserver`."""

    def __init__(
        self, plan: SweepPlan, output: Path, console: Console, live: Live | None, show: Announce
    ) -> None:
        self._plan = plan
        self._output = output
        self._console = console
        self._live = live
        self._show = show  # without a table
        self._entries: Sequence[RunProgress] = ()
        self._start = time.monotonic()

    def begin(self, entries: Sequence[RunProgress], where: str) -> None:
        self._entries, self._start = entries, time.monotonic()
        config = self._plan.config
        runs = [e for e in entries if not e.run.is_round0]
        there = sum(e.state.value == "done" for e in runs)
        self._say(
            f"{_many(len(config.strategies), 'strategy', 'strategies')}, "
            f"{_many(len(config.datasets), 'data set')}, {_many(len(config.fusions), 'fusion')}, "
            f"{_many(len(config.seeds), 'seed')}: {_many(len(runs), 'run')} from "
            f"{_many(len(entries) - len(runs), 'shared round 0', 'shared rounds 0')}, in {where}, "
            f"into {self._output}"
        )
        for note in self._plan.notes:
            self._say(note)
        if there:
            self._say(f"{there} runs are complete already")

    def ended(self, entry: RunProgress) -> None:
        done, total = self._count()
        newest = entry.latest
        what = f"[{done}/{total}] {' '.join(entry.run.name.split('/')[1:])}"
        if entry.failure is not None:
            self._say(f"{what}: failed: {entry.failure.error}")
        elif self._live is None and newest.top1 is not None:
            kind = " round 0" if entry.run.is_round0 else ""
            largest = "" if newest.majority is None else f" (largest class {newest.majority:.3f})"
            self._say(f"{what}{kind}: Top-1 {newest.top1:.3f}{largest} at {newest.labels} labels")

    def tick(self) -> None:
        if self._live is not None:
            self._live.update(self.render(), refresh=True)
        else:
            self._show("rounds", *self._rounds())

    def render(self) -> Group:
        """The table and a summary line."""
        return Group(table(self._entries, self._console.width), Text(self._summary()))

    def _count(self) -> tuple[int, int]:
        runs = [e for e in self._entries if not e.run.is_round0]
        return sum(e.state.value in ("done", "failed", "blocked") for e in runs), len(runs)

    def _rounds(self) -> tuple[int, int]:
        left = [e.run.rounds - e.latest.rounds for e in self._entries if _is_open(e)]
        made = sum(e.latest.rounds for e in self._entries)
        return made, made + sum(left)

    def _summary(self) -> str:
        done, total = self._count()
        elapsed = time.monotonic() - self._start
        parts = [f"{done} of {total} runs", f"elapsed {_clock(elapsed)}"]
        if (left := remaining(self._entries, elapsed)) is not None:
            parts.append(f"about {_clock(left)} left")
        return "  ".join(parts)

    def _say(self, text: str) -> None:
        self._console.print(visible(text), soft_wrap=True)


def remaining(entries: Sequence[RunProgress], elapsed: float) -> float | None:
    """Estimated seconds until all rounds are done, at the pace of this session; None: no pace yet."""
    made = sum(e.latest.rounds - e.before for e in entries)
    left = sum(e.run.rounds - e.latest.rounds for e in entries if _is_open(e))
    return None if made <= 0 else elapsed * left / made


def _is_open(entry: RunProgress) -> bool:
    return entry.state.value in ("waiting", "running")


def table(entries: Sequence[RunProgress], width: int) -> Table:
    """Strategies by data set and model: seeds done, running and failed, and the latest mean Top-1.

    If not all data sets fit, those with running work are shown.
    """
    cells: dict[tuple[str, str], list[RunProgress]] = {}
    for e in entries:
        if not e.run.is_round0:
            cells.setdefault((e.run.label, f"{e.run.dataset} {e.run.model}"), []).append(e)
    labels = list(dict.fromkeys(label for label, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    longest = max(map(len, labels), default=0)
    fit = max(1, (width - longest - 3) // (_COLUMN + 3))

    def urgency(column: str) -> int:
        states = {e.state.value for (_, c), some in cells.items() for e in some if c == column}
        return 0 if "running" in states else 1 if "waiting" in states else 2

    shown = set(sorted(columns, key=urgency)[:fit])
    out = Table(box=None, pad_edge=False)
    out.add_column("", no_wrap=True)
    columns = [c for c in columns if c in shown]
    for column in columns:
        out.add_column(Text(visible(column)), no_wrap=True, max_width=_COLUMN)
    for label in labels:
        out.add_row(Text(visible(label)), *(_cell(cells.get((label, c), [])) for c in columns))
    return out


def _cell(entries: Sequence[RunProgress]) -> Text:
    states = [e.state.value for e in entries]
    text = Text(f"{states.count('done')}/{len(states)}")
    if running := states.count("running"):
        text.append(f" {running} running", "cyan")
    if failed := states.count("failed") + states.count("blocked"):
        text.append(f" {failed} failed", "red")
    latest = max((e.latest.rounds for e in entries), default=0)
    top1 = [
        e.latest.top1 for e in entries if e.latest.rounds == latest and e.latest.top1 is not None
    ]
    if top1:
        text.append(f" {fmean(top1):.3f}", "bold")
    return text


def _many(n: int, one: str, more: str = "") -> str:
    return f"{n} {one if n == 1 else more or one + 's'}"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


@contextlib.contextmanager
def comparison_progress(plan: SweepPlan, output: Path) -> Iterator[_ComparisonProgress]:
    """Make an observer that prints to stderr; the table is shown only on a terminal."""
    screen = console(stderr=True)
    if not sys.stderr.isatty():
        with stages() as show:
            yield _ComparisonProgress(plan, output, screen, None, show)
        return
    with Live(console=screen, auto_refresh=False, transient=True) as live:
        yield _ComparisonProgress(plan, output, screen, live, silent)
