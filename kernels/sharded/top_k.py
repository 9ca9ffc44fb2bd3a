""":func:`rlmba.kernels.top_k` over several processes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.sharded.group import Group
from rlmba.kernels.top_k import TopK
from rlmba.kernels.top_k import top_k as local_top_k

__all__ = ["merged", "top_k"]


def merged(parts: list[TopK], k: int) -> TopK:
    """The k largest of several results, whose indices are positions among all rows."""
    values = np.concatenate([part.values for part in parts])
    indices = np.concatenate([part.indices for part in parts])
    best = np.lexsort((indices, -values))[:k]
    return TopK(values[best], indices[best])


def top_k(values: NDArray[Any], k: int, *, begin: int, group: Group) -> TopK:
    """Positions of the ``k`` largest values of all processes, largest first.

    Parameters
    ----------
    values : float array [n]
        Those of this process; finite.
    k : int
        At most the number of values of all processes.
    begin : int
        The position of this process's first value.
    group : Group

    Returns
    -------
    TopK
        Equal values are ordered by position.

    Raises
    ------
    NonFiniteError
        If a value of this process is NaN or infinite; the other processes must be told.
    """
    best = local_top_k(values, min(k, len(values)))
    return merged(group.gather(TopK(best.values, best.indices + begin)), k)
