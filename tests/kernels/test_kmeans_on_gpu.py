from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba import kernels
from rlmba.kernels.common import device
from rlmba.kernels.kmeans import on_device, reference, spec
from tests.helpers import accelerated

pytestmark = [
    pytest.mark.usefixtures("poisoned"),
    pytest.mark.parametrize("backend", ["triton"]),
]


def clustered(rng, n, width):
    return rng.normal(size=(n, width)) + 3 * rng.integers(3, size=(n, 1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (9, 1, 3), (40, 3, 40), (130, 17, 7)])
def test_matches_the_cpu(rng, backend, shape, dtype):
    n, width, k = shape
    x = clustered(rng, n, width).astype(dtype)
    ours = kernels.kmeans(x, k, rng=5, max_iter=3, backend=backend)
    theirs = kernels.kmeans(x, k, rng=5, max_iter=3, backend="reference")
    np.testing.assert_array_equal(ours.seed_indices, theirs.seed_indices)
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert ours.iterations == theirs.iterations
    rtol = spec.RTOL[dtype]
    np.testing.assert_allclose(ours.centers, theirs.centers, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(ours.distances, theirs.distances, rtol=rtol, atol=rtol)
    assert ours.centers.dtype == ours.distances.dtype == dtype
    assert ours.labels.dtype == ours.seed_indices.dtype == np.int64


def steps(x, centers, max_iter, bound=None, precision="exact"):
    """Lloyd steps from given centers: clusters, and how many were done."""
    t = torch.from_numpy(x)
    rows = device.Rows([t], accelerated.device(), bound)
    squared, labels = kernels.min_distance(x, centers)
    clusters = on_device.Clusters(
        *(accelerated.on_gpu(a) for a in (centers.copy(), squared.astype(float) ** 2, labels))
    )
    bad = device.flag(rows.device)
    done = on_device.lloyd(rows, t.dtype, clusters, max_iter, precision=precision, bad=bad)
    assert device.read_flag(bad) is None
    return [np.asarray(c.cpu()) for c in clusters], int(done)


def lloyd(x, centers, max_iter):
    squared, labels = reference.min_distance.nearest(x, centers)
    for done in range(max_iter):
        before = labels
        centers = reference.update(x, labels, centers)
        squared, labels = reference.min_distance.nearest(x, centers)
        if np.array_equal(labels, before):
            return (centers, squared, labels), done + 1
    return (centers, squared, labels), max_iter


@pytest.mark.parametrize("bound", [None, 2 * 70 * 20 * 4])
def test_steps_and_where_they_end(rng, backend, bound):
    x = clustered(rng, 200, 20).astype(np.float32)
    # The last center has no row.
    centers = np.concatenate([x[:4], np.full((1, 20), 50, np.float32)])
    (_, _, labels), last = lloyd(x, centers, 50)
    assert 2 < last < 17
    for max_iter in (0, 1, last + 2):
        (_, squared, labels), expected = lloyd(x, centers, max_iter)
        ours, done = steps(x, centers, max_iter, bound)
        assert done == expected == min(last, max_iter)
        np.testing.assert_array_equal(ours[2], labels)
        np.testing.assert_allclose(ours[1], squared, rtol=1e-6)
        np.testing.assert_array_equal(ours[0][4], 50)


def test_means_are_those_of_the_cpu_to_the_bit_in_chunks_too(rng, backend):
    x = (rng.normal(size=(150, 140)) + 100).astype(np.float32)
    expected = kernels.kmeans(x, 6, rng=1, max_iter=2)
    for bound in (None, 2 * 64 * x[0].nbytes):
        ours = kernels.kmeans(x, 6, rng=1, max_iter=2, max_memory=bound, backend=backend)
        np.testing.assert_array_equal(ours.labels, expected.labels)
        np.testing.assert_array_equal(ours.centers, expected.centers)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_on_the_device(rng, backend, half):
    x = accelerated.on_gpu(clustered(rng, 130, 16)).to(half)
    ours = kernels.kmeans(x, 5, rng=2, max_iter=2, backend=backend)
    theirs = kernels.kmeans(x.cpu().float().numpy(), 5, rng=2, max_iter=2)
    assert ours.centers.dtype == ours.distances.dtype == torch.float32
    assert {t.device for t in (ours.centers, ours.labels, ours.distances)} == {x.device}
    np.testing.assert_array_equal(ours.labels.cpu().numpy(), theirs.labels)
    np.testing.assert_array_equal(ours.centers.cpu().numpy(), theirs.centers)


def test_one_product_assigns_nearly_as_well(rng, backend):
    x = clustered(rng, 130, 16).astype(np.float32)
    exact = kernels.kmeans(x, 5, rng=2, max_iter=3, backend=backend)
    coarse = kernels.kmeans(x, 5, rng=2, max_iter=3, precision="bf16", backend=backend)
    np.testing.assert_array_equal(coarse.seed_indices, exact.seed_indices)
    potential = [(r.distances.astype(float) ** 2).sum() for r in (coarse, exact)]
    assert potential[0] == pytest.approx(potential[1], rel=0.02)
