"""Adding a constant where mathematics ignores one: softmaxes, ranks, ranges and distances.

Values lie on a grid that the dtype still holds after the shift, so that the shifted arrays are the same
problem to the last bit, and what a kernel loses it loses by itself.
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from rlmba import kernels
from rlmba.errors import DataError

BACKENDS = ["cpu", "reference", "triton", "cuda"]
SHIFT = {"float32": 2.0**16, "float64": 2.0**40}
RTOL = {"float32": 2e-6, "float64": 1e-12}


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def grid(rng, dtype):
    """Multiples of 1/64 within -4..4."""
    return lambda *shape: (rng.integers(-256, 257, size=shape) / 64).astype(dtype)


@pytest.fixture
def shifts(rng, dtype):
    """Whole numbers of the size of the shift, of either sign."""
    return lambda *shape: (rng.choice([-1, 0.5, 1], size=shape) * SHIFT[dtype]).astype(dtype)


def close(ours, theirs, dtype, scale=1.0):
    np.testing.assert_allclose(ours, theirs, rtol=RTOL[dtype], atol=RTOL[dtype] * scale)


def of(*backends):
    return pytest.mark.parametrize("backend", backends)


@of("cpu", "reference", "triton")
def test_bald_score(grid, shifts, dtype, backend):
    x = grid(4, 9, 5)
    moved = x + shifts(4, 9, 1)
    expected = kernels.bald_score(x.astype(np.float64), backend="reference")
    close(kernels.bald_score(moved, backend=backend), expected, dtype)


@of("cpu", "reference", "triton")
def test_gradient_residuals(grid, shifts, dtype, backend):
    x = grid(9, 5)
    expected = kernels.gradient_residuals(x.astype(np.float64), backend="reference")
    close(kernels.gradient_residuals(x + shifts(9, 1), backend=backend), expected, dtype)


@of("cpu", "reference", "triton")
def test_deepfool_distance(grid, shifts, dtype, backend):
    x, weight = grid(9, 5), grid(5, 6)
    expected = kernels.deepfool_distance(
        x.astype(np.float64), weight.astype(np.float64), backend="reference"
    )
    ours = kernels.deepfool_distance(x + shifts(9, 1), weight, backend=backend)
    np.testing.assert_array_equal(ours.classes, expected.classes)
    close(ours.distances, expected.distances, dtype)


@of("cpu", "reference", "triton")
def test_shapley_contributions(grid, shifts, dtype, backend, rng):
    parts, labels = [grid(9, 5), grid(9, 5)], rng.integers(5, size=9)
    wide = [p.astype(np.float64) for p in parts]
    expected = kernels.shapley_contributions(wide, labels, backend="reference")
    moved = [p + shifts(9, 1) for p in parts]
    ours = kernels.shapley_contributions(moved, labels, bias=np.full(5, 1e6), backend=backend)
    close(ours, expected, "float32" if dtype == "float32" else "float64", scale=100)


@of(*BACKENDS)
def test_top_k(grid, shifts, backend):
    x = grid(300)
    moved = x + shifts(1)
    np.testing.assert_array_equal(
        kernels.top_k(moved, 20, backend=backend).indices,
        kernels.top_k(x, 20, backend="reference").indices,
    )


@of(*BACKENDS)
def test_minmax(grid, shifts, dtype, backend):
    x = grid(50, 3)
    expected = kernels.minmax(x.astype(np.float64), backend="reference")
    close(kernels.minmax(x + shifts(1, 3), backend=backend), expected, dtype)


@of(*BACKENDS)
def test_min_distance(grid, shifts, dtype, backend):
    x, centers, shift = grid(70, 6), grid(40, 6), shifts(1, 6)
    expected = kernels.min_distance(
        x.astype(np.float64), centers.astype(np.float64), backend="reference"
    )
    ours = kernels.min_distance(x + shift, centers + shift, backend=backend)
    np.testing.assert_array_equal(ours.indices, expected.indices)
    close(ours.distances, expected.distances, dtype)


@of("cpu", "reference", "triton")
def test_herding(grid, shifts, dtype, backend):
    x, labeled, shift = grid(60, 5), grid(4, 5), shifts(1, 5)
    expected = kernels.herding(x, 20, labeled=labeled, radius=3.0, backend=backend)
    ours = kernels.herding(x + shift, 20, labeled=labeled + shift, radius=3.0, backend=backend)
    np.testing.assert_array_equal(ours.indices, expected.indices)
    np.testing.assert_array_equal(ours.gains, expected.gains)
    moved = kernels.tile_radius(x + shift, 6, backend=backend)
    assert moved == kernels.tile_radius(x, 6, backend=backend)


@of("cpu", "reference", "triton")
def test_k_center(grid, shifts, dtype, backend):
    x, labeled, shift = grid(60, 6), grid(3, 6), shifts(1, 6)
    wide = x.astype(np.float64)
    expected = kernels.k_center(wide, 9, labeled=labeled, backend="reference")
    ours = kernels.k_center(x + shift, 9, labeled=labeled + shift, backend=backend)
    np.testing.assert_array_equal(ours.indices, expected.indices)
    close(ours.distances, expected.distances, dtype)
    close(ours.radius, expected.radius, dtype)


@of("cpu", "reference", "triton")
def test_k_center_from_the_mean(grid, shifts, dtype, backend):
    x = grid(64, 6)  # a power of two: the mean lies on a finer grid
    expected = kernels.k_center(x.astype(np.float64), 5, backend="reference")
    ours = kernels.k_center(x + shifts(1, 6), 5, backend=backend)
    np.testing.assert_array_equal(ours.indices, expected.indices)


@of("cpu", "reference", "triton")
def test_kmeans_plusplus(grid, shifts, dtype, backend):
    x, shift = grid(80, 6), shifts(1, 6)
    expected = kernels.kmeans_plusplus(x.astype(np.float64), 9, rng=3, backend="reference")
    ours = kernels.kmeans_plusplus(x + shift, 9, rng=3, backend=backend)
    np.testing.assert_array_equal(ours.indices, expected.indices)
    np.testing.assert_array_equal(ours.labels, expected.labels)
    close(ours.distances, expected.distances, dtype)


@of("cpu", "reference", "triton")
def test_kmeans(grid, shifts, dtype, rng, backend):
    """Centers are rounded to the dtype, so that distances are as exact as the shifted numbers."""
    x, shift = grid(64, 4), shifts(1, 4)
    x[:, 0] += (8 * rng.integers(4, size=64)).astype(dtype)
    expected = kernels.kmeans(x.astype(np.float64), 4, rng=3, backend="reference")
    ours = kernels.kmeans(x + shift, 4, rng=3, backend=backend)
    np.testing.assert_array_equal(ours.labels, expected.labels)
    exactness = 4 * float(np.spacing(np.abs(x + shift).max()))
    np.testing.assert_allclose(ours.centers - shift, expected.centers, atol=exactness)
    np.testing.assert_allclose(ours.distances, expected.distances, atol=exactness)


def exact_log_prob(logits, indices):
    """The log-probability of an order and its gradient in 60 digits."""
    with mpmath.workdps(60):
        z = [mpmath.mpf(float(v)) for v in logits]
        top = max(z)
        odds = [mpmath.exp(v - top) for v in z]
        left = set(range(len(z)))
        total, gradient = mpmath.mpf(0), [mpmath.mpf(0)] * len(z)
        for i in indices:
            mass = mpmath.fsum(odds[k] for k in left)
            total += z[i] - top - mpmath.log(mass)
            for k in left:
                gradient[k] -= odds[k] / mass
            gradient[i] += 1
            left.remove(i)
        return float(total), np.array([float(g) for g in gradient])


@of("cpu", "reference", "triton")
@pytest.mark.parametrize("shift", [0.0, 1e4, -(2.0**20), 2.0**40, -(2.0**46), 2.0**60])
def test_plackett_luce_log_prob(rng, backend, shift):
    step = max(1 / 64, float(np.spacing(abs(shift))))
    z = np.unique(rng.integers(-400, 400, size=40)) * step
    order = rng.permutation(len(z))[:25]
    value, gradient = exact_log_prob(z + shift, order)
    ours = kernels.plackett_luce_log_prob(z + shift, order, backend=backend)
    np.testing.assert_allclose(ours.log_prob, value, rtol=1e-11)
    np.testing.assert_allclose(ours.gradient, gradient, rtol=1e-9, atol=1e-12)


@of("cpu", "reference", "triton")
def test_plackett_luce_log_prob_of_groups_far_apart(backend):
    """Each group keeps its digits, though the groups lie 1e15 apart."""
    z = np.concatenate([np.array([0.25, 1.5, -0.5]) + far for far in (0.0, 1e12, 1e15)])
    order = np.array([7, 6, 8, 4, 5, 3, 1, 0, 2])
    value, gradient = exact_log_prob(z, order)
    ours = kernels.plackett_luce_log_prob(z, order, backend=backend)
    np.testing.assert_allclose(ours.log_prob, value, rtol=1e-12)
    np.testing.assert_allclose(ours.gradient, gradient, rtol=1e-9, atol=1e-12)


@of("cpu", "reference", "triton")
@pytest.mark.parametrize("shift", [2.0**40, -(2.0**60)])
def test_plackett_luce_draws_the_same(rng, backend, shift):
    step = max(1 / 64, float(np.spacing(shift if shift > 0 else -shift)))
    z = rng.integers(-50, 50, size=60) * step
    ours = kernels.plackett_luce(z + shift, 20, rng=5, backend=backend)
    plain = kernels.plackett_luce(z, 20, rng=5, backend=backend)
    np.testing.assert_array_equal(ours.indices, plain.indices)


@of("cpu", "reference", "triton")
def test_plackett_luce_draws_from_the_ends_of_the_range(backend):
    z = np.array([-1.7e308, 1.7e308, 0.0, 1.7e308])
    drawn = kernels.plackett_luce(z, 4, rng=1, backend=backend)
    assert sorted(drawn.indices[:2].tolist()) == [1, 3]
    assert sorted(drawn.indices.tolist()) == [0, 1, 2, 3]


@of("cpu", "reference", "triton")
@pytest.mark.parametrize("scale", [2.0**80, 2.0**-70])
def test_squares_beyond_float32(rng, backend, scale):
    """Distances that float32 holds are exact, though their squares are beyond its range."""
    x, centers = (rng.normal(size=(n, 5)).astype(np.float32) for n in (60, 9))
    moved, moved_centers = x * np.float32(scale), centers * np.float32(scale)
    for plain, scaled in (
        (kernels.k_center(x, 6), kernels.k_center(moved, 6, backend=backend)),
        (
            kernels.min_distance(x, centers),
            kernels.min_distance(moved, moved_centers, backend=backend),
        ),
        (
            kernels.kmeans_plusplus(x, 6, rng=0),
            kernels.kmeans_plusplus(moved, 6, rng=0, backend=backend),
        ),
    ):
        np.testing.assert_array_equal(scaled.indices, plain.indices)
        np.testing.assert_allclose(scaled.distances / scale, plain.distances, rtol=1e-6)


@of("cpu", "reference", "triton")
def test_squares_beyond_float64(rng, backend):
    x = rng.normal(size=(20, 3)) * 1e160
    for call in (
        lambda: kernels.k_center(x, 3, backend=backend),
        lambda: kernels.min_distance(x, x[:2].copy(), backend=backend),
        lambda: kernels.kmeans_plusplus(x, 3, rng=0, backend=backend),
        lambda: kernels.kmeans(x, 3, rng=0, backend=backend),
        lambda: kernels.gradient_kmeans_plusplus(x, x, 3, rng=0, backend=backend),
    ):
        with pytest.raises(DataError, match=r"overflow; scale the data"):
            call()
