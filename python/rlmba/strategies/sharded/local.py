"""The part of a pool in shards that one process works on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import NonFiniteError, UsageError
from rlmba.kernels.sharded import Group, boundaries
from rlmba.strategies.base import Strategy
from rlmba.strategies.pool_arrays import PoolArrays
from rlmba.strategies.sharded.source import ShardSource
from rlmba.types import MULTIMODAL, LinearHead, PoolOutputs

__all__ = ["Completed", "LocalPool", "by_modality"]

_KINDS = ("features", "logits", "probabilities")
_NEEDED_BY = {
    "features": ("features", "modality_features"),
    "logits": ("logits", "modality_logits"),
    "probabilities": ("logits", "modality_logits"),
}
_PASSES = "dropout_logits/"


def by_modality(arrays: Mapping[str, Any], kind: str) -> Any:
    """The arrays of a kind, such as "features", as the argument of :func:`rlmba.select`; or None."""
    own = {k.partition("/")[2]: a for k, a in arrays.items() if k.startswith(f"{kind}/")}
    if not own:
        return arrays.get(kind)
    return own | ({MULTIMODAL: arrays[kind]} if kind in arrays else {})


class Completed(NamedTuple):
    """Fused features [A, D] of incomplete samples, and the positions [A] of these samples, ascending."""

    positions: NDArray[np.int64]
    fused: NDArray[Any]

    def within(self, begin: int, end: int) -> Completed:
        """Return the features of samples at positions [begin, end)."""
        low, high = np.searchsorted(self.positions, [begin, end])
        return Completed(self.positions[low:high], self.fused[low:high])

    def of(self, positions: NDArray[np.int64]) -> Completed:
        """Return the features of samples at some positions."""
        kept = np.isin(self.positions, positions)
        return Completed(self.positions[kept], self.fused[kept])

    def put_into(self, pool: PoolOutputs, rows: NDArray[np.int64]) -> PoolOutputs:
        """Return a pool in which these features replace those of some rows."""
        if not len(rows):
            return pool
        fused = np.array(pool.fused_features)
        fused[rows] = self.fused
        return replace(pool, fused_features=fused)


class LocalPool:
    """The unlabeled rows of one process.

    Positions count the unlabeled rows of all processes, in the order of the shards. Every process but the
    last has a multiple of 4,096 of them.

    Parameters
    ----------
    source : ShardSource
    group : Group
    strategy : Strategy
        Only the columns that it reads are read.
    labeled : int64 array [L]
        Rows that are labeled, ascending.
    fusion_weights, head
        As for :func:`rlmba.select`.
    incomplete : bool
        Whether a sample of any process lacks a modality.

    Attributes
    ----------
    completed : Completed or None
        Features that replace the fused features of this process's incomplete samples.
    rows : int
        Unlabeled rows of all processes.
    begin, end : int
        Those of this process.
    """

    def __init__(
        self,
        source: ShardSource,
        group: Group,
        strategy: Strategy,
        *,
        labeled: NDArray[np.int64],
        fusion_weights: Any,
        head: LinearHead | None,
        incomplete: bool = False,
    ) -> None:
        self._source, self._strategy, self._group = source, strategy, group
        self._incomplete = incomplete
        self.completed: Completed | None = None
        self._labeled, self._fusion_weights, self._head = labeled, fusion_weights, head
        self._names = self._read_columns()
        self.rows = source.rows - len(labeled)
        ends = boundaries(self.rows, group.size)
        self.begin, self.end = ends[group.rank], ends[group.rank + 1]

    def _read_columns(self) -> list[str]:
        needs, columns = self._strategy.needs | self._strategy.optional, self._source.columns
        if "input_features" in self._strategy.needs:
            raise UsageError(
                f"strategy {self._strategy.name!r} needs input features, which are not read"
            )
        found = [name for name in columns if name == "ids"]
        by_modality = {"features", "modality_features", "modality_logits"}
        if self._incomplete and needs & by_modality:
            found += [name for name in columns if name.partition("/")[0] == "present"]
        for kind in _KINDS:
            alone = [kind] if kind in columns else []
            own = [name for name in columns if name.startswith(f"{kind}/")]
            fused, modal = _NEEDED_BY[kind]
            # Without missing modalities, the fused array is enough where only that is needed.
            enough = alone and modal not in needs and not self._incomplete
            if needs & {fused, modal}:
                found += alone if enough else alone + own
        if "dropout" in needs:
            found += sorted(
                (name for name in columns if name.startswith(_PASSES)),
                key=lambda name: int(name.removeprefix(_PASSES)),
            )
        return found

    def rows_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the source by position."""
        before = np.searchsorted(
            self._labeled - np.arange(len(self._labeled)), positions, side="right"
        )
        return np.asarray(positions + before, dtype=np.int64)

    def arrays(
        self, block: Mapping[str, NDArray[Any]], rows: NDArray[np.int64], **arguments: Any
    ) -> PoolArrays:
        """Checked arrays of some rows of the source."""
        block = {"ids": rows, **block}
        passes = [a for name, a in block.items() if name.startswith(_PASSES)]
        return PoolArrays(
            features=by_modality(block, "features"),
            logits=by_modality(block, "logits"),
            probabilities=by_modality(block, "probabilities"),
            dropout_logits=np.stack(passes) if passes else None,
            ids=block["ids"],
            present=by_modality(block, "present"),
            labeled=arguments.get("labeled"),
            labels=arguments.get("labels"),
            fusion_weights=self._fusion_weights,
            head=self._head,
            incomplete=self._incomplete and any(n.startswith("present") for n in block),
        )

    def blocks(self) -> Iterator[tuple[int, PoolOutputs]]:
        """The rows of this process in order, with the position of each block's first row."""
        if self.begin == self.end:
            return
        first, last = self.rows_of(np.array([self.begin, self.end - 1])).tolist()
        at = self.begin
        for row, block in self._source.blocks(self._names, first, last + 1):
            rows = np.arange(row, row + len(next(iter(block.values()))))
            low, high = np.searchsorted(self._labeled, [row, rows[-1] + 1])
            if high > low:
                keep = np.ones(len(rows), np.bool_)
                keep[self._labeled[low:high] - row] = False
                rows, block = rows[keep], {name: a[keep] for name, a in block.items()}  # noqa: PLW2901
            if len(rows):
                pool = self.arrays(block, rows).pool(self._strategy, self._head)
                if self.completed is not None:
                    found = self.completed.within(at, at + len(rows))
                    pool = found.put_into(pool, found.positions - at)
                yield at, pool
            at += len(rows)

    def pool_of(self, positions: NDArray[np.int64]) -> PoolOutputs:
        """Some rows of any process, in the given order; all processes call this with the same rows."""
        rows = self.rows_of(positions)
        block = self._source.take(self._names, rows)
        pool = self.arrays(block, rows).pool(self._strategy, self._head)
        if self.completed is None:
            return pool
        for found in self._group.gather(self.completed.of(positions)):
            at = np.flatnonzero(np.isin(positions, found.positions))
            order = np.searchsorted(found.positions, positions[at])
            pool = Completed(positions[at], found.fused[order]).put_into(pool, at)
        return pool

    def labeled_arrays(self, arguments: Mapping[str, Any]) -> PoolArrays:
        """Checked arrays of the labeled rows, or of one row if labeled samples are given otherwise."""
        rows = self._labeled if len(self._labeled) else np.arange(1)
        block = self._source.take(self._names, rows)
        return self.arrays(block, rows, **({} if len(self._labeled) else arguments))

    def each(
        self, made: Callable[[PoolOutputs], Sequence[NDArray[Any]]]
    ) -> Iterator[tuple[int, Sequence[NDArray[Any]]]]:
        """What a function makes of each block, with the position of the block's first row.

        Raises
        ------
        NonFiniteError
            If a row contains NaN or infinity; the message names its shard.
        """
        for at, pool in self.blocks():
            yield at, self._named(made, pool, at)

    def _named(
        self, made: Callable[[PoolOutputs], Sequence[NDArray[Any]]], pool: PoolOutputs, at: int
    ) -> Sequence[NDArray[Any]]:
        try:
            return made(pool)
        except NonFiniteError as error:
            row = int(self.rows_of(np.array([at + error.row]))[0])
            raise NonFiniteError(
                f"{self._strategy.name}: {self._source.place(row)}: expected finite numbers, got NaN or "
                "infinity; drop the row, or repair it",
                row,
            ) from error
