"""In scikit-activeml's own loop, with its classifier."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

pytest.importorskip("skactiveml", reason="scikit-activeml is not installed")

from skactiveml.base import SingleAnnotatorPoolQueryStrategy
from skactiveml.classifier import SklearnClassifier
from skactiveml.utils import MISSING_LABEL, is_unlabeled

import rlmba
from rlmba import strategies
from rlmba.adapters.skactiveml import RlmbaStrategy
from rlmba.errors import UsageError

NAMES = [n for n in strategies.names() if not strategies.create(n).needs & {"dropout"}]


def classifier():
    return SklearnClassifier(LogisticRegression(max_iter=300), classes=range(10), random_state=0)


@pytest.fixture
def task(digits, start):
    X, y = digits
    seen = np.full(len(y), MISSING_LABEL)
    seen[start] = y[start]
    return X, y, seen


@pytest.mark.parametrize("name", NAMES)
def test_two_rounds(task, name):
    X, y, seen = task
    query = RlmbaStrategy(name, random_state=0)
    assert isinstance(query, SingleAnnotatorPoolQueryStrategy)
    clf = classifier()
    for _ in range(2):
        unlabeled = is_unlabeled(seen, missing_label=MISSING_LABEL)
        picks = query.query(X=X, y=seen, clf=clf, batch_size=30)
        assert len(np.unique(picks)) == 30
        assert unlabeled[picks].all()
        seen[picks] = y[picks]
    assert clf.fit(X, seen).score(X, y) > 0.7


def test_is_select_in_their_index_space(task):
    X, _, seen = task
    clf = classifier().fit(X, seen)
    picks = RlmbaStrategy("margin").query(X, seen, clf, fit_clf=False, batch_size=9)
    labeled = np.flatnonzero(~np.isnan(seen))
    p = clf.predict_proba(X)
    expected = rlmba.select("margin", probabilities=p, labeled=labeled, n=9)
    np.testing.assert_array_equal(picks, expected.positions)


def test_fits_a_clone(task):
    X, _, seen = task
    clf = classifier()
    RlmbaStrategy("margin").query(X, seen, clf, batch_size=2)
    assert not hasattr(clf, "classes_") or not hasattr(clf, "estimator_")
    weights = np.ones(len(X))
    RlmbaStrategy("margin").query(X, seen, clf, sample_weight=weights, batch_size=2)


def test_options_parameters_and_clones(task):
    X, _, seen = task
    made = RlmbaStrategy("rlmba-x", {"kappa": 1}, random_state=3)
    again = clone(made)
    assert again.get_params()["options"] == {"kappa": 1}
    picks = [s.query(X, seen, classifier(), batch_size=8) for s in (made, again)]
    np.testing.assert_array_equal(*picks)
    # One candidate a pick leaves nothing to choose: the most ambiguous ones.
    margin = RlmbaStrategy("margin").query(X, seen, classifier(), batch_size=8)
    assert set(picks[0]) == set(margin)


def test_candidates(task):
    X, _, seen = task
    unlabeled = np.flatnonzero(np.isnan(seen))
    some = unlabeled[100:160]
    query = RlmbaStrategy("rlmba-x", random_state=0)
    by_index = query.query(X, seen, classifier(), candidates=some, batch_size=12)
    assert set(by_index) <= set(some)
    by_sample = RlmbaStrategy("rlmba-x", random_state=0).query(
        X, seen, classifier(), candidates=X[some], batch_size=12
    )
    np.testing.assert_array_equal(some[by_sample], by_index)
    labeled = np.flatnonzero(~np.isnan(seen))[:2]
    with pytest.raises(ValueError, match="must not contain labeled"):
        query.query(X, seen, classifier(), candidates=labeled, batch_size=1)


def test_embeddings(task):
    X, _, seen = task
    query = RlmbaStrategy("rlmba-x", random_state=0)
    picks = query.query(X, seen, classifier(), embeddings=X[:, :20] * 3, batch_size=15)
    assert np.isnan(seen[picks]).all()
    with pytest.raises(UsageError, match="embeddings: expected 600 rows"):
        query.query(X, seen, classifier(), embeddings=X[:10], batch_size=2)
    with pytest.raises(UsageError, match=r"'deepfool' needs a classifier .* pass clf"):
        RlmbaStrategy("deepfool").query(X, seen, classifier(), embeddings=3 * X)
    with pytest.raises(UsageError, match="candidates as samples"):
        query.query(X, seen, classifier(), embeddings=X, candidates=X[:50], batch_size=2)


@pytest.mark.parametrize("name", ["deepfool", "bmmal"])
def test_classes_without_a_label_yet(task, name):
    """The classifier gives them probability 0; the choice is that among the classes it knows."""
    X, y, seen = task
    seen[y >= 7] = MISSING_LABEL
    few = SklearnClassifier(LogisticRegression(max_iter=300), random_state=0)
    picks = [
        RlmbaStrategy(name, random_state=0).query(X, seen, clf, batch_size=9)
        for clf in (classifier(), few)
    ]
    np.testing.assert_array_equal(*picks)


@pytest.mark.parametrize("by_sample", [False, True])
def test_utilities(task, by_sample):
    X, _, seen = task
    some = np.flatnonzero(np.isnan(seen))[:40]
    candidates = X[some] if by_sample else some
    picks, utilities = RlmbaStrategy("rlmba-x", random_state=0).query(
        X, seen, classifier(), candidates=candidates, batch_size=5, return_utilities=True
    )
    assert utilities.shape == (5, 40 if by_sample else len(X))
    np.testing.assert_array_equal(np.nanargmax(utilities, axis=1), picks)
    np.testing.assert_allclose(np.nanmax(utilities, axis=1), 1.0)
    assert np.isnan(utilities[3, picks[:3]]).all()
    assert (~np.isnan(utilities)).sum(axis=1).tolist() == [40, 39, 38, 37, 36]


def test_bad_input(task):
    X, _, seen = task
    with pytest.raises(UsageError, match="pass clf"):
        RlmbaStrategy("margin").query(X, seen, batch_size=2)
    with pytest.raises(UsageError, match="unknown strategy"):
        RlmbaStrategy("marign").query(X, seen, classifier(), batch_size=2)
    with pytest.warns(UserWarning, match="larger than number of candidates"):
        picks = RlmbaStrategy("random").query(X, seen, batch_size=10_000)
    assert len(picks) == np.isnan(seen).sum()
