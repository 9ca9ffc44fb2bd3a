from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlmba import _core, kernels
from rlmba.errors import BackendError, DataError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels.common import distances
from rlmba.kernels.k_center import reference, spec

HOST = ["cpu", "reference"]
BACKENDS = [*HOST, "triton"]  # which test_k_center_gpu.py tests further


def assert_same(ours, theirs, rtol=0.0):
    np.testing.assert_array_equal(ours.indices, theirs.indices)
    np.testing.assert_allclose(ours.distances, theirs.distances, rtol=rtol)
    np.testing.assert_allclose(ours.radius, theirs.radius, rtol=rtol)
    assert ours.indices.dtype == np.int64
    assert ours.distances.dtype == theirs.distances.dtype


def against_reference(x, n, rtol=0.0, **options):
    ours = kernels.k_center(x, n, backend="cpu", **options)
    assert_same(ours, kernels.k_center(x, n, backend="reference", **options), rtol)
    assert len(set(ours.indices.tolist())) == n
    return ours


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", spec.SHAPES)
def test_same_picks_as_one_center_a_pass(rng, product_isa, poisoned, shape, dtype):
    rows, width, given_rows = shape
    x = rng.normal(size=(rows, width)).astype(dtype)
    x[rng.random(rows) < 0.3] += 4
    labeled = rng.normal(size=(given_rows, width)).astype(dtype)
    for n in sorted({0, 1, min(rows, 200), rows if rows <= 300 else 2}):
        ours = against_reference(x, n, spec.RTOL[dtype], labeled=labeled)
        assert ours.distances.dtype == dtype


@pytest.mark.parametrize("width", [1, 2, 3, 40])
@pytest.mark.parametrize("given_rows", [0, 1, 30])
def test_ties_go_to_the_lowest_position(rng, product_isa, width, given_rows):
    x = rng.integers(4, size=(512, width)).astype(np.float32)
    labeled = rng.integers(4, size=(given_rows, width)).astype(np.float32)
    for n in (5, 60, 512):
        first = None if given_rows else 100
        against_reference(x, n, labeled=labeled, first=first)


def test_more_ties_than_candidates(rng, isa):
    """Thousands of rows at one distance, of which a round can hold some hundreds."""
    x = rng.integers(2, size=(6000, 3)).astype(np.float32)
    x[::2] = 9
    ours = against_reference(x, 12, labeled=np.zeros((1, 3), np.float32))
    assert ours.indices[0] == 0
    assert np.all(ours.distances[9:] == 0)


def test_many_rounds_that_keep_nothing(rng, product_isa):
    """In the plane a pick lowers every bound around it: whole rounds of candidates fall behind."""
    x = rng.random((9000, 2)).astype(np.float32)
    against_reference(x, 150, spec.RTOL["float32"])


@settings(max_examples=80)
@given(
    st.integers(1, 60),
    st.integers(1, 20),
    st.integers(0, 10),
    st.sampled_from(["float32", "float64"]),
    st.integers(0, 2**32),
)
def test_property_small_integers_are_exact(rows, width, given_rows, dtype, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, size=(rows, width)).astype(dtype)
    labeled = rng.integers(-2, 3, size=(given_rows, width)).astype(dtype)
    n = int(rng.integers(rows + 1))
    first = int(rng.integers(rows)) if given_rows == 0 or rng.random() < 0.3 else None
    ours = against_reference(x, n, labeled=labeled, first=first)
    assert (np.diff(ours.distances[1:]) <= 0).all()
    if n:
        assert ours.radius <= ours.distances[-1] or (n == 1 and first is not None)


