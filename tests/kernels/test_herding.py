from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlmba import kernels
from rlmba.errors import BackendError, DataError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels.herding import spec

HOST = ["cpu", "reference"]


def parts_of(features):
    return list(features.values()) if isinstance(features, dict) else [features]


def squared_distances(parts, here, weights):
    """D of all pairs of rows; infinite without a common modality."""
    squared, total = 0.0, 0.0
    for w, part, has in zip(weights, parts, here.T, strict=True):
        x = np.where(has[:, None], part, 0).astype(np.float64)
        both = np.outer(has, has)
        squared = squared + w * both * ((x[:, None] - x) ** 2).sum(axis=2)
        total = total + w * both
    with np.errstate(invalid="ignore"):
        return np.where(total > 0, squared / total, np.inf)


def dense(
    features,
    n,
    *,
    labeled=None,
    weights=None,
    utility=None,
    radius=1.0,
    present=None,
    candidates=None,
):
    """The definition with all kernels in memory: the picks, and the gain of each."""
    parts = parts_of(features)
    rows, given = len(parts[0]), 0 if labeled is None else len(parts_of(labeled)[0])
    if labeled is not None:
        parts = [np.concatenate(pair) for pair in zip(parts, parts_of(labeled), strict=True)]
    here = np.ones((rows + given, len(parts)), bool)
    if present is not None:
        here[:rows] = present
    w = np.ones(len(parts)) if weights is None else weights
    k = np.exp(-squared_distances(parts, here, w)[:rows] / radius**2)
    u = np.ones(rows) if utility is None else utility
    covered = k[:, rows:].max(axis=1, initial=0)
    allowed = np.isin(np.arange(rows), np.arange(rows) if candidates is None else candidates)
    indices, gains = [], []
    for _ in range(n):
        gain = (u[:, None] * np.maximum(0, k[:, :rows] - covered[:, None])).sum(axis=0)
        pick = int(np.where(allowed, gain, -1).argmax())
        indices.append(pick)
        gains.append(gain[pick])
        allowed[pick] = False
        covered = np.maximum(covered, k[:, pick])
    return indices, gains


def modalities(rng, rows, widths, dtype="float64"):
    """Unit rows around a few centers, by modality."""
    groups = rng.integers(12, size=rows)
    found = {}
    for m, width in enumerate(widths):
        x = rng.normal(size=(12, width))[groups] + 0.4 * rng.normal(size=(rows, width))
        if width > 1:
            x /= np.linalg.norm(x, axis=1, keepdims=True)
        found[f"m{m}"] = x.astype(dtype)
    return found


@pytest.mark.parametrize("backend", HOST)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [s for s in spec.SHAPES if s[0] <= 300])
def test_picks_of_the_dense_definition(rng, shape, dtype, backend):
    rows, widths, given_rows = shape
    x = modalities(rng, rows + given_rows, widths, dtype)
    features = {k: v[:rows] for k, v in x.items()}
    labeled = {k: v[rows:] for k, v in x.items()}
    weights, u = rng.dirichlet(np.ones(len(widths))), rng.random(rows)
    for n in sorted({0, 1, min(rows, 12)}):
        for radius in (0.05, 0.7):
            found = kernels.herding(
                features, n, labeled=labeled, weights=weights, utility=u, radius=radius,
                backend=backend,
            )  # fmt: skip
            indices, gains = dense(
                features, n, labeled=labeled, weights=weights, utility=u, radius=radius
            )
            np.testing.assert_array_equal(found.indices, indices)
            np.testing.assert_allclose(found.gains, gains, rtol=spec.RTOL, atol=1e-13)
            assert found.indices.dtype == np.int64
            assert found.gains.dtype == np.float64
            assert (found.radius, found.targets) == (radius, rows)


@pytest.mark.parametrize("backend", HOST)
def test_missing_modalities_are_left_out_of_distances(rng, backend):
    x = modalities(rng, 90, (5, 3, 4))
    present = rng.random((90, 3)) < 0.6
    weights = {"m0": 1.0, "m1": 5.0, "m2": 2.0}
    indices, gains = dense(x, 30, weights=list(weights.values()), radius=0.5, present=present)
    for m, part in enumerate(x.values()):
        part[~present[:, m]] = np.nan
    found = kernels.herding(x, 30, weights=weights, radius=0.5, present=present, backend=backend)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.gains, gains, rtol=spec.RTOL)


