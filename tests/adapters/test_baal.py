"""In baal's own loop, on its own data set type."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

pytest.importorskip("baal", reason="baal is not installed")

from baal.active import ActiveLearningDataset
from baal.active.active_loop import ActiveLearningLoop
from baal.active.heuristics import Entropy, Margin, Precomputed

from rlmba import strategies
from rlmba.adapters.baal import RlmbaHeuristic, ranking
from rlmba.errors import NonFiniteError, ShapeError, UsageError

SCORING = [
    n
    for n in strategies.names()
    if strategies.create(n).needs and strategies.create(n).needs <= {"logits", "dropout"}
]
OTHERS = [n for n in strategies.names() if not strategies.create(n).needs & {"dropout", "head"}]


@pytest.fixture
def dataset(digits, start):
    X, y = digits
    pairs = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(y))
    dataset = ActiveLearningDataset(pairs)
    dataset.label([int(i) for i in np.sort(start)])  # positions in the pool, all at once
    return dataset


class Model:
    """A logistic regression with ten "passes": noise on its inputs."""

    def __init__(self, dataset):
        X, y = map(np.array, zip(*[(x.numpy(), int(c)) for x, c in dataset], strict=True))
        self.X, self.classifier = X, LogisticRegression(max_iter=300).fit(X, y)

    def __call__(self, pool, passes=10):
        X = np.array([pool[i][0].numpy() for i in range(len(pool))])
        rng = np.random.default_rng(0)
        noisy = [X + 0.1 * rng.normal(size=X.shape) for _ in range(passes)]
        return np.stack([self.classifier.predict_proba(x) for x in noisy], axis=-1)


@pytest.mark.parametrize("name", SCORING)
def test_two_steps_of_their_loop_with_a_score(dataset, name):
    for _ in range(2):
        before = len(dataset)
        model = Model(dataset)
        loop = ActiveLearningLoop(dataset, model, RlmbaHeuristic(name), query_size=20)
        assert loop.step()
        assert len(dataset) == before + 20


@pytest.mark.parametrize("name", OTHERS)
def test_two_steps_of_their_loop_with_a_composed_batch(dataset, name):
    for _ in range(2):
        model = Model(dataset)
        chosen = []

        def scores(pool, model=model, chosen=chosen):
            features = np.array([pool[i][0].numpy() for i in range(len(pool))])
            p = model(pool).mean(axis=-1)
            found = ranking(name, 20, rng=0, features=features, probabilities=p, labeled=model.X)
            chosen.extend(features[np.argsort(-found)[:20]])
            return found

        heuristic = Precomputed(reverse=True)
        assert ActiveLearningLoop(dataset, scores, heuristic, query_size=20).step()
        labeled = {x.numpy().tobytes() for x, _ in dataset}
        assert all(c.tobytes() in labeled for c in chosen)
    assert len(dataset) == 30 + 40


def test_scores_are_baals_where_both_have_them(rng):
    predictions = softmax(rng.normal(size=(50, 4, 6)), axis=1)
    ours, theirs = RlmbaHeuristic("entropy"), Entropy()
    np.testing.assert_allclose(
        ours.get_uncertainties(predictions), theirs.get_uncertainties(predictions), rtol=1e-9
    )
    np.testing.assert_array_equal(ours(predictions), theirs(predictions))
    np.testing.assert_array_equal(RlmbaHeuristic("margin")(predictions), Margin()(predictions))


def test_logits_probabilities_tensors_and_single_passes(rng):
    z = 3 * rng.normal(size=(30, 4, 5))
    heuristic = RlmbaHeuristic("margin")
    expected = heuristic.get_uncertainties(softmax(z, axis=1))
    np.testing.assert_allclose(heuristic.get_uncertainties(z), expected, rtol=1e-9)
    np.testing.assert_allclose(heuristic.get_uncertainties(torch.tensor(z)), expected, rtol=1e-9)
    one = heuristic.get_uncertainties(softmax(z[..., 0], axis=1))
    np.testing.assert_allclose(one, heuristic.get_uncertainties(z[..., :1]), rtol=1e-9)
    by_batch = heuristic.get_uncertainties_generator(z[i : i + 10] for i in (0, 10, 20))
    np.testing.assert_allclose(by_batch, expected, rtol=1e-9)


def test_axes_between_classes_and_passes(rng):
    maps = 3 * rng.normal(size=(6, 4, 3, 2, 5))
    heuristic = RlmbaHeuristic("entropy", reduction="mean")
    theirs = Entropy(reduction="mean").get_uncertainties(softmax(maps, axis=1))
    np.testing.assert_allclose(heuristic.get_uncertainties(maps), theirs, rtol=1e-9)
    assert heuristic.compute_score(maps).shape == (6, 3, 2)


def test_bad_input(rng):
    with pytest.raises(UsageError, match=r"ranking\(...\) to baal's Precomputed"):
        RlmbaHeuristic("rlmba-x")
    with pytest.raises(UsageError, match="Precomputed"):
        RlmbaHeuristic("random")
    with pytest.raises(ShapeError, match=r"expected \[N, C"):
        RlmbaHeuristic("margin").compute_score(np.ones(4))
    z = rng.normal(size=(8, 3, 2))
    z[5, 1, 0] = np.nan
    with pytest.raises(NonFiniteError):
        RlmbaHeuristic("margin").get_uncertainties(z)
    with pytest.raises(UsageError, match="expected a pool, got no array"):
        ranking("random", 2)


def test_ranking(rng):
    z = log_softmax(rng.normal(size=(40, 3)), axis=1)
    found = ranking("margin", 5, logits={"a": z, "b": z, "mm": z})
    order, scores = Precomputed(reverse=True).get_ranks(found)
    np.testing.assert_array_equal(order[:5], RlmbaHeuristic("margin")(z)[:5])
    assert sorted(scores)[-6:] == [0, 1, 2, 3, 4, 5]
    assert np.count_nonzero(ranking("bald", 7, dropout_logits=rng.normal(size=(3, 40, 4)))) == 7
