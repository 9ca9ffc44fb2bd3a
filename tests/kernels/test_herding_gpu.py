from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba import kernels
from rlmba.errors import BackendError, DataError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels.common import modality_columns
from rlmba.kernels.herding import on_device, spec, triton_impl
from rlmba.kernels.tile_radius import triton_impl as tile_impl
from tests.helpers import accelerated

pytestmark = [
    pytest.mark.usefixtures("poisoned"),
    pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning"),
    pytest.mark.parametrize("backend", ["triton"]),
]


@pytest.fixture
def blocks(monkeypatch):
    """Blocks of a few candidates and small tiles: many blocks and edges at little cost."""
    monkeypatch.setattr(on_device, "_FIRST", 4)
    monkeypatch.setattr(on_device, "_MOST", 16)
    monkeypatch.setattr(triton_impl, "_TILE", 16)


def clusters(rng, rows, widths, dtype="float32"):
    """Rows around a few centers, by modality."""
    groups = rng.integers(6, size=rows)
    return {
        f"m{m}": (rng.normal(size=(6, d))[groups] + 0.4 * rng.normal(size=(rows, d))).astype(dtype)
        for m, d in enumerate(widths)
    }


def assert_as_reference(features, n, backend, **options):
    ours = kernels.herding(features, n, backend=backend, **options)
    theirs = kernels.herding(features, n, backend="reference", **options)
    np.testing.assert_array_equal(ours.indices, theirs.indices)
    np.testing.assert_allclose(ours.gains, theirs.gains, rtol=spec.RTOL, atol=1e-13)
    assert ours.radius == pytest.approx(theirs.radius, rel=1e-12)
    assert ours.targets == theirs.targets
    assert (ours.indices.dtype, ours.gains.dtype) == (np.int64, np.float64)
    assert (np.diff(ours.gains) <= 0).all()
    return ours


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [s for s in spec.SHAPES if s[0] <= 65])
def test_same_picks_as_one_candidate_at_a_time(rng, blocks, backend, shape, dtype):
    rows, widths, given = shape
    x = clusters(rng, rows + given, widths, dtype)
    features = {k: v[:rows] for k, v in x.items()}
    labeled = {k: v[rows:] for k, v in x.items()}
    assert_as_reference(
        features, min(rows, 7), backend, radius=0.3 if dtype == "float32" else 1.5,
        weights=rng.random(len(widths)) + 0.1, labeled=labeled, utility=rng.random(rows),
    )  # fmt: skip


def test_whole_tiles_and_blocks(rng, backend):
    """The sizes that a GPU uses: two tiles of candidates, and blocks that grow."""
    x = clusters(rng, 130, (3, 2))
    assert_as_reference(x, 6, backend, radius=1.0, labeled={k: v[:70] + 1 for k, v in x.items()})


def test_missing_modalities_may_hold_anything(rng, blocks, backend):
    x = clusters(rng, 24, (2, 1, 3))
    present = rng.random((24, 3)) < 0.6
    present[7] = False
    for part, has in zip(x.values(), present.T, strict=True):
        part[~has] = [[np.nan], [np.inf], [1e38]][rng.integers(3)]
    labeled, given = {k: v[:9] for k, v in x.items()}, present[:9]
    weights = {"m0": 1.0, "m1": 5.0, "m2": 2.0}
    options = {"weights": weights, "present": present, "radius": 0.8}
    assert_as_reference(x, 24, backend, **options)
    assert_as_reference(x, 8, backend, labeled=labeled, labeled_present=given, **options)
    complete = clusters(rng, 5, (2, 1, 3))
    assert_as_reference(x, 5, backend, labeled=complete, **options)
    assert_as_reference(complete, 5, backend, labeled=labeled, labeled_present=given, radius=0.8)


def test_ties_go_to_the_lowest_position(rng, blocks, backend):
    """More ties than a block holds."""
    for radius in (0.0, 0.5, 1.0, np.inf):
        x = rng.integers(-1, 2, size=(24, 2)).astype(np.float32)
        utility = rng.integers(3, size=24)
        assert_as_reference(x, 24, backend, radius=radius, utility=utility, labeled=x[:2] + 1)
    corners = np.eye(20)
    assert assert_as_reference(corners, 20, backend, radius=1.0).indices.tolist() == [*range(20)]
    line = np.arange(8.0)[:, None]
    assert kernels.herding(line, 1, radius=1.3, backend=backend).indices.tolist() == [3]


def test_a_gain_falls_level_with_a_candidate_outside(backend, monkeypatch):
    """The first pick lowers the gain of row 1 from 3 to that of row 0, whose position is lower."""
    monkeypatch.setattr(on_device, "_FIRST", 1)
    nan = np.nan
    values = np.array([[9, 9], [1, 1], [1, 5], [1, nan], [nan, 1], [nan, 5]])
    found = kernels.herding(
        {"a": values[:, :1], "b": values[:, 1:]}, 3, radius=0.0, present=np.isfinite(values),
        utility=np.array([1, 0, 0, 2, 1, 2]), candidates=[0, 1, 2], backend=backend,
    )  # fmt: skip
    assert found.indices.tolist() == [2, 0, 1]
    assert found.gains.tolist() == [4, 1, 1]


@pytest.mark.parametrize("radius", [0.0, 1.0, None])
def test_nothing_left_to_gain(backend, radius):
    x = np.array([[5.0], [1.0], [5.0], [9.0], [1.0]])
    for options in ({"labeled": x}, {"utility": np.zeros(5)}, {}):
        found = assert_as_reference(x, 5, backend, radius=radius, **options)
        assert sorted(found.indices.tolist()) == [0, 1, 2, 3, 4]
    assert_as_reference(x, 0, backend, radius=radius)
    assert_as_reference(x[:1], 1, backend, radius=radius)
    assert_as_reference(x[:0], 0, backend, radius=radius)


