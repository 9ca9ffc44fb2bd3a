from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba import kernels
from rlmba.errors import NonFiniteError, ShapeError, UsageError
from rlmba.kernels.top_k import reference, spec
from tests.helpers import accelerated

pytestmark = pytest.mark.usefixtures("poisoned")

GPU = pytest.mark.parametrize("backend", accelerated.BACKENDS)


def check(values, k, backend):
    result = kernels.top_k(values, k, backend=backend)
    expected = reference.top_k(values, k)
    np.testing.assert_array_equal(result.indices, expected)
    np.testing.assert_array_equal(result.values, values[expected])
    assert result.values.dtype == (np.float64 if values.dtype == np.float64 else np.float32)
    assert result.indices.dtype == np.int64


@GPU
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("n", spec.GPU_SIZES)
@pytest.mark.parametrize("levels", [2, 0])
def test_matches_reference_with_and_without_ties(rng, backend, n, dtype, levels):
    values = (rng.integers(levels, size=n) if levels else rng.normal(size=n)).astype(dtype)
    for k in {0, n // 3, n}:
        check(values, k, backend)


@pytest.mark.parametrize("backend", ["cuda"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("n", "k"),
    [
        (8192, 8192),  # ordered at once
        (8193, 8192),
        (8193, 8193),  # radix sorted
        (20_011, 20_010),
        (20_011, 50),
        (120_000, 9000),  # written down in between
        (120_000, 8000),
    ],
)
def test_every_way_through_the_select(rng, backend, n, k, dtype):
    check(rng.normal(size=n).astype(dtype), k, backend)
    check(rng.integers(3, size=n).astype(dtype), k, backend)


@GPU
def test_zeros_of_either_sign_are_a_tie(backend):
    values = np.array([-0.0, 0.0, -1.0, 0.0, -0.0, 1e-45, -1e-45], dtype=np.float32)
    for k in range(8):
        result = kernels.top_k(values, k, backend=backend)
        assert result.indices.tolist() == [5, 0, 1, 3, 4, 6, 2][:k]
        np.testing.assert_array_equal(np.signbit(result.values), np.signbit(values[result.indices]))


@GPU
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sorted_constant_and_extreme_input(backend, dtype):
    n = 3000
    top = np.finfo(dtype).max
    for values in (np.arange(n), -np.arange(n), np.zeros(n), np.full(n, -top)):
        check(values.astype(dtype), 30, backend)
    few = np.array([top, -top, np.finfo(dtype).tiny, 0, -5e-324, top], dtype=dtype)
    check(few, 5, backend)


@GPU
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_tensors_of_every_width_where_they_lie(rng, backend, dtype):
    table = accelerated.on_gpu(rng.normal(size=(3001, 2)).astype(np.float32)).to(dtype)
    before = table.clone()
    # A column, which is copied, and a part that begins where nothing is aligned.
    for values in (table[:, 1], table.reshape(-1)[1:2804]):
        result = kernels.top_k(values, 70, backend=backend)
        assert result.values.dtype == torch.float32
        assert result.values.device == result.indices.device == values.device
        wide = values.float().cpu().numpy()
        expected = reference.top_k(wide, 70)
        np.testing.assert_array_equal(result.indices.cpu().numpy(), expected)
        np.testing.assert_array_equal(result.values.cpu().numpy(), wide[expected])
    assert torch.equal(table, before)


@GPU
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_names_the_first_that_is_not_finite(rng, backend, bad):
    values = rng.normal(size=9000).astype(np.float32)
    values[[6170, 8999]] = bad
    for k in (0, 3):
        with pytest.raises(NonFiniteError, match=r"values\[6170\]") as caught:
            kernels.top_k(accelerated.on_gpu(values), k, backend=backend)
        assert caught.value.row == 6170
    values[6170] = 0
    with pytest.raises(NonFiniteError, match=r"values\[8999\]"):
        kernels.top_k(values, 3, backend=backend)


@GPU
def test_errors_are_those_of_the_cpu(backend):
    values = np.arange(3.0)
    with pytest.raises(UsageError, match="k: expected 0 to 3, got 4"):
        kernels.top_k(values, 4, backend=backend)
    with pytest.raises(ShapeError, match="1-D"):
        kernels.top_k(values[None], 1, backend=backend)
    with pytest.raises(ShapeError, match="real numbers"):
        kernels.top_k(values.astype(complex), 1, backend=backend)
    empty = kernels.top_k(np.zeros(0, dtype=np.float32), 0, backend=backend)
    assert empty.values.dtype == np.float32
    assert len(empty.indices) == 0
    assert kernels.top_k(np.array([3, 1, 2]), 2, backend=backend).indices.tolist() == [0, 2]


@GPU
def test_a_graph_replays_on_other_values(rng, backend):
    if not torch.cuda.is_available():
        accelerated.missing("CUDA graphs need a GPU")
    values = torch.randn(100_000, device="cuda")
    kernels.top_k(values, 500, backend=backend)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = kernels.top_k(values, 500, backend=backend)
    values.copy_(torch.randn(100_000, device="cuda"))
    graph.replay()
    expected = reference.top_k(values.cpu().numpy(), 500)
    np.testing.assert_array_equal(result.indices.cpu().numpy(), expected)
