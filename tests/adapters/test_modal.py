"""In modAL's own learner and committee."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import rlmba
from rlmba import strategies
from rlmba.adapters.modal import query
from rlmba.errors import UsageError

NAMES = [n for n in strategies.names() if not strategies.create(n).needs & {"dropout"}]


def test_modal_is_not_imported():
    code = "import sys, rlmba.adapters.modal; print('modAL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.fixture
def models():
    return pytest.importorskip("modAL.models", reason="modAL is not installed")


def learner_of(models, strategy, X, y, estimator=None):
    # The constructor trains; modAL's own teach() calls scikit-learn as only releases before 1.8 allow.
    if estimator is None:
        estimator = LogisticRegression(max_iter=300)
    return models.ActiveLearner(estimator, strategy, X_training=X, y_training=y)


@pytest.mark.parametrize("name", NAMES)
def test_two_rounds(models, digits, start, name):
    X, y = digits
    calls = []
    generator = np.random.default_rng(0)

    def counted(*args, **kwargs):
        calls.append(1)
        return query(*args, strategy=name, rng=generator, **kwargs)

    labeled = start
    scores = []
    for _ in range(3):
        learner = learner_of(models, counted, X[labeled], y[labeled])
        scores.append(learner.score(X, y))
        pool = np.setdiff1d(np.arange(len(X)), labeled)
        picks, samples, metric = learner.query(X[pool], n_instances=30, return_metrics=True)
        assert len(np.unique(picks)) == 30
        np.testing.assert_array_equal(samples, X[pool][picks])
        assert metric.shape == (30,)
        labeled = np.concatenate([labeled, pool[picks]])
    assert scores[2] > 0.7
    # A function that returns a bare array is called twice by modAL.
    assert len(calls) == 3


def test_what_is_derived(models, digits, start):
    X, y = digits
    names = np.array([f"class {c}" for c in range(10)])
    learner = learner_of(models, query, X[start], names[y[start]])
    seen = []

    class Probe(type(strategies.create("margin"))):
        needs = frozenset({"features", "logits", "head", "labeled"})

        def choose(self, pool, context, n, stages):
            seen.append((pool, context))
            return super().choose(pool, context, n, stages)

    learner.query(X[100:], n_instances=4, strategy=Probe())
    pool, context = seen[0]
    np.testing.assert_array_equal(pool.fused_features, X[100:])
    np.testing.assert_array_equal(context.labeled_features, X[start])
    np.testing.assert_array_equal(context.labels, y[start])
    np.testing.assert_array_equal(context.head.weight, learner.estimator.coef_)
    np.testing.assert_allclose(np.exp(pool.fused_logits), learner.predict_proba(X[100:]))


def test_binary_and_nonlinear_estimators(models, digits, start):
    X, y = digits
    seen = []

    class Probe(type(strategies.create("margin"))):
        needs = frozenset({"features", "logits"})

        def choose(self, pool, context, n, stages):
            seen.append(context.head)
            return super().choose(pool, context, n, stages)

    class Heads(Probe):
        needs = frozenset({"features", "logits", "head"})

    learner = learner_of(models, query, X[start], y[start] > 4)
    learner.query(X, strategy=Heads())
    assert seen[0].weight.shape == (2, 64)
    forest = learner_of(models, query, X[start], y[start], RandomForestClassifier(20))
    forest.query(X, strategy=Probe())
    with pytest.raises(UsageError, match="pass head="):
        forest.query(X, strategy=Heads())


def test_committee_votes_stand_for_dropout_passes(models, digits, start):
    X, y = digits
    seen = []

    class Probe(type(strategies.create("margin"))):
        needs = frozenset({"dropout", "logits"})

        def choose(self, pool, context, n, stages):
            seen.append(pool)
            return super().choose(pool, context, n, stages)

    members = [
        learner_of(models, query, X[start], y[start], RandomForestClassifier(5, random_state=i))
        for i in range(3)
    ]
    committee = models.Committee(members, partial(query, strategy=Probe()))
    picks, _ = committee.query(X[200:], n_instances=6)
    assert len(np.unique(picks)) == 6
    votes = committee.vote_proba(X[200:])
    expected = np.maximum(np.moveaxis(votes, 1, 0), 1e-12)
    np.testing.assert_allclose(np.exp(seen[0].dropout_logits), expected)
    with pytest.raises(UsageError, match="expected a modAL Committee"):
        members[0].query(X, strategy=Probe())


def test_arguments_of_select(models, digits, start):
    X, y = digits
    learner = learner_of(models, partial(query, strategy="rlmba-x"), X[start], y[start])
    picks, _ = learner.query(X, n_instances=12, labeled=start, rng=0, kappa=2)
    assert not set(picks) & set(start)
    expected = rlmba.select(
        "rlmba-x",
        features=X,
        probabilities=learner.predict_proba(X),
        labeled=start,
        n=12,
        rng=0,
        kappa=2,
    )
    np.testing.assert_array_equal(picks, expected.positions)
    with pytest.raises(UsageError, match="no option 'kapa'"):
        learner.query(X, kapa=2)


def test_sparse_pools(models, digits, start):
    X, y = digits
    learner = learner_of(models, query, csr_matrix(X[start]), y[start])
    sparse = csr_matrix(X)
    assert len(learner.query(sparse, n_instances=3, strategy="margin")[0]) == 3
    assert len(learner.query(sparse, n_instances=3, strategy="random")[0]) == 3
    assert len(learner.query(sparse, n_instances=3, features=X[:, :8])[0]) == 3
    with pytest.raises(UsageError, match="sparse csr_matrix; pass features="):
        learner.query(sparse, n_instances=3)
    with pytest.raises(UsageError, match=r"X_pool: .* masked"):
        learner.query(np.ma.masked_less(X, 1), strategy="coreset")
