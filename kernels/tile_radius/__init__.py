"""The radius at which k balls cover the rows about once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, distances, modality_rows
from rlmba.kernels.tile_radius import reference

__all__ = ["SAMPLED_ROWS", "neighbor_radius", "tile_radius"]

SAMPLED_ROWS = 200
"""Number of rows whose neighbors are searched by default."""

_BACKENDS = ("triton", "cpu", "reference")
_BLOCK_BYTES = 4 * 2**20


def _cpu(
    rows: modality_rows.ModalityRows,
    sampled: NDArray[np.int64],
    rank: int,
    max_memory: int | None,
) -> NDArray[np.float64]:
    core = dispatch.require_core()
    rows.require_finite(core.first_bad_row)
    single = rows.parts[0].dtype == np.float32
    measure = core.modality_distances_f32 if single else core.modality_distances_f64
    bound = _BLOCK_BYTES if max_memory is None else min(max_memory, _BLOCK_BYTES)
    step = min(max(1, bound // (8 * rows.rows)), len(sampled))
    block, out = np.empty((step, rows.rows)), np.empty(len(sampled))
    for begin in range(0, len(sampled), step):
        positions = sampled[begin : begin + step]
        squared = block[: len(positions)]
        measure(list(rows.parts), rows.weights, rows.present, positions, squared)
        rows.require_range(squared, positions)
        squared[np.arange(len(positions)), positions] = -1.0  # the row itself comes first
        squared.partition(rank, axis=1)
        out[begin : begin + step] = squared[:, rank]
    return out


def _require_finite(rows: modality_rows.ModalityRows, name: str) -> None:
    if name in dispatch.ACCELERATED:
        from rlmba.kernels.tile_radius import on_device

        on_device.require_finite(rows)
    else:
        rows.require_finite()


def neighbor_radius(
    rows: modality_rows.ModalityRows, k: int, sampled: int, name: str, max_memory: int | None
) -> float:
    """Compute :func:`tile_radius` of checked arguments on the backend ``name``."""
    count = rows.rows
    if count < 2:
        _require_finite(rows, name)
        return 0.0
    size = min(sampled, count)
    positions: NDArray[np.int64] = np.arange(size, dtype=np.int64) * count // size
    rank = min(max(round(count / k), 1), count - 1)
    if name == "cpu":
        squared = _cpu(rows, positions, rank, max_memory)
    elif name in dispatch.ACCELERATED:
        from rlmba.kernels.tile_radius import on_device

        squared = on_device.squared_to_neighbors(rows, positions, rank, max_memory)
    else:
        squared = reference.squared_to_neighbors(rows, positions, rank)
    near = squared[np.isfinite(squared)]
    return float(np.median(np.sqrt(near))) if len(near) else 0.0


def tile_radius(
    features: modality_rows.Features,
    k: int,
    *,
    weights: Any = None,
    present: arrays.ArrayLike | None = None,
    rows: int = SAMPLED_ROWS,
    max_memory: int | None = None,
    backend: str = "auto",
) -> float:
    """Radius of a ball around a row that contains about 1/k of all rows.

    It is the median, over some rows, of the distance to the round(N / k)-th nearest other row (half
    rounds to even). Balls of this radius around k picks of :func:`~rlmba.kernels.herding` contain
    about as many rows as there are.

    Parameters
    ----------
    features : array [N, D], or mapping of modality to array [N, D_m]
        As for :func:`~rlmba.kernels.herding`; also ``weights`` and ``present``.
    k : int
        Number of balls, at least 1.
    rows : int
        Number of rows whose neighbors are searched, at least 1; all if N is smaller. They are
        evenly spaced: the positions floor(i N / rows).
    max_memory : int, optional
        Bytes for distances, in addition to the input and, on a GPU, a copy of it. The result does
        not depend on it.
    backend : {"auto", "triton", "cpu", "reference"}
        See :mod:`rlmba.kernels`.

    Returns
    -------
    float
        The median of sqrt(D), in units of the features; D is the distance of
        :func:`~rlmba.kernels.herding`. The row itself is not counted, and the rank is limited to
        1..N-1. For N <= 1 the radius is 0. A row whose neighbor of this rank has no modality in
        common with it is left out of the median. If all rows are left out, the radius is 0.

    Raises
    ------
    UsageError, ShapeError, NonFiniteError, DataError
        As for :func:`~rlmba.kernels.herding`.

    Examples
    --------
    >>> import numpy as np
    >>> tile_radius(np.array([[0.0], [1.0], [2.0], [3.0]]), 2)
    1.5
    """
    device = arrays.device_of(modality_rows.first_array(features))
    name = dispatch.choose("tile_radius", backend, device, _BACKENDS)
    given = modality_rows.gather(features, weights, present, modality_rows.reader_of(name))
    k = arrays.as_count(k, "k", low=1)
    sampled = arrays.as_count(rows, "rows", low=1)
    distances.check_max_memory(max_memory)
    return neighbor_radius(given, k, sampled, name, max_memory)
