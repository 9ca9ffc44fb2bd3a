"""What an experiment needs of a data set, checked from the numbers of samples."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from rlmba.config import load_config
from rlmba.data import InMemoryDataset
from rlmba.errors import DataError, UnfitError, UsageError
from rlmba.learner.settings import resolve
from rlmba.learner.sizes import require_sizes


def dataset(per_class):
    """Two numbers per sample; ``per_class`` training samples of each class, and a test sample."""
    labels = [*np.repeat(np.arange(len(per_class)), per_class).tolist(), 0]
    n = len(labels)
    return InMemoryDataset(
        "toy",
        {"x": np.arange(2.0 * n).reshape(n, 2)},
        kinds={"x": "features"},
        labels=np.array(labels),
        classes=[f"c{k}" for k in range(len(per_class))],
        ids=[f"s{i}" for i in range(n)],
        split=np.arange(n) == n - 1,
    )


ASKED = [
    ["initial_labels=1000", "batch_size=1000", "rounds=6"],
    ["initial_labels=1", "batch_size=2", "rounds=2"],
    ["initial_labels=6", "batch_size=2", "rounds=50"],
    ["initial_labels=6", "batch_size=500", "rounds=3"],
    ["rounds=9"],
    ["budgets=[10, 20, 5000]"],
    ["budgets=[1000, 5000, 7000]"],
    ["budgets=[1, 2]"],
    ["budgets_per_class=[2, 4, 400]"],
    ["initial_labels=1000", "initial_sampling=random"],
]
COUNTS = [(3, 1, 1), (4, 4, 4), (12, 9, 1), (30, 30, 2), (3, 3)]


@pytest.mark.parametrize("asked", ASKED, ids=" ".join)
@pytest.mark.parametrize("counts", COUNTS)
def test_the_settings_of_the_error_fit(asked, counts):
    data = dataset(counts)
    try:
        config, pool = resolve(load_config(settings=asked), data)
    except UnfitError as error:
        assert error.settings  # noqa: PT017 - some of these settings fit some of the data
        config, pool = resolve(load_config(settings=[*asked, *error.flags[1::2]]), data)
    assert config.label_counts[0] == len(pool.labeled)
    assert config.label_counts[-1] <= len(pool.labeled) + len(pool.unlabeled)


def test_everything_is_said_at_once():
    data = dataset((4, 4, 4))
    with pytest.raises(UnfitError) as error:
        require_sizes(load_config(settings=ASKED[0]), data)
    assert str(error.value) == (
        "initial_labels (or the first of budgets): expected 3 (one per class) to 9 (the training samples "
        "outside the validation set), got 1000\n"
        "the budget exceeds the pool: 1000 initial labels + 6 rounds of 1000 = 7000, but without the 3 "
        "samples of the validation set there are 9 training samples\n"
        "These settings fit: --set initial_labels=3 --set rounds=6 --set batch_size=1"
    )
    assert isinstance(error.value, UsageError)
    assert isinstance(error.value, DataError)
    again = pickle.loads(pickle.dumps(error.value))
    assert (str(again), again.settings) == (str(error.value), error.value.settings)


def test_no_settings_help_where_no_class_has_three_samples():
    with pytest.raises(UnfitError, match=r"three or more .*\nAdd samples") as error:
        require_sizes(load_config(settings=ASKED[0]), dataset((2, 2, 1)))
    assert not error.value.settings


def test_a_validation_set_of_its_own():
    data = dataset((5, 5))
    data.validation_positions = np.array([0, 1])
    with pytest.raises(UnfitError, match="without the 2 samples of the validation set there are 8"):
        require_sizes(load_config(settings=["initial_labels=4", "rounds=5", "batch_size=1"]), data)


def test_initial_ids_count_as_labels():
    data = dataset((5, 5))
    given = ["s0", "s5"]
    require_sizes(load_config(settings=["batch_size=2", "rounds=3"]), data, given)
    with pytest.raises(UnfitError, match=r"2 initial labels .*\n.* --set rounds=3$"):
        require_sizes(load_config(settings=["batch_size=2", "rounds=5"]), data, given)
