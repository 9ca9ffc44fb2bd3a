from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba import kernels
from rlmba.errors import BackendError, DataError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels.fused_score import spec
from tests.helpers.accelerated import BACKENDS as GPU
from tests.helpers.accelerated import on_gpu

BACKENDS = ["cpu", "reference", "triton", "cuda"]

pytestmark = pytest.mark.usefixtures("poisoned")


def problem(rng, shape, dtype):
    n, c, m = shape
    x = [(rng.normal(size=(n, c)) * 4).astype(dtype) for _ in range(m)]
    present = rng.random((n, m)) < 0.7
    present[np.arange(n), rng.integers(m, size=n)] = True
    return x, rng.dirichlet(np.ones(m)), rng.gamma(2.0, size=n).astype(dtype), present


def row_weights(weights, present):
    w = np.where(present, weights, 0.0)
    return w / w.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", spec.SHAPES)
@pytest.mark.parametrize("lacking", [False, True])
def test_every_instruction_set_matches_reference(rng, isa, shape, dtype, lacking):
    x, w, d, present = problem(rng, shape, dtype)
    options = {
        "distances": d,
        "beta": 0.7,
        "temperature": np.linspace(0.5, 2, shape[2]),
        "present": present if lacking else None,
    }
    wide = [a.astype(float) for a in x]
    expected = kernels.fused_score(wide, w, backend="reference", **options)
    actual = kernels.fused_score(x, w, backend="cpu", **options)
    name = np.dtype(dtype).name
    for field in ("uncertainty", "difficulty"):
        a, e = getattr(actual, field), getattr(expected, field)
        assert a.dtype == dtype
        np.testing.assert_allclose(a, e, rtol=spec.UNCERTAINTY_TOLERANCE[name])
    for field in ("normalized_uncertainty", "normalized_distance", "score"):
        a, e = getattr(actual, field), getattr(expected, field)
        assert a.dtype == dtype
        np.testing.assert_allclose(a, e, rtol=0, atol=spec.UNIT_TOLERANCE[name])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_its_two_parts_composed(rng, backend, dtype):
    n = 3000 if backend in ("cpu", "reference") else 50
    x, w, d, present = problem(rng, (n, 21, 3), dtype)
    common = {"kind": "logits", "temperature": [1.0, 0.7, 2.0], "backend": backend}
    for mask in (None, present):
        s = kernels.fused_score(x, w, distances=d, beta=0.5, present=mask, **common)
        rows = w if mask is None else row_weights(w, mask)
        v = kernels.dirichlet_variance(x, weights=rows, **common)
        here = np.ones_like(present) if mask is None else mask
        np.testing.assert_array_equal(s.uncertainty[here], v.modality[here])
        np.testing.assert_allclose(s.difficulty, v.fused, rtol=1e-6)
        u = kernels.minmax(v.modality, mask=mask, backend=backend)
        np.testing.assert_array_equal(s.normalized_uncertainty, u)
        np.testing.assert_array_equal(s.normalized_distance, kernels.minmax(d, backend=backend))
        q = (np.broadcast_to(rows, u.shape) * u).sum(axis=1) + 0.5 * s.normalized_distance
        np.testing.assert_allclose(s.score, q, rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_absent_modalities(rng, backend):
    n = 400 if backend in ("cpu", "reference") else 50
    x, w, d, present = problem(rng, (n, 6, 3), np.float64)
    expected = kernels.fused_score(x, w, distances=d, present=present, backend=backend)
    assert (expected.uncertainty[~present] == 0).all()
    assert (expected.normalized_uncertainty[~present] == 0).all()
    for k in range(3):
        column = expected.normalized_uncertainty[present[:, k], k]
        assert column.min() == 0
        assert column.max() == 1
        x[k][~present[:, k]] = np.nan
    again = kernels.fused_score(x, w, distances=d, present=present, backend=backend)
    for a, e in zip(again, expected, strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_all_on_an_absent_modality_become_uniform(rng, backend):
    x, _, _, _ = problem(rng, (50, 4, 3), np.float64)
    present = np.ones((50, 3), dtype=bool)
    present[7] = [False, True, True]
    s = kernels.fused_score(x, [1.0, 0.0, 0.0], present=present, backend=backend)
    assert s.score[7] == pytest.approx(s.normalized_uncertainty[7, 1:].mean())
    np.testing.assert_allclose(np.delete(s.difficulty, 7), np.delete(s.uncertainty[:, 0], 7))


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_row_and_constant_columns(rng, backend):
    x = [np.full((6, 3), 2.0), rng.normal(size=(6, 3))]
    s = kernels.fused_score(x, [0.5, 0.5], distances=np.full(6, 4.0), backend=backend)
    assert (s.normalized_uncertainty[:, 0] == 0).all()
    assert (s.normalized_distance == 0).all()
    one = kernels.fused_score([a[:1] for a in x], [0.5, 0.5], backend=backend)
    assert one.score.tolist() == [0]
    assert one.difficulty[0] > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_distances_beta_does_not_matter(rng, backend):
    x, w, _, _ = problem(rng, (90, 4, 2), np.float32)
    a = kernels.fused_score(x, w, beta=1.0, backend=backend)
    b = kernels.fused_score(x, w, beta=5.0, backend=backend)
    np.testing.assert_array_equal(a.score, b.score)
    assert (a.normalized_distance == 0).all()


def test_kinds_layouts_and_threads(rng, with_threads):
    x, w, d, present = problem(rng, (6000, 9, 2), np.float32)
    before = [a.copy() for a in x]

    def call():
        return kernels.fused_score(x, w, distances=d, present=present)

    one, many = with_threads(1, call), with_threads(3, call)
    strided = [np.repeat(a, 2, axis=0)[::2] for a in x]
    tensors = kernels.fused_score(
        [torch.from_numpy(a) for a in strided],
        torch.from_numpy(w),
        distances=torch.from_numpy(d),
        present=torch.from_numpy(present),
    )
    for a, b, t in zip(one, many, tensors, strict=True):
        np.testing.assert_array_equal(a, b)
        assert isinstance(t, torch.Tensor)
        np.testing.assert_array_equal(a, t.numpy())
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("backend", BACKENDS)
def test_names_what_is_wrong(rng, backend):
    x, w, d, present = problem(rng, (90, 5, 2), np.float32)
    y = x[1].copy()
    y[[41, 70], 2] = np.inf
    present[41] = [True, True]
    with pytest.raises(NonFiniteError, match=r"x\[1\]\[41, 2\]") as caught:
        kernels.fused_score([x[0], y], w, present=present, backend=backend)
    assert caught.value.row == 41
    d[59] = np.nan
    with pytest.raises(NonFiniteError, match=r"distances\[59\]"):
        kernels.fused_score(x, w, distances=d, backend=backend)
    present[17] = False
    with pytest.raises(DataError, match=r"present\[17\]: expected at least one modality"):
        kernels.fused_score(x, w, present=present, backend=backend)
    with pytest.raises(DataError, match=r"alpha > 0"):
        kernels.fused_score(x, w, kind="alpha", backend=backend)


def test_errors(rng):
    x, w, d, present = problem(rng, (20, 5, 2), np.float32)
    call = kernels.fused_score
    with pytest.raises(UsageError, match="list or tuple"):
        call(x[0], [1.0])
    with pytest.raises(ShapeError, match=r"weights: expected shape \(2,\)"):
        call(x, np.ones((20, 2)) / 2)
    with pytest.raises(UsageError, match="sum 1"):
        call(x, [0.5, 0.6])
    with pytest.raises(ShapeError, match=r"distances: expected shape \(20,\)"):
        call(x, w, distances=d[:-1])
    with pytest.raises(NonFiniteError, match=r"distances\[.*\] is .*numbers that float32 holds"):
        call(x, w, distances=np.full(20, 1e200))
    for beta in (np.nan, "big"):
        with pytest.raises(UsageError, match="beta: expected a finite number"):
            call(x, w, beta=beta)
    for wrong in (present[:-1], present * 1.0):
        with pytest.raises(ShapeError, match="present: expected a bool array"):
            call(x, w, present=wrong)
    with pytest.raises(BackendError, match="available"):
        call(x, w, backend="tpu")


@pytest.mark.parametrize("backend", GPU)
@pytest.mark.parametrize("shape", [(0, 3, 1), (1, 4, 2), (5, 3, 2), (61, 17, 3), (30, 5, 9)])
@pytest.mark.parametrize("lacking", [False, True])
def test_gpu_matches_reference(rng, backend, shape, lacking):
    if backend == "triton" and shape[2] == 9 and lacking:
        shape = (30, 5, 4)
    x, w, d, present = problem(rng, shape, np.float32)
    options = {"distances": d, "beta": 0.7, "temperature": np.linspace(0.5, 2, shape[2])}
    options["present"] = present if lacking else None
    wide = [a.astype(float) for a in x]
    expected = kernels.fused_score(wide, w, backend="reference", **options)
    actual = kernels.fused_score(x, w, backend=backend, **options)
    for field, a, e in zip(actual._fields, actual, expected, strict=True):
        assert a.dtype == np.float32
        if field in ("uncertainty", "difficulty"):
            np.testing.assert_allclose(a, e, rtol=spec.UNCERTAINTY_TOLERANCE["float32"])
        else:
            np.testing.assert_allclose(a, e, rtol=0, atol=spec.UNIT_TOLERANCE["float32"])


@pytest.mark.parametrize("backend", GPU)
def test_gpu_tensors_and_chunks(rng, backend):
    x, w, d, present = problem(rng, (70, 9, 2), np.float32)
    options = {"distances": d, "present": present, "backend": backend}
    whole = kernels.fused_score(x, w, **options)
    chunks = kernels.fused_score(x, w, max_memory=32 * 2 * 9 * 4, **options)
    there = kernels.fused_score(
        [on_gpu(a) for a in x],
        on_gpu(w),
        distances=on_gpu(d),
        present=on_gpu(present),
        backend=backend,
    )
    half = [on_gpu(a).bfloat16() for a in x]
    rounded = kernels.fused_score(half, w, backend=backend)
    expected = kernels.fused_score([a.float().cpu().numpy() for a in half], w, backend="cpu")
    np.testing.assert_allclose(rounded.score.cpu().numpy(), expected.score, atol=2e-4)
    for a, b, t in zip(whole, chunks, there, strict=True):
        np.testing.assert_array_equal(a, b)
        assert t.dtype == torch.float32
        np.testing.assert_array_equal(a, t.cpu().numpy())


@pytest.mark.parametrize("backend", GPU)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("columns", [1, 2, 3, 4, 6])
def test_second_pass_alone(rng, backend, dtype, columns):
    from rlmba.kernels.fused_score import on_device

    for n in (1, 5, 1025, 4099) if backend == "cuda" else (1, 1025):
        u, d = torch.rand(n, columns, dtype=dtype), torch.rand(n + 1, dtype=dtype)[1:] - 0.5
        there = torch.rand(n, columns) < 0.8
        weights = torch.softmax(torch.rand(columns), 0).tolist()
        for mask in (None, there):
            kept = torch.ones_like(there) if mask is None else mask
            marks = None if mask is None else on_gpu(mask.view(torch.uint8))
            found = on_device.normalized_score(
                on_gpu(u), on_gpu(d), weights, backend, beta=0.3, present=marks
            )
            unit = kernels.minmax(u, mask=mask, backend="reference")
            near = kernels.minmax(d, backend="reference")
            np.testing.assert_array_equal(found.uncertainty.cpu(), unit)
            np.testing.assert_array_equal(found.distance.cpu(), near)
            w = torch.tensor(weights, dtype=dtype) * kept
            w = w / w.sum(dim=1, keepdim=True).clamp_min(1e-30)
            np.testing.assert_allclose(
                found.score.cpu(), (w * unit).sum(dim=1) + 0.3 * near, rtol=2e-6, atol=1e-7
            )
