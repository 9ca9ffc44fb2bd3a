"""In small-text's own pool-based learner, on texts."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

pytest.importorskip("small_text", reason="small-text is not installed")

from scipy.sparse import csr_matrix
from small_text import (
    EmptyPoolException,
    PoolBasedActiveLearner,
    PoolExhaustedException,
    SklearnClassifierFactory,
    SklearnDataset,
)

import rlmba
from rlmba import strategies
from rlmba.adapters.small_text import RlmbaStrategy
from rlmba.errors import UsageError

NAMES = [n for n in strategies.names() if not strategies.create(n).needs & {"dropout", "head"}]
WORDS = {
    0: "goal match team striker league coach score season",
    1: "market shares bank profit investor trade stock price",
    2: "galaxy orbit planet telescope star rocket comet moon",
}


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=240)
    shared = ["the", "a", "of", "today", "new", "said", "people", "year"]
    made = [" ".join([*rng.choice(WORDS[c].split(), 3), *rng.choice(shared, 5)]) for c in y]
    X = TfidfVectorizer().fit_transform(made)
    return X, y, TruncatedSVD(10, random_state=0).fit_transform(X)


def learner_of(strategy, texts, start):
    X, y, _ = texts
    dataset = SklearnDataset(X, y)
    factory = SklearnClassifierFactory(LogisticRegression(max_iter=300), 3)
    learner = PoolBasedActiveLearner(factory, strategy, dataset)
    learner.initialize_data(start, y[start])
    return learner


@pytest.fixture
def start(texts):
    return np.concatenate([np.flatnonzero(texts[1] == c)[:2] for c in range(3)])


@pytest.mark.parametrize("name", NAMES)
def test_two_rounds(texts, start, name):
    X, y, embeddings = texts
    learner = learner_of(RlmbaStrategy(name, rng=0), texts, start)
    known = set(start)
    for _ in range(2):
        picks = learner.query(20, query_strategy_kwargs={"embeddings": embeddings})
        assert len(np.unique(picks)) == 20
        assert not set(picks) & known
        known |= set(picks)
        learner.update(y[picks])
    assert (learner.classifier.predict(SklearnDataset(X, y)) == y).mean() > 0.6


def test_is_select_in_their_index_space(texts, start):
    X, y, embeddings = texts
    learner = learner_of(RlmbaStrategy("rlmba-x", rng=4, kappa=3), texts, start)
    picks = learner.query(7, query_strategy_kwargs={"embeddings": embeddings})
    p = learner.classifier.predict_proba(SklearnDataset(X, y))
    expected = rlmba.select(
        "rlmba-x", features=embeddings, probabilities=p, labeled=start, n=7, rng=4, kappa=3
    )
    np.testing.assert_array_equal(picks, expected.positions)


def test_ignored_texts_are_not_selected(texts, start):
    _, y, embeddings = texts
    learner = learner_of(RlmbaStrategy("rlmba-x", rng=4), texts, start)
    ignored = np.setdiff1d(np.arange(200), start)
    learner.initialize_data(start, y[start], indices_ignored=ignored)
    picks = learner.query(20, query_strategy_kwargs={"embeddings": embeddings})
    assert picks.min() >= 200 or set(picks[picks < 200]) <= set(start)
    assert not set(picks) & set(ignored)


class Embedding:
    """The two forms of a classifier that embeds: with and without probabilities."""

    def __init__(self, inner, matrix, gives_proba):
        self.inner, self.matrix, self.gives_proba = inner, matrix, gives_proba

    def predict_proba(self, dataset):
        return self.inner.predict_proba(dataset)

    @property
    def embed(self):
        def both(dataset, return_proba=False, pbar=None, scale=1.0):
            made = scale * self.matrix.transform(dataset.x)
            return (made, self.inner.predict_proba(dataset)) if return_proba else made

        def alone(dataset, pbar=None, scale=1.0):
            return scale * self.matrix.transform(dataset.x)

        return both if self.gives_proba else alone


@pytest.mark.parametrize("gives_proba", [True, False])
def test_embeddings_of_the_classifier(texts, start, gives_proba):
    X, y, _ = texts
    learner = learner_of(RlmbaStrategy("rlmba-x", rng=1), texts, start)
    svd = TruncatedSVD(6, random_state=0).fit(X)
    clf = Embedding(learner.classifier, svd, gives_proba)
    rest = np.setdiff1d(np.arange(len(y)), start)
    dataset = SklearnDataset(X, y)
    picks = RlmbaStrategy("rlmba-x", rng=1).query(
        clf, dataset, rest, start, y[start], n=9, pbar=None, embed_kwargs={"scale": 2.0}
    )
    p = learner.classifier.predict_proba(dataset)
    expected = rlmba.select(
        "rlmba-x", features=2.0 * svd.transform(X), probabilities=p, labeled=start, n=9, rng=1
    )
    np.testing.assert_array_equal(picks, expected.positions)


@pytest.mark.parametrize("name", ["random", "margin", "entropy"])
def test_what_is_not_read_is_not_asked_for(texts, start, name):
    """The classifier of these texts has no ``embed``."""
    learner = learner_of(RlmbaStrategy(name, rng=1), texts, start)
    assert not hasattr(learner.classifier, "embed")
    if name == "random":
        learner.classifier.predict_proba = None
    assert not set(learner.query(9)) & set(start)


def test_embeddings_that_no_linear_layer_is_on(texts, start):
    learner = learner_of(RlmbaStrategy("deepfool"), texts, start)
    with pytest.raises(UsageError, match=r"'deepfool' needs a classifier .* linear layer"):
        learner.query(5, query_strategy_kwargs={"embeddings": texts[2]})


def test_bad_input(texts, start):
    _, y, embeddings = texts
    learner = learner_of(RlmbaStrategy("margin"), texts, start)
    with pytest.raises(UsageError, match="expected 240 rows, one for each text"):
        learner.query(5, query_strategy_kwargs={"embeddings": embeddings[:50]})
    with pytest.raises(PoolExhaustedException):
        learner.query(500, query_strategy_kwargs={"embeddings": embeddings})
    rest = np.setdiff1d(np.arange(len(y)), start)
    with pytest.raises(UsageError, match="multi-label"):
        RlmbaStrategy("random").query(
            None, embeddings, rest, start, csr_matrix(np.eye(6)), n=2, embeddings=embeddings
        )
    with pytest.raises(EmptyPoolException):
        RlmbaStrategy("random").query(
            None, embeddings, rest[:0], start, y[start], n=2, embeddings=embeddings
        )
    with pytest.raises(UsageError, match="no option"):
        RlmbaStrategy("margin", kappa=3)
    assert str(RlmbaStrategy("margin")) == "RlmbaStrategy('margin')"
