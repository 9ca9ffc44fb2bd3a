from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlmba import kernels
from rlmba.errors import BackendError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels.top_k import reference, spec
from tests.helpers import accelerated

BACKENDS = ["cpu", "reference", *accelerated.BACKENDS]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", spec.SIZES)
@pytest.mark.parametrize("levels", [2, 1000])
def test_matches_reference_with_ties(rng, n, dtype, levels):
    values = rng.integers(levels, size=n).astype(dtype)
    for k in {0, min(1, n), n // 3, n}:
        result = kernels.top_k(values, k, backend="cpu")
        np.testing.assert_array_equal(result.indices, reference.top_k(values, k))
        np.testing.assert_array_equal(result.values, values[result.indices])
        assert result.values.dtype == dtype


def test_zeros_of_either_sign_are_a_tie(isa):
    values = np.array([-0.0, 0.0, -1.0, 0.0, -0.0, 1e-45, -1e-45], dtype=np.float32)
    for k in range(8):
        indices = kernels.top_k(values, k, backend="cpu").indices
        assert indices.tolist() == [5, 0, 1, 3, 4, 6, 2][:k]


@pytest.mark.parametrize("k", [40, 700, 5000, 44_719])
def test_normal_values_on_every_instruction_set(isa, rng, k, poisoned):
    values = rng.normal(size=44_719).astype(np.float32)
    np.testing.assert_array_equal(
        kernels.top_k(values, k, backend="cpu").indices, reference.top_k(values, k)
    )


@pytest.mark.parametrize("order", ["rising", "falling", "constant"])
def test_sorted_input(order):
    n = 20_000
    values = {"rising": np.arange(n), "falling": -np.arange(n), "constant": np.zeros(n)}[order]
    values = values.astype(np.float32)
    np.testing.assert_array_equal(
        kernels.top_k(values, 300, backend="cpu").indices, reference.top_k(values, 300)
    )


@given(
    hnp.arrays(np.float32, st.integers(0, 60), elements=st.floats(-2, 2, width=16)),
    st.data(),
)
def test_property_is_a_prefix_of_the_stable_order(values, data):
    k = data.draw(st.integers(0, len(values)))
    result = kernels.top_k(values, k)
    np.testing.assert_array_equal(result.indices, np.argsort(-values, kind="stable")[:k])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_names_first_non_finite_row(rng, backend, bad):
    values = rng.normal(size=1000)
    values[[617, 903]] = bad
    with pytest.raises(NonFiniteError, match=r"values\[617\]") as caught:
        kernels.top_k(values, 3, backend=backend)
    assert caught.value.row == 617


def test_kinds_and_layouts(rng):
    values = rng.normal(size=(500, 2)).astype(np.float32)
    column = values[:, 1]
    expected = reference.top_k(column, 7)
    np.testing.assert_array_equal(kernels.top_k(column, 7).indices, expected)
    out = kernels.top_k(torch.from_numpy(values)[:, 1], 7)
    assert isinstance(out.indices, torch.Tensor)
    assert out.indices.dtype == torch.int64
    np.testing.assert_array_equal(out.indices.numpy(), expected)
    half = kernels.top_k(torch.from_numpy(values)[:, 1].bfloat16(), 7)
    assert half.values.dtype == torch.float32
    assert kernels.top_k(np.array([3, 1, 2]), 2).indices.tolist() == [0, 2]


def test_errors():
    values = np.arange(3.0)
    with pytest.raises(UsageError, match="k: expected 0 to 3, got 4"):
        kernels.top_k(values, 4)
    with pytest.raises(UsageError, match="expected an integer"):
        kernels.top_k(values, 1.5)
    with pytest.raises(ShapeError, match="1-D"):
        kernels.top_k(values[None], 1)
    with pytest.raises(ShapeError, match="real numbers"):
        kernels.top_k(values.astype(complex), 1)
    with pytest.raises(BackendError, match=r"available: .*reference"):
        kernels.top_k(values, 1, backend="tpu")


def test_input_is_unchanged_and_threads_do_not_matter(rng):
    values = rng.integers(50, size=200_000).astype(np.float32)
    before = values.copy()
    threads = kernels.num_threads()
    try:
        kernels.set_num_threads(1)
        one = kernels.top_k(values, 100).indices
    finally:
        kernels.set_num_threads(max(threads, 2))
    many = kernels.top_k(values, 100).indices
    kernels.set_num_threads(threads)
    np.testing.assert_array_equal(one, many)
    np.testing.assert_array_equal(values, before)
