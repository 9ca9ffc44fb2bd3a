from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from rlmba import _core, kernels
from rlmba.errors import DataError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels.common import exact_sums
from rlmba.kernels.kmeans import reference, spec
from rlmba.kernels.kmeans.means import Means

BACKENDS = ["cpu", "reference", "triton"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", spec.SHAPES)
@pytest.mark.parametrize("max_iter", [0, 1, 5])
def test_matches_reference(rng, product_isa, shape, dtype, max_iter):
    n, width, k = shape
    x = (rng.normal(size=(n, width)) + 3 * rng.integers(3, size=(n, 1))).astype(dtype)
    ours = kernels.kmeans(x, k, rng=5, max_iter=max_iter, backend="cpu")
    theirs = kernels.kmeans(x, k, rng=5, max_iter=max_iter, backend="reference")
    np.testing.assert_array_equal(ours.seed_indices, theirs.seed_indices)
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert ours.iterations == theirs.iterations <= max_iter
    rtol = spec.RTOL[dtype]
    np.testing.assert_allclose(ours.centers, theirs.centers, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(ours.distances, theirs.distances, rtol=rtol, atol=rtol)
    assert ours.centers.dtype == ours.distances.dtype == dtype


@pytest.mark.parametrize("offset", [0, 1e3])
def test_distances_and_labels_belong_to_the_final_centers(rng, offset):
    x = (rng.normal(size=(4000, 24)) + offset).astype(np.float32)
    result = kernels.kmeans(x, 60, rng=1, max_iter=3)
    assert result.iterations == 3
    exact = kernels.min_distance(x, result.centers, backend="reference")
    np.testing.assert_array_equal(result.labels, exact.indices)
    np.testing.assert_allclose(result.distances, exact.distances, rtol=2e-7)
    moved = reference.update(x, result.labels, result.centers)
    again = kernels.kmeans(x, 60, rng=1, max_iter=4)
    np.testing.assert_allclose(again.centers, moved, rtol=1e-6, atol=1e-6)


def test_steps_lower_the_potential_and_stop_when_nothing_changes(rng):
    x = rng.normal(size=(500, 3))
    potentials = [(kernels.kmeans(x, 8, rng=2, max_iter=i).distances ** 2).sum() for i in range(12)]
    assert np.all(np.diff(potentials) <= 1e-9)
    done = kernels.kmeans(x, 8, rng=2, max_iter=1000)
    assert done.iterations < 1000
    same = kernels.kmeans(x, 8, rng=2, max_iter=done.iterations + 7)
    assert same.iterations == done.iterations
    np.testing.assert_array_equal(same.centers, done.centers)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_empty_cluster_keeps_its_center(backend):
    x = np.repeat([[2.0, 1.0], [8.0, 1.0]], 10, axis=0)
    result = kernels.kmeans(x, 5, rng=3, backend=backend)
    assert result.iterations == 1
    np.testing.assert_array_equal(result.distances, 0)
    assert len(np.unique(result.labels)) == 2
    np.testing.assert_array_equal(result.centers, x[result.seed_indices])


def test_means_keep_empty_clusters_and_do_not_touch_others(rng):
    x = rng.normal(size=(3000, 300)).astype(np.float32) + 1000
    labels = rng.integers(6, size=3000) * 2
    centers = np.full((12, 300), np.float32(np.nan))
    means = Means(12, 300, exact_sums.constants(exact_sums.largest_of(x), len(x), x.dtype))
    means.add(x, labels)
    means.move(centers)
    assert np.isnan(centers[1::2]).all()
    for label in range(0, 12, 2):
        exact = x[labels == label].mean(axis=0, dtype=np.float64).astype(np.float32)
        np.testing.assert_array_equal(centers[label], exact)
    with pytest.raises(ValueError, match="label out of range"):
        means.add(x, labels + 2)


@pytest.mark.slow
def test_threads_and_memory_do_not_matter(rng):
    x = rng.normal(size=(12_000, 20)).astype(np.float32)
    threads = kernels.num_threads()
    results = []
    try:
        for n in (1, 2, 3):
            kernels.set_num_threads(n)
            least = _core.nearest_scratch(x)
            results += [kernels.kmeans(x, 150, rng=7, max_memory=bound) for bound in (None, least)]
    finally:
        kernels.set_num_threads(threads)
    for other in results[1:]:
        for ours, theirs in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_kinds_and_layouts_and_unchanged_input(rng):
    x = rng.normal(size=(300, 2, 6)).astype(np.float32)
    before = x.copy()
    expected = kernels.kmeans(np.ascontiguousarray(x[:, 0]), 7, rng=1)
    strided = kernels.kmeans(x[:, 0], 7, rng=1)
    np.testing.assert_array_equal(strided.labels, expected.labels)
    np.testing.assert_array_equal(x, before)
    out = kernels.kmeans(torch.from_numpy(x)[:, 0], 7, rng=1)
    assert isinstance(out.centers, torch.Tensor)
    assert out.labels.dtype == torch.int64
    np.testing.assert_array_equal(out.centers.numpy(), expected.centers)
    whole = kernels.kmeans(np.arange(6).reshape(6, 1), 6, rng=1)
    assert whole.centers.dtype == np.float64
    assert sorted(whole.centers.ravel().tolist()) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("backend", BACKENDS)
def test_errors(rng, backend):
    x = rng.normal(size=(50, 3))
    with pytest.raises(UsageError, match="k: expected 1 to 50, got 51"):
        kernels.kmeans(x, 51, rng=0, backend=backend)
    with pytest.raises(UsageError, match="max_iter: expected at least 0"):
        kernels.kmeans(x, 5, rng=0, max_iter=-1, backend=backend)
    with pytest.raises(UsageError, match="max_memory: expected at least"):
        kernels.kmeans(x, 5, rng=0, max_memory=0, backend=backend)
    with pytest.raises(UsageError, match="precision: expected one of"):
        kernels.kmeans(x, 5, rng=0, precision="fp8", backend=backend)
    with pytest.raises(UsageError, match="at least one row"):
        kernels.kmeans(x[:0], 1, rng=0, backend=backend)
    with pytest.raises(ShapeError, match="at least one column"):
        kernels.kmeans(x[:, :0], 1, rng=0, backend=backend)
    with pytest.raises(DataError, match="overflow"):
        kernels.kmeans(x * 1e200, 5, rng=0, backend=backend)
    x[13, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"x\[13, 1\]"):
        kernels.kmeans(x, 5, rng=0, backend=backend)


GROWTH = """
import re, sys
from pathlib import Path
import numpy as np
from rlmba import kernels
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
rows = int(sys.argv[1])
x = np.empty((rows, 128), np.float32)
generator = np.random.default_rng(0)
for begin in range(0, rows, 10_000):
    x[begin : begin + 10_000] = generator.standard_normal((10_000, 128), dtype=np.float32)
kernels.kmeans(x[:1000], 200, rng=0, max_iter=2)
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
before = peak()
result = kernels.kmeans(x, 200, rng=0, max_iter=2)
used = (peak() - before) / x.nbytes
block = np.ones(x.nbytes // 16)  # half the input: shows that the peak is really read
print(used, (peak() - before) / x.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.slow
def test_memory_stays_within_a_fifth_of_the_input():
    run = subprocess.run(
        [sys.executable, "-c", GROWTH, "200000"], capture_output=True, text=True, check=True
    )
    used, with_block = (float(part) for part in run.stdout.split())
    assert used < 0.2
    assert with_block > 0.4
