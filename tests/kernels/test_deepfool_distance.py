from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlmba import kernels
from rlmba.errors import BackendError, NonFiniteError, ShapeError
from rlmba.kernels.deepfool_distance import spec
from tests.helpers.accelerated import on_gpu

BACKENDS = ["cpu", "reference", "triton"]

pytestmark = pytest.mark.usefixtures("poisoned")


def problem(rng, n, c, d, dtype=np.float64):
    weight, bias, z = rng.normal(size=(c, d)), rng.normal(size=c), rng.normal(size=(n, d))
    return (z @ weight.T + bias).astype(dtype), weight.astype(dtype), bias, z


def iterative(head, z, overshoot=1e-9, steps=50):
    """DeepFool as published, by autograd, one sample at a time: length of the step and class met."""
    x = z.clone().requires_grad_()
    start = int(head(x).argmax())
    moved = torch.zeros_like(z)
    for _ in range(steps):
        f = head(x)
        if int(f.argmax()) != start:
            break
        gradients = [torch.autograd.grad(f[k], x, retain_graph=True)[0] for k in range(len(f))]
        best, step = np.inf, None
        for k in range(len(f)):
            if k != start:
                w, gap = gradients[k] - gradients[start], abs(float((f[k] - f[start]).detach()))
                if gap / float(w.norm()) < best:
                    best, step = gap / float(w.norm()), gap / float(w.norm()) ** 2 * w
        moved = moved + step
        x = (z + (1 + overshoot) * moved).detach().requires_grad_()
    return float(moved.norm()), int(head(x).argmax())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("c", [2, 3, 11])
def test_is_where_the_iterative_search_ends(rng, backend, c):
    logits, weight, bias, z = problem(rng, 40, c, 6)
    head = torch.nn.Linear(6, c).double()
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    found = kernels.deepfool_distance(logits, weight, backend=backend)
    expected = [iterative(head, row) for row in torch.from_numpy(z)]
    np.testing.assert_allclose(found.distances, [e[0] for e in expected], rtol=1e-9)
    assert found.classes.tolist() == [e[1] for e in expected]


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_shorter_step_changes_the_class(rng, backend):
    logits, weight, bias, z = problem(rng, 200, 7, 5)
    distances, classes = kernels.deepfool_distance(logits, weight, backend=backend)
    y = logits.argmax(axis=1)
    direction = weight[classes] - weight[y]
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)

    def classify(points):
        return (points @ weight.T + bias).argmax(axis=-1)

    np.testing.assert_array_equal(
        classify(z + distances[:, None] * direction * (1 + 1e-4)), classes
    )
    np.testing.assert_array_equal(classify(z + distances[:, None] * direction * (1 - 1e-4)), y)
    anywhere = rng.normal(size=(500, 200, 5))
    anywhere /= np.linalg.norm(anywhere, axis=2, keepdims=True)
    assert (classify(z + anywhere * distances[:, None] * (1 - 1e-9)) == y).all()