@settings(max_examples=60)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**32))
def test_property_twice_the_best_radius_at_most(rows, width, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, width)).round(1)
    n = int(rng.integers(1, rows + 1))
    result = kernels.k_center(x, n)
    pairs = np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=2))
    best = min(pairs[:, c].min(axis=1).max() for c in itertools.combinations(range(rows), n))
    assert result.radius <= 2 * best + 1e-12
    assert result.radius == pytest.approx(pairs[:, result.indices].min(axis=1).max(), abs=1e-12)
    assert (np.diff(result.distances) <= 1e-12).all()
    assert result.radius <= result.distances[-1] + 1e-12
    among = pairs[np.ix_(result.indices, result.indices)]
    # Picks are as far from each other as the last was from the rest.
    assert (among[~np.eye(n, dtype=bool)] >= result.distances[-1] - 1e-12).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_exhausted_pool_repeats_nothing(backend):
    same = kernels.k_center(np.ones((30, 4), np.float32), 30, backend=backend)
    assert same.indices.tolist() == list(range(30))
    assert same.radius == 0
    assert not same.distances.any()
    x = np.array([[5.0], [1.0], [5.0], [9.0], [1.0], [9.0]])
    result = kernels.k_center(x, 6, labeled=np.array([[1.0]]), backend=backend)
    assert result.indices.tolist() == [3, 0, 1, 2, 4, 5]
    assert result.distances.tolist() == [8, 4, 0, 0, 0, 0]
    known = kernels.k_center(x, 4, labeled=x, backend=backend)
    assert known.indices.tolist() == [0, 1, 2, 3]
    chosen = kernels.k_center(x, 5, labeled=x, first=4, backend=backend)
    assert chosen.indices.tolist() == [4, 0, 1, 2, 3]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.slow
def test_neither_memory_nor_threads_change_a_bit(rng, with_threads, dtype):
    x = rng.normal(size=(9000, 24)).astype(dtype) + 7
    x[4000:4500] = x[:500]
    labeled = rng.normal(size=(1100, 24)).astype(dtype) + 7
    for options in ({"labeled": labeled}, {}):
        expected = against_reference(x, 150, spec.RTOL[dtype], **options)
        for threads in (1, 2, 3):
            least = with_threads(threads, lambda: _core.k_center_scratch(x))
            for bound in (least, 2 * least, 10 * least, None):
                result = with_threads(
                    threads,
                    lambda bound=bound, options=options: kernels.k_center(
                        x, 150, max_memory=bound, **options
                    ),
                )
                assert_same(result, expected)
    with pytest.raises(UsageError, match=r"max_memory: expected at least \d+"):
        kernels.k_center(x, 5, max_memory=_core.k_center_scratch(x) - 1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.slow
def test_wide_sets_of_candidates(rng, with_threads, threads):
    """Enough values a pick that several threads share them, and that gaps are closed."""
    x = rng.normal(size=(40_000, 600)).astype(np.float32)
    x[1::4] = x[::4] + np.float32(1e-3) * rng.normal(size=(10_000, 600)).astype(np.float32)
    labeled = x[[0, 3, 8]]
    ours = with_threads(threads, lambda: kernels.k_center(x, 700, labeled=labeled))
    rest = kernels.min_distance(x, np.concatenate([labeled, x[ours.indices]]))
    assert ours.radius == rest.distances.max()
    for j in (1, 50, 300, 699):
        before = kernels.min_distance(x, np.concatenate([labeled, x[ours.indices[:j]]])).distances
        assert before.argmax() == ours.indices[j]
        assert before.max() == ours.distances[j]


@pytest.mark.parametrize("offset", [1e3, -3e5])
def test_a_common_offset_changes_nothing(rng, product_isa, offset):
    x = np.round(rng.normal(size=(900, 70)) * 16).astype(np.float32) / 16
    labeled = x[::100] + np.float32(0.25)
    plain = kernels.k_center(x, 90, labeled=labeled)
    moved = kernels.k_center(x + np.float32(offset), 90, labeled=labeled + np.float32(offset))
    assert_same(moved, plain)


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-20, 1e15, 3e18, 2e36])
def test_scales_at_the_edge_of_float32(rng, product_isa, scale):
    x = (rng.normal(size=(400, 40)) * scale).astype(np.float32)
    against_reference(x, 70, 1e-3 if scale == 1e-42 else spec.RTOL["float32"], first=3)


def test_rows_of_very_different_size(rng, product_isa):
    x = rng.normal(size=(300, 33)) * 10.0 ** rng.integers(-12, 18, size=(300, 1))
    against_reference(x.astype(np.float32), 299, spec.RTOL["float32"], first=0)


