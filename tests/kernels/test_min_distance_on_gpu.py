from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba import kernels
from rlmba.errors import DataError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels.min_distance import reference, spec
from tests.helpers import accelerated

pytestmark = pytest.mark.usefixtures("poisoned")

SHAPES = [
    # N, D, k: blocks of rows, centers and columns from both sides of their edges
    (1, 1, 1),
    (5, 2, 3),
    (63, 16, 17),
    (65, 17, 63),
    (127, 33, 65),
    (129, 64, 256),
    (130, 255, 40),
    (40, 600, 7),
    (70, 3, 260),
]


def wide(t):
    return t.cpu().double().numpy() if isinstance(t, torch.Tensor) else t


def assert_nearest(x, centers, result, dtype="float32"):
    squared, labels = reference.nearest(wide(x), wide(centers))
    np.testing.assert_array_equal(wide(result.indices), labels)
    np.testing.assert_allclose(wide(result.distances), np.sqrt(squared), rtol=spec.RTOL[dtype])
    assert str(result.distances.dtype).endswith(dtype)
    assert str(result.indices.dtype).endswith("int64")


@pytest.mark.parametrize("backend", accelerated.BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_matches_reference(rng, backend, shape, dtype):
    n, width, k = shape
    x = rng.normal(size=(n, width)).astype(dtype)
    centers = rng.normal(size=(k, width)).astype(dtype)
    before = x.copy(), centers.copy()
    assert_nearest(x, centers, kernels.min_distance(x, centers, backend=backend), dtype)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(centers, before[1])


@pytest.mark.parametrize("backend", accelerated.BACKENDS)
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("other", ["the same", torch.float32, torch.float64])
@pytest.mark.parametrize("width", [48, 64])
def test_half_precision_is_read_as_it_lies(rng, backend, half, other, width):
    x = accelerated.on_gpu(rng.normal(size=(150, width)) + 2).to(half)
    centers = accelerated.on_gpu(rng.normal(size=(70, width)) + 2)
    centers = centers.to(half if other == "the same" else other)
    result = kernels.min_distance(x, centers, backend=backend)
    assert result.distances.device == x.device
    assert_nearest(x, centers, result, "float64" if other == torch.float64 else "float32")


@pytest.mark.parametrize("backend", accelerated.BACKENDS)
@pytest.mark.parametrize("offset", [1e3, -3e5])
def test_a_common_offset_does_no_harm(rng, backend, offset):
    x = (rng.normal(size=(150, 96)) + offset).astype(np.float32)
    centers = (rng.normal(size=(70, 96)) + offset).astype(np.float32)
    centers[::7] = x[:10]
    result = kernels.min_distance(x, centers, backend=backend)
    assert_nearest(x, centers, result)
    np.testing.assert_array_equal(result.distances[:10], 0)


@pytest.mark.parametrize("backend", accelerated.BACKENDS)
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e15, 3e18])
def test_scales_at_the_edge_of_float32(rng, backend, scale):
    x = (rng.normal(size=(90, 40)) * scale).astype(np.float32)
    centers = (rng.normal(size=(20, 40)) * scale).astype(np.float32)
    centers[3] *= 0.01
    assert_nearest(x, centers, kernels.min_distance(x, centers, backend=backend))
    half = torch.from_numpy(x).bfloat16()
    assert_nearest(half, half[:20], kernels.min_distance(half, half[:20], backend=backend))


@pytest.mark.parametrize("backend", accelerated.BACKENDS)
def test_rows_of_very_different_size(rng, backend):
    x = rng.normal(size=(100, 33)) * 10.0 ** rng.integers(-6, 19, size=(100, 1))
    x = x.astype(np.float32)
    centers = x[rng.permutation(100)[:30]] * np.float32(1.0001)
    assert_nearest(x, centers, kernels.min_distance(x, centers, backend=backend))


