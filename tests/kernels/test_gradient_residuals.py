from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from rlmba import kernels
from rlmba.errors import NonFiniteError, ShapeError
from rlmba.kernels.gradient_residuals import spec
from tests.helpers.accelerated import on_gpu

BACKENDS = ["cpu", "reference", "triton"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", spec.SHAPES, ids=str)
@pytest.mark.parametrize("scale", [0.01, 3, 60])
def test_matches_the_reference(rng, isa, poisoned, shape, dtype, scale):
    z = (scale * rng.normal(size=shape)).astype(dtype)
    ours = kernels.gradient_residuals(z, backend="cpu")
    theirs = kernels.gradient_residuals(z, backend="reference")
    assert ours.dtype == dtype
    assert ours.shape == shape
    np.testing.assert_allclose(ours, theirs, rtol=spec.RTOL[dtype], atol=1e-300)


@pytest.mark.parametrize("backend", BACKENDS)
class TestBothForms:
    def test_is_softmax_minus_one_hot(self, rng, backend):
        z = rng.normal(size=(50, 7))
        onehot = np.eye(7)[z.argmax(axis=1)]
        np.testing.assert_allclose(
            kernels.gradient_residuals(z, backend=backend), softmax(z, axis=1) - onehot, atol=1e-15
        )

    def test_is_the_gradient_of_cross_entropy(self, rng, backend):
        z = torch.tensor(rng.normal(size=(6, 4)), requires_grad=True)
        torch.nn.functional.cross_entropy(z, z.argmax(dim=1), reduction="sum").backward()
        ours = kernels.gradient_residuals(z, backend=backend)
        assert isinstance(ours, torch.Tensor)
        np.testing.assert_allclose(ours.numpy(), z.grad.numpy(), atol=1e-15)

    def test_keeps_its_precision_where_the_model_is_sure(self, backend):
        sure = kernels.gradient_residuals(np.array([[0.0, 30.0]], np.float32), backend=backend)
        np.testing.assert_allclose(sure, [[9.3576e-14, -9.3576e-14]], rtol=1e-4)
        surer = kernels.gradient_residuals(np.array([[0.0, 2000.0, 1.0]]), backend=backend)
        np.testing.assert_array_equal(surer, 0)

    def test_ties_and_one_class(self, backend):
        tie = kernels.gradient_residuals(np.array([[5.0, 5.0]]), backend=backend)
        np.testing.assert_array_equal(tie, [[-0.5, 0.5]])
        one = kernels.gradient_residuals(np.array([[3.0], [-1e30]]), backend=backend)
        np.testing.assert_array_equal(one, 0)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_names_the_first_bad_row(self, rng, backend, bad):
        z = rng.normal(size=(190, 5)).astype(np.float32)
        z[[111, 170], 3] = bad
        with pytest.raises(NonFiniteError, match=r"logits\[111, 3\]") as caught:
            kernels.gradient_residuals(z, backend=backend)
        assert caught.value.row == 111

    def test_shapes(self, rng, backend):
        with pytest.raises(ShapeError, match="at least one column"):
            kernels.gradient_residuals(np.zeros((3, 0)), backend=backend)
        with pytest.raises(ShapeError, match="2-D"):
            kernels.gradient_residuals(np.zeros(3), backend=backend)
        wide = rng.normal(size=(30, 12))
        np.testing.assert_array_equal(
            kernels.gradient_residuals(wide[:, 2:7], backend=backend),
            kernels.gradient_residuals(wide[:, 2:7].copy(), backend=backend),
        )


def test_threads_do_not_matter(rng, with_threads):
    z = rng.normal(size=(5000, 20)).astype(np.float32)
    one = with_threads(1, lambda: kernels.gradient_residuals(z))
    np.testing.assert_array_equal(one, with_threads(3, lambda: kernels.gradient_residuals(z)))


@pytest.mark.parametrize("backend", ["triton"])
class TestGpu:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("shape", [(0, 3), (1, 1), (33, 3), (20, 129), (3, 309)], ids=str)
    @pytest.mark.parametrize("scale", [3, 60])
    def test_matches_the_reference(self, rng, poisoned, backend, dtype, shape, scale):
        z = (scale * rng.normal(size=shape)).astype(dtype)
        ours = kernels.gradient_residuals(z, backend=backend)
        theirs = kernels.gradient_residuals(z, backend="reference")
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, theirs, rtol=spec.RTOL[dtype], atol=1e-300)

    def test_half_precision_tensors_and_chunks(self, rng, poisoned, backend):
        z = torch.from_numpy(rng.normal(size=(50, 9)) * 4).bfloat16()
        ours = kernels.gradient_residuals(on_gpu(z), backend=backend)
        assert ours.dtype == torch.float32
        assert ours.device == on_gpu(z).device
        theirs = kernels.gradient_residuals(z.float().numpy(), backend="reference")
        np.testing.assert_allclose(ours.cpu().numpy(), theirs, rtol=1e-6)
        chunks = kernels.gradient_residuals(z, max_memory=2 * 20 * 9 * 2, backend=backend)
        np.testing.assert_array_equal(chunks.numpy(), ours.cpu().numpy())
        z[37, 2] = np.nan
        with pytest.raises(NonFiniteError, match=r"logits\[37, 2\]"):
            kernels.gradient_residuals(z, max_memory=2 * 20 * 9 * 2, backend=backend)
