"""GCNAL's graph network compared with a dense adjacency matrix in torch, and its growth.

The features are a Gaussian mixture after a ReLU. "dense" is a size for which a dense adjacency matrix is
still feasible (400 MB of float32). Its 200 epochs are extrapolated linearly from 20. Training amplifies
rounding errors, so float32 answers are compared after 10 epochs, and float64 answers after 200 on fewer
rows; see kernels/sequential_gcn/spec.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import common
import distance_data
import numpy as np
import pytest
import torch

from bench.plain import dense_adjacency, dense_gcn
from rlmba import kernels, strategies
from rlmba.kernels.graph_propagate import spec as graph_spec
from rlmba.kernels.sequential_gcn import spec
from rlmba.types import PoolOutputs, QueryContext

EPOCHS = 200
PEER_EPOCHS = 20
HIDDEN = 128


def make(rows: int, width: int, labeled: int) -> tuple[np.ndarray, np.ndarray]:
    features = np.maximum(distance_data.make("mixture", rows, width), 0)
    return features, np.arange(rows) >= rows - labeled


def masks(rows: int, seed: int, epochs: int, dtype=np.float32) -> Iterator[np.ndarray]:
    """Our dropout masks, scaled."""
    below = spec.drop_below(0.3)
    scale = np.dtype(dtype).type(1 / (1 - below / spec.LEVELS))
    for epoch in range(epochs):
        yield spec.kept(spec.seeds(seed)[1], epoch, rows, HIDDEN, below) * scale


def dense(features: np.ndarray, labeled: np.ndarray, seed: int, epochs: int) -> np.ndarray:
    """The peer: scores of the published network, under our initial weights and dropout masks."""
    start = spec.initial_parameters(spec.seeds(seed)[0], features.shape[1], HIDDEN)
    given = masks(len(features), seed, epochs, features.dtype)
    return dense_gcn(features, labeled, start, given)[0]


@pytest.fixture(scope="module")
def case() -> tuple[np.ndarray, np.ndarray]:
    return make(*spec.BENCH_SHAPES["dense"])


GROUP = "sequential_gcn, N = 10,000, D = 512, 200 epochs"


def test_rlmba(benchmark, case):
    features, labeled = case
    small, marks = features[-2000:].astype(np.float64), labeled[-2000:]
    ours = kernels.sequential_gcn(small, marks, rng=1, backend="cpu")
    np.testing.assert_allclose(ours.scores, dense(small, marks, 1, EPOCHS), rtol=0, atol=1e-9)
    short = kernels.sequential_gcn(features, labeled, rng=1, epochs=10, backend="cpu")
    np.testing.assert_allclose(short.scores, dense(features, labeled, 1, 10), atol=1e-4)
    benchmark.group = GROUP
    result = benchmark.pedantic(
        lambda: kernels.sequential_gcn(features, labeled, rng=1, backend="cpu"),
        rounds=3,
        warmup_rounds=1,
    )
    assert np.isfinite(result.scores).all()


def test_dense_adjacency_in_torch(benchmark, case):
    """20 epochs with precomputed masks; ours are part of the time, but those of a peer need not be."""
    features, labeled = case
    made = list(masks(len(features), 1, PEER_EPOCHS))
    start = spec.initial_parameters(spec.seeds(1)[0], features.shape[1], HIDDEN)
    benchmark.group = (
        "dense adjacency in torch, N = 10,000, D = 512, 20 epochs (see seconds_for_200_epochs)"
    )
    benchmark.pedantic(dense_gcn, (features, labeled, start, made), rounds=1, warmup_rounds=0)
    total = benchmark.stats.stats.min
    start = time.perf_counter()
    dense_adjacency(torch.from_numpy(features))
    once = time.perf_counter() - start
    seconds = once + (total - once) * EPOCHS / PEER_EPOCHS
    benchmark.extra_info["seconds_for_200_epochs"] = seconds
    print("peer, 200 epochs:", seconds)


@pytest.mark.parametrize("variant", ["core", "uncertain"])
def test_strategy_at_food101_size(benchmark, variant):
    rows, width, labeled = spec.BENCH_SHAPES["food101"]
    features, marks = make(rows, width, labeled)
    pool = features[~marks]
    outputs = PoolOutputs(
        ids=np.arange(len(pool)).astype(str),
        features={"fused": pool},
        logits={"fused": np.zeros((len(pool), 1), np.float32)},
        fused_features=pool,
        fused_logits=np.zeros((len(pool), 1), np.float32),
    )
    strategy = strategies.create("gcnal", variant=variant)
    benchmark.group = "gcnal, Food101 size (N = 44,719, 1,000 labeled, D = 512, b = 1,000)"

    def query():
        context = QueryContext(rng=np.random.default_rng(1), labeled_features=features[marks])
        return strategy.query(outputs, context, 1000)

    selection = benchmark.pedantic(query, rounds=1, warmup_rounds=0)
    assert len(np.unique(selection.positions)) == 1000
    benchmark.extra_info.update({f"seconds_{k}": v for k, v in selection.seconds.items()})
    benchmark.extra_info["paper_seconds_on_gpu"] = 700.54
    print(dict(selection.seconds))


def test_propagate(benchmark):
    rows, width, k = graph_spec.BENCH_SHAPES["dense"]
    features, _ = make(rows, width, 1)
    values = np.random.default_rng(0).standard_normal((rows, k), dtype=np.float32)
    _, a = dense_adjacency(torch.from_numpy(features))
    ours = kernels.graph_propagate(features, values, backend="cpu").values
    np.testing.assert_allclose(ours, a @ torch.from_numpy(values), atol=2e-5)
    benchmark.group = "graph_propagate, N = 10,000, D = 512, K = 128"
    benchmark(lambda: kernels.graph_propagate(features, values, backend="cpu"))


def test_propagate_dense_in_torch(benchmark):
    rows, width, k = graph_spec.BENCH_SHAPES["dense"]
    features = torch.from_numpy(make(rows, width, 1)[0])
    values = torch.randn(rows, k)
    benchmark.group = "graph_propagate, N = 10,000, D = 512, K = 128"
    benchmark.pedantic(lambda: dense_adjacency(features)[1] @ values, rounds=3, warmup_rounds=1)


GROWTH = """
import json, sys
import bench_gcnal as b
import common
features, labeled = b.make(int(sys.argv[1]), 64, 1000)
b.kernels.sequential_gcn(features[-2000:], labeled[-2000:], rng=0, epochs=1)
call = lambda: b.kernels.sequential_gcn(features, labeled, rng=0, epochs=20)
print(json.dumps(common.peak_of(call, features.nbytes)))
"""


@pytest.mark.parametrize("rows", [10_000, 100_000, 1_000_000])
def test_growth(benchmark, rows):
    """D = 64, 20 epochs; the returned hidden features are twice as large as the input at this width."""
    benchmark.group = "sequential_gcn growth with rows, D = 64 (process start included in the time)"
    figures = common.in_own_process(benchmark, GROWTH, rows)
    if rows >= 100_000:
        assert figures["memory"] < 6
