"""What scikit-activeml's own tests ask of every query strategy for a single annotator.

Its packages do not carry those tests; these ask the same, for each strategy.
"""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

pytest.importorskip("skactiveml", reason="scikit-activeml is not installed")

from skactiveml.classifier import SklearnClassifier
from skactiveml.utils import is_labeled

from rlmba import strategies
from rlmba.adapters.skactiveml import RlmbaStrategy

NAMES = [n for n in strategies.names() if not strategies.create(n).needs & {"dropout"}]
READS_LOGITS = [
    name
    for name in NAMES
    if ((s := strategies.create(name)).needs | s.optional) & {"logits", "modality_logits"}
]
N, LABELED = 12, 4
X = np.random.default_rng(0).normal(size=(N, 3)) + 2 * np.resize([0, 1], N)[:, None]
Y = np.where(np.arange(N) < LABELED, np.resize([0.0, 1.0], N), np.nan)
UNLABELED = np.arange(LABELED, N)

pytestmark = [
    pytest.mark.parametrize("name", NAMES),
    pytest.mark.filterwarnings("ignore:.*'base_estimator' could not be fitted"),
]


class Other:
    pass


def classifier(**parameters):
    given = {"classes": [0, 1], "random_state": 0} | parameters
    return SklearnClassifier(LogisticRegression(), **given)


def query(name, init=None, **given):
    strategy = RlmbaStrategy(**{"strategy": name, "random_state": 42} | (init or {}))
    return strategy.query(**{"X": X, "y": Y, "clf": classifier()} | given)


@pytest.mark.parametrize(
    ("parameter", "value", "error"),
    [
        ("X", "string", (TypeError, ValueError)),
        ("X", Other, (TypeError, ValueError)),
        ("X", np.vstack([X, X]), ValueError),
        ("y", np.nan, TypeError),
        ("y", Other, TypeError),
        ("y", np.vstack([Y, Y]), ValueError),
        ("clf", np.nan, TypeError),
        ("clf", "state", TypeError),
        ("clf", Other(), TypeError),
        ("clf", GaussianNB(), TypeError),
        ("fit_clf", np.nan, TypeError),
        ("fit_clf", "state", TypeError),
        ("sample_weight", np.nan, (TypeError, ValueError)),
        ("sample_weight", Other, (TypeError, ValueError)),
        ("sample_weight", np.ones(N + 1), ValueError),
        ("embeddings", "string", ValueError),
        ("embeddings", np.ones((N + 1, 2)), ValueError),
        ("candidates", np.nan, ValueError),
        ("candidates", Other, TypeError),
        ("batch_size", 0, ValueError),
        ("batch_size", 1.2, TypeError),
        ("return_utilities", "string", TypeError),
        ("return_utilities", Other, TypeError),
    ],
)
def test_bad_arguments(name, parameter, value, error):
    with pytest.raises(error):
        query(name, **{parameter: value})


@pytest.mark.parametrize(
    ("parameter", "value", "error"),
    [
        ("random_state", np.nan, ValueError),
        ("random_state", "state", ValueError),
        ("missing_label", Other, TypeError),
        ("strategy", 3, TypeError),
        ("strategy", "no such strategy", ValueError),
        ("options", 3, ValueError),
        ("options", {"no such option": 1}, ValueError),
    ],
)
def test_bad_parameters_are_kept_until_a_query_refuses_them(name, parameter, value, error):
    assert getattr(RlmbaStrategy(**{"strategy": name, parameter: value}), parameter) is value
    with pytest.raises(error):
        query(name, {parameter: value})


@pytest.mark.parametrize(
    ("missing", "classes", "dtype"),
    [
        (np.nan, [1.0, 2.0], float),
        (0, [1, 2], int),
        (-1, [0, 1], int),
        (None, [1, 2], object),
        (None, ["A", "B"], object),
        ("", ["A", "B"], str),
    ],
)
def test_missing_labels_of_every_kind(name, missing, classes, dtype):
    y = np.full(N, missing, dtype=dtype)
    y[:2] = classes
    clf = classifier(classes=classes, missing_label=missing)
    picks = query(name, {"missing_label": missing}, y=y, clf=clf, batch_size=N - 2)
    assert sorted(picks) == list(range(2, N))


@pytest.mark.parametrize(("own", "other"), [(np.nan, -1), (-1, np.nan), (-1, None), (None, "")])
def test_the_classifier_must_have_the_same_missing_label(name, own, other):
    """Else what stands for no label is a class to one of the two."""
    y = np.full(N, own, dtype=object if own is None else float)
    y[:2] = [0, 1]
    with pytest.raises(ValueError, match="clf: expected missing_label="):
        query(name, {"missing_label": own}, y=y, clf=classifier(missing_label=other))


@pytest.mark.parametrize("fit", [True, False])
def test_the_classifier_is_left_alone_and_fitted_only_where_it_is_read(name, fit):
    fits = []

    class Counting(SklearnClassifier):
        def fit(self, *arguments, **more):
            fits.append(1)
            return super().fit(*arguments, **more)

    clf = Counting(LogisticRegression(), classes=[0, 1])
    if not fit:
        clf.fit(X, Y)
    fits.clear()
    before = vars(clf).copy()
    query(name, clf=clf, fit_clf=fit, sample_weight=np.ones(N))
    assert vars(clf).keys() == before.keys()
    assert all(value is before[key] for key, value in vars(clf).items())
    assert len(fits) == (fit and name in READS_LOGITS)


@pytest.mark.parametrize("labels", [0, 1, N - 1])
def test_any_number_of_labels(name, labels):
    y = np.full(N, np.nan)
    y[:labels] = 1
    (pick,) = query(name, y=y)
    assert pick >= labels


def test_random_state_decides_and_is_not_used_up(name):
    strategy = RlmbaStrategy(name, random_state=np.random.RandomState(0))
    given = {"X": X, "y": Y, "clf": classifier(), "batch_size": 3, "return_utilities": True}
    before = pickle.dumps(strategy.random_state)
    first, second = strategy.query(**given), strategy.query(**given)
    assert pickle.dumps(strategy.random_state) == before
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_batches(name):
    picks, utilities = query(name, batch_size=5, return_utilities=True)
    assert len(set(picks)) == 5
    assert utilities.shape == (5, N)
    assert np.isnan(utilities[0]).tolist() == is_labeled(Y).tolist()
    with pytest.warns(UserWarning, match="larger than number of candidates"):
        picks, _ = query(name, batch_size=N, return_utilities=True)
    assert sorted(picks) == UNLABELED.tolist()


def test_candidates_as_indices_and_as_samples_are_one_choice(name):
    first, utilities = query(name, return_utilities=True)
    again, same = query(name, return_utilities=True, candidates=UNLABELED)
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(same, utilities)
    sample, narrow = query(name, return_utilities=True, candidates=X[UNLABELED])
    np.testing.assert_array_equal(UNLABELED[sample], first)
    np.testing.assert_array_equal(narrow, utilities[:, UNLABELED])
    (only,), _ = query(name, return_utilities=True, candidates=[UNLABELED[0]])
    assert only == UNLABELED[0]
