from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba import kernels
from rlmba.errors import DataError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels.common import device
from rlmba.kernels.plackett_luce import spec
from tests.helpers import accelerated

pytestmark = pytest.mark.usefixtures("poisoned")

GPU = pytest.mark.parametrize("backend", ["triton"])


def agree(actual, expected, n, largest):
    assert isinstance(actual.log_prob, float)
    assert actual.log_prob == pytest.approx(
        expected.log_prob, abs=spec.LOG_PROB_TOLERANCE * (1 + abs(expected.log_prob))
    )
    limit = spec.gradient_tolerance(n, largest)
    np.testing.assert_allclose(actual.gradient, expected.gradient, rtol=0, atol=limit)


@GPU
@pytest.mark.parametrize(("size", "n"), [*spec.SIZES[:7], (5000, 40)])
@pytest.mark.parametrize("spread", [1.0, 1e4])
def test_matches_reference(rng, backend, size, n, spread):
    logits = rng.normal(size=size) * spread
    largest = np.abs(logits).max()
    a = kernels.plackett_luce(logits, n, rng=2**64 - 5, backend=backend)
    b = kernels.plackett_luce(logits, n, rng=2**64 - 5, backend="reference")
    np.testing.assert_array_equal(a.indices, b.indices)
    assert a.indices.dtype == np.int64
    agree(a, b, n, largest)
    order = rng.permutation(size)[:n]
    c = kernels.plackett_luce_log_prob(logits, order, backend=backend)
    agree(c, kernels.plackett_luce_log_prob(logits, order, backend="reference"), n, largest)


@GPU
@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63, 2**64 - 1])
def test_noise_is_the_stream_of_the_seed(rng, backend, seed):
    triton_impl = pytest.importorskip("rlmba.kernels.plackett_luce.triton_impl")
    logits = rng.normal(size=70)
    z = accelerated.on_gpu(logits)
    keys = triton_impl.noisy(z, seed, device.flag(z.device)).cpu().numpy()
    uniforms = kernels.common.random.uniform01(seed, 0, 70)
    expected = logits - logits.max() - np.log(-np.log(uniforms))
    np.testing.assert_allclose(keys, expected, rtol=1e-14, atol=1e-14)


@GPU
@pytest.mark.parametrize("n", [95, 96, 97, 100])
def test_scans_of_several_blocks(rng, backend, n, monkeypatch):
    triton_impl = pytest.importorskip("rlmba.kernels.plackett_luce.triton_impl")
    monkeypatch.setattr(triton_impl, "_SCAN", 32)
    logits = rng.normal(size=100) * 5
    order = rng.permutation(100)[:n]
    actual = kernels.plackett_luce_log_prob(logits, order, backend=backend)
    agree(actual, kernels.plackett_luce_log_prob(logits, order, backend="reference"), n, 20)


@GPU
@pytest.mark.parametrize("n", [0, 1, 77])
def test_draws_of_many_are_selected_before_they_are_sorted(rng, backend, n, monkeypatch):
    on_device = pytest.importorskip("rlmba.kernels.plackett_luce.on_device")
    monkeypatch.setattr(on_device, "_SORTED", 100)
    logits = rng.normal(size=300)
    a = kernels.plackett_luce(logits, n, rng=8, backend=backend)
    b = kernels.plackett_luce(logits, n, rng=8, backend="cpu")
    np.testing.assert_array_equal(a.indices, b.indices)
    logits[[40, 200]] = np.nan
    with pytest.raises(NonFiniteError, match=r"logits\[40\]"):
        kernels.plackett_luce(logits, n, rng=8, backend=backend)


@GPU
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_of_every_width_where_they_lie(rng, backend, dtype):
    table = accelerated.on_gpu(rng.normal(size=(60, 2))).to(dtype)
    logits = table[:, 1]
    wide = logits.double().cpu().numpy()
    a = kernels.plackett_luce(logits, 9, rng=4, backend=backend)
    b = kernels.plackett_luce(wide, 9, rng=4, backend="reference")
    assert a.indices.device == a.gradient.device == logits.device
    assert a.gradient.dtype == torch.float64
    np.testing.assert_array_equal(a.indices.cpu().numpy(), b.indices)
    np.testing.assert_allclose(a.gradient.cpu().numpy(), b.gradient, rtol=0, atol=1e-12)
    assert a.log_prob == pytest.approx(b.log_prob, abs=1e-12)
    # Indices as a tensor there, of another width, and as a list.
    for order in (a.indices.to(torch.int32), a.indices.tolist()):
        again = kernels.plackett_luce_log_prob(logits, order, backend=backend)
        assert again.log_prob == a.log_prob
        assert torch.equal(again.gradient, a.gradient)


@GPU
def test_errors_are_those_of_the_cpu(backend):
    logits = np.zeros(4)
    with pytest.raises(UsageError, match="n: expected 0 to 4, got 5"):
        kernels.plackett_luce(logits, 5, rng=0, backend=backend)
    with pytest.raises(UsageError, match="rng: expected"):
        kernels.plackett_luce(logits, 2, rng="seed", backend=backend)
    with pytest.raises(ShapeError, match="1-D"):
        kernels.plackett_luce(np.zeros((2, 2)), 1, rng=0, backend=backend)
    bad = np.array([0, 1, np.nan, np.inf])
    with pytest.raises(NonFiniteError, match=r"logits\[2\]") as caught:
        kernels.plackett_luce(bad, 1, rng=0, backend=backend)
    assert caught.value.row == 2
    with pytest.raises(NonFiniteError, match=r"logits\[2\]"):
        kernels.plackett_luce_log_prob(bad, [0], backend=backend)
    for outside in (4, -1, 2**40):
        match = rf"indices\[1\] is {outside}: expected 0 to 3"
        with pytest.raises(DataError, match=match):
            kernels.plackett_luce_log_prob(logits, [0, outside, 9], backend=backend)
    with pytest.raises(DataError, match=r"indices\[0\] is 0: expected 0 to -1"):
        kernels.plackett_luce_log_prob(np.zeros(0), [0], backend=backend)
    with pytest.raises(DataError, match="distinct positions, 1 repeats"):
        kernels.plackett_luce_log_prob(logits, np.array([2, 1, 3, 1, 2]), backend=backend)
    for wrong in ([0.5], [[0]], [True]):
        with pytest.raises(ShapeError, match="expected integers"):
            kernels.plackett_luce_log_prob(logits, wrong, backend=backend)
    empty = kernels.plackett_luce(np.zeros(0), 0, rng=0, backend=backend)
    assert len(empty.indices) == len(empty.gradient) == 0
    assert empty.log_prob == 0


@GPU
def test_a_graph_replays_on_other_logits(backend):
    if not torch.cuda.is_available():
        accelerated.missing("CUDA graphs need a GPU")
    logits = torch.randn(5000, device="cuda")
    kernels.plackett_luce(logits, 100, rng=6, backend=backend)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        draw = kernels.plackett_luce(logits, 100, rng=6, backend=backend)
    logits.copy_(torch.randn(5000, device="cuda"))
    graph.replay()
    expected = kernels.plackett_luce(logits, 100, rng=6, backend=backend)
    assert torch.equal(draw.indices, expected.indices)
    assert draw.log_prob.item() == expected.log_prob
    assert torch.equal(draw.gradient, expected.gradient)
