"""Times of selections: one of each strategy at the paper's sizes, and how they grow with the pool."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rlmba import strategies
from rlmba.errors import RlmbaError
from rlmba.experiments.selection.cases import FOOD101, Case, Size, make_case
from rlmba.experiments.selection.peers import PEERS, Peer
from rlmba.types import Selection

__all__ = ["GROWTH_ROWS", "PAPER_SECONDS", "Row", "grown", "growth", "measure", "sizes"]

PAPER_SECONDS: Mapping[str, float] = {
    "gcnal": 700.54,
    "deepfool": 1273.25,
    "bald": 0.44,
    "badge": 312.84,
    "bmmal": 310.12,
    "rlmba": 33.48,
}
"""Table 3 of the paper: seconds of one selection on Food101, one workstation GPU."""

GROWTH_ROWS = (10_000, 100_000, 1_000_000)
GROWTH_SIZE = Size(rows=0, classes=20, width=64, batch=1_000)

_SIZES: Mapping[str, tuple[Size, ...]] = {
    # BERT's 768 and ResNet's 2,048, end to end; and a pool on which the plain form can be materialized.
    "badge": (
        replace(FOOD101, width=2_816, modalities=1),
        Size(rows=5_000, classes=100, width=768, modalities=1, batch=10),
    ),
    "bmmal": (replace(FOOD101, concat=True),),
    "bald": (replace(FOOD101, passes=10),),
    # A dense adjacency of Food101's pool would take 8 GB.
    "gcnal": (replace(FOOD101, rows=9_000), FOOD101),
}


def sizes(name: str) -> tuple[Size, ...]:
    """The sizes a strategy is timed at: Food101's in the paper, with what the strategy reads."""
    return _SIZES.get(name, (FOOD101,))


@dataclass(frozen=True)
class Row:
    """One timed selection: best of some runs, by stage, and the peer's seconds beside it.

    ``same`` is the fraction of the peer's picks that are ours, where both are determined.
    """

    strategy: str
    size: Size
    seconds: float
    stages: Mapping[str, float]
    peer: Peer | None = None
    same: float | None = None

    @property
    def paper_seconds(self) -> float | None:
        """The paper's figure for this strategy, where the pool is as large as there."""
        return PAPER_SECONDS.get(self.strategy) if self.size.rows == FOOD101.rows else None

    @property
    def ratio(self) -> float | None:
        """How many times faster than the peer."""
        return None if self.peer is None else self.peer.seconds / self.seconds


def measure(
    name: str, *, size: Size | None = None, repeats: int = 3, peer: bool = True, seed: int = 0
) -> Row:
    """Time one strategy's query on made outputs, and the plain form beside it.

    Parameters
    ----------
    name : str
        A registered strategy, with its default options.
    size : Size or None
        Default: the first of :func:`sizes`.
    repeats : int
        The best of as many runs counts, >= 1. The peer runs once.
    peer : bool
        Whether to run the plain form too, where there is one.
    seed : int
        Decides the outputs and the draw.
    """
    size = sizes(name)[0] if size is None else size
    case = make_case(size, seed=seed)
    runs = [_once(name, case, seed) for _ in range(repeats)]
    seconds, selection = min(runs, key=lambda run: run[0])
    beside = PEERS[name](case) if peer and name in PEERS else None
    same = None
    if beside is not None and beside.positions is not None and name in _DETERMINED:
        same = float(np.isin(beside.positions, selection.positions).mean())
    return Row(name, size, seconds, dict(selection.seconds), beside, same)


_DETERMINED = ("bald", "coreset")


def _once(name: str, case: Case, seed: int) -> tuple[float, Selection]:
    context = replace(case.context, rng=np.random.default_rng(seed))
    strategy = strategies.create(name)
    start = time.perf_counter()
    selection = strategy.query(case.pool, context, case.size.batch)
    return time.perf_counter() - start, selection


_GROWTH_SCRIPT = """
import json, sys
from rlmba.experiments.selection import timing
print(json.dumps(timing.grown(sys.argv[1], int(sys.argv[2]))))
"""


def growth(name: str, rows: int) -> dict[str, float]:
    """Seconds and memory of a selection of 1,000 from ``rows`` samples (C = 20, d = 64, M = 2).

    In a process of its own.

    Returns
    -------
    dict
        ``rows``, ``seconds``, ``microseconds_a_row``, and ``memory``: the peak of resident memory
        during the query over the input's bytes (1 is no more than the input).

    Raises
    ------
    RlmbaError
        If a process fails; with what it printed.
    """
    command = [sys.executable, "-c", _GROWTH_SCRIPT, name, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RlmbaError(f"growth of {name} at {rows} rows failed:\n{done.stderr.strip()}")
    return dict(json.loads(done.stdout))


def grown(name: str, rows: int) -> dict[str, float]:
    """:func:`growth` within this process, which should do nothing else."""
    passes = 4 if name == "bald" else 0
    small = make_case(replace(GROWTH_SIZE, rows=3_000, passes=passes))
    _once(name, small, 0)  # what is loaded and allocated at first use is not the selection's
    case = make_case(replace(GROWTH_SIZE, rows=rows, passes=passes))
    figures = peak_of(lambda: _once(name, case, 0), case.input_bytes)
    return {"rows": rows, **figures, "microseconds_a_row": 1e6 * figures["seconds"] / rows}


def peak_of(call: Callable[[], object], given_bytes: int) -> dict[str, float]:
    """``seconds`` of a call, and ``memory``: the peak of resident memory in it over what it was given.

    1 is no more than the input. Means something only in a process that does nothing else, on Linux.

    Raises
    ------
    RlmbaError
        If /proc/self does not tell.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _peak()
    start = time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "memory": 1 + (_peak() - before) / given_bytes}


def _peak() -> int:
    """Peak of resident memory in bytes, since the last reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise RlmbaError("expected the line VmHWM in /proc/self/status (Linux), found none")
