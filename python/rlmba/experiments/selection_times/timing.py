"""Times of single selections at the paper's sizes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlmba import environment, kernels, strategies
from rlmba.experiments import paper
from rlmba.experiments.content import TableData
from rlmba.experiments.selection_times.made_pools import (
    FOOD101,
    PoolSize,
    SelectionCase,
    make_case,
)
from rlmba.experiments.tables.cells import number, text
from rlmba.experiments.tables.render import terminal
from rlmba.progress import counted
from rlmba.storage import atomic_write_text
from rlmba.types import Selection

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "SelectionTime",
    "SelectionTimes",
    "sizes",
    "time_case",
    "time_selection",
    "time_selections",
]

_SIZES: Mapping[str, tuple[PoolSize, ...]] = {
    # The widths of BERT (768) and ResNet (2,048), concatenated; and a pool small enough for gradient
    # embeddings that are formed in full.
    "badge": (
        replace(FOOD101, width=2_816, modalities=1),
        PoolSize(rows=5_000, classes=100, width=768, modalities=1, batch=10),
    ),
    "bmmal": (replace(FOOD101, concat=True),),
    "bald": (replace(FOOD101, passes=10),),
    # A dense adjacency matrix of the Food101 pool would take 8 GB; that of the first size is feasible.
    "gcnal": (replace(FOOD101, rows=9_000), FOOD101),
}


def sizes(name: str) -> tuple[PoolSize, ...]:
    """Sizes at which a strategy is timed: the paper's Food101, with the arrays that it reads."""
    return _SIZES.get(name, (FOOD101,))


@dataclass(frozen=True)
class SelectionTime:
    """Seconds of one selection, the best of several runs, in total and by stage."""

    strategy: str
    size: PoolSize
    seconds: float
    stages: Mapping[str, float]

    @property
    def paper_seconds(self) -> float | None:
        """The paper's figure for this strategy; None where the pool has another size."""
        if self.size.rows != FOOD101.rows:
            return None
        return paper.seconds_of("food101", self.strategy, "select")


def time_selection(
    name: str, *, size: PoolSize | None = None, repeats: int = 3, seed: int = 0
) -> SelectionTime:
    """Time one query of a strategy, with its default options, on synthetic outputs.

    Parameters
    ----------
    name : str
        A registered strategy.
    size : PoolSize or None
        None: the first of :func:`sizes`.
    repeats : int
        Number of runs, >= 1; the fastest counts.
    seed : int
        Seeds the outputs and the strategy.
    """
    size = sizes(name)[0] if size is None else size
    case = make_case(size, seed=seed)
    turns = counted(f"selecting by {name}", range(repeats), repeats)
    runs = [time_case(name, case, seed) for _ in turns]
    seconds, selection = min(runs, key=lambda run: run[0])
    return SelectionTime(name, size, seconds, dict(selection.seconds))


def time_case(name: str, case: SelectionCase, seed: int = 0) -> tuple[float, Selection]:
    """Query a strategy once; return the seconds and the selection."""
    context = replace(case.context, rng=np.random.default_rng(seed))
    strategy = strategies.create(name)
    start = time.perf_counter()
    selection = strategy.query(case.pool, context, case.size.batch)
    return time.perf_counter() - start, selection


@dataclass(frozen=True)
class SelectionTimes:
    """The result of `rlmba bench`: the times, and the file that holds them if one was asked for."""

    rows: Sequence[SelectionTime]
    paths: Sequence[Path] = ()

    def tables(self) -> list[Table]:
        """Tables for a terminal."""
        table = TableData(
            key="selections",
            title="Seconds of one selection; the paper's are from its Table 3 (Food101)",
            columns=("strategy", "size", "seconds", "paper s, GPU"),
            rows=tuple(
                (
                    text(row.strategy), text(row.size), number(row.seconds, ".3g"),
                    number(row.paper_seconds, ".2f"),
                )
                for row in self.rows
            ),
        )  # fmt: skip
        return [terminal(table)]

    def to_dict(self) -> dict[str, Any]:
        """The figures and the machine they were measured on, ready for JSON."""
        return {
            "machine": {
                "cpu": environment.processor(),
                "threads": kernels.num_threads(),
                "instruction_set": kernels.instruction_set(),
                **environment.versions(),
            },
            "selections": [
                {**asdict(row), "paper_seconds_gpu": row.paper_seconds} for row in self.rows
            ],
        }


def time_selections(
    names: Sequence[str],
    *,
    rows: int | None,
    repeats: int,
    output: Path | None,
    announce: Callable[[str], object],
) -> SelectionTimes:
    """Time the selections of several strategies, one after another.

    Parameters
    ----------
    names : sequence of str
        Strategies; an empty sequence means all registered ones.
    rows : int or None
        Number of samples in the pool; None: those of :func:`sizes`.
    repeats : int
        Number of runs of each selection; the fastest counts.
    output : Path or None
        A JSON file to write the figures to.
    announce : callable
        Called with one line of text before each measurement.

    Raises
    ------
    UsageError
        If a name is unknown; raised before anything is timed.
    """
    chosen = list(names) or list(strategies.names())
    for name in chosen:
        strategies.options(name)
    timed = []
    for name in chosen:
        for size in sizes(name) if rows is None else (_resized(sizes(name)[0], rows),):
            announce(f"{name}: {size}")
            timed.append(time_selection(name, size=size, repeats=repeats))
    made = SelectionTimes(timed, () if output is None else (output,))
    if output is not None:
        atomic_write_text(output, json.dumps(made.to_dict(), indent=1) + "\n")
    return made


def _resized(size: PoolSize, rows: int) -> PoolSize:
    return replace(size, rows=rows, batch=min(size.batch, rows))
