from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import softmax, xlog1py

from rlmba import kernels
from rlmba.errors import BackendError, DataError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels.bald_score import spec
from tests.helpers.accelerated import on_gpu

BACKENDS = ["cpu", "reference", "triton"]
KINDS = ["logits", "probabilities"]

pytestmark = pytest.mark.usefixtures("poisoned")


def passes(rng, shape, dtype=np.float64, spread=3.0, apart=1.0):
    """Logits [K, N, C]: ``spread`` within a sample, ``apart`` between its passes."""
    _, n, c = shape
    return (spread * rng.normal(size=(n, c)) + apart * rng.normal(size=shape)).astype(dtype)


def assert_close(actual, expected):
    assert actual.dtype == np.float64
    limit = {"rtol": spec.RELATIVE_TOLERANCE, "atol": spec.ABSOLUTE_TOLERANCE}
    np.testing.assert_allclose(actual, expected, **limit)


def exact(x, *, logits=True):
    """H(mean p) - mean H(p) of one sample [K, C] in 80 decimal digits, as it is defined."""
    with localcontext() as context:
        context.prec = 80
        p = [[Decimal(float(v)).exp() if logits else Decimal(float(v)) for v in row] for row in x]
        p = [[v / sum(row) for v in row] for row in p]
        mean = [sum(column) / len(p) for column in zip(*p, strict=True)]

        def entropy(q):
            return -sum(v * v.ln() for v in q if v > 0)

        return float(entropy(mean) - sum(entropy(row) for row in p) / len(p))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("apart", [10.0, 1.0, 1e-2])
def test_exact_answer(rng, backend, dtype, apart):
    x = passes(rng, (5, 20, 6), dtype, apart=apart)
    x[:, :3] *= 20  # nearly certain
    scores = kernels.bald_score(x, backend=backend)
    np.testing.assert_allclose(scores, [exact(r) for r in x.swapaxes(0, 1)], rtol=1e-11)
    p = softmax(x.astype(np.float64), axis=2)
    p[:, 4] = [[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0], *np.eye(6)[[3, 3]]]
    expected = [exact(r, logits=False) for r in p.swapaxes(0, 1)]
    scores = kernels.bald_score(p, kind="probabilities", backend=backend)
    np.testing.assert_allclose(scores, expected, rtol=1e-11)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("apart", [1e-4, 1e-6, 1e-8])
