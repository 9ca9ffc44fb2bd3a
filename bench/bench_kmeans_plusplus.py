"""kmeans_plusplus compared with scikit-learn's with one candidate per step, the same distribution."""

from __future__ import annotations

import distance_data
import numpy as np
import pytest
from sklearn.cluster import kmeans_plusplus

from rlmba import kernels
from rlmba.kernels.kmeans_plusplus import reference, spec


@pytest.fixture(scope="module", params=distance_data.KINDS)
def case(request):
    rows, width, k = spec.BENCH_SHAPES["food101"]
    return request.param, distance_data.make(request.param, rows, width), k


def test_rlmba(benchmark, case):
    kind, x, k = case
    part = x[:3000]
    few = kernels.kmeans_plusplus(part, 200, rng=1, backend="cpu")
    np.testing.assert_array_equal(few.indices, reference.blocked(part, 200, 1, None)[0])
    result = kernels.kmeans_plusplus(x, k, rng=0, backend="cpu")
    assert len(np.unique(result.indices)) == k
    nearest = kernels.min_distance(x[:500], x[result.indices], backend="reference")
    np.testing.assert_allclose(result.distances[:500], nearest.distances, rtol=2e-7)
    np.testing.assert_array_equal(result.labels[:500], nearest.indices)
    benchmark.group = f"kmeans_plusplus {kind} {x.shape} k={k}"
    benchmark(lambda: kernels.kmeans_plusplus(x, k, rng=0, backend="cpu"))
    benchmark.extra_info["potential"] = distance_data.potential(result.distances)


def test_scikit_learn(benchmark, case):
    kind, x, k = case
    ours = [
        distance_data.potential(kernels.kmeans_plusplus(x, k, rng=seed).distances)
        for seed in range(8)
    ]
    benchmark.group = f"kmeans_plusplus {kind} {x.shape} k={k}"
    centers, _ = benchmark.pedantic(
        kmeans_plusplus,
        args=(x, k),
        kwargs={"n_local_trials": 1, "random_state": 0},
        rounds=1,
        warmup_rounds=0,
    )
    theirs = distance_data.potential(kernels.min_distance(x, centers).distances)
    # One draw of theirs must be within five standard deviations of the mean of eight of ours.
    assert abs(theirs - np.mean(ours)) < 5 * np.std(ours, ddof=1)
    benchmark.extra_info["potential"] = theirs
