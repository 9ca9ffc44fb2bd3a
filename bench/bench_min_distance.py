"""min_distance compared with torch.cdist (in chunks) and FAISS's exact index."""

from __future__ import annotations

import distance_data
import faiss
import numpy as np
import pytest
import torch

from rlmba import kernels
from rlmba.kernels.min_distance import reference, spec


@pytest.fixture(scope="module", params=distance_data.KINDS)
def case(request):
    rows, width, k = spec.BENCH_SHAPES["food101"]
    x = distance_data.make(request.param, rows, width)
    centers = x[np.random.default_rng(1).choice(rows, k, replace=False)].copy()
    subset = np.random.default_rng(2).choice(rows, 500, replace=False)
    squared, labels = reference.nearest(x[subset], centers)
    return request.param, x, centers, subset, np.sqrt(squared), labels


def measure(benchmark, case, run, shape):
    kind = case[0]
    benchmark.group = f"min_distance {kind} {shape}"
    benchmark(run)
    flops = 2 * case[1].size * len(case[2])
    benchmark.extra_info["gflops"] = round(flops / benchmark.stats.stats.min / 1e9, 1)


def test_rlmba(benchmark, case):
    _, x, centers, subset, distances, labels = case
    result = kernels.min_distance(x, centers, backend="cpu")
    np.testing.assert_array_equal(result.indices[subset], labels)
    np.testing.assert_allclose(result.distances[subset], distances, rtol=2e-7)
    measure(benchmark, case, lambda: kernels.min_distance(x, centers, backend="cpu"), x.shape)


def test_torch_cdist(benchmark, case):
    _, x, centers, subset, distances, _ = case
    rows, others = torch.from_numpy(x), torch.from_numpy(centers)

    def run():
        parts = [torch.cdist(part, others).min(dim=1) for part in rows.split(4096)]
        return torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts])

    # Its distance of a row to itself has a cancellation error, which ours avoids.
    np.testing.assert_allclose(run()[0][subset].numpy(), distances, rtol=1e-3, atol=0.1)
    measure(benchmark, case, run, x.shape)


def test_numpy_products_alone(benchmark, case):
    """The cost of the matrix products alone, a lower bound for methods that use them."""
    _, x, centers, *_ = case
    transposed = np.ascontiguousarray(centers.T)
    out = np.empty((len(x), len(centers)), dtype=np.float32)
    measure(benchmark, case, lambda: np.matmul(x, transposed, out=out), x.shape)


def test_faiss_flat(benchmark, case):
    _, x, centers, subset, distances, _ = case
    index = faiss.IndexFlatL2(x.shape[1])
    index.add(centers)
    squared, _ = index.search(x[subset], 1)
    np.testing.assert_allclose(np.sqrt(squared[:, 0]), distances, rtol=1e-3, atol=0.1)
    measure(benchmark, case, lambda: index.search(x, 1), x.shape)
