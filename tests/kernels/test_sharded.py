"""Kernels over several processes pick exactly what the kernels in memory pick."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rlmba import kernels
from rlmba.errors import DataError, NonFiniteError, UsageError
from rlmba.kernels import sharded
from rlmba.kernels.common import d2_sampling
from tests.helpers.thread_group import in_group

SIZES = [1, 2, 3, 4]
ROWS = [1, 70, 4096, 4097, 20_000]


class Blocks:
    """Arrays of one process, in blocks of 8,192 rows."""

    def __init__(self, *arrays, begin=0, end=None):
        self.arrays = [a[begin:end] for a in arrays]

    def __len__(self):
        return len(self.arrays[0])

    def blocks(self):
        for at in range(0, len(self), 8192):
            yield at, [a[at : at + 8192] for a in self.arrays]

    def take(self, rows):
        return [a[rows] for a in self.arrays]


def divided(*arrays):
    def mine(group):
        ends = sharded.boundaries(len(arrays[0]), group.size)
        return Blocks(*arrays, begin=ends[group.rank], end=ends[group.rank + 1])

    return mine


def rows_of(rng, n, dtype, width=6):
    x = rng.normal(size=(n, width)).astype(dtype)
    x[rng.random(n) < 0.2] = x[0]  # duplicates: ties, and an exhausted pool
    return x


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("given", [0, 5])
def test_k_center(rng, size, n, dtype, given):
    x = rows_of(rng, n, dtype)
    labeled = rng.normal(size=(given, 6)).astype(dtype) if given else None
    count = n if n <= 4097 else 700
    whole = kernels.k_center(x, count, labeled=labeled)
    mine = divided(x)
    for found in in_group(
        size, lambda group: sharded.k_center(mine(group), count, group=group, labeled=labeled)
    ):
        np.testing.assert_array_equal(found.indices, whole.indices)
        np.testing.assert_array_equal(found.distances, whole.distances)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("size", SIZES)
def test_kmeans_plusplus(rng, size, n, dtype):
    x = rows_of(rng, n, dtype)
    count = min(n, 300)
    whole = kernels.kmeans_plusplus(x, count, rng=7)
    mine = divided(x)
    found = in_group(
        size, lambda group: sharded.kmeans_plusplus(mine(group), count, seed=7, group=group)
    )
    for one in found:
        np.testing.assert_array_equal(one.indices, whole.indices)
    np.testing.assert_array_equal(np.concatenate([one.labels for one in found]), whole.labels)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("size", SIZES)
def test_kmeans(rng, size, n, dtype):
    x = rows_of(rng, n, dtype) * 10.0 ** rng.integers(-9, 9, size=(1, 6)).astype(dtype)
    count = min(n, 60)
    whole = kernels.kmeans(x, count, rng=7)
    mine = divided(x)
    found = in_group(size, lambda group: sharded.kmeans(mine(group), count, seed=7, group=group))
    for one in found:
        np.testing.assert_array_equal(one.centers, whole.centers)
        np.testing.assert_array_equal(one.seed_indices, whole.seed_indices)
        assert one.iterations == whole.iterations
    for name in ("labels", "distances"):
        every = np.concatenate([getattr(one, name) for one in found])
        np.testing.assert_array_equal(every, getattr(whole, name))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scaled", [False, True])
def test_gradient_kmeans_plusplus(rng, size, n, dtype, scaled):
    residuals = rows_of(rng, n, dtype, 4)
    parts = [rows_of(rng, n, dtype, 5), rows_of(rng, n, dtype, 3)]
    scales = rng.random((n, 2)).astype(dtype) if scaled else None
    count = n if n <= 70 else 400
    whole = kernels.gradient_kmeans_plusplus(residuals, parts, count, rng=3, scales=scales)
    mine = divided(residuals, *parts, *([scales] if scaled else []))
    for found in in_group(
        size,
        lambda group: sharded.gradient_kmeans_plusplus(
            mine(group), count, seed=3, group=group, parts=2, scaled=scaled
        ),
    ):
        np.testing.assert_array_equal(found.indices, whole.indices)
        np.testing.assert_array_equal(found.distances, whole.distances)


@pytest.mark.parametrize("size", SIZES)
def test_top_k_with_ties(rng, size):
    values = rng.integers(0, 50, size=10_000).astype(float)
    whole = kernels.top_k(values, 500)
    ends = sharded.boundaries(len(values), size)

    def work(group):
        begin, end = ends[group.rank : group.rank + 2]
        return sharded.top_k(values[begin:end], 500, begin=begin, group=group)

    for found in in_group(size, work):
        np.testing.assert_array_equal(found.indices, whole.indices)
        np.testing.assert_array_equal(found.values, whole.values)


@pytest.mark.parametrize(
    ("total", "processes"), [(0, 1), (5, 4), (4096, 3), (100_000, 3), (9000, 2)]
)
def test_boundaries_cover_all_rows_in_chunks(total, processes):
    ends = sharded.boundaries(total, processes)
    assert ends[0] == 0
    assert ends[-1] == total
    assert all(a <= b for a, b in itertools.pairwise(ends))
    sharded.rows.require_aligned(np.diff(ends).tolist())


def test_rows_that_do_not_keep_the_chunks_are_refused(rng):
    x = rng.normal(size=(9000, 3))
    with pytest.raises(UsageError, match=r"process 0: expected a multiple of 4,096 rows"):
        in_group(
            2,
            lambda group: sharded.k_center(
                Blocks(x, begin=5000 * group.rank, end=5000 + 4000 * group.rank), 3, group=group
            ),
        )


@pytest.mark.parametrize("size", [1, 3])
def test_a_bad_row_of_one_process_ends_all(rng, size):
    x = rng.normal(size=(12_000, 3))
    x[9000, 1] = np.inf
    mine, ones = divided(x), divided(np.ones((12_000, 2)), x)
    calls = [
        lambda group: sharded.k_center(mine(group), 3, group=group),
        lambda group: sharded.k_center(mine(group), 3, group=group, labeled=np.zeros((1, 3))),
        lambda group: sharded.kmeans_plusplus(mine(group), 3, seed=0, group=group),
        lambda group: sharded.gradient_kmeans_plusplus(ones(group), 3, seed=0, group=group),
    ]
    for call in calls:
        with pytest.raises(NonFiniteError) as error:
            in_group(size, call)
        assert error.value.row == 9000


def test_overflow_is_an_error(rng):
    x = np.full((5000, 2), 1e200)
    x[::2] *= -1
    mine = divided(x)
    with pytest.raises(DataError, match="overflow"):
        in_group(2, lambda group: sharded.kmeans_plusplus(mine(group), 9, seed=0, group=group))
    with pytest.raises(DataError, match="overflow"):
        in_group(2, lambda group: sharded.k_center(mine(group), 9, group=group))


def test_rows_left_when_all_are_duplicates_are_drawn_without_repeating():
    drawn = d2_sampling.draw_exhausted(6, [4, 1], np.array([0.0, 0.99, 0.5, 0.5]))
    assert drawn == [0, 5, 3, 2]