def test_passes_that_nearly_agree_are_not_all_zero(rng, backend, apart):
    """Scores of 1e-9 down to 1e-17, where a difference of entropies has no digit left."""
    x = passes(rng, (10, 30, 7), apart=apart)
    expected = np.array([exact(r) for r in x.swapaxes(0, 1)])
    assert expected.max() < apart**2
    scores = kernels.bald_score(x, backend=backend)
    # The passes' probabilities are float64: what they lie apart is known to 1e-15 / apart.
    np.testing.assert_allclose(scores, expected, rtol=4e-15 / apart)
    assert (scores > 0).all()
    order = np.argsort(expected)
    gaps = np.diff(expected[order]) / expected.max()
    np.testing.assert_array_equal(np.argsort(scores)[1:][gaps > 1e-4], order[1:][gaps > 1e-4])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_passes_give_exactly_zero(rng, backend, kind, dtype):
    one = 5 * rng.normal(size=(1, 20, 13))
    x = (softmax(one, axis=2) if kind == "probabilities" else one).astype(dtype)
    for k in (1, 2, 7, 10):
        assert (kernels.bald_score(np.repeat(x, k, axis=0), kind=kind, backend=backend) == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_class_and_bounds(rng, backend):
    assert (kernels.bald_score(rng.normal(size=(4, 6, 1)), backend=backend) == 0).all()
    certain = 1e4 * np.eye(5)[:, None, :]  # five passes, each sure of another class
    assert kernels.bald_score(certain, backend=backend) == pytest.approx(np.log(5), rel=1e-14)
    both = kernels.bald_score(certain[[0, 1, 0, 1]], backend=backend)
    assert both == pytest.approx(np.log(2), rel=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", spec.SHAPES)
def test_every_instruction_set_matches_reference(rng, isa, shape, dtype):
    for apart in (20.0, 1.0, 1e-3):
        x = passes(rng, shape, dtype, apart=apart)
        expected = kernels.bald_score(x.astype(np.float64), backend="reference")
        actual = kernels.bald_score(x, backend="cpu")
        assert actual.shape == shape[1:2]
        assert_close(actual, expected)
        p = softmax(x, axis=2)
        options = {"kind": "probabilities"}
        expected = kernels.bald_score(p.astype(np.float64), backend="reference", **options)
        assert_close(kernels.bald_score(p, backend="cpu", **options), expected)


def test_vector_exp_and_log_against_numpy(isa):
    """Two classes and two passes, one of them undecided: an error of exp or log shows undiluted."""
    x = np.zeros((2, 400_003, 2))
    x[0, :, 0] = np.linspace(-745, 745, 400_003)
    small = np.exp(-np.abs(x[0, :, 0]))
    rarer = small / (1 + small)

    def phi(e):
        return xlog1py(1 + e, e) - e

    def part(p):
        """Half the sum over both passes of q phi(e), of a class of probability p and 1 / 2."""
        q = (p + 0.5) / 2
        e = (0.5 - p) / 2 / q
        return q * (phi(e) + phi(-e)) / 2

    expected = part(rarer) + part(1 - rarer)
    scores = kernels.bald_score(x, backend="cpu")
    np.testing.assert_allclose(scores, expected, rtol=2e-13, atol=1e-17)


@settings(max_examples=60)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=20),
        elements=st.floats(-1000, 1000, width=32),
    )
)
def test_property_bounds_and_permutations(x):
    scores = kernels.bald_score(x)
    assert (scores >= 0).all()
    assert (scores <= np.log(min(x.shape[0], x.shape[2])) + 1e-12).all()
    assert_close(scores, kernels.bald_score(x.astype(np.float64), backend="reference"))
    np.testing.assert_allclose(kernels.bald_score(x[::-1, :, ::-1]), scores, rtol=1e-9, atol=1e-15)
    np.testing.assert_array_equal(kernels.bald_score(x[:, ::-1]), scores[::-1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_layouts(rng, backend):
    x = passes(rng, (4, 30, 9), np.float32)
    expected = kernels.bald_score(x, backend=backend)
    # NumPy's own sums depend on the layout.
    limit = {"rtol": 0 if backend == "cpu" else 1e-13}

    def same(view, expected=expected):
        scores = kernels.bald_score(view, backend=backend)
        np.testing.assert_allclose(np.asarray(scores), expected, **limit)
        return scores

    for axes in ((1, 2, 0), (1, 0, 2), (2, 1, 0)):
        moved = np.ascontiguousarray(x.transpose(axes))
        same(moved.transpose(np.argsort(axes)))
    same(np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0))
    padded = np.full((8, 60, 15), np.nan, dtype=np.float32)
    padded[::2, ::2, 3:12] = x
    same(padded[::2, ::2, 3:12])
    same(np.ascontiguousarray(x[:, ::-1])[:, ::-1])
    tensor = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, 0, -1))).permute(2, 0, 1)
    assert isinstance(same(tensor), torch.Tensor)
    assert kernels.bald_score(tensor.bfloat16(), backend=backend).dtype == torch.float64
    same(np.broadcast_to(x[:, :1], (4, 5, 9)), np.repeat(expected[:1], 5))


def test_passes_are_read_in_place(monkeypatch, rng):
    x = passes(rng, (30, 4, 40), np.float32)

    def refuse(*_args, **_options):
        raise AssertionError("a copy of the input")

    monkeypatch.setattr(np, "ascontiguousarray", refuse)
    kernels.bald_score(np.moveaxis(x, 1, 0)[:, ::2, :33])


def test_threads_do_not_matter_and_input_is_unchanged(rng, with_threads):
    x = passes(rng, (6, 3000, 23), np.float32)
    before = x.copy()
    one = with_threads(1, lambda: kernels.bald_score(x, backend="cpu"))
    for threads in (2, 3, 5):
        several = with_threads(threads, lambda: kernels.bald_score(x, backend="cpu"))
        np.testing.assert_array_equal(several, one)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 19, 20])
