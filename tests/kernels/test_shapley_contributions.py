from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import softmax

from rlmba import kernels
from rlmba.errors import BackendError, DataError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels.shapley_contributions import spec
from tests.helpers.accelerated import on_gpu

BACKENDS = ["cpu", "reference"]

pytestmark = pytest.mark.usefixtures("poisoned")


def problem(rng, n, c, m, dtype=np.float64, spread=2.0):
    parts = [(spread * rng.normal(size=(n, c))).astype(dtype) for _ in range(m)]
    return parts, rng.integers(c, size=n), rng.normal(size=c)


def p_y(parts, members, bias, y):
    z = np.tile(bias, (len(y), 1)) + sum((parts[k].astype(float) for k in members), 0.0)
    return softmax(z, axis=1)[np.arange(len(y)), y]


def by_permutations(parts, bias, y):
    """Shapley's definition: the mean marginal worth over all orders."""
    values = np.zeros((len(y), len(parts)))
    for order in itertools.permutations(range(len(parts))):
        for i, k in enumerate(order):
            values[:, k] += p_y(parts, order[: i + 1], bias, y) - p_y(parts, order[:i], bias, y)
    return values / math.factorial(len(parts))


def assert_close(actual, expected, dtype=np.float64):
    assert actual.dtype == np.float64
    tolerance = spec.ABSOLUTE_TOLERANCE[np.dtype(dtype).name]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_is_its_definition(rng, backend, m):
    parts, y, bias = problem(rng, 7, 4, m)
    values = kernels.shapley_contributions(parts, y, bias=bias, backend=backend)
    assert_close(values, by_permutations(parts, bias, y))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", spec.SHAPES)
def test_values_sum_to_what_all_add_to_none(rng, backend, shape):
    n, c, m = shape
    parts, y, bias = problem(rng, n, c, m)
    values = kernels.shapley_contributions(parts, y, bias=bias, rng=0, backend=backend)
    assert values.shape == (n, m)
    gained = p_y(parts, range(m), bias, y) - p_y(parts, (), bias, y)
    assert_close(values.sum(axis=1), gained)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", spec.SHAPES)
def test_every_instruction_set_matches_reference(rng, isa, shape, dtype):
    for spread in (0.01, 3.0, 60.0):
        parts, y, bias = problem(rng, *shape, dtype, spread)
        options = {"bias": bias, "rng": 7}
        wide = [a.astype(np.float64) for a in parts]
        expected = kernels.shapley_contributions(wide, y, backend="reference", **options)
        actual = kernels.shapley_contributions(parts, y, backend="cpu", **options)
        assert_close(actual, expected, dtype)


def test_threads_do_not_matter(rng, with_threads):
    parts, y, bias = problem(rng, 3000, 23, 3, np.float32)

    def call():
        return kernels.shapley_contributions(parts, y, bias=bias, backend="cpu")

    one = with_threads(1, call)
    for threads in (2, 3, 5):
        np.testing.assert_array_equal(with_threads(threads, call), one)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("m", [3, 9])