@pytest.mark.parametrize("backend", accelerated.BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_near_ties_are_decided_exactly(rng, backend, dtype):
    """Centers of one length, rows close to the origin: half norms drown what tells distances apart."""
    values = rng.normal(size=100)
    centers = torch.from_numpy(np.stack([rng.permutation(values) for _ in range(30)])).to(dtype)
    x = torch.from_numpy(2.0**-24 * rng.normal(size=(70, 100))).to(dtype)
    gain = wide(x).astype(np.float32) @ wide(centers).astype(np.float32).T
    gain -= (wide(centers).astype(np.float32) ** 2).sum(axis=1) / 2
    exact = reference.nearest(wide(x), wide(centers))[1]
    assert (gain.argmax(axis=1) != exact).mean() > 0.5
    result = kernels.min_distance(x, centers, backend=backend)
    assert_nearest(x, centers, result, "float64" if dtype == torch.float64 else "float32")


@pytest.mark.parametrize("backend", accelerated.BACKENDS)
def test_ties_go_to_the_lowest_index(rng, backend):
    x = rng.integers(3, size=(150, 2)).astype(np.float32)
    centers = rng.integers(3, size=(90, 2)).astype(np.float32)
    result = kernels.min_distance(x, centers, backend=backend)
    exact = ((x[:, None] - centers[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(result.indices, exact.argmin(axis=1))
    np.testing.assert_array_equal(result.distances, np.sqrt(exact.min(axis=1)))
    same = kernels.min_distance(x, np.ones((20, 2), np.float32), backend=backend)
    np.testing.assert_array_equal(same.indices, 0)


@pytest.mark.parametrize("backend", accelerated.BACKENDS)
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_one_product_takes_a_center_that_is_nearly_nearest(rng, backend, precision, dtype):
    x = torch.from_numpy(rng.normal(size=(130, 40)) + 3).to(dtype)
    centers = torch.from_numpy(rng.normal(size=(70, 40)) + 3).to(dtype)
    result = kernels.min_distance(x, centers, precision=precision, backend=backend)
    every = ((wide(x)[:, None] - wide(centers)[None]) ** 2).sum(axis=2)
    taken = np.take_along_axis(every, wide(result.indices)[:, None].astype(int), axis=1)[:, 0]
    np.testing.assert_allclose(wide(result.distances), np.sqrt(taken), rtol=2e-7)
    # Twice the rounding of both factors, over |x - m| |c - m|, which are about 8 here.
    slack = 4 * 2.0 ** -(8 if precision == "bf16" or dtype == torch.bfloat16 else 11) * 100
    assert (taken <= every.min(axis=1) + slack).all()
    assert (wide(result.indices) == every.argmin(axis=1)).mean() > 0.9


@pytest.mark.parametrize("backend", accelerated.BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_neither_memory_nor_chunks_change_a_bit(rng, backend, dtype, monkeypatch):
    x = rng.normal(size=(140, 20)).astype(dtype) + 7
    centers = np.concatenate([x[:5], x[:5], rng.normal(size=(10, 20)).astype(dtype)])
    expected = kernels.min_distance(x, centers, backend=backend)
    for bound in (2 * 71 * x[0].nbytes, x.nbytes):
        result = kernels.min_distance(x, centers, max_memory=bound, backend=backend)
        np.testing.assert_array_equal(result.indices, expected.indices)
        np.testing.assert_array_equal(result.distances, expected.distances)
    if backend == "triton":
        from rlmba.kernels.min_distance import assignment

        monkeypatch.setattr(assignment, "SCRATCH_VALUES", 75 * 20)
        result = kernels.min_distance(x, centers, backend=backend)
        np.testing.assert_array_equal(result.indices, expected.indices)
        np.testing.assert_array_equal(result.distances, expected.distances)
    with pytest.raises(UsageError, match="max_memory: expected at least"):
        kernels.min_distance(x, centers, max_memory=30, backend=backend)


@pytest.mark.parametrize("backend", accelerated.BACKENDS)
@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("exact", "float16"), ("exact", "float32"), ("exact", "float64"), ("bf16", "float32")],
)
def test_names_first_non_finite_row(rng, backend, precision, dtype):
    x = rng.normal(size=(150, 37)).astype(dtype)
    centers = rng.normal(size=(20, 37)).astype(dtype)
    x[[117, 142], [36, 0]] = np.nan, -np.inf
    options = {"precision": precision, "backend": backend}
    for bound in (None, 2 * 100 * x[0].nbytes):
        with pytest.raises(NonFiniteError, match=r"x\[117, 36\]") as caught:
            kernels.min_distance(x, centers, max_memory=bound, **options)
        assert caught.value.row == 117
    centers[[13, 19], 5] = np.inf
    with pytest.raises(NonFiniteError, match=r"centers\[13, 5\]") as caught:
        kernels.min_distance(x, centers, **options)
    assert caught.value.row == 13


@pytest.mark.parametrize("backend", accelerated.BACKENDS)
def test_kinds_layouts_and_no_rows(rng, backend):
    whole = rng.normal(size=(60, 2, 24)).astype(np.float32)
    x = whole[:, 1]
    centers = rng.normal(size=(60, 30)).astype(np.float32)[::2, 3:27]
    expected = reference.nearest(x, centers)[1]
    for given in (x, np.asfortranarray(x), x[::-1][::-1]):
        result = kernels.min_distance(given, centers, backend=backend)
        np.testing.assert_array_equal(result.indices, expected)
    strided = accelerated.on_gpu(whole)[:, 1].half()
    result = kernels.min_distance(strided, accelerated.on_gpu(centers.copy()), backend=backend)
    assert isinstance(result.indices, torch.Tensor)
    assert_nearest(strided, centers, result)
    integers = kernels.min_distance(np.array([[3, 4]]), np.array([[0, 0]]), backend=backend)
    assert integers.distances.tolist() == [5.0]
    assert integers.distances.dtype == np.float64
    none = kernels.min_distance(x[:0], centers, backend=backend)
    assert none.distances.shape == none.indices.shape == (0,)


@pytest.mark.parametrize("backend", accelerated.BACKENDS)
def test_errors(rng, backend):
    x = rng.normal(size=(5, 3))
    with pytest.raises(ShapeError, match="centers: expected 3 columns"):
        kernels.min_distance(x, x[:, :2], backend=backend)
    with pytest.raises(ShapeError, match="at least one column"):
        kernels.min_distance(x[:, :0], x[:, :0], backend=backend)
    with pytest.raises(ShapeError, match="2-D"):
        kernels.min_distance(x[0], x, backend=backend)
    with pytest.raises(UsageError, match="at least one row"):
        kernels.min_distance(x, x[:0], backend=backend)
    with pytest.raises(UsageError, match="max_memory"):
        kernels.min_distance(x, x, max_memory=0, backend=backend)
    with pytest.raises(UsageError, match="precision: expected one of"):
        kernels.min_distance(x, x, precision="fp8", backend=backend)
    with pytest.raises(DataError, match="overflow"):
        kernels.min_distance(x * 1e200, -1e200 * x, backend=backend)
