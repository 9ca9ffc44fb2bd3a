from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from rlmba import strategies
from rlmba.errors import UsageError
from tests.helpers.contract import StrategyContract, make_context, make_pool


class TestBald(StrategyContract):
    name = "bald"

    def test_takes_where_passes_disagree(self):
        pool = make_pool(n=40)
        x = np.repeat(pool.fused_logits[None], 5, axis=0).astype(np.float64)
        undecided, torn = [3, 8], [12, 30]
        x[:, undecided] = 0  # every pass undecided: entropy, but no information
        x[:, torn] = 20 * np.eye(5, 4)[:, None] + 5 * np.eye(5, 4, -4)[:, None]
        selection = self.create().query(replace(pool, dropout_logits=x), make_context(pool), 40)
        assert selection.positions[:2].tolist() == torn
        assert (selection.scores[2:] == 0).all()
        # All others are equal: ties go by position.
        assert selection.positions[2:].tolist() == [i for i in range(40) if i not in torn]

    def test_score_is_the_mutual_information(self):
        pool = make_pool()
        p = softmax(pool.dropout_logits.astype(np.float64), axis=2)
        mean = p.mean(axis=0)
        information = -(mean * np.log(mean)).sum(axis=1) + (p * np.log(p)).sum(axis=2).mean(axis=0)
        selection = self.create().query(pool, make_context(pool), 9)
        assert selection.positions.tolist() == np.argsort(-information)[:9].tolist()
        np.testing.assert_allclose(selection.scores, np.sort(information)[::-1][:9], rtol=1e-9)
        assert selection.backends == {"bald_score": "cpu", "top_k": "cpu"}

    def test_nearly_agreeing_passes_are_ranked(self):
        """In float32 a difference of entropies would be zero or noise for all of them."""
        pool = make_pool()
        rng = np.random.default_rng(5)
        size = rng.permutation(90) + 1.0
        away = np.array([1.0, -1.0])[:, None, None] * size[:, None] * [1e-6, 0, 0, 0]
        x = np.tile(pool.fused_logits[:1].astype(np.float64), (2, 90, 1)) + away
        selection = self.create().query(replace(pool, dropout_logits=x), make_context(pool), 90)
        assert selection.positions.tolist() == np.argsort(-size).tolist()

    def test_says_how_many_passes_it_wants(self):
        assert strategies.create("bald").dropout_passes == 10
        assert strategies.create("bald", passes=4).dropout_passes == 4
        assert strategies.create("entropy").dropout_passes == 0
        with pytest.raises(UsageError, match="passes >= 2"):
            strategies.create("bald", passes=1)

    @pytest.mark.parametrize("held", [None, 1])
    def test_without_passes(self, held):
        pool = make_pool()
        few = None if held is None else pool.dropout_logits[:held]
        with pytest.raises(
            UsageError, match=r"PoolOutputs\.dropout_logits \[K, N, C\].*training mode"
        ):
            self.create().query(replace(pool, dropout_logits=few), make_context(pool), 3)
