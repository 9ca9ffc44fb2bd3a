"""Estimates of the time, memory and communication of a selection over shards, before it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rlmba.kernels.gradient_kmeans_plusplus import spec as gradients
from rlmba.kernels.kmeans_plusplus import spec as rows
from rlmba.kernels.sharded import ALIGNMENT, CANDIDATES
from rlmba.strategies.base import Strategy
from rlmba.strategies.cost import Machine, Workload, estimate
from rlmba.strategies.sharded.select import DEFAULT_MEMORY, HASHES_AT_ONCE

__all__ = ["ShardEstimate", "estimate_shards"]

_IMPORTS = 650 << 20
"""Bytes of a process before it reads a row."""
_LLOYD_STEPS = 5
_KEPT = 17
"""Bytes of a value and its position, as they are sent."""


@dataclass(frozen=True)
class ShardEstimate:
    """What a selection over shards takes.

    Parameters
    ----------
    seconds : float or None
        Of the selection, on machines like this one, without reading the shards; None if unknown.
    memory : float
        Bytes of a process at its peak.
    spilled : float
        Bytes of a process in temporary files.
    received : float
        Bytes that a process receives from the others.
    rounds : int
        How often the processes wait for each other.
    """

    seconds: float | None
    memory: float
    spilled: float
    received: float
    rounds: int


@dataclass(frozen=True)
class _Size:
    work: Workload
    processes: int

    @property
    def rows(self) -> int:
        """Rows of a process."""
        chunks = -(-self.work.samples // ALIGNMENT)
        return min(self.work.samples, -(-chunks // self.processes) * ALIGNMENT)

    @property
    def features(self) -> int:
        """Bytes of a row's features."""
        return self.work.width * self.work.itemsize


@dataclass(frozen=True)
class _Cost:
    """Bytes a row that are kept, bytes that are received, bytes of copies, and rounds."""

    stored: float = 0.0
    state: float = 0.0
    received: float = 0.0
    copies: float = 0.0
    rounds: int = 0


def _top(s: _Size, count: int) -> _Cost:
    return _Cost(received=float((s.processes - 1) * min(count, s.rows) * _KEPT), rounds=2)


def _k_center(s: _Size) -> _Cost:
    # 1,000 picks of data in clusters or without took 2 to 9 rounds with 8 to 128 columns.
    rounds = 5 + s.work.batch // 250
    farthest = min(CANDIDATES, s.rows) * _KEPT * s.processes
    candidates = min(CANDIDATES, s.work.samples) * (s.features + _KEPT)
    share = (s.processes - 1) / s.processes
    return _Cost(
        stored=float(s.features),
        state=8,
        received=float(share * rounds * (farthest + candidates)),
        copies=float(2 * farthest + 3 * candidates),
        rounds=4 * rounds,
    )


def _drawn(s: _Size, row: int, least: int, most: int) -> _Cost:
    """Cost of D^2 sampling in blocks of ``least`` to ``most`` proposals, each with ``row`` bytes."""
    drawn, blocks, proposed = 1, 0, 0
    while drawn < s.work.batch:
        size = min(max(drawn, least), most)
        drawn, blocks, proposed = drawn + size, blocks + 1, proposed + size
    chunks = s.rows // ALIGNMENT + 1
    received = (s.processes - 1) * (
        proposed / s.processes * (row + 2 * _KEPT) + blocks * chunks * 8
    )
    return _Cost(
        stored=float(row),
        received=received,
        copies=float(4 * most * row + 8 * most**2),
        rounds=4 * blocks + 5,
    )


def _gradients(s: _Size, row: int) -> _Cost:
    return replace(_drawn(s, row, gradients.BLOCK_MIN, gradients.BLOCK_MAX), state=16)


def _rlmba(s: _Size) -> _Cost:
    seeding = _drawn(s, s.features, rows.BLOCK_MIN, rows.BLOCK_MAX)
    candidates = _top(s, 5 * s.work.batch)
    centers = s.work.batch * s.work.width * 8 * (2 if s.work.itemsize < 8 else 3)
    shared = 2 * centers * (s.processes - 1) / s.processes  # in a ring of processes
    return replace(
        seeding,
        state=24.0 + s.work.itemsize * (3 * s.work.modalities + 4),
        received=seeding.received + candidates.received + _LLOYD_STEPS * shared,
        copies=seeding.copies + 4 * centers,
        rounds=seeding.rounds + 2 * _LLOYD_STEPS + 14,
    )


def _badge(s: _Size) -> _Cost:
    return _gradients(s, s.features + s.work.classes * s.work.itemsize)


def _bmmal(s: _Size) -> _Cost:
    wide = s.features + s.work.classes * s.work.itemsize + 2 * s.work.modalities * s.work.itemsize
    return _gradients(s, wide)


_COSTS: dict[str, Callable[[_Size], _Cost]] = {
    "coreset": _k_center,
    "badge": _badge,
    "bmmal": _bmmal,
    "rlmba": _rlmba,
}


def estimate_shards(
    strategy: Strategy,
    work: Workload,
    processes: int,
    *,
    max_memory: int | None = None,
    machine: Machine | None = None,
) -> ShardEstimate:
    """Estimate a selection over shards.

    Parameters
    ----------
    strategy : Strategy
        One that can choose from shards.
    work : Workload
        The rows of all shards.
    processes : int
        Each on a machine of its own.
    max_memory : int, optional
        As for the selection.
    machine : Machine, optional
        Default: this machine, measured once (0.2 s).

    Notes
    -----
    Communication is counted, memory is an upper bound, and the time is that of one process's part of the
    work, accurate to a factor of about three. How fast shards are read depends on the disks, and is not
    included.
    """
    size = _Size(work, processes)
    if strategy.name in _COSTS:
        cost = _COSTS[strategy.name](size)
    else:
        cost = _top(size, work.batch * int(getattr(strategy, "kappa", 1)))
    room = (max_memory or DEFAULT_MEMORY) // 2
    stored = size.rows * cost.stored
    inside = (
        stored if stored <= room else 256 << 20
    )  # a block of rows that is read, and its products
    at_once = min(HASHES_AT_ONCE, size.rows)
    hashes = 24.0 * size.rows + 96.0 * at_once
    checked = 16.0 * size.rows * (processes - 1) / processes
    found = estimate(strategy, replace(work, samples=max(size.rows, work.batch)), machine)
    return ShardEstimate(
        seconds=None if found is None else found.seconds,
        memory=_IMPORTS + (256 << 20) + inside + max(size.rows * cost.state + cost.copies, hashes),
        spilled=0.0 if stored <= room else stored,
        received=cost.received + checked,
        rounds=cost.rounds + 10 + 3 * -(-size.rows // HASHES_AT_ONCE),
    )
