"""The means of a k-means step: sums without rounding errors compared with plain sums in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba.kernels.common import exact_sums
from rlmba.kernels.kmeans.means import Means

ROWS, WIDTH, LABELS = 400_000, 256, 100


@pytest.fixture(scope="module", params=["float32", "float64"])
def case(request):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, WIDTH), dtype=np.float32).astype(request.param)
    return x, rng.integers(0, LABELS, ROWS)


def ours(x, labels):
    means = Means(LABELS, WIDTH, exact_sums.constants(exact_sums.largest_of(x), len(x), x.dtype))
    means.add(x, labels)
    centers = np.empty((LABELS, WIDTH), x.dtype)
    means.move(centers)
    return centers


def index_add(x, labels):
    """Plain sums, by torch."""
    sums = torch.zeros((LABELS, WIDTH), dtype=torch.float64)
    sums.index_add_(0, torch.from_numpy(labels), torch.from_numpy(x).double())
    return (sums / torch.from_numpy(np.bincount(labels, minlength=LABELS))[:, None]).numpy()


def check(found, x, labels):
    for label in range(0, LABELS, 25):
        exact = x[labels == label].mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(found[label], exact, rtol=1e-6, atol=1e-7)


def test_rlmba(benchmark, case):
    x, labels = case
    check(ours(x, labels), x, labels)
    np.testing.assert_array_equal(ours(x, labels), ours(x[::-1].copy(), labels[::-1].copy()))
    benchmark.group = f"means {x.shape} {x.dtype}"
    benchmark(lambda: ours(x, labels))


def test_index_add(benchmark, case):
    x, labels = case
    check(index_add(x, labels), x, labels)
    benchmark.group = f"means {x.shape} {x.dtype}"
    benchmark(lambda: index_add(x, labels))
