from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba import kernels
from rlmba.errors import NonFiniteError, UsageError
from rlmba.kernels.common import device
from rlmba.kernels.k_center import spec, triton_impl
from tests.helpers import accelerated

pytestmark = [
    pytest.mark.usefixtures("poisoned"),
    pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning"),
    pytest.mark.parametrize("backend", ["triton"]),
]


@pytest.fixture
def members(monkeypatch):
    """Blocks of a few members: many blocks, cuts and ties at little cost."""
    monkeypatch.setattr(triton_impl, "MEMBERS", 24)
    monkeypatch.setattr(triton_impl, "_BLOCK", 16)


def assert_as_reference(x, n, backend, rtol=2e-7, **options):
    ours = kernels.k_center(x, n, backend=backend, **options)
    theirs = kernels.k_center(x, n, backend="reference", **options)
    np.testing.assert_array_equal(ours.indices, theirs.indices)
    np.testing.assert_allclose(ours.distances, theirs.distances, rtol=rtol)
    np.testing.assert_allclose(ours.radius, theirs.radius, rtol=rtol)
    assert ours.indices.dtype == np.int64
    assert ours.distances.dtype == theirs.distances.dtype
    assert isinstance(ours.radius, float)
    return ours


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [s for s in spec.SHAPES if s[0] <= 130])
def test_same_picks_as_one_center_a_pass(rng, members, backend, shape, dtype):
    rows, width, given = shape
    x = rng.normal(size=(rows, width)).astype(dtype)
    x[rng.random(rows) < 0.3] += 4
    labeled = rng.normal(size=(given, width)).astype(dtype)
    assert_as_reference(x, min(rows, 25), backend, spec.RTOL[dtype], labeled=labeled)


@pytest.mark.parametrize("rows", [22, 23, 24, 63, 64, 65])
def test_edges_of_blocks(rng, members, backend, rows):
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    assert_as_reference(x, min(rows, 33), backend)


def test_blocks_of_several_tiles(rng, backend, monkeypatch):
    monkeypatch.setattr(triton_impl, "MEMBERS", 100)
    x = rng.normal(size=(250, 3)).astype(np.float32)
    assert_as_reference(x, 40, backend, labeled=x[50:51])


def test_ties_go_to_the_lowest_position(rng, members, backend):
    x = rng.integers(4, size=(60, 2)).astype(np.float32)
    assert_as_reference(x, 60, backend, first=50)
    x = rng.integers(3, size=(140, 3)).astype(np.float64)
    assert_as_reference(x, 25, backend, labeled=x[5:9])


def test_a_member_falls_level_with_rows_outside(members, backend):
    """The first pick brings a member to the distance of rows outside, whose positions are lower."""
    x = np.zeros((122, 122), np.float32)
    x[np.arange(120), np.arange(120)] = 4
    x[120:, 120] = 10
    x[121, 121] = 4
    ours = assert_as_reference(x, 50, backend, labeled=np.zeros((1, 122), np.float32))
    assert ours.indices.tolist() == [121, *range(49)]


def test_the_farthest_row_is_not_among_those_with_the_largest_keys(members, backend):
    """Squared distances that differ in bits which keys leave out for the position: 16 + i 2^-48."""
    x = np.full((90, 2), 4.0)
    x[:, 0] = 2.0**-24 * np.sqrt(np.arange(90))
    ours = assert_as_reference(x, 6, backend, labeled=np.zeros((1, 2)))
    assert ours.indices[0] == 89


@pytest.mark.parametrize(("scale", "offset"), [(1e-30, 0), (3e18, 0), (2e36, 0), (1, 3e5)])
def test_scales_and_offsets(rng, members, backend, scale, offset):
    x = (np.round(rng.normal(size=(80, 20)) * 16) / 16 * scale + offset).astype(np.float32)
    assert_as_reference(x, 20, backend, first=3)


def test_first_and_labeled(rng, members, backend):
    x = rng.normal(size=(70, 4))
    labeled = x[:4] + 1
    forced = assert_as_reference(x, 3, backend, 1e-13, labeled=labeled, first=33)
    assert forced.indices[0] == 33
    assert_as_reference(x, 0, backend, 1e-13, labeled=labeled, first=3)
    other_dtype = x.astype(np.float32)
    assert_as_reference(other_dtype, 20, backend, labeled=labeled)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_that_of_the_widened_rows(rng, members, backend, dtype):
    x = torch.from_numpy(rng.normal(size=(150, 24))).to(dtype)
    labeled = torch.from_numpy(rng.normal(size=(9, 24))).to(dtype)
    for given in (labeled, labeled.float()):
        ours = kernels.k_center(
            x.to(accelerated.device()), 20, labeled=given.to(accelerated.device()), backend=backend
        )
        expected = kernels.k_center(x.float(), 20, labeled=labeled.float(), backend="reference")
        assert ours.indices.device.type == accelerated.device().type
        assert ours.distances.dtype == torch.float32
        np.testing.assert_array_equal(ours.indices.cpu(), expected.indices)
        np.testing.assert_allclose(ours.distances.cpu(), expected.distances, rtol=2e-7)


