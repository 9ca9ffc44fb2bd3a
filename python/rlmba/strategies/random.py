"""Uniform choice without replacement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common.random import mix64, seed_from, unit_interval
from rlmba.strategies.base import TopScore
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["Random", "id_hashes", "uniform_by_id"]


def id_hashes(ids: NDArray[np.str_], seed: int = 0) -> NDArray[np.uint64]:
    """A 64-bit hash of each id [N], independent of the array's string width."""
    text = np.ascontiguousarray(ids, dtype=np.str_)
    if text.size == 0 or text.itemsize == 0:
        code = np.zeros((text.size, 0), dtype=np.uint32)
    else:
        code = text.view(np.uint32).reshape(text.size, -1)
    state = np.full(text.size, seed % 2**64, dtype=np.uint64)
    for column in code.T:
        # Padding (code point 0) leaves the state unchanged, so the string width has no effect.
        mixed = mix64(0, state ^ (column.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)))
        state = np.where(column == 0, state, mixed)
    return state


def uniform_by_id(ids: NDArray[np.str_], seed: int) -> NDArray[np.float64]:
    """A uniform number in (0, 1) for each id: a hash of seed and id, independent of their order.

    Parameters
    ----------
    ids : str array [N]
    seed : int

    Returns
    -------
    float64 array [N]
        Equal for equal ids; independent of the array's string width.
    """
    uniforms: NDArray[np.float64] = unit_interval(mix64(0x51ED27, id_hashes(ids, seed)))
    return uniforms


@dataclass(kw_only=True)
class Random(TopScore):
    """n samples uniformly without replacement.

    The draw depends on sample ids, not on their order: permuting the pool permutes the answer.
    """

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "uniform without replacement"
    needs: ClassVar[frozenset[str]] = frozenset()

    def score(self, pool: PoolOutputs, context: QueryContext) -> NDArray[np.float64]:
        """A uniform number for each sample."""
        return uniform_by_id(pool.ids, seed_from(context.rng))
