from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlmba import _core, kernels
from rlmba.errors import BackendError, DataError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels.common import distances
from rlmba.kernels.min_distance import reference, spec

BACKENDS = ["cpu", "reference"]


def assert_nearest(x, centers, result, rtol):
    squared, labels = reference.nearest(x, centers)
    np.testing.assert_array_equal(result.indices, labels)
    np.testing.assert_allclose(result.distances, np.sqrt(squared), rtol=rtol)
    assert result.distances.dtype == np.result_type(x, centers)
    assert result.indices.dtype == np.int64


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", spec.SHAPES)
def test_matches_reference(rng, product_isa, shape, dtype):
    n, width, k = shape
    x = rng.normal(size=(n, width)).astype(dtype)
    centers = rng.normal(size=(k, width)).astype(dtype)
    assert_nearest(x, centers, kernels.min_distance(x, centers, backend="cpu"), spec.RTOL[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [1e3, -3e5])
def test_a_common_offset_does_no_harm(rng, product_isa, offset, dtype):
    x = (rng.normal(size=(500, 96)) + offset).astype(dtype)
    centers = (rng.normal(size=(70, 96)) + offset).astype(dtype)
    centers[::7] = x[:10]
    result = kernels.min_distance(x, centers, backend="cpu")
    assert_nearest(x, centers, result, spec.RTOL[dtype])
    np.testing.assert_array_equal(result.distances[:10], 0)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e15, 3e18])
def test_scales_at_the_edge_of_float32(rng, product_isa, scale):
    x = (rng.normal(size=(90, 40)) * scale).astype(np.float32)
    centers = (rng.normal(size=(50, 40)) * scale).astype(np.float32)
    centers[3] *= 0.01
    result = kernels.min_distance(x, centers, backend="cpu")
    assert_nearest(x, centers, result, spec.RTOL["float32"])


def test_rows_of_very_different_size(rng, product_isa):
    x = rng.normal(size=(200, 33)).astype(np.float32) * 10.0 ** rng.integers(-6, 19, size=(200, 1))
    x = x.astype(np.float32)
    centers = x[rng.permutation(200)[:60]] * np.float32(1.0001)
    assert_nearest(x, centers, kernels.min_distance(x, centers), spec.RTOL["float32"])