def test_rows_need_not_be_contiguous(rng, members, backend):
    wide = rng.normal(size=(60, 2, 12)).astype(np.float32)
    expected = kernels.k_center(wide[:, 1].copy(), 15, backend="reference")
    for x in (wide[:, 1], np.asfortranarray(wide[:, 1])):
        assert_as_reference(x, 15, backend)
    tensor = accelerated.on_gpu(wide)[:, 1]
    ours = kernels.k_center(tensor, 15, backend=backend)
    np.testing.assert_array_equal(ours.indices.cpu(), expected.indices)


@pytest.mark.parametrize("given", [0, 5])
def test_streamed_rows_give_the_same(rng, members, backend, given):
    x = rng.normal(size=(200, 8)).astype(np.float32)
    labeled = rng.normal(size=(given, 8)).astype(np.float32)
    whole = assert_as_reference(x, 8, backend, labeled=labeled)
    row = 8 * 4
    for max_memory in (2 * 80 * row, 200 * row):
        part = kernels.k_center(x, 8, labeled=labeled, max_memory=max_memory, backend=backend)
        np.testing.assert_array_equal(part.indices, whole.indices)
        np.testing.assert_array_equal(part.distances, whole.distances)
        assert part.radius == whole.radius
    with pytest.raises(UsageError, match="max_memory: expected at least 64 bytes"):
        kernels.k_center(x, 12, max_memory=63, backend=backend)


@pytest.mark.parametrize("bad", [np.nan])
def test_names_first_non_finite_row(rng, members, backend, bad):
    x = rng.normal(size=(130, 3)).astype(np.float32)
    x[[77, 101], [2, 0]] = bad
    for n, max_memory in ((0, None), (2, None), (2, 2 * 70 * 12)):
        with pytest.raises(NonFiniteError, match=r"features\[77, 2\]") as caught:
            kernels.k_center(x, n, max_memory=max_memory, backend=backend)
        assert caught.value.row == 77
    labeled = rng.normal(size=(9, 3)).astype(np.float32)
    labeled[7, 1] = bad
    for dtype in (np.float32, np.float64):
        with pytest.raises(NonFiniteError, match=r"labeled\[7, 1\]"):
            kernels.k_center(x, 3, labeled=labeled.astype(dtype), backend=backend)


def test_large_finite_values_are_not_taken_for_infinite(backend):
    """Their sum overflows, their distances do not."""
    same = kernels.k_center(np.full((20, 2), 1.7e308), 3, backend=backend)
    assert same.indices.tolist() == [0, 1, 2]
    assert same.radius == 0


@pytest.mark.parametrize("given", [0, 3])
def test_nothing_waits_while_a_graph_is_captured(rng, members, backend, given, monkeypatch):
    x = rng.normal(size=(60, 4))
    expected = kernels.k_center(x, 12, labeled=x[:given] + 1, backend="reference")
    monkeypatch.setattr(device, "capturing", lambda where: True)
    tensor = torch.from_numpy(x)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "item", None)
        patch.setattr(torch.Tensor, "tolist", None)
        ours = kernels.k_center(tensor, 12, labeled=tensor[:given] + 1, backend=backend)
    np.testing.assert_array_equal(ours.indices, expected.indices)
    assert float(ours.radius) == pytest.approx(expected.radius, rel=1e-13)


def test_a_captured_graph_picks_again(rng, backend):
    if not torch.cuda.is_available():
        accelerated.missing("there is no GPU")
    x = accelerated.on_gpu(rng.normal(size=(500, 20)).astype(np.float32))
    kernels.k_center(x, 6, backend=backend)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ours = kernels.k_center(x, 6, backend=backend)
    for _ in range(2):
        x.normal_()
        graph.replay()
        expected = kernels.k_center(x, 6, backend=backend)
        assert ours.indices.tolist() == expected.indices.tolist()
        assert float(ours.radius) == pytest.approx(expected.radius)
