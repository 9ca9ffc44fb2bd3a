from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from rlmba.kernels.common import random
from tests.helpers.accelerated import device, on_gpu

pytestmark = pytest.mark.usefixtures("poisoned")
backend = pytest.mark.parametrize("backend", ["triton"])


def nearest(x, parts):
    """What a pass for each part of the centers leaves, over rows in two tiles."""
    from rlmba.kernels.common.triton_nearest import update_nearest

    n = len(x)
    squared = torch.full((n,), torch.inf, dtype=torch.float64, device=device())
    labels = torch.full((n,), -1, dtype=torch.int64, device=device())
    tile, first = on_gpu(x), 0
    for centers, count in parts:
        for a, b in itertools.pairwise([0, n - n // 70, n]):
            update_nearest(
                tile[a:b],
                on_gpu(centers),
                torch.tensor([count], device=device()),
                torch.tensor([first], device=device()),
                squared[a:b],
                labels[a:b],
            )
        first += count
    return squared.cpu().numpy(), labels.cpu().numpy()


def exact(x, centers):
    x, centers = (torch.as_tensor(t).double().numpy() for t in (x, centers))
    pairs = ((x[:, None] - centers[None]) ** 2).sum(axis=2)
    return pairs.min(axis=1), pairs.argmin(axis=1)


def check(x, parts):
    squared, labels = nearest(x, parts)
    centers = torch.cat([torch.as_tensor(c)[:n] for c, n in parts])
    best, label = exact(x, centers)
    np.testing.assert_allclose(squared, best, rtol=1e-13)
    np.testing.assert_array_equal(labels, label)
    return squared, labels


@backend
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("n", "width", "size"), [(1, 1, 1), (63, 3, 2), (65, 33, 17), (70, 20, 140)]
)
def test_nearest_of_all_parts(rng, backend, dtype, n, width, size):
    x = torch.from_numpy(rng.normal(size=(n, width)) + 2).to(dtype)
    centers = torch.from_numpy(rng.normal(size=(size, width)) + 2).to(dtype)
    centers[size // 2 :: 3] = x[: len(centers[size // 2 :: 3])][: 1 if n == 1 else None]
    other = torch.from_numpy(rng.normal(size=(5, width)))
    squared, labels = check(x, [(centers, size), (other, 3), (centers, 0), (centers, size)])
    assert labels.max() < size + 3
    if n > 1:
        assert (squared == 0).sum() >= size // 6


@backend
def test_centers_past_the_count_do_not_compete(rng, backend):
    x = rng.normal(size=(40, 6)).astype(np.float32)
    squared, labels = check(x, [(x[::-1].copy(), 4)])
    assert set(labels.tolist()) == {0, 1, 2, 3}
    assert (squared == 0).sum() == 4


@backend
@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(np.float32, 1e-18), (np.float32, 1e18), (np.float64, 1e-40), (np.float64, 1e30)],
)
def test_where_float32_over_or_underflows(rng, backend, dtype, scale):
    x = (rng.normal(size=(40, 9)) * scale).astype(dtype)
    check(x, [(x[:12].copy(), 12)])


@backend
@pytest.mark.parametrize(("offset", "dtype"), [(1e3, np.float32), (1e7, np.float64)])
def test_offsets_are_seen_through(rng, backend, offset, dtype):
    x = (rng.normal(size=(90, 24)) + offset).astype(dtype)
    check(x, [(x[:30].copy(), 30), (x[30:70].copy(), 40)])


@backend
def test_ties_go_to_the_earliest(rng, backend):
    x = rng.integers(0, 3, size=(100, 2)).astype(np.float32)
    grid = np.array(list(itertools.product((-1, 1, 3), repeat=2)), np.float32)
    centers = np.concatenate([grid, grid])
    check(x, [(centers, 18), (grid, 9)])


@backend
def test_near_ties_are_told_apart(rng, backend):
    """Centers that the products cannot tell apart, each the nearest of some rows."""
    base = rng.normal(size=50)
    centers = (base + 1e-7 * rng.normal(size=(20, 50))).astype(np.float32)
    x = (base + rng.normal(size=(64, 50))).astype(np.float32)
    check(x, [(centers, 20)])


@backend
@pytest.mark.parametrize("seed", [0, 1, 16, 2**31, 2**63 - 1, 2**63, 2**64 - 1])
def test_uniforms_are_those_of_numpy(backend, seed):
    from tests.helpers.uniform_kernel import uniforms

    bits = torch.tensor([seed - 2**64 if seed >= 2**63 else seed], device=device())
    for start in (0, 3, 2**40):
        out = torch.empty(128, dtype=torch.float64, device=device())
        uniforms[(1,)](bits, torch.tensor([start], device=device()), out)
        np.testing.assert_array_equal(out.cpu().numpy(), random.uniform01(seed, start, 128))