@pytest.mark.parametrize("backend", HOST)
def test_absent_modalities_of_labeled_rows_may_hold_anything(rng, backend):
    x = modalities(rng, 30, (3, 2), "float32")
    labeled = modalities(rng, 5, (3, 2))
    present = np.ones((5, 2), dtype=bool)
    present[1, 1] = False
    options = {"labeled_present": present, "radius": 0.5, "backend": backend}
    expected = kernels.herding(x, 8, labeled=labeled, **options).indices
    labeled["m1"][1] = np.nan, 1e300
    found = kernels.herding(x, 8, labeled=labeled, **options)
    np.testing.assert_array_equal(found.indices, expected)


def against_reference(features, n, **options):
    found = kernels.herding(features, n, backend="cpu", **options)
    expected = kernels.herding(features, n, backend="reference", **options)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.gains, expected.gains, rtol=spec.RTOL, atol=1e-13)
    return found


@pytest.mark.parametrize("shape", [s for s in spec.SHAPES if s[0] >= 130])
def test_every_instruction_set_gives_the_picks_of_the_reference(rng, product_isa, shape):
    rows, widths, given_rows = shape
    x = modalities(rng, rows + given_rows, widths, "float32")
    features = {k: v[:rows] + np.float32(7) for k, v in x.items()}
    labeled = {k: v[rows:] + np.float32(7) for k, v in x.items()}
    for radius in (0.2, 0.6):
        against_reference(features, 30, labeled=labeled, radius=radius, utility=rng.random(rows))


@pytest.mark.parametrize("bound", [1, 40_000, None])
@pytest.mark.parametrize("threads", [1, 3])
def test_neither_memory_nor_threads_change_a_bit(rng, with_threads, threads, bound):
    """Enough rows that threads share them and that lists of neighbors do not fit."""
    x = modalities(rng, 2500, (24, 8), "float32")
    options = {"labeled": {k: v[:5] + np.float32(0.1) for k, v in x.items()}, "radius": 0.5}
    expected = kernels.herding(x, 60, **options)
    found = with_threads(threads, lambda: kernels.herding(x, 60, max_memory=bound, **options))
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.gains, expected.gains)


def test_each_pick_has_the_largest_gain_of_a_large_pool(rng):
    x = modalities(rng, 3000, (40,), "float32")["m0"]
    found = kernels.herding(x, 400, radius=0.6)
    z = x.astype(np.float64)
    norms = (z**2).sum(axis=1)
    k = np.exp(-(norms[:, None] + norms - 2 * z @ z.T) / 0.6**2)
    for j in (0, 1, 30, 399):
        covered = k[:, found.indices[:j]].max(axis=1, initial=0)
        gains = np.maximum(0, k - covered[:, None]).sum(axis=0)
        assert found.gains[j] == pytest.approx(gains.max(), rel=1e-9)
        assert found.indices[j] == gains.argmax()


@settings(max_examples=40)
@given(st.integers(1, 50), st.integers(1, 4), st.integers(0, 8), st.integers(0, 2**32))
def test_property_every_option_together(rows, count, given_rows, seed):
    rng = np.random.default_rng(seed)
    x = {m: rng.normal(size=(rows, 1 + m)) for m in range(count)}
    labeled = {m: rng.normal(size=(given_rows, 1 + m)) for m in range(count)}
    pool = rng.permutation(rows)[: rng.integers(rows + 1)]
    against_reference(
        x,
        int(rng.integers(len(pool) + 1)),
        labeled=labeled,
        weights=rng.random(count) + 0.01,
        present=rng.random((rows, count)) < 0.7,
        labeled_present=rng.random((given_rows, count)) < 0.7,
        utility=rng.random(rows) * (rng.random(rows) < 0.8),
        radius=float(rng.choice([0.1, 0.5, 2.0])),
        targets=int(rng.integers(1, 60)),
        candidates=pool,
    )


