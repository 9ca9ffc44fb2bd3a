"""k_center beside torch.cdist with one center a pass, and its growth with the number of rows.

Every case asserts that the peer picks the same rows in the same order. The peer works in float32, so
where two distances are closer than that resolves, its pick may be another: then the picks are checked
to be such a near tie.
"""

from __future__ import annotations

import common
import distance_data
import numpy as np
import pytest
import torch

from rlmba import kernels
from rlmba.kernels.k_center import spec

KINDS = (*distance_data.KINDS, "relu")


def make(kind: str, rows: int, width: int, seed: int = 0) -> np.ndarray:
    """As distance_data, and "relu": max(0, normal), non-negative as features after a ReLU are."""
    if kind == "relu":
        x = distance_data.make("normal", rows, width, seed)
        return np.maximum(x, 0, out=x)
    return distance_data.make(kind, rows, width, seed)


def one_center_a_pass(x: torch.Tensor, labeled: torch.Tensor, n: int) -> np.ndarray:
    """Greedy k-center as public code has it; distances to labeled rows in chunks of rows."""
    nearest = torch.cat([torch.cdist(part, labeled).amin(dim=1) for part in x.split(4096)])
    picks = []
    for _ in range(n):
        pick = int(nearest.argmax())
        picks.append(pick)
        torch.minimum(nearest, torch.cdist(x, x[pick : pick + 1]).squeeze(1), out=nearest)
    return np.array(picks)


@pytest.fixture(scope="module", params=KINDS)
def case(request):
    rows, width, labeled, n = spec.BENCH_SHAPES["food101"]
    both = make(request.param, rows + labeled, width)
    x, given = both[:rows], both[rows:]
    ours = kernels.k_center(x, n, labeled=given, backend="cpu")
    theirs = one_center_a_pass(torch.from_numpy(x), torch.from_numpy(given), n)
    return request.param, x, given, ours, theirs


def assert_same_picks(benchmark, case):
    kind, x, given, ours, theirs = case
    differ = np.flatnonzero(ours.indices != theirs)
    benchmark.extra_info["picks_that_differ"] = len(differ)
    if len(differ):
        first = differ[0]
        centers = np.concatenate([given, x[ours.indices[:first]]])
        rows = x[[ours.indices[first], theirs[first]]]
        farther, nearer = kernels.min_distance(rows, centers, backend="reference").distances
        assert farther > nearer
        assert farther < nearer * (1 + 1e-6)
    benchmark.group = f"k_center {kind} {x.shape} labeled={len(given)} n={len(theirs)}"


def test_rlmba(benchmark, case):
    _, x, given, ours, _ = case
    assert_same_picks(benchmark, case)
    benchmark(lambda: kernels.k_center(x, len(ours.indices), labeled=given, backend="cpu"))
    benchmark.extra_info["radius"] = ours.radius


def test_torch_cdist(benchmark, case):
    _, x, given, ours, _ = case
    assert_same_picks(benchmark, case)
    rows, others = torch.from_numpy(x), torch.from_numpy(given)
    benchmark.pedantic(
        one_center_a_pass, (rows, others, len(ours.indices)), rounds=1, warmup_rounds=0
    )


GROWTH = """
import json, sys
import bench_k_center as b, common
rows = int(sys.argv[1])
x = b.make("mixture", rows, dict(b.spec.GROWTH)[rows])
b.kernels.k_center(x[:2000], 100)
kept = []
figures = common.peak_of(lambda: kept.append(b.kernels.k_center(x, 1000)), x.nbytes)
b.assert_greedy(x, kept[0])
print(json.dumps(figures))
"""

MAPPED = """
import json, sys, tempfile
from pathlib import Path
import numpy as np
import bench_k_center as b, common
rows, width = int(sys.argv[1]), b.spec.MAPPED_SHAPE[1]
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "bank.npy"
    bank = np.lib.format.open_memmap(path, "w+", np.float32, (rows, width))
    for begin in range(0, rows, 20_000):
        part = bank[begin : begin + 20_000]
        part[:] = b.make("relu", len(part), width, seed=begin)
    bank.flush()
    del bank
    x = np.load(path, mmap_mode="r")
    b.kernels.k_center(np.asarray(x[:2000]), 100)
    for begin in range(0, rows, 20_000):
        x[begin : begin + 20_000].sum()  # pages of the file count as memory once read: before, not during
    kept = []
    figures = common.peak_of(lambda: kept.append(b.kernels.k_center(x, rows // 100)), x.nbytes)
    b.assert_greedy(x, kept[0])
print(json.dumps(figures))
"""


def assert_greedy(x, result):
    """Sampled picks are the farthest row, by the distance to all centers before them."""
    for j in (1, len(result.indices) // 2, len(result.indices) - 1):
        distances = kernels.min_distance(x, x[result.indices[:j]]).distances
        assert distances.argmax() == result.indices[j]
        assert distances.max() == result.distances[j]
    assert kernels.min_distance(x, x[result.indices]).distances.max() == result.radius


@pytest.mark.parametrize("rows", [rows for rows, _ in spec.GROWTH])
def test_growth(benchmark, rows):
    """n = 1,000; memory is the peak during the call over the input's."""
    benchmark.group = "k_center growth with rows (process start included in the time)"
    figures = common.in_own_process(benchmark, GROWTH, rows)
    if rows >= 100_000:
        assert figures["memory"] < 1.3


def test_memory_mapped(benchmark):
    """1 % of a memory-mapped bank, in the page cache."""
    rows, width = spec.MAPPED_SHAPE
    benchmark.group = f"k_center, memory-mapped ({rows}, {width}), n={rows // 100}"
    figures = common.in_own_process(benchmark, MAPPED, rows)
    assert figures["memory"] < 1.2