def test_near_ties_are_decided_exactly(rng, product_isa):
    """Centers whose distances differ by less than a float32 product can resolve."""
    base = rng.normal(size=(1, 300))
    centers = np.repeat(base, 80, axis=0).astype(np.float32)
    centers[np.arange(80), np.arange(80)] += np.float32(1e-4) * rng.normal(size=80).astype(
        np.float32
    )
    x = (base + 0.5 * rng.normal(size=(300, 300))).astype(np.float32)
    assert_nearest(x, centers, kernels.min_distance(x, centers, backend="cpu"), 2e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ties_go_to_the_lowest_index(rng, product_isa, backend):
    x = rng.integers(3, size=(400, 2)).astype(np.float32)
    centers = rng.integers(3, size=(90, 2)).astype(np.float32)
    result = kernels.min_distance(x, centers, backend=backend)
    exact = ((x[:, None] - centers[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(result.indices, exact.argmin(axis=1))
    np.testing.assert_array_equal(result.distances, np.sqrt(exact.min(axis=1)))
    same = kernels.min_distance(x, np.ones((50, 2), np.float32), backend=backend)
    np.testing.assert_array_equal(same.indices, 0)


@settings(max_examples=60)
@given(
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(1, 70),
    st.sampled_from(["float32", "float64"]),
    st.integers(0, 2**32),
)
def test_property_small_integers_are_exact(n, width, k, dtype, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(-4, 5, size=(n, width)).astype(dtype)
    centers = rng.integers(-4, 5, size=(k, width)).astype(dtype)
    exact = ((x[:, None] - centers[None]) ** 2).sum(axis=2)
    result = kernels.min_distance(x, centers)
    np.testing.assert_array_equal(result.indices, exact.argmin(axis=1))
    np.testing.assert_array_equal(result.distances, np.sqrt(exact.min(axis=1)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_neither_memory_bound_nor_threads_change_a_bit(rng, product_isa, dtype):
    x = rng.normal(size=(700, 50)).astype(dtype) + 7
    centers = np.concatenate([x[:300], x[:300], rng.normal(size=(900, 50)).astype(dtype)])
    expected = kernels.min_distance(x, centers)
    assert_nearest(x, centers, expected, spec.RTOL[dtype])
    threads = kernels.num_threads()
    try:
        for n in (1, 3):
            kernels.set_num_threads(n)
            least = _core.nearest_scratch(x)
            for bound in (least, 2 * least, 10 * least):
                result = kernels.min_distance(x, centers, max_memory=bound)
                np.testing.assert_array_equal(result.indices, expected.indices)
                np.testing.assert_array_equal(result.distances, expected.distances)
            with pytest.raises(UsageError, match=f"max_memory: expected at least {least}"):
                kernels.min_distance(x, centers, max_memory=least - 1)
    finally:
        kernels.set_num_threads(threads)


def test_updates_keep_what_is_nearer(rng, product_isa):
    x = rng.normal(size=(300, 20)).astype(np.float32)
    centers = rng.normal(size=(100, 20)).astype(np.float32)
    squared = np.full(300, np.inf)
    labels = np.full(300, -1, dtype=np.int64)
    _core.update_nearest(x, centers, distances.UNBOUNDED, squared, labels)
    exact, _ = reference.nearest(x, centers)
    np.testing.assert_allclose(squared, exact, rtol=1e-14)
    own = squared.copy()
    labels[:] = 1000
    own[::2] *= 0.5
    half = own.copy()
    _core.update_nearest(x, centers, distances.UNBOUNDED, own, labels)
    np.testing.assert_array_equal(own, half)
    np.testing.assert_array_equal(labels, 1000)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("k", [1, 40])
def test_names_first_non_finite_row(rng, product_isa, backend, bad, k):
    x = rng.normal(size=(500, 37)).astype(np.float32)
    centers = rng.normal(size=(k, 37)).astype(np.float32)
    x[[317, 402], [36, 0]] = bad
    with pytest.raises(NonFiniteError, match=r"x\[317, 36\]") as caught:
        kernels.min_distance(x, centers, backend=backend)
    assert caught.value.row == 317
    centers[k - 1, 5] = bad
    with pytest.raises(NonFiniteError, match=rf"centers\[{k - 1}, 5\]"):
        kernels.min_distance(x, centers, backend=backend)


def test_kinds_and_layouts(rng):
    wide = rng.normal(size=(120, 2, 24)).astype(np.float32)
    x = wide[:, 1]
    centers = rng.normal(size=(60, 30)).astype(np.float32)[::2, 3:27]
    expected = reference.nearest(x, centers)[1]
    np.testing.assert_array_equal(kernels.min_distance(x, centers).indices, expected)
    np.testing.assert_array_equal(
        kernels.min_distance(np.asfortranarray(x), centers).indices, expected
    )
    tensor = torch.from_numpy(wide)[:, 1]
    out = kernels.min_distance(tensor, torch.from_numpy(centers))
    assert isinstance(out.distances, torch.Tensor)
    assert out.distances.dtype == torch.float32
    np.testing.assert_array_equal(out.indices.numpy(), expected)
    half = kernels.min_distance(tensor.half(), torch.from_numpy(centers).bfloat16())
    assert half.distances.dtype == torch.float32
    mixed = kernels.min_distance(x, centers.astype(np.float64))
    assert mixed.distances.dtype == np.float64
    whole = kernels.min_distance(np.array([[3, 4]]), np.array([[0, 0]]))
    assert whole.distances.tolist() == [5.0]


def test_input_is_not_copied_when_rows_are_strided():
    wide = np.ones((10, 64), np.float32)
    assert np.shares_memory(distances.as_rows(wide[::2, 5:40], "x"), wide)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_rows_give_empty_results(backend):
    result = kernels.min_distance(
        np.empty((0, 3), np.float32), np.ones((2, 3), np.float32), backend=backend
    )
    assert result.distances.shape == result.indices.shape == (0,)


def test_errors(rng):
    x = rng.normal(size=(5, 3))
    with pytest.raises(ShapeError, match="centers: expected 3 columns"):
        kernels.min_distance(x, x[:, :2])
    with pytest.raises(ShapeError, match="at least one column"):
        kernels.min_distance(x[:, :0], x[:, :0])
    with pytest.raises(ShapeError, match="2-D"):
        kernels.min_distance(x[0], x)
    with pytest.raises(UsageError, match="at least one row"):
        kernels.min_distance(x, x[:0])
    with pytest.raises(UsageError, match="max_memory"):
        kernels.min_distance(x, x, max_memory=0, backend="reference")
    with pytest.raises(BackendError, match="available"):
        kernels.min_distance(x, x, backend="tpu")
    with pytest.raises(UsageError, match="precision: expected one of"):
        kernels.min_distance(x, x, precision="fp8")
    for backend in BACKENDS:
        with pytest.raises(DataError, match="overflow"):
            kernels.min_distance(x * 1e200, -1e200 * x, backend=backend)


def test_precision_changes_nothing_on_a_cpu(rng):
    x, centers = rng.normal(size=(300, 9)), rng.normal(size=(50, 9))
    expected = kernels.min_distance(x, centers)
    for precision in ("tf32", "bf16"):
        result = kernels.min_distance(x, centers, precision=precision)
        np.testing.assert_array_equal(result.indices, expected.indices)
        np.testing.assert_array_equal(result.distances, expected.distances)


def test_input_is_unchanged(rng):
    x, centers = rng.normal(size=(100, 9)), rng.normal(size=(50, 9))
    copies = x.copy(), centers.copy()
    kernels.min_distance(x, centers)
    np.testing.assert_array_equal(x, copies[0])
    np.testing.assert_array_equal(centers, copies[1])