def test_symmetry_and_dummies(rng, backend, m):
    parts, y, bias = problem(rng, 30, 6, m)
    parts[1] = np.zeros_like(parts[1])
    values = kernels.shapley_contributions(parts, y, bias=bias, rng=3, backend=backend)
    assert np.abs(values[:, 1]).max() < 1e-15
    assert np.abs(values[:, 0]).min() > 1e-9
    if m <= spec.EXACT_MODALITIES:
        assert (values[:, 1] == 0).all()
        parts[1] = parts[0]
        values = kernels.shapley_contributions(parts, y, bias=bias, backend=backend)
        assert_close(values[:, 0], values[:, 1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_sampled_permutations(rng, backend):
    parts, y, bias = problem(rng, 20, 5, 9, spread=0.7)

    def call(seed):
        return kernels.shapley_contributions(parts, y, bias=bias, rng=seed, backend=backend)

    with pytest.raises(UsageError, match=r"sample permutations of 9 modalities.*pass rng"):
        call(None)
    np.testing.assert_array_equal(call(5), call(5))
    assert not np.array_equal(call(5), call(6))
    torch_rng = torch.Generator().manual_seed(1)
    assert not np.array_equal(call(torch_rng), call(torch_rng))
    # The definition by all 2^9 coalitions; the mean of 40 seeds has a sixth of one seed's error.
    worth = [p_y(parts, [k for k in range(9) if s >> k & 1], bias, y) for s in range(512)]
    exact = np.zeros((20, 9))
    for s, k in itertools.product(range(512), range(9)):
        if not s >> k & 1:
            size = s.bit_count()
            share = math.factorial(size) * math.factorial(8 - size) / math.factorial(9)
            exact[:, k] += share * (worth[s | 1 << k] - worth[s])
    errors = np.array([call(seed) - exact for seed in range(40)])
    assert np.abs(errors).max() < 0.06
    assert np.sqrt((errors.mean(axis=0) ** 2).mean()) < 0.3 * np.sqrt((errors**2).mean())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("m", [2, 9])
def test_absent_modalities(rng, backend, m):
    parts, y, bias = problem(rng, 60, 7, m, np.float32)
    present = rng.random((60, m)) < 0.6
    present[4] = False
    zeroed = [np.where(present[:, k, None], a, 0) for k, a in enumerate(parts)]
    for k, a in enumerate(parts):
        a[~present[:, k]] = np.nan
    options = {"bias": bias, "rng": 0, "backend": backend}
    values = kernels.shapley_contributions(parts, y, present=present, **options)
    np.testing.assert_array_equal(values, kernels.shapley_contributions(zeroed, y, **options))
    assert np.abs(values[~present]).max() < 1e-15
    assert (values[4] == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits(backend, dtype):
    """Certain and impossible classes, far beyond the range of exp."""
    a = np.array([[1e4, 0, 0], [-1e4, 0, 0], [3e38, -3e38, 0], [800, 0, 0]], dtype=dtype)
    values = kernels.shapley_contributions([a, -a], np.zeros(4, dtype=int), backend=backend)
    expected = [[0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, -0.5]]
    assert_close(values, np.array(expected))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 19, 20])
def test_names_first_non_finite_row(rng, backend, bad, column):
    parts, y, _ = problem(rng, 900, 21, 2, np.float32)
    parts[1][[617, 800], column] = bad
    parts[0][700, 2] = bad
    with pytest.raises(NonFiniteError, match=rf"^parts\[1\]\[617, {column}\] is") as caught:
        kernels.shapley_contributions(parts, y, backend=backend)
    assert caught.value.row == 617


@pytest.mark.parametrize("backend", BACKENDS)
def test_kinds_and_layouts(rng, backend):
    whole, y, bias = problem(rng, 60, 50, 2, np.float32)
    parts = [a[::3, 5:22] for a in whole]
    y = y[::3] % 17
    bias = bias[:17]
    expected = kernels.shapley_contributions(
        [np.ascontiguousarray(a) for a in parts], y, bias=bias, backend=backend
    )

    def same(p, labels=y, b=bias):
        values = kernels.shapley_contributions(p, labels, bias=b, backend=backend)
        np.testing.assert_array_equal(np.asarray(values), expected)
        return values

    same(parts)
    same([np.asfortranarray(a) for a in parts])
    same([parts[0], parts[1].astype(np.float64)], y.astype(np.int32), bias.tolist())
    tensors = tuple(torch.from_numpy(a)[::3, 5:22] for a in whole)
    assert isinstance(same(tensors, torch.from_numpy(y), torch.from_numpy(bias)), torch.Tensor)
    before = [a.copy() for a in whole]
    same(parts)
    for a, b in zip(whole, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"parts": np.zeros((2, 3, 4))}, UsageError, "list or tuple"),
        ({"parts": []}, UsageError, "of none"),
        ({"parts": [np.zeros((3, 4)), np.zeros((3, 5))]}, ShapeError, r"parts\[1\]: expected"),
        ({"parts": [np.zeros((3, 0))]}, ShapeError, "C >= 1"),
        ({"parts": [np.zeros(3)]}, ShapeError, "2-D"),
        ({"parts": [np.zeros((3, 4))] * 65}, UsageError, "at most 64"),
        (
            {"labels": np.zeros(2, dtype=int)},
            ShapeError,
            r"labels: expected integers of shape \(3,\)",
        ),
        ({"labels": np.zeros(3)}, ShapeError, "float64"),
        ({"labels": np.array([0, 4, -1])}, DataError, r"labels\[1\] is 4: expected .* 0\.\.3"),
        ({"labels": np.array([0, 3, -1])}, DataError, r"labels\[2\] is -1"),
        ({"bias": np.zeros(3)}, ShapeError, r"bias: expected shape \(4,\)"),
        ({"bias": [0, np.nan, 0, 0]}, NonFiniteError, r"bias\[1\]"),
        ({"present": np.ones((3, 1), dtype=bool)}, ShapeError, "present"),
        ({"present": np.ones((3, 2))}, ShapeError, "present"),
        ({"backend": "cuda"}, BackendError, "shapley_contributions"),
    ],
)
def test_bad_arguments(change, error, match):
    given = {"parts": [np.zeros((3, 4))] * 2, "labels": np.zeros(3, dtype=int)} | change
    with pytest.raises(error, match=match):
        kernels.shapley_contributions(given.pop("parts"), given.pop("labels"), **given)


