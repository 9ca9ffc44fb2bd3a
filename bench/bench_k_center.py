"""k_center compared with torch.cdist with one center per pass, and its growth with the number of rows.

torch.cdist has two modes. The default is a matrix product, for which it copies all rows in every call.
The other uses differences, which is faster here and more exact. The default mode takes two minutes for
any kind of data, so it is run only for one kind.

Our picks are asserted to equal those of the peer in float64. In float32, in which it is timed, the peer
cannot distinguish some near ties. The number of differing picks is recorded, and each is asserted to be as
far away as ours.
"""

from __future__ import annotations

import shutil
import tempfile

import common
import distance_data
import numpy as np
import pytest

from bench.plain import CDIST_MODES, k_center_one_a_pass
from rlmba import kernels
from rlmba.kernels.k_center import spec

KINDS = (*distance_data.KINDS, "relu")


def make(kind: str, rows: int, width: int, seed: int = 0) -> np.ndarray:
    """Data of distance_data, or "relu": max(0, normal), non-negative like features after a ReLU."""
    if kind == "relu":
        x = distance_data.make("normal", rows, width, seed)
        return np.maximum(x, 0, out=x)
    return distance_data.make(kind, rows, width, seed)


@pytest.fixture(scope="module", params=KINDS)
def case(request):
    rows, width, labeled, n = spec.BENCH_SHAPES["food101"]
    both = make(request.param, rows + labeled, width)
    x, given = both[:rows], both[rows:]
    ours = kernels.k_center(x, n, labeled=given, backend="cpu")
    picks, reach = k_center_one_a_pass(x.astype(np.float64), given.astype(np.float64), n)
    np.testing.assert_array_equal(ours.indices, picks)
    np.testing.assert_allclose(ours.distances, reach, rtol=2e-7)
    return request.param, x, given, ours


@pytest.mark.parametrize("mode", CDIST_MODES)
def test_torch_cdist(benchmark, case, mode):
    kind, x, given, ours = case
    if mode == "default" and kind != "mixture":
        pytest.skip("two minutes: on one kind only")
    benchmark.group = f"k_center {kind} {x.shape} labeled={len(given)} n={len(ours.indices)}"
    picks, reach = benchmark.pedantic(
        k_center_one_a_pass, (x, given, len(ours.indices), mode), rounds=1, warmup_rounds=0
    )
    np.testing.assert_allclose(reach, ours.distances, rtol=1e-5)
    benchmark.extra_info["picks_that_differ"] = int((picks != ours.indices).sum())


def test_rlmba(benchmark, case):
    kind, x, given, ours = case
    benchmark.group = f"k_center {kind} {x.shape} labeled={len(given)} n={len(ours.indices)}"
    benchmark(lambda: kernels.k_center(x, len(ours.indices), labeled=given, backend="cpu"))
    benchmark.extra_info["radius"] = ours.radius


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
rows, width = int(sys.argv[1]), b.spec.MAPPED_WIDTH
n = b.spec.MAPPED[rows]
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
    figures = common.peak_of(lambda: kept.append(b.kernels.k_center(x, n)), x.nbytes)
    b.assert_greedy(x, kept[0])
print(json.dumps(figures))
"""


def assert_greedy(x, result):
    """Check sampled picks: each is the row that is farthest from all centers before it."""
    for j in (1, len(result.indices) // 2, len(result.indices) - 1):
        distances = kernels.min_distance(x, x[result.indices[:j]]).distances
        assert distances.argmax() == result.indices[j]
        assert distances.max() == result.distances[j]
    assert kernels.min_distance(x, x[result.indices]).distances.max() == result.radius


@pytest.mark.parametrize("rows", [rows for rows, _ in spec.GROWTH])
def test_growth(benchmark, rows):
    """n = 1,000; memory is the peak during the call relative to the input."""
    benchmark.group = "k_center growth with rows (process start included in the time)"
    figures = common.in_own_process(benchmark, GROWTH, rows)
    if rows >= 100_000:
        assert figures["memory"] < 1.3


@pytest.mark.parametrize("rows", spec.MAPPED)
def test_memory_mapped(benchmark, rows):
    """A memory-mapped bank, in the page cache if it fits."""
    need = 2 * 4 * rows * spec.MAPPED_WIDTH
    if shutil.disk_usage(tempfile.gettempdir()).free < need:
        pytest.skip(f"needs {need >> 30} GiB of free disk")
    n = spec.MAPPED[rows]
    benchmark.group = f"k_center, memory-mapped ({rows:,}, {spec.MAPPED_WIDTH}), n={n:,}"
    figures = common.in_own_process(benchmark, MAPPED, rows)
    assert figures["memory"] < 1.2
