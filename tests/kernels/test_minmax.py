from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlmba import kernels
from rlmba.errors import BackendError, NonFiniteError, ShapeError
from rlmba.kernels.minmax import spec

BACKENDS = ["cpu", "reference", "triton", "cuda"]

pytestmark = pytest.mark.usefixtures("poisoned")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", spec.SHAPES)
def test_every_instruction_set_equals_reference(rng, isa, shape, dtype):
    x = rng.normal(size=shape).astype(dtype)
    masks = [None, rng.random(shape) < 0.7, rng.random(shape[:1]) < 0.5, np.zeros(shape, bool)]
    for mask in masks:
        actual = kernels.minmax(x, mask=mask, backend="cpu")
        assert actual.dtype == dtype
        np.testing.assert_array_equal(actual, kernels.minmax(x, mask=mask, backend="reference"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(7,), (1000,), (300, 3), (50, 300)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extremes_are_exact(rng, backend, shape, dtype):
    if backend == "triton":
        shape = (shape[0], *(min(m, 40) for m in shape[1:]))  # interpreted column by column
    for scale in (1e-30, 1.0, 1e30):
        x = (rng.normal(size=shape) * scale + scale).astype(dtype)
        y = kernels.minmax(x, backend=backend)
        assert (y.min(axis=0) == 0).all()
        assert (y.max(axis=0) == 1).all()
        wide = x.astype(np.longdouble)
        exact = (wide - wide.min(axis=0)) / (wide.max(axis=0) - wide.min(axis=0))
        np.testing.assert_allclose(y, exact, rtol=4 * np.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_range_beyond_the_largest_float(backend, dtype):
    top = np.finfo(dtype).max
    x = np.array([-top, top, 0, top / 2, -top], dtype=dtype)
    np.testing.assert_array_equal(kernels.minmax(x, backend=backend), [0, 1, 0.5, 0.75, 0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_smallest_range(backend):
    x = np.array([0, 5e-324, 0, 1e-323])
    np.testing.assert_array_equal(kernels.minmax(x, backend=backend), [0, 0.5, 0, 1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [0.0, -3.5, 1e30])
def test_constant_columns_are_positive_zero(rng, backend, value):
    x = rng.normal(size=(500, 3))
    x[:, 1] = value
    y = kernels.minmax(x, backend=backend)
    assert (y[:, 1] == 0).all()
    assert not np.signbit(y[:, 1]).any()
    one = kernels.minmax(np.full(1, value), backend=backend)
    assert one.tolist() == [0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_masked_entries_may_hold_anything(backend):
    x = np.array([[1.0, np.nan, 4.0], [np.inf, 2.0, np.nan], [3.0, np.nan, -np.inf]])
    mask = np.array([[True, False, True], [False, True, False], [True, False, False]])
    y = kernels.minmax(x, mask=mask, backend=backend)
    np.testing.assert_array_equal(y, [[0, 0, 0], [0, 0, 0], [1, 0, 0]])
    rows = kernels.minmax(np.array([np.nan, 5.0, 7.0]), mask=x[:, 0] > 2, backend=backend)
    np.testing.assert_array_equal(rows, [0, 0, 1])


@given(
    hnp.arrays(np.float64, hnp.array_shapes(max_dims=2), elements=st.floats(-1e308, 1e308)),
    st.data(),
)
def test_property_bounds_and_order(x, data):
    mask = data.draw(hnp.arrays(bool, x.shape))
    y = kernels.minmax(x, mask=mask)
    np.testing.assert_array_equal(y, kernels.minmax(x, mask=mask, backend="reference"))
    assert ((y >= 0) & (y <= 1)).all()
    assert (y[~mask] == 0).all()
    for values, scaled, kept in zip(
        np.atleast_2d(x.T), np.atleast_2d(y.T), np.atleast_2d(mask.T), strict=True
    ):
        order = np.argsort(values[kept], kind="stable")
        assert (np.diff(scaled[kept][order]) >= 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_names_first_non_finite_row_and_leaves_out_alone(rng, backend, bad):
    x = rng.normal(size=(100_000, 2)).astype(np.float32)
    x[[61_700, 90_300], 1] = bad
    out = np.full_like(x, 7)
    with pytest.raises(NonFiniteError, match=r"x\[61700, 1\]") as caught:
        kernels.minmax(x, out=out, backend=backend)
    assert caught.value.row == 61_700
    assert (out == 7).all()
    mask = np.ones(len(x), dtype=bool)
    mask[61_700] = False
    with pytest.raises(NonFiniteError, match=r"x\[90300, 1\]"):
        kernels.minmax(x, mask=mask, backend=backend)
    with pytest.raises(NonFiniteError, match=r"x\[61700\]"):
        kernels.minmax(x[:, 1], backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_out_and_in_place(rng, backend):
    x = rng.normal(size=(5000, 3)).astype(np.float32)
    expected = kernels.minmax(x)
    out = np.full_like(x, np.nan)
    assert kernels.minmax(x, out=out, backend=backend) is out
    np.testing.assert_array_equal(out, expected)
    tensor = torch.from_numpy(x.copy())
    assert kernels.minmax(tensor, out=tensor, backend=backend) is tensor
    np.testing.assert_array_equal(tensor.numpy(), expected)
    for wrong in (out[:-1], out.astype(float), np.asfortranarray(out)):
        with pytest.raises(ShapeError, match="out: expected a contiguous"):
            kernels.minmax(x, out=wrong, backend=backend)


def test_layouts_and_kinds(rng):
    whole = rng.normal(size=(400, 6)).astype(np.float32)
    view = whole[::2, 1:4]
    expected = kernels.minmax(np.ascontiguousarray(view))
    np.testing.assert_array_equal(kernels.minmax(view), expected)
    np.testing.assert_array_equal(kernels.minmax(np.asfortranarray(view)), expected)
    np.testing.assert_array_equal(kernels.minmax(view[:, 1]), expected[:, 1])
    out = kernels.minmax(torch.from_numpy(whole)[::2, 1:4], mask=torch.ones(200, dtype=torch.bool))
    assert isinstance(out, torch.Tensor)
    np.testing.assert_array_equal(out.numpy(), expected)
    assert kernels.minmax(torch.arange(5).half()).dtype == torch.float32
    np.testing.assert_array_equal(kernels.minmax(np.array([1, 3, 2])), [0, 1, 0.5])


def test_threads_do_not_matter_and_input_is_unchanged(rng, with_threads):
    x = rng.normal(size=(150_001, 2))
    before = x.copy()
    one = with_threads(1, lambda: kernels.minmax(x))
    many = with_threads(3, lambda: kernels.minmax(x))
    np.testing.assert_array_equal(one, many)
    np.testing.assert_array_equal(x, before)


def test_errors():
    x = np.ones((4, 3))
    with pytest.raises(ShapeError, match="1-D or 2-D"):
        kernels.minmax(x[None])
    for mask in (np.ones((4, 3)), np.ones(3, bool), np.ones((3, 4), bool)):
        with pytest.raises(ShapeError, match="mask: expected a bool array"):
            kernels.minmax(x, mask=mask)
    with pytest.raises(BackendError, match="available"):
        kernels.minmax(x, backend="tpu")