@pytest.mark.parametrize("scale", [1e-300, 1e-42, 1e-30, 1e30, 1e150])
def test_any_scale(rng, scale):
    x = rng.normal(size=(120, 9)) * scale
    against_reference(x, 40, radius=1.5 * scale)
    if 1e-40 < scale < 1e36:
        against_reference(x.astype(np.float32), 40, radius=1.5 * scale)


def test_rows_of_very_different_size(rng):
    x = rng.normal(size=(200, 5)) * 10.0 ** rng.integers(-9, 9, size=(200, 1))
    for radius in (1e-6, 1.0, 1e6):
        against_reference(x, 100, radius=radius)


def test_near_duplicates_are_told_apart(rng):
    """Their distances are far below the rounding of products in float."""
    x = np.repeat(rng.normal(size=(30, 20)), 5, axis=0) + 1e-9 * rng.normal(size=(150, 20))
    found = against_reference(x, 100, radius=1e-9)
    assert (found.gains > 0).all()
    against_reference(x, 60, radius=0.5)


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 3), st.integers(0, 6), st.integers(0, 2**32))
def test_property_small_integers(rows, width, given_rows, seed):
    """Gains of a grid have many ties; every backend gives the first of them."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, size=(rows, width)).astype(np.float32)
    labeled = rng.integers(-2, 3, size=(given_rows, width)).astype(np.float32)
    u = rng.integers(3, size=rows)
    n = int(rng.integers(rows + 1))
    radius = float(rng.choice([0.0, 0.5, 1.0, 4.0, np.inf]))
    options = {"labeled": labeled, "utility": u, "radius": radius}
    found = kernels.herding(x, n, **options)
    expected = kernels.herding(x, n, backend="reference", **options)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.gains, expected.gains, rtol=1e-9, atol=1e-12)
    assert len(set(found.indices.tolist())) == n
    assert (np.diff(found.gains) <= 0).all()
    assert found.gains.sum() <= u.sum() + 1e-9


@pytest.mark.parametrize("backend", HOST)
def test_symmetric_rows_are_ties(backend):
    """The gains of mirrored rows add the same terms in other orders."""
    line = np.arange(8.0)[:, None]
    assert kernels.herding(line, 1, radius=1.3, backend=backend).indices.tolist() == [3]
    ring = np.exp(2j * np.pi * np.arange(4) / 4)
    corners = np.stack([ring.real, ring.imag], axis=1).round()
    assert kernels.herding(corners, 4, radius=1.0, backend=backend).indices.tolist() == [0, 2, 1, 3]


@pytest.mark.parametrize("backend", HOST)
def test_nothing_left_to_gain(rng, backend):
    """The lowest positions follow, and none twice."""
    same = kernels.herding(np.ones((9, 4), np.float32), 9, backend=backend)
    assert (same.indices.tolist(), same.radius) == (list(range(9)), 0.0)
    assert same.gains.tolist() == [9.0] + [0.0] * 8
    x = np.array([[5.0], [1.0], [5.0], [9.0], [1.0]])
    none = kernels.herding(x, 5, labeled=x, backend=backend)
    assert none.indices.tolist() == [0, 1, 2, 3, 4]
    assert not none.gains.any()
    useless = kernels.herding(x, 3, utility=np.zeros(5), radius=1.0, backend=backend)
    assert useless.indices.tolist() == [0, 1, 2]
    everything = kernels.herding(x, 5, radius=np.inf, backend=backend)
    assert everything.indices.tolist() == [0, 1, 2, 3, 4]
    assert everything.gains.tolist() == [5.0, 0.0, 0.0, 0.0, 0.0]
    duplicates = kernels.herding(x, 5, radius=0.0, backend=backend)
    assert duplicates.indices.tolist() == [0, 1, 3, 2, 4]
    assert duplicates.gains.tolist() == [2.0, 2.0, 1.0, 0.0, 0.0]
    absent = {"a": rng.normal(size=(4, 2)), "b": np.full((4, 3), np.nan)}
    present = np.array([[True, False]] * 3 + [[False, False]])
    found = kernels.herding(absent, 4, present=present, radius=0.1, backend=backend)
    assert found.indices[-1] == 3
    assert found.gains[-1] == 0


@pytest.mark.parametrize("backend", HOST)
def test_one_row_and_none(backend):
    one = kernels.herding(np.array([[2.0]]), 1, backend=backend)
    assert (one.indices.tolist(), one.gains.tolist(), one.radius) == ([0], [1.0], 0.0)
    empty = kernels.herding(np.empty((0, 3)), 0, backend=backend)
    assert (len(empty.indices), len(empty.gains), empty.targets) == (0, 0, 0)
    nothing = kernels.herding(np.ones((4, 3)), 0, backend=backend)
    assert len(nothing.indices) == 0


@pytest.mark.parametrize("backend", HOST)
def test_candidates(rng, backend):
    x = rng.normal(size=(80, 3))
    pool = rng.permutation(80)[:30]
    found = kernels.herding(x, 30, candidates=pool, radius=0.7, backend=backend)
    assert found.indices.tolist() == dense(x, 30, candidates=pool, radius=0.7)[0]
    same = kernels.herding(x, 30, candidates=torch.from_numpy(pool), radius=0.7, backend=backend)
    assert same.indices.tolist() == found.indices.tolist()
    for wrong, message in (
        ([3, 5, 3], "distinct positions, got 3 more than once"),
        ([0, 80], r"candidates\[1\] is 80: expected 0 to 79"),
        ([-1], r"candidates\[0\] is -1"),
    ):
        with pytest.raises(DataError, match=message):
            kernels.herding(x, 1, candidates=wrong, backend=backend)
    with pytest.raises(ShapeError, match="candidates: expected integer positions"):
        kernels.herding(x, 1, candidates=np.ones(80, bool), backend=backend)
    with pytest.raises(UsageError, match="n: expected 0 to 30, got 31"):
        kernels.herding(x, 31, candidates=pool, backend=backend)


@pytest.mark.parametrize("backend", HOST)
def test_sampled_targets_are_evenly_spaced_among_useful_rows(rng, backend):
    x, u = rng.normal(size=(60, 4)), rng.random(60) + 0.1
    u[::3] = 0
    options = {"radius": 1.1, "backend": backend}
    found = kernels.herding(x, 12, utility=u, targets=8, **options)
    useful = np.flatnonzero(u)
    kept = np.zeros(60)
    kept[useful[np.arange(8) * 5]] = u[useful[np.arange(8) * 5]]
    expected = kernels.herding(x, 12, utility=kept, **options)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.gains, expected.gains * 5)
    assert (found.targets, expected.targets) == (8, 60)
    whole = kernels.herding(x, 12, utility=u, targets=40, **options)
    assert whole.targets == 60


@pytest.mark.parametrize("backend", HOST)
def test_the_default_radius_tiles_the_rows(rng, backend):
    x, labeled = rng.normal(size=(90, 3)), rng.normal(size=(7, 3))
    found = kernels.herding(x, 5, labeled=labeled, backend=backend)
    assert found.radius == kernels.tile_radius(x, 12, backend=backend)


@pytest.mark.parametrize("backend", HOST)
def test_errors(rng, backend):
    x = rng.normal(size=(20, 3))
    two = {"a": x, "b": x[:, :2]}

    def call(features=x, n=2, **options):
        return kernels.herding(features, n, backend=backend, **options)

    for error, message, options in (
        (UsageError, "n: expected 0 to 20, got 21", {"n": 21}),
        (UsageError, "n: expected an integer", {"n": 1.5}),
        (UsageError, "radius: expected a number >= 0 or None, got -1", {"radius": -1}),
        (UsageError, "radius: expected a number >= 0 or None, got nan", {"radius": np.nan}),
        (UsageError, "radius: expected a number", {"radius": "tile"}),
        (UsageError, "targets: expected at least 1", {"targets": 0}),
        (UsageError, "max_memory: expected at least", {"max_memory": 0}),
        (UsageError, "positive sum", {"features": two, "weights": [0, 0]}),
        (UsageError, "weights: expected", {"features": two, "weights": [np.nan, 1]}),
        (UsageError, "weights: expected", {"features": two, "weights": [-1, 2]}),
        (UsageError, "weights: expected the modalities", {"features": two, "weights": {"a": 1}}),
        (ShapeError, r"weights: expected shape \(2,\)", {"features": two, "weights": [1]}),
        (UsageError, "at least one modality", {"features": {}}),
        (ShapeError, r"features\['b'\]: expected 20 rows", {"features": {"a": x, "b": x[:5]}}),
        (ShapeError, "labeled: expected 3 columns", {"labeled": x[:, :2]}),
        (ShapeError, "labeled: expected a mapping", {"features": two, "labeled": x}),
        (ShapeError, "labeled: expected one array", {"labeled": two}),
        (ShapeError, r"present: expected .* \(20, 1\)", {"present": np.ones(20, bool)}),
        (ShapeError, "labeled_present", {"labeled": x, "labeled_present": np.ones(3, bool)}),
        (ShapeError, r"utility: expected shape \(20,\)", {"utility": np.ones(3)}),
        (DataError, r"utility\[4\] is -1.0", {"utility": np.where(np.arange(20) == 4, -1.0, 1)}),
        (
            NonFiniteError,
            r"utility\[1\] is nan",
            {"utility": np.where(np.arange(20) == 1, np.nan, 1)},
        ),
        (DataError, "utility: expected a finite sum", {"utility": np.full(20, 1e308)}),
        (ShapeError, "2-D", {"features": x[0]}),
        (DataError, "overflow", {"features": x * 1e200, "radius": 1.0}),
        (DataError, "overflow", {"features": x * 1e200}),
    ):
        with pytest.raises(error, match=message):
            call(**options)
    with pytest.raises(BackendError, match="available"):
        kernels.herding(x, 2, backend="cuda")


@pytest.mark.parametrize("backend", HOST)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_names_the_first_non_finite_row(rng, backend, bad):
    x, labeled = rng.normal(size=(60, 3)), rng.normal(size=(8, 3))
    x[[31, 47], 2] = bad
    for options in ({}, {"radius": 1.0}, {"labeled": labeled}):
        for n in (0, 4):
            with pytest.raises(NonFiniteError, match=r"features\[31, 2\]") as caught:
                kernels.herding(x, n, backend=backend, **options)
            assert caught.value.row == 31
    labeled[5, 1] = bad
    with pytest.raises(NonFiniteError, match=r"labeled\['a'\]\[5, 1\]"):
        kernels.herding({"a": x[:30]}, 2, labeled={"a": labeled}, radius=1.0, backend=backend)
    kernels.herding({"a": x, "b": x[:, :2]}, 3, weights=[0, 1], backend=backend)


@pytest.mark.parametrize("backend", HOST)
def test_kinds_layouts_and_dtypes(rng, backend):
    wide = rng.normal(size=(70, 2, 6)).astype(np.float32)
    x = wide[:, 1]
    expected = kernels.herding(x.copy(), 20, backend=backend)
    for same in (x, np.asfortranarray(x), torch.from_numpy(wide)[:, 1]):
        found = kernels.herding(same, 20, backend=backend)
        np.testing.assert_array_equal(np.asarray(found.indices), expected.indices)
        assert isinstance(found.indices, type(same))
        assert isinstance(found.radius, float)
    mixed = kernels.herding({"a": x, "b": x.astype(np.float64)}, 20, backend=backend)
    np.testing.assert_array_equal(mixed.indices, expected.indices)
    before = x.copy()
    kernels.herding(x, 20, labeled=x[:3].astype(np.float64), backend=backend)
    np.testing.assert_array_equal(x, before)


def test_more_rows_than_32_bits_count(tmp_path):
    """In a sparse file, of which nothing may be read."""
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(2**31, 1))
    with pytest.raises(ShapeError, match=r"fewer than 2\^31 rows .* got 2147483648"):
        kernels.herding(x, 1, backend="cpu")