def test_names_sample_and_pass_of_non_finite(rng, backend, kind, dtype, bad, column):
    x = softmax(passes(rng, (3, 900, 21)), axis=2).astype(dtype)
    x[1, [617, 800], column] = bad
    x[0, 700, 2] = bad
    with pytest.raises(NonFiniteError, match=rf"^logits\[1, 617, {column}\] is .*pass 1") as caught:
        kernels.bald_score(x, kind=kind, backend=backend)
    assert caught.value.row == 617


def test_names_non_finite_on_every_instruction_set(isa):
    for bad in (np.nan, np.inf, -np.inf):
        for column in (0, 15, 16):
            for kind in KINDS:
                x = np.full((2, 3, 17), 1 / 17)
                x[1, 2, column] = bad
                with pytest.raises(NonFiniteError, match=rf"\[1, 2, {column}\]"):
                    kernels.bald_score(x, kind=kind, backend="cpu")


@pytest.mark.parametrize("backend", BACKENDS)
def test_probabilities_must_be_distributions(rng, backend):
    p = softmax(passes(rng, (3, 48, 8)), axis=2)
    for factor in (1.0009, 0.9991):
        p[1, 40] = p[1, 40] / p[1, 40].sum() * factor
        assert_close(
            kernels.bald_score(p, kind="probabilities", backend=backend),
            kernels.bald_score(np.log(p), backend=backend),
        )
    p[2, 45] *= 2
    p[1, 40] = p[1, 40] / p[1, 40].sum() * 1.0011
    with pytest.raises(DataError, match=r"^logits\[1, 40\] sums to 1\.0011.*sample 40 \(pass 1\)"):
        kernels.bald_score(p, kind="probabilities", backend=backend)
    p[1, 40] = [1.5, -0.5, 0, 0, 0, 0, 0, 0]
    with pytest.raises(DataError, match=r"^logits\[1, 40, 1\] is -0\.5.*kind=.logits"):
        kernels.bald_score(p, kind="probabilities", backend=backend)


@pytest.mark.parametrize(
    ("x", "options", "error", "match"),
    [
        (np.zeros((3, 4)), {}, ShapeError, "3-D"),
        (np.zeros((0, 4, 2)), {}, ShapeError, "at least one pass"),
        (np.zeros((2, 4, 0)), {}, ShapeError, "one class"),
        (np.zeros((2, 4, 2), dtype=complex), {}, ShapeError, "real"),
        ([[1.0]], {}, ShapeError, "NumPy array"),
        (np.zeros((2, 4, 2)), {"kind": "logit"}, UsageError, "kind: expected"),
        (np.zeros((2, 4, 2)), {"backend": "cuda"}, BackendError, "bald_score"),
    ],
)
def test_bad_arguments(x, options, error, match):
    with pytest.raises(error, match=match):
        kernels.bald_score(x, **options)


@pytest.mark.parametrize("backend", ["triton"])
class TestGpu:
    @pytest.mark.parametrize("shape", [(1, 5, 3), (2, 0, 4), (2, 1, 1), (3, 17, 65)], ids=str)
    @pytest.mark.parametrize("kind", KINDS)
    def test_matches_reference(self, rng, backend, shape, kind):
        x = passes(rng, shape)
        if kind == "probabilities":
            x = softmax(x, axis=2)
        actual = kernels.bald_score(x, kind=kind, backend=backend)
        assert_close(actual, kernels.bald_score(x, kind=kind, backend="reference"))

    def test_half_precision_tensors_and_chunks(self, rng, backend):
        x = on_gpu(torch.from_numpy(passes(rng, (3, 40, 5))).bfloat16())
        actual = kernels.bald_score(x, backend=backend)
        assert (actual.dtype, actual.device) == (torch.float64, x.device)
        wide = x.double().cpu().numpy()
        assert_close(actual.cpu().numpy(), kernels.bald_score(wide, backend="reference"))
        whole = kernels.bald_score(wide, backend=backend)
        room = 2 * 17 * 3 * 5 * 8
        chunks = kernels.bald_score(wide, max_memory=room, backend=backend)
        np.testing.assert_array_equal(chunks, whole)
        wide[2, [33, 36], 1] = np.nan
        with pytest.raises(NonFiniteError, match=r"logits\[2, 33, 1\]") as caught:
            kernels.bald_score(wide, max_memory=room, backend=backend)
        assert caught.value.row == 33
