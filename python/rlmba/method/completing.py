"""Missing modalities taken from the nearest samples that have them, for distances between samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.kernels import dispatch
from rlmba.kernels.common.distances import UNBOUNDED

__all__ = ["BLOCK_ROWS", "Nearest", "completed_features", "nearest_values"]

BLOCK_ROWS = 2**14
"""Rows that are compared at a time; it limits the memory of their copies."""


class Nearest:
    """For each of some rows, the nearest of other rows, which are given in blocks.

    Parameters
    ----------
    rows : array or tensor [n, d]
        The rows; finite.

    Attributes
    ----------
    values : array or tensor [n, e], or None
        Values of the nearest rows; None before any row was compared.
    squared : float64 array [n]
        Squared distances to the nearest rows; infinity before any row was compared. Only for NumPy arrays.
    labels : int64 array [n]
        Labels of the nearest rows, if labels were given; -1 before any row was compared. Only for NumPy
        arrays.
    """

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        self.values: Any = None
        self.squared = np.full(len(rows), np.inf)
        self.labels = np.full(len(rows), -1, dtype=np.int64)
        self._on_device: Any = None

    def compare(
        self, coordinates: Any, values: Any, labels: NDArray[np.int64] | None = None
    ) -> None:
        """Compare with other rows [k, d], k >= 1, whose values are [k, e]. Ties go to the first row."""
        if isinstance(self._rows, np.ndarray):
            found = np.where(np.isinf(self.squared), -1, 0)  # 0: the nearest so far
            dispatch.require_core().update_nearest(
                self._rows, coordinates, UNBOUNDED, self.squared, found, 1
            )
            closer = np.flatnonzero(found > 0)
            found = found[closer] - 1
            if self.values is None:
                self.values = np.empty((len(self._rows), values.shape[1]), values.dtype)
            if labels is not None:
                self.labels[closer] = labels[found]
        else:
            # In float64: rounded to float32, distances of several blocks could be equal that are not.
            near = kernels.min_distance(self._rows.double(), coordinates.double())
            if self.values is None:
                self._on_device = near.distances.new_full(near.distances.shape, np.inf)
                self.values = values.new_empty((len(self._rows), values.shape[1]))
            closer = near.distances < self._on_device
            self._on_device[closer], found = near.distances[closer], near.indices[closer]
        self.values[closer] = values[found]


def nearest_values(rows: Any, blocks: Iterable[tuple[Any, Any]]) -> Any:
    """For each row, the value of the nearest of other rows; None if there are no others.

    Parameters
    ----------
    rows : array or tensor [n, d]
    blocks : iterable of (array [k, d], array [k, e])
        Coordinates and values of the other rows. Ties go to the first.

    Returns
    -------
    array or tensor [n, e], or None
    """
    nearest = Nearest(rows)
    for coordinates, theirs in blocks:
        nearest.compare(coordinates, theirs)
    return nearest.values


def completed_features(
    features: Mapping[str, NDArray[Any]], present: NDArray[np.bool_] | None
) -> Mapping[str, NDArray[Any]]:
    """Features in which a missing modality is taken from the nearest sample that has it.

    The nearest sample is found by the modalities that the incomplete sample has, among the samples that
    have these as well. If there is none, the mean over the samples that have the missing modality is
    used, or 0 if no sample has it.

    Distances by one modality vary more than means over several. A sample compared by one modality alone
    therefore has more near neighbors, and herding prefers it.

    Parameters
    ----------
    features : mapping of modality to float array [N, d_m]
        On a common scale, such as unit rows; finite also in absent rows. Not changed.
    present : bool array [N, M] or None
        Which modalities each sample has; None: all.

    Returns
    -------
    mapping of modality to float array [N, d_m]
        Copies, or the given arrays where no sample lacks the modality. Ties go to the lowest position.
    """
    if present is None or present.all():
        return features
    parts = list(features.values())
    made = [a if present[:, m].all() else a.copy() for m, a in enumerate(parts)]
    for pattern in np.unique(present, axis=0):
        rows = np.flatnonzero((present == pattern).all(axis=1))
        shared = np.flatnonzero(pattern)
        mine = np.concatenate([parts[k][rows] for k in shared], axis=1) if len(shared) else None
        for m in np.flatnonzero(~pattern).tolist():
            value = (
                None if mine is None else nearest_values(mine, _others(parts, present, shared, m))
            )
            if value is None:
                having = parts[m][present[:, m]]
                value = having.mean(axis=0) if len(having) else 0
            made[m][rows] = value
    return dict(zip(features, made, strict=True))


def _others(
    parts: list[NDArray[Any]], present: NDArray[np.bool_], shared: NDArray[np.int64], m: int
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Samples that have the shared modalities and m: coordinates by the shared ones, values of m."""
    others = np.flatnonzero(present[:, [*shared, m]].all(axis=1))
    for start in range(0, len(others), BLOCK_ROWS):
        at = others[start : start + BLOCK_ROWS]
        yield np.concatenate([parts[k][at] for k in shared], axis=1), parts[m][at]
