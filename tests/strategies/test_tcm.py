from __future__ import annotations

import numpy as np
import pytest

import rlmba
from rlmba import strategies
from rlmba.errors import UsageError
from tests.helpers.contract import make_context, make_pool
from tests.strategies.test_typiclust import TestTypiClust as TypiClustCases


class TestTcm(TypiClustCases):
    name = "tcm"
    test_options_out_of_range = None


def test_switches_at_a_number_of_labels():
    pool = make_pool(c=4)
    for per_class, other in ((3.0, "margin"), (3.1, "typiclust")):
        mine = strategies.create("tcm", labels_per_class=per_class)
        for seed in range(3):
            context = make_context(pool, seed=seed)  # of 12 labels
            expected = strategies.create(other).query(pool, make_context(pool, seed=seed), 9)
            np.testing.assert_array_equal(
                mine.query(pool, context, 9).positions, expected.positions
            )


def test_labels_count_without_fused_features(rng):
    x, logits = rng.normal(size=(40, 3)), rng.normal(size=(40, 4))
    given = {"input_features": x, "logits": logits, "n": 5, "rng": 0}
    for labeled in ({"labeled": np.arange(20)}, {"labeled_input_features": x[:20]}):
        chosen = rlmba.select("tcm", space="input", labels_per_class=5, **labeled, **given)
        assert list(chosen.seconds) == ["score"]
        chosen = rlmba.select("tcm", space="input", labels_per_class=5.1, **labeled, **given)
        assert list(chosen.seconds) == ["kmeans", "typicality"]


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_labels_per_class_out_of_range(value):
    with pytest.raises(UsageError, match="labels_per_class >= 0"):
        strategies.create("tcm", labels_per_class=value)
