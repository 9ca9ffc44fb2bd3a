from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlmba import kernels
from rlmba.errors import BackendError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels.graph_propagate import spec

BACKENDS = ["cpu", "reference", "triton"]


def dense(features, affinity):
    """The adjacency and its degrees, written down in torch without the code under test."""
    x = torch.nn.functional.normalize(torch.from_numpy(features).double(), dim=1, eps=1e-300)
    s = x @ x.T
    if affinity == "shifted":
        s = (1 + s) / 2
    s = s - torch.diag(torch.diag(s))
    d = s.sum(dim=0)
    inverse = torch.where(d.abs() < 1e-9, 0.0, 1 / d)
    return (s * inverse + torch.eye(len(s))).numpy(), d.numpy()


def assert_close(ours, exact, tolerance):
    np.testing.assert_allclose(
        ours, exact, rtol=0, atol=tolerance * max(np.abs(exact).max(), 1e-30)
    )


def features_of(rng, n, width, affinity, dtype):
    f = rng.normal(size=(n, width))
    return (np.abs(f) if affinity == "cosine" else f).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("affinity", spec.AFFINITIES)
@pytest.mark.parametrize("shape", spec.SHAPES)
@pytest.mark.slow
def test_matches_the_dense_adjacency(rng, poisoned, isa, shape, affinity, dtype):
    n, width, k = shape
    f = features_of(rng, n, width, affinity, dtype)
    f[n // 2] *= 0
    h = rng.normal(size=(n, k)).astype(dtype)
    ours = kernels.graph_propagate(f, h, affinity=affinity, backend="cpu")
    reference = kernels.graph_propagate(f, h, affinity=affinity, backend="reference")
    a, d = dense(f, affinity)
    for result in (ours, reference):
        assert_close(result.values, a @ h.astype(np.float64), spec.TOLERANCE[dtype])
        np.testing.assert_allclose(result.degrees, d, rtol=1e-10, atol=1e-10 * n)
        assert result.values.dtype == dtype
        assert result.affinity == affinity


@pytest.mark.parametrize("backend", BACKENDS)
def test_vector_and_matrix_agree(rng, backend):
    f = np.abs(rng.normal(size=(50, 4)))
    h = rng.normal(size=50)
    one = kernels.graph_propagate(f, h, backend=backend).values
    assert one.shape == (50,)
    np.testing.assert_array_equal(
        one, kernels.graph_propagate(f, h[:, None], backend=backend).values[:, 0]
    )


@pytest.mark.parametrize("backend", BACKENDS)
class TestAuto:
    def test_features_that_are_not_negative(self, backend):
        f = np.eye(4)  # no two rows have anything in common: degrees 0, yet nothing cancels
        f[1] = f[0]
        result = kernels.graph_propagate(f, np.arange(4.0), backend=backend)
        assert result.affinity == "cosine"
        np.testing.assert_allclose(result.degrees, [1, 1, 0, 0])
        np.testing.assert_allclose(result.values, [1, 1, 2, 3])

    def test_signed_features(self, rng, backend):
        f = rng.normal(size=(200, 5))
        result = kernels.graph_propagate(f, f, backend=backend)
        assert result.affinity == "shifted"
        assert (result.degrees > 0).all()

    def test_signed_features_around_one_direction(self, rng, backend):
        f = rng.normal(size=(200, 5)) * 0.2 + 1
        f[7] = 0
        f[3, 2] = -0.1
        result = kernels.graph_propagate(f, f, backend=backend)
        assert result.affinity == "cosine"
        assert result.degrees[7] == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_published_formula_is_kept_where_degrees_are_negative(backend):
    f = np.array([[1.0, 0.0], [-1.0, 0.1], [0.5, 1.0]])
    a, d = dense(f, "cosine")
    assert (d < 0).any()
    result = kernels.graph_propagate(f, np.eye(3), affinity="cosine", backend=backend)
    np.testing.assert_allclose(result.values, a, rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("affinity", ["auto", *spec.AFFINITIES])
def test_tiny_and_degenerate(backend, affinity):
    def run(f, h):
        return kernels.graph_propagate(f, h, affinity=affinity, backend=backend)

    assert run(np.empty((0, 3)), np.empty(0)).values.shape == (0,)
    assert run(np.ones((4, 3)), np.empty((4, 0))).values.shape == (4, 0)
    alone = run(np.array([[3.0, 4.0]]), np.array([[7.0, -1.0]]))
    assert alone.values.tolist() == [[7.0, -1.0]]
    assert alone.degrees.tolist() == [0.0]
    same = run(np.ones((5, 2)), np.arange(5.0))
    np.testing.assert_allclose(same.degrees, 4)
    np.testing.assert_allclose(same.values, [10 / 4 + 0.75 * i for i in range(5)])
    zeros = run(np.zeros((3, 2)), np.arange(3.0))
    expected = [0, 1, 2] if affinity != "shifted" else [1.5, 2, 2.5]
    np.testing.assert_allclose(zeros.values, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e30, 1e300])
def test_the_scale_of_a_row_does_not_matter(rng, isa, scale, dtype):
    if dtype == "float32" and scale > 1e37:
        pytest.skip("beyond float32")
    f = np.abs(np.round(rng.normal(size=(60, 9)) * 64))
    f[:, 0] += 1
    h = rng.normal(size=(60, 3)).astype(dtype)
    scaled = f.astype(dtype)
    scaled[::2] *= np.dtype(dtype).type(scale)
    expected = kernels.graph_propagate(f, h.astype(np.float64), backend="reference").values
    # The smallest float32 are coarse: what the rows hold is then another direction.
    tolerance = 1e-2 if dtype == "float32" and scale == 1e-42 else spec.TOLERANCE[dtype]
    assert_close(kernels.graph_propagate(scaled, h, backend="cpu").values, expected, tolerance)


def test_threads_and_column_blocks_do_not_change_a_bit(rng, with_threads):
    f = np.abs(rng.normal(size=(9000, 20))).astype(np.float32)
    h = rng.normal(size=(9000, 140)).astype(np.float32)
    expected = kernels.graph_propagate(f, h)
    for n in (1, 3):
        result = with_threads(n, lambda: kernels.graph_propagate(f, h))
        np.testing.assert_array_equal(result.values, expected.values)
        np.testing.assert_array_equal(result.degrees, expected.degrees)
    part = kernels.graph_propagate(f, h[:, 120:])
    np.testing.assert_array_equal(part.values, expected.values[:, 120:])


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 5), st.integers(0, 2**32))
def test_property_duplicates_and_zero_rows(n, width, k, seed):
    rng = np.random.default_rng(seed)
    f = rng.integers(0, 3, size=(n, width)).astype(np.float64)
    h = rng.normal(size=(n, k))
    a, _ = dense(f, "cosine")
    result = kernels.graph_propagate(f, h)
    assert result.affinity == "cosine"
    np.testing.assert_allclose(result.values, a @ h, rtol=0, atol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_names_first_non_finite_row(rng, backend, bad):
    f, h = np.abs(rng.normal(size=(3000, 7))), rng.normal(size=(3000, 2))
    h[[2500, 2600], 1] = bad
    with pytest.raises(NonFiniteError, match=r"values\[2500, 1\]"):
        kernels.graph_propagate(f, h, backend=backend)
    f[[1317, 2402], [6, 0]] = bad
    with pytest.raises(NonFiniteError, match=r"features\[1317, 6\]") as caught:
        kernels.graph_propagate(f, h, backend=backend)
    assert caught.value.row == 1317


def test_kinds_and_layouts(rng):
    wide = np.abs(rng.normal(size=(120, 2, 24))).astype(np.float32)
    f, h = wide[:, 1], rng.normal(size=(120, 9)).astype(np.float32)[:, 2:5]
    expected = kernels.graph_propagate(f.copy(), h.copy()).values
    np.testing.assert_array_equal(kernels.graph_propagate(f, h).values, expected)
    tensor = torch.from_numpy(h)
    out = kernels.graph_propagate(torch.from_numpy(f), tensor)
    assert isinstance(out.values, torch.Tensor)
    assert out.degrees.dtype == torch.float64
    np.testing.assert_array_equal(out.values.numpy(), expected)
    half = kernels.graph_propagate(torch.from_numpy(f).half(), tensor.bfloat16())
    assert half.values.dtype == torch.float32
    np.testing.assert_allclose(half.values.numpy(), expected, atol=0.02)
    assert kernels.graph_propagate(f.astype(np.float64), h).values.dtype == np.float64


def test_inputs_are_unchanged(rng):
    f, h = np.abs(rng.normal(size=(100, 9))), rng.normal(size=(100, 3))
    copies = f.copy(), h.copy()
    kernels.graph_propagate(f, h)
    np.testing.assert_array_equal(f, copies[0])
    np.testing.assert_array_equal(h, copies[1])


def test_errors(rng):
    f = np.abs(rng.normal(size=(5, 3)))
    with pytest.raises(ShapeError, match="values: expected 5 rows"):
        kernels.graph_propagate(f, np.ones(4))
    with pytest.raises(ShapeError, match="at least one column"):
        kernels.graph_propagate(f[:, :0], np.ones(5))
    with pytest.raises(UsageError, match="affinity: expected 'auto', 'cosine' or 'shifted'"):
        kernels.graph_propagate(f, f, affinity="rbf")
    with pytest.raises(BackendError, match="available"):
        kernels.graph_propagate(f, f, backend="cuda")


MEMORY = """
import re, numpy as np
from pathlib import Path
from rlmba import kernels
n = 20_000
f = np.random.default_rng(0).random((n, 64), dtype=np.float32)
mask = np.arange(n) < 100
kernels.graph_propagate(f[:100], f[:100])
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
before = peak()
kernels.graph_propagate(f, f)
kernels.sequential_gcn(f, mask, rng=0, epochs=2, hidden=16)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_dense_matrix_is_ever_held():
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    held = int(done.stdout)
    given = 20_000 * 64 * 4
    # Output, normalized copy and A X take the size of the input each; N x N float32 is 1.6 GB.
    assert given < held < 12 * given
