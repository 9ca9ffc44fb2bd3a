"""Missing features of samples in shards, taken from the nearest samples of all processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common import exact_sums
from rlmba.kernels.sharded import Group, agreed
from rlmba.method.completing import Nearest
from rlmba.strategies.absent import CHECKED_ROWS, Fusion, Samples, fusion_of, labeled_samples
from rlmba.strategies.sharded.local import Completed, LocalPool
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["completed"]

_PASS_BYTES = 128 << 20
"""Largest number of bytes of incomplete samples that are compared in one pass over the shards."""


def completed(
    pool: LocalPool, context: QueryContext, group: Group
) -> tuple[Completed | None, QueryContext]:
    """Complete features like :func:`rlmba.strategies.absent.completed`. Every process must call this.

    Returns
    -------
    (Completed or None, QueryContext)
        The completed features of this process's incomplete samples, None if no sample is incomplete; and
        the context, in which labeled samples are completed.

    Notes
    -----
    Incomplete samples are copied to all processes, at most 128 MiB at a time. Each time takes one pass over
    the shards. The features of this process's incomplete samples are kept in memory.
    """
    model = pool.pool_of(np.zeros(1, np.int64))
    labeled = None
    if context.labeled_features is not None and context.labeled_modalities is not None:
        labeled = labeled_samples(model, context)
    with agreed(group):
        mine, shown = _collected(pool, model)
    fusion = _fusion(group.gather(shown), context.fusion_weights_for(model))
    if fusion is None:
        return None, context
    search = _Search(pool, group, fusion, mine, labeled)
    for jobs in search.passes():
        search.run(jobs)
    here = mine.fused_by(fusion)
    if labeled is not None:
        fused = np.array(labeled.fused)
        fused[search.outside.rows] = search.outside.fused_by(fusion)
        context = replace(context, labeled_features=fused)
    return Completed(mine.rows, here), context


@dataclass(frozen=True, eq=False)
class _Incomplete:
    """Incomplete samples: ``rows`` [A], M arrays [A, d_m] to fill in, and bool [A, M]."""

    rows: NDArray[np.int64]
    features: list[NDArray[Any]]
    present: NDArray[np.bool_]

    def fused_by(self, fusion: Fusion) -> NDArray[Any]:
        return np.asarray(fusion.fuse(self.features))

    def like(self, pattern: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Numbers of the samples that have exactly these modalities."""
        return np.flatnonzero((self.present == pattern).all(axis=1))


def _incomplete(samples: Samples, begin: int = 0) -> _Incomplete:
    at = np.flatnonzero(~samples.present.all(axis=1) & samples.finite)
    return _Incomplete(at + begin, [f[at] for f in samples.features], samples.present[at])


def _collected(pool: LocalPool, model: PoolOutputs) -> tuple[_Incomplete, list[list[Samples]]]:
    """The incomplete samples of this process, and its first complete and first finite samples."""
    found = [_incomplete(_samples(model.take(np.empty(0, np.int64))))]
    shown: list[list[Samples]] = [[], []]
    counts = [0, 0]
    for at, samples in _blocks(pool):
        found.append(_incomplete(samples, at))
        for k, which in enumerate((range(len(model.features)), [])):
            rows = samples.having(list(which))[: CHECKED_ROWS - counts[k]]
            if len(rows):
                counts[k] += len(rows)
                parts = [f[rows] for f in samples.features]
                shown[k].append(Samples.of(parts, samples.fused[rows], samples.present[rows]))
    features = [np.concatenate(f) for f in zip(*(i.features for i in found), strict=True)]
    rows, present = (np.concatenate([getattr(i, n) for i in found]) for n in ("rows", "present"))
    return _Incomplete(rows, features, present), shown


def _blocks(pool: LocalPool) -> Iterator[tuple[int, Samples]]:
    for at, block in pool.blocks():
        yield at, _samples(block)


def _samples(block: PoolOutputs) -> Samples:
    return Samples.of(list(block.features.values()), block.fused_features, block.present)


def _fusion(shown: Sequence[list[list[Samples]]], weights: NDArray[np.float64]) -> Fusion | None:
    """Recognize the fusion from the first complete rows of all processes, or else from the first rows."""
    complete, finite = ([s for part in shown for s in part[k]] for k in (0, 1))
    some = complete or finite
    if not some:
        return None
    features = [np.concatenate(f) for f in zip(*(s.features for s in some), strict=True)]
    fused, present = (np.concatenate([getattr(s, n) for s in some]) for n in ("fused", "present"))
    return fusion_of(Samples.of(features, fused, present), weights)


@dataclass(eq=False)
class _Job:
    """Incomplete samples of all processes with one pattern, and the nearest samples of this process.

    ``own`` are numbers of this process's incomplete samples; ``outside`` are numbers of labeled samples.
    """

    pattern: NDArray[np.bool_]
    own: NDArray[np.int64]
    outside: NDArray[np.int64]
    begin: int
    coordinates: NDArray[Any]
    nearest: dict[int, Nearest] = field(default_factory=dict)

    @property
    def shared(self) -> list[int]:
        return np.flatnonzero(self.pattern).tolist()

    @property
    def missing(self) -> list[int]:
        return np.flatnonzero(~self.pattern).tolist()

    def compare(self, samples: Samples, fusion: Fusion, labels: NDArray[np.int64]) -> None:
        for m in self.missing:
            donors = samples.having([*self.shared, m])
            if len(donors):
                near = fusion.coordinates(samples.features, self.shared, donors)
                self.nearest[m].compare(near, samples.features[m][donors], labels[donors])


