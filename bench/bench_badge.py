"""badge and bmmal compared with one center per pass and scikit-activeml's badge, and their growth.

The draw is random; the tests show that its distribution is exact. Before anything is timed, draws from a
part of the pool are asserted to equal those of the reference, and the distances of the full draw to equal
those between the embeddings.
"""

from __future__ import annotations

from dataclasses import replace

import common
import numpy as np
import pytest

from bench.selection_peers import PEERS
from rlmba import kernels, strategies
from rlmba.experiments.selection_times import make_case, sizes

CASES = {
    "badge Food101": ("badge", sizes("badge")[0]),
    "badge small": ("badge", sizes("badge")[1]),
    "bmmal Food101": ("bmmal", sizes("bmmal")[0]),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    name, size = CASES[request.param]
    return request.param, name, make_case(size)


def group(label, case):
    return f"{label}: {case.size}"


def assert_exact(name, case):
    part = case.pool.take(np.arange(600))
    residuals = kernels.gradient_residuals(part.fused_logits)
    features, scales = part.fused_features, None
    if name == "bmmal":
        features = list(part.features.values())
        scales = np.random.default_rng(1).random((600, len(features)))
    more = {"n": 300, "rng": 1, "scales": scales}
    ours = kernels.gradient_kmeans_plusplus(residuals, features, backend="cpu", **more)
    theirs = kernels.gradient_kmeans_plusplus(residuals, features, backend="reference", **more)
    np.testing.assert_array_equal(ours.indices, theirs.indices)
    np.testing.assert_allclose(ours.distances, theirs.distances, rtol=2e-7)
    if name == "badge":
        a = kernels.gradient_residuals(case.pool.fused_logits).astype(np.float64)
        z = case.pool.fused_features
        context = replace(case.context, rng=np.random.default_rng(0))
        drawn = strategies.create(name).query(case.pool, context, case.size.batch)
        i = drawn.positions
        inner = (a[i] @ a[i].T) * (z[i].astype(np.float64) @ z[i].T.astype(np.float64))
        squared = np.diag(inner)[:, None] + np.diag(inner) - 2 * inner
        nearest = [squared[j, :j].min() for j in range(1, len(i))]
        np.testing.assert_allclose(drawn.scores[1:] ** 2, nearest, rtol=1e-5)


def test_rlmba(benchmark, case):
    label, name, made = case
    assert_exact(name, made)
    strategy = strategies.create(name)
    benchmark.group = group(label, made)

    def query():
        context = replace(made.context, rng=np.random.default_rng(0))
        return strategy.query(made.pool, context, made.size.batch)

    selection = benchmark(query)
    benchmark.extra_info.update({f"seconds_{k}": v for k, v in selection.seconds.items()})
    print(label, {k: round(v, 4) for k, v in selection.seconds.items()})


def test_one_center_a_pass(benchmark, case):
    label, name, made = case
    benchmark.group = group(label, made)
    rounds = 5 if made.size.rows < 10_000 else 1
    benchmark.pedantic(lambda: PEERS[name](made), rounds=rounds, warmup_rounds=0)


def test_scikit_activeml(benchmark):
    """It forms the embeddings, N x C x D values, in every call."""
    pytest.importorskip("skactiveml")
    from scipy.special import softmax
    from skactiveml.base import SkactivemlClassifier
    from skactiveml.pool import Badge

    made = make_case(CASES["badge small"][1])
    pool, classes = made.pool, made.size.classes

    class Fixed(SkactivemlClassifier):
        """A model with known answers, so that only the selection is timed."""

        def fit(self, X, y, sample_weight=None):  # noqa: ARG002 - their signature
            self.classes_ = np.arange(classes)
            return self

        def predict_proba(self, X):
            return probabilities[: len(X)]

    probabilities = softmax(pool.fused_logits, axis=1)
    model = Fixed(classes=np.arange(classes)).fit(None, None)
    unknown = np.full(len(pool), np.nan)
    benchmark.group = group("badge small", made)
    theirs = benchmark.pedantic(
        lambda: Badge(random_state=0).query(
            X=pool.fused_features, y=unknown, clf=model, fit_clf=False, batch_size=made.size.batch
        ),
        rounds=1,
        warmup_rounds=0,
    )
    assert len(np.unique(theirs)) == made.size.batch


MEMORY = """
import json, sys
from dataclasses import replace
import common
import numpy as np
from rlmba import strategies
from rlmba.experiments.selection_times import make_case, sizes
name, rows = sys.argv[2] if len(sys.argv) > 2 else "badge", int(sys.argv[1])
strategy = strategies.create(name)
def query(case):
    strategy.query(case.pool, replace(case.context, rng=np.random.default_rng(0)), case.size.batch)
query(make_case(replace(sizes(name)[0], rows=1_500)))
case = make_case(replace(sizes(name)[0], rows=rows))
given = case.pool.fused_features.nbytes + case.pool.fused_logits.nbytes
print(json.dumps(common.peak_of(lambda: query(case), given)))
"""


def test_memory(benchmark):
    """Peak memory of a selection at Food101's size, D = 2,816, relative to features and logits."""
    benchmark.group = "badge: memory at Food101's size (process start included in the time)"
    figures = common.in_own_process(benchmark, MEMORY, sizes("badge")[0].rows)
    assert figures["memory"] < 1.5