def exactly(f, w, y, k):
    """The square of the distance to class k, in rational numbers."""
    gap = Fraction(float(f[y])) - Fraction(float(f[k]))
    return gap**2 / sum(
        (Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in zip(w[k], w[y], strict=True)
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_norms_keep_their_digits(rng, backend, dtype):
    """Rows of the weight that differ by a millionth of their length: a product loses the difference."""
    weight = (1000 + 1e-3 * rng.normal(size=(6, 4))).astype(dtype)
    logits = (1000 + 1e-3 * rng.normal(size=(20, 6))).astype(dtype)
    distances, classes = kernels.deepfool_distance(logits, weight, backend=backend)
    for f, d, k in zip(logits, distances, classes, strict=True):
        y = int(f.argmax())
        squares = {j: exactly(f, weight, y, j) for j in range(6) if j != y}
        assert squares[k] == min(squares.values())
        assert d == pytest.approx(float(squares[k]) ** 0.5, rel=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", spec.SHAPES)
def test_every_instruction_set_matches_reference(rng, isa, shape, dtype):
    logits, weight, _, _ = problem(rng, *shape, dtype)
    expected = kernels.deepfool_distance(logits, weight, backend="reference")
    actual = kernels.deepfool_distance(logits, weight, backend="cpu")
    assert (actual.distances.dtype, actual.classes.dtype) == (np.float64, np.int64)
    np.testing.assert_allclose(actual.distances, expected.distances, rtol=spec.RELATIVE_TOLERANCE)
    np.testing.assert_array_equal(actual.classes, expected.classes)


@pytest.mark.parametrize("c", [5, 16, 17, 101])
def test_float_rows_beyond_what_float_can_screen(rng, isa, c):
    """Near ties, gaps and norms at the ends of float32's range, rows of one value."""
    weight = rng.normal(size=(c, 7)).astype(np.float32)
    f = rng.normal(size=(12 * c, c))
    f[::6] = 1e30 * (1 + 1e-7 * f[::6])
    f[1::6] = 3.4e38 * np.sign(f[1::6])
    f[2::6] *= 1e-38
    f[3::6] = -3.2e38 - 1e37 * np.abs(f[3::6])
    f[4::6] = f[4::6, :1]
    f = np.clip(f, -3.4e38, 3.4e38).astype(np.float32)
    heads = [weight, weight * np.float32(1e-33), weight * np.float32(1e33)]
    heads += [(1 + 1e-6 * weight).astype(np.float32), np.repeat(weight[:2], c, axis=0)[:c]]
    for w in heads:
        expected = kernels.deepfool_distance(f, w, backend="reference")
        actual = kernels.deepfool_distance(f, w, backend="cpu")
        np.testing.assert_allclose(actual.distances, expected.distances, rtol=1e-13)
        same = actual.classes == expected.classes
        # Where norms agree to the last digits, either of two classes may be the nearest.
        assert same.mean() > 0.99


@settings(max_examples=80)
@given(
    hnp.arrays(
        np.int8, st.tuples(st.integers(1, 40), st.integers(1, 20)), elements=st.integers(0, 3)
    ),
    st.integers(0, 2**32 - 1),
)
def test_property_ties(f, seed):
    """Small whole numbers: ties everywhere, of logits, of weights and of distances."""
    weight = np.random.default_rng(seed).integers(-1, 2, size=(f.shape[1], 2))
    expected = kernels.deepfool_distance(f, weight, backend="reference")
    for dtype in (np.float64, np.float32):
        actual = kernels.deepfool_distance(f.astype(dtype), weight.astype(dtype), backend="cpu")
        np.testing.assert_array_equal(actual.distances, expected.distances)
        np.testing.assert_array_equal(actual.classes, expected.classes)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("filler", [0, 30])
def test_ties_and_classes_that_never_win(backend, filler, isa):
    """``filler`` more classes, far below, move the tied ones to other lanes and vectors."""
    weight = np.array([[1.0, 0], [1, 0], [0, 1], [0, -1], [1, 0]])
    f = np.array(
        [
            [5.0, 5, 1, 1, 0],  # the same weights and the same logit: a tie, distance 0
            [5, 4, 1, 1, 5],  # the lower of the tied ones is y, the other is met
            [5, 4, 1, 1, 3],  # 1 and 4 never win; 2 and 3 lie equally far
            [0, 9, 2, 2, 9],
            [0, 0, 7, 7, 0],  # a tie of logits between different weights
        ]
    )
    f = np.hstack([f[:, :2], np.full((5, filler), -1e9), f[:, 2:]])
    weight = np.vstack([weight[:2], np.zeros((filler, 2)), weight[2:]])
    found = kernels.deepfool_distance(f, weight, backend=backend)
    away = 4 / np.sqrt(2)
    np.testing.assert_allclose(found.distances, [0, 0, away, 0, 0], rtol=1e-15)
    at = [0, 1, *range(2 + filler, 5 + filler)]
    assert found.classes.tolist() == [at[k] for k in (1, 4, 2, 4, 3)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_to_meet(backend):
    one = kernels.deepfool_distance(np.zeros((3, 1)), np.ones((1, 4)), backend=backend)
    assert np.isposinf(one.distances).all()
    assert one.classes.tolist() == [-1] * 3
    same = kernels.deepfool_distance(
        np.array([[1.0, 2.0], [3.0, 3.0]]), np.ones((2, 4)), backend=backend
    )
    assert same.distances.tolist() == [np.inf, 0.0]
    assert same.classes.tolist() == [-1, 1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_weights_whose_squares_leave_the_range(rng, backend, scale):
    logits, weight, _, _ = problem(rng, 20, 5, 3)
    expected = kernels.deepfool_distance(logits, weight, backend=backend)
    found = kernels.deepfool_distance(logits, weight * scale, backend=backend)
    np.testing.assert_allclose(found.distances * scale, expected.distances, rtol=1e-12)
    np.testing.assert_array_equal(found.classes, expected.classes)


def test_threads_do_not_matter_and_input_is_unchanged(rng, with_threads):
    logits, weight, _, _ = problem(rng, 5000, 41, 30, np.float32)
    before = logits.copy(), weight.copy()

    def call():
        return kernels.deepfool_distance(logits, weight, backend="cpu")

    one = with_threads(1, call)
    for threads in (2, 3, 5):
        several = with_threads(threads, call)
        np.testing.assert_array_equal(several.distances, one.distances)
        np.testing.assert_array_equal(several.classes, one.classes)
    np.testing.assert_array_equal(logits, before[0])
    np.testing.assert_array_equal(weight, before[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_kinds_and_layouts(rng, backend):
    logits, weight, _, _ = problem(rng, 60, 20, 16, np.float32)
    rows, heads = logits[::3, 2:19], weight[2:19, ::2]
    expected = kernels.deepfool_distance(rows.copy(), heads.copy(), backend=backend)
    for f, w in (
        (rows, heads),
        (np.asfortranarray(rows), np.asfortranarray(heads)),
        (rows.astype(np.float64), heads),
        (torch.from_numpy(logits)[::3, 2:19], torch.from_numpy(weight)[2:19, ::2]),
    ):
        found = kernels.deepfool_distance(f, w, backend=backend)
        assert isinstance(found.classes, type(f))
        np.testing.assert_allclose(np.asarray(found.distances), expected.distances, rtol=1e-13)
        np.testing.assert_array_equal(np.asarray(found.classes), expected.classes)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 19, 20])
def test_names_first_non_finite_row(rng, backend, bad, column):
    logits, weight, _, _ = problem(rng, 900, 21, 3, np.float32)
    logits[[617, 800], column] = bad
    logits[617, 7] = 3e38
    with pytest.raises(NonFiniteError, match=rf"^logits\[617, {column}\] is") as caught:
        kernels.deepfool_distance(logits, weight, backend=backend)
    assert caught.value.row == 617
    weight[4, 1] = bad
    with pytest.raises(NonFiniteError, match=r"^weight\[4, 1\]"):
        kernels.deepfool_distance(logits, weight, backend=backend)


@pytest.mark.parametrize(
    ("logits", "weight", "options", "error", "match"),
    [
        (np.zeros(3), np.zeros((3, 2)), {}, ShapeError, "2-D"),
        (np.zeros((4, 3)), np.zeros((2, 3)), {}, ShapeError, r"got \(4, 3\) and \(2, 3\)"),
        (np.zeros((4, 0)), np.zeros((0, 3)), {}, ShapeError, "C >= 1"),
        (np.zeros((4, 3)), np.zeros((3, 0)), {}, ShapeError, "D >= 1"),
        (np.zeros((4, 3)), np.zeros((3, 2)), {"backend": "cuda"}, BackendError, "deepfool"),
    ],
)
def test_bad_arguments(logits, weight, options, error, match):
    with pytest.raises(error, match=match):
        kernels.deepfool_distance(logits, weight, **options)


@pytest.mark.parametrize("backend", ["triton"])
class TestGpu:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("shape", [(0, 3, 4), (1, 1, 1), (17, 3, 5), (5, 129, 7)], ids=str)
    def test_matches_reference(self, rng, backend, dtype, shape):
        logits, weight, _, _ = problem(rng, *shape, dtype)
        actual = kernels.deepfool_distance(logits, weight, backend=backend)
        expected = kernels.deepfool_distance(logits, weight, backend="reference")
        np.testing.assert_allclose(
            actual.distances, expected.distances, rtol=spec.RELATIVE_TOLERANCE
        )
        np.testing.assert_array_equal(actual.classes, expected.classes)

    def test_half_precision_tensors_and_chunks(self, rng, backend):
        logits, weight, _, _ = problem(rng, 40, 5, 3)
        half = on_gpu(torch.from_numpy(logits).bfloat16())
        actual = kernels.deepfool_distance(half, on_gpu(weight), backend=backend)
        assert (actual.distances.dtype, actual.distances.device) == (torch.float64, half.device)
        wide = half.double().cpu().numpy()
        expected = kernels.deepfool_distance(wide, weight, backend="reference")
        np.testing.assert_allclose(actual.distances.cpu(), expected.distances, rtol=1e-13)
        room = 2 * 17 * 5 * 8
        chunks = kernels.deepfool_distance(wide, weight, max_memory=room, backend=backend)
        np.testing.assert_array_equal(chunks.classes, expected.classes)
        np.testing.assert_allclose(chunks.distances, expected.distances, rtol=1e-13)
        wide[[33, 36], 1] = np.nan
        with pytest.raises(NonFiniteError, match=r"logits\[33, 1\]") as caught:
            kernels.deepfool_distance(wide, weight, max_memory=room, backend=backend)
        assert caught.value.row == 33
        weight[2, 1] = np.inf
        with pytest.raises(NonFiniteError, match=r"weight\[2, 1\]"):
            kernels.deepfool_distance(wide, weight, backend=backend)
