from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba import kernels
from rlmba.errors import DataError, NonFiniteError, UsageError
from rlmba.kernels.tile_radius import spec

HOST = ["cpu", "reference"]


def to_neighbors(parts, k, weights, positions):
    """Distances from rows to their neighbor of this rank, from the distances of all pairs."""
    count = len(parts[0])
    w = np.asarray(weights) / np.sum(weights)
    squared = sum(
        v * ((p[:, None].astype(float) - p[None]) ** 2).sum(axis=2)
        for v, p in zip(w, parts, strict=True)
    )
    np.fill_diagonal(squared, -1)
    rank = np.clip(round(count / k), 1, count - 1)
    return np.sqrt(np.sort(squared, axis=1)[positions, rank])


@pytest.mark.parametrize("backend", HOST)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", spec.SHAPES)
def test_median_of_the_distances_to_a_neighbor(rng, shape, dtype, backend):
    count, widths, k = shape
    parts = [rng.normal(size=(count, d)).astype(dtype) for d in widths]
    weights = rng.random(len(widths)) + 0.1
    features = {f"m{m}": p for m, p in enumerate(parts)}
    for rows in (1, 7, 200):
        size = min(rows, count)
        expected = np.median(to_neighbors(parts, k, weights, np.arange(size) * count // size))
        found = kernels.tile_radius(features, k, weights=weights, rows=rows, backend=backend)
        assert isinstance(found, float)
        assert found == pytest.approx(expected, rel=spec.RTOL)


@pytest.mark.parametrize("backend", HOST)
def test_the_rank_is_limited(backend):
    line = np.array([[0.0], [1.0], [3.0], [6.0]])
    assert kernels.tile_radius(line, 1, backend=backend) == np.median([6, 5, 3, 6])
    assert kernels.tile_radius(line, 1000, backend=backend) == np.median([1, 1, 2, 3])
    assert kernels.tile_radius(torch.from_numpy(line[:1]), 3, backend=backend) == 0.0
    assert kernels.tile_radius(line[:0], 3, backend=backend) == 0.0
    assert kernels.tile_radius(np.ones((50, 3)), 5, backend=backend) == 0.0


@pytest.mark.parametrize("backend", HOST)
def test_rows_without_a_common_modality_are_no_neighbors(rng, backend):
    x = {"a": rng.normal(size=(40, 3)), "b": rng.normal(size=(40, 2))}
    present = np.arange(40)[:, None] % 2 == np.arange(2)
    apart = kernels.tile_radius(x, 8, present=present, backend=backend)
    expected = [
        to_neighbors([x["a"][::2]], 4, [1], np.arange(20)),
        to_neighbors([x["b"][1::2]], 4, [1], np.arange(20)),
    ]
    assert apart == pytest.approx(np.median(expected), rel=spec.RTOL)
    assert kernels.tile_radius(x, 1, present=present, backend=backend) == 0.0
    assert kernels.tile_radius(x, 1, present=present & False, backend=backend) == 0.0


@pytest.mark.parametrize("backend", HOST)
def test_errors(rng, backend):
    x = rng.normal(size=(20, 3))
    for error, message, options in (
        (UsageError, "k: expected at least 1", {"k": 0}),
        (UsageError, "rows: expected at least 1", {"rows": 0}),
        (UsageError, "max_memory", {"max_memory": 0}),
        (UsageError, "positive sum", {"weights": [0]}),
        (DataError, "overflow", {"features": x * 1e200}),
    ):
        with pytest.raises(error, match=message):
            kernels.tile_radius(**({"features": x, "k": 3, "backend": backend} | options))
    x[4, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"features\[4, 1\]"):
        kernels.tile_radius(x, 3, backend=backend)
