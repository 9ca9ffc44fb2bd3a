"""Missing modalities from the nearest sample that has them."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from rlmba.method import completing
from rlmba.method.completing import Nearest, completed_features


@pytest.fixture(params=[2, 2**14])
def _block(request, monkeypatch):
    monkeypatch.setattr(completing, "BLOCK_ROWS", request.param)


@pytest.mark.usefixtures("_block")
def test_each_row_is_that_of_the_nearest_by_the_shared_modalities():
    rng = np.random.default_rng(0)
    features = {
        m: rng.normal(size=(25, d)).astype(np.float32) for m, d in (("a", 3), ("b", 2), ("c", 4))
    }
    present = rng.random((25, 3)) < 0.7
    present[~present.any(axis=1), 0] = True
    before = {m: a.copy() for m, a in features.items()}
    made = completed_features(features, present)
    names = list(features)
    for row in range(25):
        shared = [m for k, m in enumerate(names) if present[row, k]]
        for k, m in enumerate(names):
            if present[row, k]:
                assert_array_equal(made[m][row], features[m][row])
                continue
            needed = [k, *(names.index(s) for s in shared)]
            others = [r for r in range(25) if present[r, needed].all()]
            gaps = [
                sum(((features[s][row] - features[s][r]) ** 2).sum() for s in shared)
                for r in others
            ]
            assert_array_equal(made[m][row], features[m][others[int(np.argmin(gaps))]])
    for m, a in features.items():
        assert_array_equal(a, before[m])


def test_without_a_sample_that_has_both_it_is_the_mean_or_zero():
    features = {m: np.arange(8, dtype=np.float32).reshape(4, 2) for m in "abc"}
    present = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], bool)
    made = completed_features(features, present)
    assert made["b"][:2].tolist() == [[5, 6], [5, 6]]
    assert made["a"][2:].tolist() == [[1, 2], [1, 2]]
    assert not made["c"].any()


def test_complete_samples_are_returned_as_they_are():
    features = {"a": np.ones((3, 1), np.float32)}
    assert completed_features(features, None) is features
    assert completed_features(features, np.ones((3, 1), bool)) is features


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_distances_are_not_rounded_between_blocks(convert):
    """The second block has a row that is nearer by less than a float32 can tell, the third a tie with it."""
    origin = np.zeros((2, 2), np.float32)
    first, second = np.float32([[1.0, 1e-4]]), np.float32([[1.0, 0.0]])
    assert np.float32(np.hypot(*first[0].astype(float))) == np.float32(1)
    nearest = Nearest(convert(origin))
    for number, block in enumerate([first, second, second]):
        value = np.full((1, 1), number, np.float32)
        nearest.compare(convert(block), convert(value), np.array([number]))
    np.testing.assert_array_equal(np.asarray(nearest.values), [[1], [1]])
