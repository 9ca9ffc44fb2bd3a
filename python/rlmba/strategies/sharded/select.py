"""Select from a pool in shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import DataError, UsageError
from rlmba.ids import IdIndex, as_ids, id_texts
from rlmba.kernels.common.random import Rng, seed_from
from rlmba.kernels.sharded import Alone, Group, agreed, boundaries
from rlmba.strategies.base import Choice, Stages, Strategy
from rlmba.strategies.random import id_hashes
from rlmba.strategies.sharded.absent import completed
from rlmba.strategies.sharded.local import LocalPool
from rlmba.strategies.sharded.query import Query
from rlmba.strategies.sharded.rules import rule_of
from rlmba.strategies.sharded.source import ShardSource
from rlmba.types import LinearHead, QueryContext, Selection

__all__ = ["DEFAULT_MEMORY", "HASHES_AT_ONCE", "select_shards"]

DEFAULT_MEMORY = 4 << 30
"""Default number of bytes for the rows of a process."""
HASHES_AT_ONCE = 1 << 21
"""Number of ids that are compared at a time."""


def select_shards(
    strategy: Strategy,
    source: ShardSource,
    n: int,
    *,
    rng: Rng = None,
    labeled: Any = None,
    labels: Any = None,
    head: LinearHead | None = None,
    weights: Any = None,
    temperatures: Any = None,
    fusion_weights: Any = None,
    group: Group | None = None,
    max_memory: int | None = None,
    spill_folder: Path | None = None,
) -> tuple[Selection, NDArray[Any]]:
    """Select ``n`` rows of a pool in shards; see :func:`rlmba.select`, which calls this.

    Returns
    -------
    (Selection, array [n])
        ``positions`` are positions among the rows of all shards. The array has the ids of these rows.
    """
    group = group or Alone()
    rule = rule_of(strategy)
    _require_same(group, strategy, source, n, rng)
    seed = group.gather(None if isinstance(rng, np.random.Generator) else _seed(rng))[0]
    generator = rng if isinstance(rng, np.random.Generator) else np.random.default_rng(seed)
    with agreed(group):
        rows, outside = _labeled_rows(source, labeled)
    incomplete = _lacks_modality(source, group)
    with agreed(group):
        pool = LocalPool(
            source, group, strategy, labeled=rows, fusion_weights=fusion_weights, head=head,
            incomplete=incomplete,
        )  # fmt: skip
        if not 0 <= n <= pool.rows:
            raise UsageError(
                f"{strategy.name}: expected n within 0..{pool.rows:,} (the unlabeled rows of the shards), "
                f"got {n!r}; pass an integer in this range"
            )
        if n == 0:
            return Selection(np.empty(0, np.int64), np.empty(0)), np.empty(0, np.int64)
        given = pool.labeled_arrays({"labeled": outside, "labels": labels})
        inside = len(rows) > 0
        found = given.features.fused if inside else given.labeled_features
        context = QueryContext(
            rng=generator,
            weights=given.numbers(weights, "weights"),
            temperatures=given.numbers(temperatures, "temperatures"),
            fusion_weights=given.fusion_weights,
            labeled_features=found if found is not None and len(found) else None,
            labels=None if labels is None else np.asarray(labels),
            labeled_modalities=(given.features.modalities or None)
            if inside
            else given.labeled_modalities,
            labeled_present=given.present if inside else None,
            head=head,
        )
    _require_distinct(source, group)
    stages = Stages()
    query = Query(strategy, pool, context, group, (max_memory or DEFAULT_MEMORY) // 2, spill_folder)
    with stages("select"):
        if incomplete and "features" in strategy.needs:
            pool.completed, context = completed(pool, context, group)
            query = replace(query, context=context)
        choice: Choice = rule(query, n)
    positions = pool.rows_of(np.asarray(choice.positions))
    ids = source.take(["ids"], positions)["ids"] if "ids" in source.columns else positions
    scores = np.asarray(choice.scores, dtype=np.float64)
    return Selection(positions, scores, seconds=stages.seconds), ids


def _seed(rng: Rng) -> int:
    return seed_from(np.random.default_rng() if rng is None else rng)


def _require_same(group: Group, strategy: Strategy, source: ShardSource, n: int, rng: Rng) -> None:
    """Refuse processes that were started with different arguments, or run different versions."""
    from rlmba import __version__

    columns = sorted((name, c.width, str(c.dtype)) for name, c in source.columns.items())
    fixed = None if isinstance(rng, np.random.Generator) or rng is None else _seed(rng)
    mine = {
        "version of rlmba": __version__,
        "strategy": f"{strategy.name} {strategy}",
        "number of samples": n,
        "seed": fixed,
        "number of rows": source.rows,
        "columns": columns,
        "names and sizes of shards": source.digest,
    }
    everyone = group.gather(mine)
    for rank, theirs in enumerate(everyone):
        for name, value in theirs.items():
            if value != everyone[0][name]:
                raise UsageError(
                    f"expected the same {name} in all processes, got {everyone[0][name]} in process 0 and "
                    f"{value} in process {rank}; start all with the same arguments, shards and version"
                )


def _labeled_rows(source: ShardSource, labeled: Any) -> tuple[NDArray[np.int64], Any]:
    """The labeled rows of the shards, ascending, and the labeled samples that are given as features."""
    if isinstance(labeled, Mapping) or (labeled is not None and np.ndim(labeled) == 2):
        return np.empty(0, np.int64), labeled
    if labeled is None:
        if "labeled" not in source.columns:
            return np.empty(0, np.int64), None
        found = [row + np.flatnonzero(b["labeled"]) for row, b in source.blocks(["labeled"])]
        return np.concatenate([np.empty(0, np.int64), *found]), None
    given = np.asarray(labeled)
    if not len(given):
        return np.empty(0, np.int64), None
    return _rows_of(source, given), None


def _rows_of(source: ShardSource, given: NDArray[Any]) -> NDArray[np.int64]:
    """The rows that a mask, ids, or (without ids) row numbers name."""
    if given.dtype == np.bool_:
        if given.shape != (source.rows,):
            raise DataError(
                f"labeled: expected a mask of {source.rows:,} rows, got shape {given.shape}"
            )
        return np.flatnonzero(given)
    if "ids" in source.columns:
        return _rows_of_ids(source, as_ids(given))
    if given.dtype.kind not in "iu":
        raise UsageError(
            f"labeled: expected rows (integers) for shards without ids, got {given.dtype} values"
        )
    rows = np.unique(given).astype(np.int64)
    if rows[0] < 0 or rows[-1] >= source.rows:
        wrong = rows[0] if rows[0] < 0 else rows[-1]
        raise DataError(f"labeled: expected rows within 0..{source.rows - 1:,}, got {wrong:,}")
    return rows


def _rows_of_ids(source: ShardSource, ids: NDArray[Any]) -> NDArray[np.int64]:
    index, found = IdIndex(ids), np.full(len(ids), -1, np.int64)
    for row, block in source.blocks(["ids"]):
        texts = id_texts(np.asarray(block["ids"]))
        at, unknown = index.locate(texts)
        known = np.setdiff1d(np.arange(len(texts)), unknown)
        found[at] = row + known
    if (found < 0).any():
        missing = id_texts(ids[found < 0])
        raise DataError(
            f"labeled: id {missing[0]!r} is not in the shards ({len(missing)} such ids); remove it, or give "
            "features of samples outside the pool"
        )
    return np.sort(found)


def _require_distinct(source: ShardSource, group: Group) -> None:
    """Raise an error if an id occurs twice in the shards.

    Hashes of the ids are compared. Every process gets a part of the hashes, a limited number at a time.
    """
    if "ids" not in source.columns:
        return
    ends = boundaries(source.rows, group.size)
    hashes, begin = np.empty(0, np.uint64), ends[group.rank]
    with agreed(group):
        blocks = source.blocks(["ids"], begin, ends[group.rank + 1])
        found = [id_hashes(np.array(id_texts(np.asarray(b["ids"])), np.str_)) for _, b in blocks]
        hashes = np.concatenate([hashes, *found])
    times = -(-source.rows // (HASHES_AT_ONCE * group.size))
    part = hashes % np.uint64(times * group.size)
    for time in range(times):
        sent = []
        for rank in range(group.size):
            at = np.flatnonzero(part == np.uint64(time * group.size + rank))
            sent.append(np.stack([hashes[at].view(np.int64), at + begin], axis=1))
        mine = np.concatenate(group.exchange(sent))
        mine = mine[np.argsort(mine[:, 1], kind="stable")]
        with agreed(group):
            _refuse_repeated(source, mine[:, 0], mine[:, 1])


def _refuse_repeated(
    source: ShardSource, hashes: NDArray[np.int64], rows: NDArray[np.int64]
) -> None:
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(np.diff(hashes[order]) == 0)
    for at in same.tolist():
        pair = rows[order[at : at + 2]]
        one, two = id_texts(np.asarray(source.take(["ids"], pair)["ids"]))
        if one == two:
            raise DataError(
                f"{source.place(int(pair[1]))}: expected distinct ids, got {one!r} again, which is also the "
                f"id of {source.place(int(pair[0]))}; remove one of the rows"
            )


def _lacks_modality(source: ShardSource, group: Group) -> bool:
    """Whether a sample lacks a modality; every process looks at a part of the rows."""
    names = [name for name in source.columns if name.partition("/")[0] == "present"]
    ends, complete = boundaries(source.rows, group.size), True
    if names:
        with agreed(group):
            for row, block in source.blocks(names, ends[group.rank], ends[group.rank + 1]):
                for name, values in block.items():
                    a = np.asarray(values)
                    strange = ~np.isin(a, [0, 1]).reshape(len(a), -1).all(axis=1)
                    if strange.any():
                        at = int(np.argmax(strange))
                        raise DataError(
                            f"{source.place(row + at)}: {name}: expected 0 or 1, got {a[at]}"
                        )
                    complete = complete and bool(a.all())
    return not all(group.gather(complete))
