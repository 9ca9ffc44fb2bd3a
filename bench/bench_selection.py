"""The complete RL-MBA selection of a round, compared with one composed from scikit-learn and torch.

The sizes are those of Food101 in the paper: N = 44,719, C = 101, M = 2, d = 512, b = 1,000. The paper
reports 33.48 s on a GPU for this step. Growth is measured in a separate process for each N.
"""

from __future__ import annotations

import common
import distance_data
import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from bench import plain
from rlmba import strategies
from rlmba.method import scoring
from rlmba.types import PoolOutputs, QueryContext

FOOD101 = {"rows": 44_719, "classes": 101, "width": 512, "batch": 1_000}


def make_pool(rows: int, classes: int, width: int) -> PoolOutputs:
    rng = np.random.default_rng(0)
    fused = distance_data.make("mixture", rows, width)
    # The selection reads only the fused features; those of the modalities are views of them.
    features = dict.fromkeys(("image", "text"), fused)
    logits = {m: 3 * rng.standard_normal((rows, classes), dtype=np.float32) for m in features}
    return PoolOutputs(
        ids=np.arange(rows).astype(str),
        features=features,
        logits=logits,
        fused_features=fused,
        fused_logits=(logits["image"] + logits["text"]) / 2,
    )


def context() -> QueryContext:
    return QueryContext(rng=np.random.default_rng(1), weights=np.array([0.4, 0.6]))


def plain_score(pool: PoolOutputs, distances: np.ndarray) -> torch.Tensor:
    """Eq 4 to 6 in torch."""
    logits = [torch.from_numpy(z) for z in pool.logits.values()]
    return plain.fused_score(logits, (0.4, 0.6), torch.from_numpy(distances))


def plain_selection(pool: PoolOutputs, n: int) -> np.ndarray:
    """The peer: scikit-learn's k-means, torch for the rest, and a draw with Gumbel noise."""
    means = KMeans(n, init="k-means++", n_init=1, max_iter=5, random_state=0)
    means.fit(pool.fused_features)
    distances = means.transform(pool.fused_features).min(axis=1)
    score = plain_score(pool, distances)
    values, candidates = torch.topk(score, 5 * n)
    z = (values - values.mean()) / values.std()
    noise = -torch.log(-torch.log(torch.rand(len(z))))
    return candidates[torch.topk(z + noise, n).indices].numpy()


@pytest.fixture(scope="module")
def pool() -> PoolOutputs:
    return make_pool(FOOD101["rows"], FOOD101["classes"], FOOD101["width"])


def test_rlmba(benchmark, pool):
    distances = scoring.diversity(pool.fused_features, 50, rng=np.random.default_rng(0))
    ours = scoring.score(pool, np.array([0.4, 0.6]), np.ones(2), distances)
    np.testing.assert_allclose(ours.q, plain_score(pool, distances), atol=1e-4)
    strategy = strategies.create("rlmba")
    benchmark.group = "selection, Food101 size"
    selection = benchmark(lambda: strategy.query(pool, context(), FOOD101["batch"]))
    assert len(np.unique(selection.positions)) == FOOD101["batch"]
    benchmark.extra_info.update({f"seconds_{k}": v for k, v in selection.seconds.items()})
    benchmark.extra_info["paper_seconds_on_gpu"] = 33.48
    print(dict(selection.seconds))


def test_rlmba_x(benchmark, pool):
    strategy = strategies.create("rlmba-x")
    benchmark.group = "selection, Food101 size"
    selection = benchmark(lambda: strategy.query(pool, context(), FOOD101["batch"]))
    assert len(np.unique(selection.positions)) == FOOD101["batch"]
    print(dict(selection.seconds))


def test_scikit_learn_and_torch(benchmark, pool):
    benchmark.group = "selection, Food101 size"
    picks = benchmark.pedantic(plain_selection, (pool, FOOD101["batch"]), rounds=1)
    assert len(np.unique(picks)) == FOOD101["batch"]


GROWTH = """
import json, sys
import bench_selection as b
import common
from rlmba import strategies
pool = b.make_pool(int(sys.argv[1]), 101, 128)
strategy = strategies.create("rlmba")
strategy.query(pool.take(b.np.arange(2000)), b.context(), 10)
given = pool.fused_features.nbytes + sum(z.nbytes for z in pool.logits.values())
print(json.dumps(common.peak_of(lambda: strategy.query(pool, b.context(), 1000), given)))
"""


@pytest.mark.parametrize("rows", [10_000, 100_000, 1_000_000])
def test_growth(benchmark, rows):
    """d = 128, C = 101, b = 1,000. Memory is the peak during the query relative to its input arrays."""
    benchmark.group = "selection growth with rows (process start included in the time)"
    figures = common.in_own_process(benchmark, GROWTH, rows)
    if rows >= 100_000:
        assert figures["memory"] < 1.2
