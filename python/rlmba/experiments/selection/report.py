"""What `rlmba bench` measures, as tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlmba import environment, kernels, strategies
from rlmba.experiments.selection.cases import Size
from rlmba.experiments.selection.timing import (
    GROWTH_ROWS,
    Row,
    growth,
    measure,
    sizes,
)
from rlmba.storage import atomic_write_text

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Bench", "run_bench"]


@dataclass(frozen=True)
class Bench:
    """Timed selections: one row a strategy, and how each grows with the pool."""

    rows: Sequence[Row]
    growth: Sequence[dict[str, Any]]
    paths: Sequence[Path] = ()

    def tables(self) -> list[Table]:
        """Tables for a terminal."""
        return [_selections(self.rows), *([_growth(self.growth)] if self.growth else [])]

    def to_dict(self) -> dict[str, Any]:
        """Figures with what they were measured on, ready for JSON."""
        return {
            "machine": {
                "cpu": environment.processor(),
                "threads": kernels.num_threads(),
                "instruction_set": kernels.instruction_set(),
                **environment.versions(),
            },
            "selections": [
                {
                    "strategy": row.strategy,
                    "size": asdict(row.size),
                    "seconds": row.seconds,
                    "stages": dict(row.stages),
                    "peer": None if row.peer is None else row.peer.form,
                    "peer_seconds": None if row.peer is None else row.peer.seconds,
                    "ratio": row.ratio,
                    "same_picks": row.same,
                    "paper_seconds_gpu": row.paper_seconds,
                }
                for row in self.rows
            ],
            "growth": list(self.growth),
        }


def run_bench(
    names: Sequence[str],
    *,
    rows: int | None,
    repeats: int,
    peers: bool,
    grow: bool,
    output: Path | None,
    told: Callable[[str], object],
) -> Bench:
    """Time selections one after another.

    Parameters
    ----------
    names : sequence of str
        Strategies; none means every registered one.
    rows : int or None
        Samples in the pool, in the place of those of :func:`sizes`.
    repeats : int
        The best of as many runs counts.
    peers : bool
        Whether to time the plain forms too.
    grow : bool
        Whether to time 10,000, 100,000 and 1,000,000 samples as well.
    output : Path or None
        Where to write the figures as JSON.
    told : callable
        Gets a line before each measurement.

    Raises
    ------
    UsageError
        If a name is unknown, before anything is timed.
    """
    chosen = list(names) or list(strategies.names())
    for name in chosen:
        strategies.options(name)
    timed = []
    for name in chosen:
        for size in sizes(name) if rows is None else (_resized(sizes(name)[0], rows),):
            told(f"{name}: {size}")
            timed.append(measure(name, size=size, repeats=repeats, peer=peers))
    grown = []
    for name in chosen if grow else ():
        for n in GROWTH_ROWS:
            told(f"{name}: growth, {n:,} samples")
            grown.append({"strategy": name, **growth(name, n)})
    made = Bench(timed, grown, () if output is None else (output,))
    if output is not None:
        atomic_write_text(output, json.dumps(made.to_dict(), indent=1) + "\n")
    return made


def _resized(size: Size, rows: int) -> Size:
    return replace(size, rows=rows, batch=min(size.batch, rows))


def _table(text: Sequence[str], numbers: Sequence[str], title: str) -> Table:
    from rich import box
    from rich.table import Table as RichTable

    made = RichTable(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for heading in text:
        made.add_column(heading, overflow="fold")
    for heading in numbers:
        made.add_column(heading, justify="right", no_wrap=True)
    return made


def _selections(rows: Sequence[Row]) -> Table:
    made = _table(
        ("strategy", "size", "peer"),
        ("seconds", "peer s", "ratio", "same picks", "paper s, GPU"),
        "One selection; the paper's seconds are its Table 3, Food101",
    )
    for row in rows:
        peer, ratio, paper = row.peer, row.ratio, row.paper_seconds
        made.add_row(
            row.strategy,
            str(row.size),
            "" if peer is None else peer.form,
            f"{row.seconds:.3g}",
            "" if peer is None else f"{peer.seconds:.3g}",
            "" if ratio is None else f"{ratio:.3g} x",
            "" if row.same is None else f"{row.same:.1%}",
            "" if paper is None else f"{paper:.2f}",
        )
    return made


def _growth(rows: Sequence[dict[str, Any]]) -> Table:
    made = _table(
        ("strategy",),
        ("samples", "seconds", "us a sample", "memory / input"),
        "Growth: 1,000 of a pool, C = 20, d = 64, M = 2",
    )
    for row in rows:
        made.add_row(
            row["strategy"],
            f"{row['rows']:,}",
            f"{row['seconds']:.3g}",
            f"{row['microseconds_a_row']:.3g}",
            f"{row['memory']:.2f}",
        )
    return made