@pytest.mark.parametrize("backend", ["triton"])
class TestGpu:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("shape", [(0, 3, 2), (1, 1, 1), (17, 3, 3), (3, 65, 2)], ids=str)
    @pytest.mark.parametrize("lacking", [False, True])
    def test_matches_the_reference(self, rng, backend, dtype, shape, lacking):
        n, c, m = shape
        parts, y, bias = problem(rng, n, c, m, dtype)
        present = rng.random((n, m)) < 0.6 if lacking else None
        options = {"bias": bias, "present": present}
        expected = kernels.shapley_contributions(parts, y, backend="reference", **options)
        if lacking:
            for k, part in enumerate(parts):
                part[~present[:, k]] = np.nan
        actual = kernels.shapley_contributions(parts, y, backend=backend, **options)
        assert_close(actual, expected, dtype)

    def test_sampled_permutations_and_extremes(self, rng, backend, monkeypatch):
        monkeypatch.setattr(spec, "EXACT_MODALITIES", 2)
        parts, y, _ = problem(rng, 5, 4, 3)
        parts[0][1], parts[1][2] = 700.0, [1e300, -1e300, 0, 0]
        actual = kernels.shapley_contributions(parts, y, rng=7, backend=backend)
        expected = kernels.shapley_contributions(parts, y, rng=7, backend="reference")
        assert_close(actual, expected)
        exact = kernels.shapley_contributions(parts[:2], y, backend=backend)
        assert np.abs(actual[:, :2] - exact).max() > 1e-3

    def test_half_precision_tensors_and_chunks(self, rng, backend):
        parts, y, _ = problem(rng, 40, 5, 2)
        half = [on_gpu(torch.from_numpy(p).bfloat16()) for p in parts]
        actual = kernels.shapley_contributions(half, on_gpu(y), backend=backend)
        assert actual.dtype == torch.float64
        assert actual.device == half[0].device
        wide = [p.double().cpu().numpy() for p in half]
        assert_close(
            actual.cpu().numpy(), kernels.shapley_contributions(wide, y, backend="reference")
        )
        whole = kernels.shapley_contributions(wide, y, backend=backend)
        room = 2 * 17 * 2 * 5 * 8
        chunks = kernels.shapley_contributions(wide, y, max_memory=room, backend=backend)
        np.testing.assert_array_equal(chunks, whole)
        wide[1][[31, 35], 2] = np.inf
        with pytest.raises(NonFiniteError, match=r"parts\[1\]\[31, 2\]") as caught:
            kernels.shapley_contributions(wide, y, max_memory=room, backend=backend)
        assert caught.value.row == 31

    def test_bad_arguments(self, rng, backend):
        parts, y, _ = problem(rng, 4, 3, 2)
        call = kernels.shapley_contributions
        with pytest.raises(ShapeError, match=r"labels: expected integers of shape \(4,\)"):
            call(parts, y[1:], backend=backend)
        with pytest.raises(DataError, match=r"labels\[2\] is 3: expected a class within 0\.\.2"):
            call(parts, np.array([0, 1, 3, -1]), backend=backend)
        with pytest.raises(ShapeError, match="bias: expected shape"):
            call(parts, y, bias=np.zeros(2), backend=backend)
        with pytest.raises(ShapeError, match="present: expected a bool array"):
            call(parts, y, present=np.ones((4, 2)), backend=backend)
