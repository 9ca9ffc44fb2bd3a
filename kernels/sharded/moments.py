"""Means and standard deviations over the rows of all processes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common import exact_sums
from rlmba.kernels.sharded.group import Group

__all__ = ["moments"]


def moments(columns: Sequence[NDArray[np.float64]], *, group: Group) -> NDArray[np.float64]:
    """Compute the mean and standard deviation of several columns, independently of the order of the rows.

    Parameters
    ----------
    columns : sequence of finite float64 arrays [n]
        The same number of columns in every process; their lengths may differ.
    group : Group

    Returns
    -------
    float64 array [columns, 2]
        Mean and standard deviation of each column; NaN for a column without any row.
    """
    count = group.add_up(np.array([len(c) for c in columns], dtype=np.float64))
    with np.errstate(invalid="ignore"):
        mean = _sums(columns, count, group) / count
        squares = [(c - m) ** 2 for c, m in zip(columns, mean, strict=True)]
        return np.stack([mean, np.sqrt(_sums(squares, count, group) / count)], axis=1)


def _sums(
    columns: Sequence[NDArray[np.float64]], count: NDArray[np.float64], group: Group
) -> NDArray[np.float64]:
    largest = np.max(group.gather([exact_sums.largest_of(c) for c in columns]), axis=0)
    sums = [
        exact_sums.add_up(c, exact_sums.constants(float(most), int(rows), np.float64))
        for c, most, rows in zip(columns, largest, count, strict=True)
    ]
    return np.asarray(group.add_up(np.stack(sums)).sum(axis=1))