class _Search:
    def __init__(
        self,
        pool: LocalPool,
        group: Group,
        fusion: Fusion,
        mine: _Incomplete,
        labeled: Samples | None,
    ) -> None:
        self._pool, self._group, self._fusion = pool, group, fusion
        self._mine, self._labeled = mine, labeled
        if labeled is None:
            labeled = Samples.of([f[:0] for f in mine.features], np.empty((0, 1)), mine.present[:0])
        self.outside = _incomplete(labeled)

    def passes(self) -> Iterator[list[tuple[NDArray[np.bool_], int, int]]]:
        """The samples to complete in each pass: patterns, and the first and last sample of each."""
        patterns = np.concatenate(
            [*self._group.gather(np.unique(self._mine.present, axis=0)), self.outside.present]
        )
        wide = sum(f.shape[1] * f.itemsize for f in self._mine.features)
        most = max(1, _PASS_BYTES // wide)
        jobs, room = [], most
        for pattern in np.unique(patterns, axis=0):
            mine = len(self._mine.like(pattern))
            total = sum(self._group.gather(mine)) + len(self.outside.like(pattern))
            at = 0
            while at < total:
                end = min(total, at + room)
                jobs.append((pattern, at, end))
                room -= end - at
                at = end
                if not room:
                    yield jobs
                    jobs, room = [], most
        if jobs:
            yield jobs

    def run(self, wanted: Sequence[tuple[NDArray[np.bool_], int, int]]) -> None:
        """Fill in the missing modalities of the samples of one pass."""
        jobs = [self._job(*one) for one in wanted]
        with agreed(self._group):
            for at, samples in _blocks(self._pool):
                labels = at + np.arange(len(samples.fused))
                for job in jobs:
                    job.compare(samples, self._fusion, labels)
            if self._labeled is not None and self._group.rank == 0:
                labels = self._pool.rows + np.arange(len(self._labeled.fused))
                for job in jobs:
                    job.compare(self._labeled, self._fusion, labels)
        for job in jobs:
            for m in job.missing:
                self._fill(job, m)

    def _job(self, pattern: NDArray[np.bool_], begin: int, end: int) -> _Job:
        every = self._mine.like(pattern)
        counts = self._group.gather(len(every))
        first = sum(counts[: self._group.rank])
        own = every[max(begin - first, 0) : max(end - first, 0)]
        before = sum(counts)
        outside = self.outside.like(pattern)[max(begin - before, 0) : max(end - before, 0)]
        shared = np.flatnonzero(pattern).tolist()
        parts = self._group.gather(self._fusion.coordinates(self._mine.features, shared, own))
        if len(outside):
            parts.append(self._fusion.coordinates(self.outside.features, shared, outside))
        job = _Job(pattern, own, outside, max(first - begin, 0), np.concatenate(parts))
        job.nearest = {m: Nearest(job.coordinates) for m in job.missing}
        return job

    def _fill(self, job: _Job, m: int) -> None:
        nearest = job.nearest[m]
        every = self._group.gather((nearest.squared, nearest.labels))
        squared, labels = (np.stack(found) for found in zip(*every, strict=True))
        if np.isinf(squared).all():
            values = np.broadcast_to(
                self._mean(m), (len(job.coordinates), self._mine.features[m].shape[1])
            )
        else:
            labels[np.isinf(squared)] = np.iinfo(np.int64).max
            best = np.lexsort((labels, squared), axis=0)[0]
            won = np.flatnonzero(best == self._group.rank)
            given = (won, nearest.values[won]) if len(won) else None
            parts = [part for part in self._group.gather(given) if part is not None]
            order = np.argsort(np.concatenate([rows for rows, _ in parts]))
            values = np.concatenate([found for _, found in parts])[order]
        self._mine.features[m][job.own] = values[job.begin : job.begin + len(job.own)]
        if len(job.outside):
            self.outside.features[m][job.outside] = values[len(values) - len(job.outside) :]

    def _mean(self, m: int) -> NDArray[Any]:
        """The mean of a modality over all samples that have it; 0 if no sample has it."""
        group, dtype = self._group, self._mine.features[m].dtype
        count, largest = 0, 0.0
        with agreed(group):
            for x in self._terms(m):
                count, largest = count + len(x), max(largest, exact_sums.largest_of(x))
        count = sum(group.gather(count))
        by = exact_sums.constants(max(group.gather(largest)), count, np.float64)
        sums = np.zeros((len(by), self._mine.features[m].shape[1]))
        with agreed(group):
            for x in self._terms(m):
                sums += exact_sums.add_up(x, by)
        return np.asarray(group.add_up(sums).sum(axis=0) / max(count, 1)).astype(dtype)

    def _terms(self, m: int) -> Iterator[NDArray[Any]]:
        for _, samples in _blocks(self._pool):
            yield samples.terms(m)
        if self._labeled is not None and self._group.rank == 0:
            yield self._labeled.terms(m)