@pytest.mark.parametrize("backend", HOST)
def test_first_center(rng, backend):
    x = rng.normal(size=(9000, 5))
    result = kernels.k_center(x, 3, backend=backend)
    assert result.indices[0] == ((x - x.mean(axis=0)) ** 2).sum(axis=1).argmin()
    alone = np.sqrt(((x - x[result.indices[0]]) ** 2).sum(axis=1)).max()
    assert result.distances[0] == result.distances[1] == pytest.approx(alone, rel=1e-12)
    one = kernels.k_center(x, 1, backend=backend)
    assert one.radius == one.distances[0] == result.distances[0]
    order = rng.permutation(9000)
    moved = kernels.k_center(x[order], 3, backend=backend)
    np.testing.assert_array_equal(order[moved.indices], result.indices)
    given_first = kernels.k_center(x, 2, first=77, backend=backend)
    assert given_first.indices[0] == 77
    labeled = x[:4] + 1
    forced = kernels.k_center(x, 2, first=77, labeled=labeled, backend=backend)
    assert forced.indices[0] == 77
    near = kernels.min_distance(x[77:78], labeled).distances[0]
    assert forced.distances[0] == pytest.approx(near, rel=1e-13)
    single = kernels.k_center(x[:1], 1, backend=backend)
    assert (single.indices.tolist(), single.distances.tolist(), single.radius) == ([0], [0.0], 0.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_picks_and_no_rows(rng, backend):
    x = rng.normal(size=(40, 3))
    nothing = kernels.k_center(x, 0, backend=backend)
    assert nothing.indices.shape == nothing.distances.shape == (0,)
    assert nothing.radius == np.inf
    labeled = x[:5] + 0.5
    covered = kernels.k_center(x, 0, labeled=labeled, first=3, backend=backend)
    farthest = kernels.min_distance(x, labeled).distances.max()
    assert covered.radius == pytest.approx(farthest, rel=1e-13)
    for given_rows in (0, 2):
        empty = kernels.k_center(x[:0], 0, labeled=x[:given_rows], backend=backend)
        assert empty.indices.shape == (0,)
        assert empty.radius == 0
    unlabeled = kernels.k_center(x, 9, labeled=x[:0], backend=backend)
    assert_same(unlabeled, kernels.k_center(x, 9, backend=backend))


def test_outputs_are_written_wherever_they_were_poisoned(rng):
    x = rng.normal(size=(5000, 6)).astype(np.float32)
    indices = np.full(900, -7, dtype=np.int64)
    squared = np.full(900, np.nan)
    status, radius = _core.k_center(x, x[:0], -1, distances.UNBOUNDED, indices, squared)
    assert status == -1
    assert len(set(indices.tolist())) == 900
    assert indices.min() >= 0
    assert (squared > 0).all()
    assert radius <= squared[-1]


def test_kinds_and_layouts(rng):
    wide = rng.normal(size=(600, 2, 24)).astype(np.float32)
    x, labeled = wide[:, 1], rng.normal(size=(60, 30)).astype(np.float32)[::2, 3:27]
    expected = kernels.k_center(x.copy(), 50, labeled=labeled.copy(), backend="reference")
    assert_same(kernels.k_center(x, 50, labeled=labeled), expected, 2e-7)
    assert_same(kernels.k_center(np.asfortranarray(x), 50, labeled=labeled), expected, 2e-7)
    tensor = torch.from_numpy(wide)[:, 1]
    out = kernels.k_center(tensor, 50, labeled=torch.from_numpy(labeled))
    assert isinstance(out.indices, torch.Tensor)
    assert out.indices.dtype == torch.int64
    assert out.distances.dtype == torch.float32
    assert isinstance(out.radius, float)
    np.testing.assert_array_equal(out.indices.numpy(), expected.indices)
    half = kernels.k_center(x.astype(np.float16), 50, labeled=labeled.astype(np.float16))
    assert half.distances.dtype == np.float32
    assert kernels.k_center(tensor.bfloat16(), 5).distances.dtype == torch.float32
    whole = kernels.k_center(np.array([[3, 4], [0, 0]]), 1, labeled=np.array([[0, 0]]))
    assert (whole.indices.tolist(), whole.distances.tolist()) == ([0], [5.0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_labeled_take_the_dtype_of_the_features(rng, backend):
    """Features may be gigabytes: they are what stays as it is."""
    x = rng.normal(size=(80, 4)).astype(np.float32)
    labeled = x[:6].astype(np.float64)
    result = kernels.k_center(x, 80, labeled=labeled, backend=backend)
    assert result.distances.dtype == np.float32
    assert sorted(result.indices[-6:].tolist()) == [0, 1, 2, 3, 4, 5]
    assert not result.distances[-6:].any()


def test_memory_mapped_rows_are_read_in_place(rng, tmp_path):
    x = rng.normal(size=(3000, 32)).astype(np.float32)
    np.save(tmp_path / "bank.npy", x)
    mapped = np.load(tmp_path / "bank.npy", mmap_mode="r")
    assert np.shares_memory(distances.as_rows(mapped, "features"), mapped)
    assert_same(kernels.k_center(mapped, 30), kernels.k_center(x, 30))


@pytest.mark.parametrize("backend", HOST)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("given_rows", [0, 1, 40])
def test_names_first_non_finite_row(rng, product_isa, backend, bad, given_rows):
    x = rng.normal(size=(500, 37)).astype(np.float32)
    labeled = rng.normal(size=(given_rows, 37)).astype(np.float32)
    x[[317, 402], [36, 0]] = bad
    for n, first in ((0, None), (1, None), (20, None), (20, 5), (20, 402)):
        with pytest.raises(NonFiniteError, match=r"features\[317, 36\]") as caught:
            kernels.k_center(x, n, labeled=labeled, first=first, backend=backend)
        assert caught.value.row == 317
    if given_rows:
        labeled[-1, 5] = bad
        for dtype in (np.float32, np.float64):
            with pytest.raises(NonFiniteError, match=rf"labeled\[{given_rows - 1}, 5\]"):
                kernels.k_center(x, 3, labeled=labeled.astype(dtype), backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_errors(rng, backend):
    x = rng.normal(size=(50, 3))
    with pytest.raises(UsageError, match="n: expected 0 to 50, got 51"):
        kernels.k_center(x, 51, backend=backend)
    with pytest.raises(UsageError, match="n: expected 0 to 50, got -1"):
        kernels.k_center(x, -1, backend=backend)
    with pytest.raises(UsageError, match="n: expected an integer"):
        kernels.k_center(x, 2.5, backend=backend)
    with pytest.raises(UsageError, match="first: expected 0 to 49, got 50"):
        kernels.k_center(x, 2, first=50, backend=backend)
    with pytest.raises(UsageError, match="at least one row"):
        kernels.k_center(x[:0], 0, first=0, backend=backend)
    with pytest.raises(UsageError, match="max_memory"):
        kernels.k_center(x, 2, max_memory=0, backend=backend)
    with pytest.raises(ShapeError, match=r"labeled: expected 3 columns .* \(50, 2\)"):
        kernels.k_center(x, 2, labeled=x[:, :2], backend=backend)
    with pytest.raises(ShapeError, match="labeled: expected 3 columns"):
        kernels.k_center(x, 2, labeled=np.empty((0, 4)), backend=backend)
    with pytest.raises(ShapeError, match="at least one column"):
        kernels.k_center(x[:, :0], 2, backend=backend)
    with pytest.raises(ShapeError, match="2-D"):
        kernels.k_center(x[0], 1, backend=backend)
    with pytest.raises(ShapeError, match="real numbers"):
        kernels.k_center(x.astype(complex), 1, backend=backend)
    for options in ({}, {"first": 3}, {"labeled": -1e200 * x}):
        for n in (1, 20):
            with pytest.raises(DataError, match="overflow"):
                kernels.k_center(x * 1e200, n, backend=backend, **options)
    with pytest.raises(BackendError, match="available"):
        kernels.k_center(x, 2, backend="cuda")


def test_input_is_unchanged(rng):
    x, labeled = rng.normal(size=(300, 9)), rng.normal(size=(50, 9))
    copies = x.copy(), labeled.copy()
    kernels.k_center(x, 100, labeled=labeled)
    np.testing.assert_array_equal(x, copies[0])
    np.testing.assert_array_equal(labeled, copies[1])


def test_the_reference_is_the_definition(rng):
    x, labeled = rng.normal(size=(60, 3)), rng.normal(size=(4, 3))
    indices, squared, radius = reference.k_center(x, 25, labeled, None)
    centers = labeled
    for pick, d in zip(indices, squared, strict=True):
        nearest = ((x[:, None] - centers[None]) ** 2).sum(axis=2).min(axis=1)
        assert nearest.argmax() == pick
        assert nearest.max() == pytest.approx(d, rel=1e-14)
        centers = np.concatenate([centers, x[[pick]]])
    assert radius == ((x[:, None] - centers[None]) ** 2).sum(axis=2).min(axis=1).max()