def test_candidates_and_sampled_targets(rng, blocks, backend):
    x, utility = clusters(rng, 70, (4,)), rng.random(70)
    utility[::3] = 0
    pool = rng.permutation(70)[:30]
    found = assert_as_reference(x, 30, backend, candidates=pool, radius=0.7, utility=utility)
    assert sorted(found.indices.tolist()) == sorted(pool.tolist())
    assert_as_reference(x, 12, backend, targets=9, radius=0.7, utility=utility)
    assert_as_reference(x, 0, backend, candidates=np.empty(0, np.int64), radius=0.7)


@pytest.mark.parametrize(("scale", "radius"), [(1e-30, 1e-30), (1e150, 1e150), (1.0, 1e-300)])
def test_scales(rng, blocks, backend, scale, radius):
    x = rng.normal(size=(30, 3)) * scale
    assert_as_reference(x, 8, backend, radius=radius)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_that_of_the_widened_rows(rng, blocks, backend, dtype):
    x = torch.from_numpy(rng.normal(size=(30, 4))).to(dtype)
    labeled = torch.from_numpy(rng.normal(size=(5, 4))).to(dtype)
    where = accelerated.device()
    expected = kernels.herding(
        x.float(), 5, labeled=labeled.float(), radius=1.5, backend="reference"
    )
    utility, present = torch.ones(30, device=where), torch.ones(30, 1, device=where) > 0
    for given in (labeled, labeled.float()):
        ours = kernels.herding(
            x.to(where), 5, labeled=given.to(where), radius=1.5, utility=utility, present=present,
            candidates=torch.arange(30, device=where), backend=backend,
        )  # fmt: skip
        assert ours.indices.device.type == where.type
        np.testing.assert_array_equal(ours.indices.cpu(), expected.indices)
        np.testing.assert_allclose(ours.gains.cpu(), expected.gains, rtol=spec.RTOL)


def test_layouts_and_mixed_dtypes(rng, blocks, backend, monkeypatch):
    monkeypatch.setattr(modality_columns, "_CHUNK_BYTES", 100)
    wide = rng.normal(size=(30, 2, 3)).astype(np.float32)
    x = wide[:, 1]
    expected = assert_as_reference(x.copy(), 5, backend, radius=1.5)
    for same in (x, np.asfortranarray(x), accelerated.on_gpu(wide)[:, 1]):
        ours = kernels.herding(same, 5, radius=1.5, backend=backend)
        np.testing.assert_array_equal(
            ours.indices.cpu() if isinstance(same, torch.Tensor) else ours.indices,
            expected.indices,
        )
    mixed = {"a": x, "b": x.astype(np.float64), "unused": np.full((30, 1), np.nan)}
    assert_as_reference(mixed, 5, backend, radius=1.5, weights=[1, 2, 0], labeled=mixed)


def test_errors(rng, backend):
    x, labeled = rng.normal(size=(60, 3)), rng.normal(size=(8, 3))
    two = {"a": x, "b": x[:, :2]}
    for error, message, options in (
        (UsageError, "n: expected 0 to 60, got 61", {"n": 61}),
        (ShapeError, r"features\['b'\]: expected 60 rows", {"features": {"a": x, "b": x[:5]}}),
        (ShapeError, r"labeled: expected 3 columns .* \(60, 2\)", {"labeled": x[:, :2]}),
        (ShapeError, "labeled: expected a mapping", {"features": two, "labeled": x}),
        (ShapeError, r"present: expected .* \(60, 1\)", {"present": np.ones(60, bool)}),
        (DataError, "overflow", {"features": x * 1e200}),
        (DataError, "overflow", {"features": x * 1e200, "radius": None}),
        (DataError, "overflow", {"labeled": labeled * 1e200}),
    ):
        given = {"features": x, "n": 2, "radius": 1.0, "backend": backend} | options
        with pytest.raises(error, match=message):
            kernels.herding(**given)
    x[[31, 47], 2] = np.nan
    for options in ({"radius": 1.0}, {}, {"labeled": labeled}):
        with pytest.raises(NonFiniteError, match=r"features\[31, 2\]") as caught:
            kernels.herding(x, 4, backend=backend, **options)
        assert caught.value.row == 31
    labeled[5, 1] = np.inf
    with pytest.raises(NonFiniteError, match=r"labeled\[5, 1\]"):
        kernels.herding(x[:30], 2, labeled=labeled, radius=1.0, backend=backend)
    with pytest.raises(NonFiniteError, match=r"features\[0, 2\]"):
        kernels.tile_radius(x[31:32], 2, backend=backend)
    with pytest.raises(BackendError, match="available"):
        kernels.herding(x, 2, backend="cuda")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(2, (3,), 1), (5, (2, 4), 5), (33, (3,), 7), (40, (5, 1), 9)])
def test_tile_radius(rng, backend, shape, dtype, monkeypatch):
    monkeypatch.setattr(tile_impl, "_TILE", 16)
    rows, widths, k = shape
    x = clusters(rng, rows, widths, dtype)
    for options in (
        {},
        {"rows": 3, "max_memory": 1},
        {"present": rng.random((rows, len(widths))) < 0.6},
    ):
        ours = kernels.tile_radius(x, k, backend=backend, **options)
        theirs = kernels.tile_radius(x, k, backend="reference", **options)
        assert isinstance(ours, float)
        assert ours == pytest.approx(theirs, rel=1e-12)
    none = np.zeros((rows, len(widths)), bool)
    assert kernels.tile_radius(x, k, present=none, backend=backend) == 0.0
    assert kernels.tile_radius({k: v[:1] for k, v in x.items()}, k, backend=backend) == 0.0
