from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from rlmba import strategies
from rlmba.errors import CheckpointError, UsageError
from rlmba.strategies.random import uniform_by_id
from rlmba.strategies.rlmba_x import one_per_cluster
from rlmba.types import PoolOutputs
from tests.helpers.contract import StrategyContract, make_context, make_pool


class TestRandom(StrategyContract):
    name = "random"
    uses_outputs = False

    def test_uniform(self):
        pool = make_pool(n=30)
        counts = np.zeros(30)
        for seed in range(600):
            counts[self.create().query(pool, make_context(pool, seed=seed), 5).positions] += 1
        expected = 600 * 5 / 30
        # Draws without replacement vary less than multinomial ones, by (1 - 5/30).
        statistic = ((counts - expected) ** 2 / (expected * (1 - 5 / 30))).sum() * 29 / 30
        assert statistic < chi2.ppf(0.9995, 29)

    def test_depends_on_ids_not_on_their_string_width(self):
        ids = np.array(["a", "bb", "ccc"])
        np.testing.assert_array_equal(uniform_by_id(ids, 3), uniform_by_id(ids.astype("U40"), 3))
        assert len(np.unique(uniform_by_id(np.arange(5000).astype(str), 1))) == 5000


class TestEntropy(StrategyContract):
    name = "entropy"

    def test_order(self):
        z = np.array([[9.0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]])
        pool = outputs(z)
        selection = self.create().query(pool, make_context(pool), 3)
        assert selection.positions.tolist() == [1, 3, 2]
        assert selection.scores[0] == pytest.approx(np.log(3))


class TestMargin(StrategyContract):
    name = "margin"

    def test_order(self):
        z = np.log(np.array([[0.5, 0.4, 0.1], [0.4, 0.3, 0.3], [0.9, 0.05, 0.05]]))
        pool = outputs(z)
        selection = self.create().query(pool, make_context(pool), 3)
        assert selection.positions.tolist() == [0, 1, 2]
        np.testing.assert_allclose(selection.scores, [0.9, 0.9, 0.15], atol=1e-12)

    def test_one_class(self):
        pool = outputs(np.zeros((4, 1)))
        assert self.create().query(pool, make_context(pool), 2).positions.tolist() == [0, 1]


class TestRlmba(StrategyContract):
    name = "rlmba"
    # k-means++ draws by position: with it the law is the same, not the draw.
    permutation_options = {"diversity": False}


class TestRlmbaGreedy(StrategyContract):
    name = "rlmba"
    options = {"policy": "greedy"}
    permutation_options = {"diversity": False}

    def test_takes_the_best_by_score(self):
        pool = make_pool()
        selection = self.create().query(pool, make_context(pool), 9)
        assert (np.diff(selection.scores) <= 0).all()


class TestRlmbaUniform(StrategyContract):
    name = "rlmba"
    options = {"policy": "uniform"}
    permutation_options = {"diversity": False}


class TestRlmbaWithoutEfda(StrategyContract):
    name = "rlmba"
    options = {"efda": False}
    permutation_options = {"diversity": False}


class TestRlmbaBestByPolicy(StrategyContract):
    name = "rlmba"
    options = {"explore": False}
    permutation_options = {"diversity": False}

    def test_untrained_it_takes_the_best_by_score(self):
        pool = make_pool()
        a = self.create().query(pool, make_context(pool), 9)
        b = strategies.create("rlmba", policy="greedy").query(pool, make_context(pool), 9)
        np.testing.assert_array_equal(a.positions, b.positions)


class TestRlmbaXLearned(StrategyContract):
    name = "rlmba-x"
    options = {"policy": "learned"}

    def test_exploring_stays_near_the_walk_and_sharpness_says_how_near(self):
        pool = make_pool(n=300)
        walk = set(strategies.create("rlmba-x").query(pool, make_context(pool), 20).positions)
        kept = {}
        for sharpness in (0.5, 5.0, 500.0):
            chosen = self.create(sharpness=sharpness).query(pool, make_context(pool), 20)
            kept[sharpness] = len(walk & set(chosen.positions))
        assert kept[0.5] < kept[5.0] < kept[500.0] == 20

    def test_modalities_alone_are_needed_by_the_policy_only(self):
        assert "modality_logits" in self.create().needs
        assert "modality_logits" not in strategies.create("rlmba-x").needs


class TestRlmbaXBestByPolicy(StrategyContract):
    name = "rlmba-x"
    options = {"policy": "learned", "explore": False}

    @pytest.mark.parametrize("m", [1, 3])
    @pytest.mark.parametrize("n", [1, 2, 20, 90])
    def test_untrained_it_is_the_rule_exactly(self, n, m):
        pool = make_pool(m=m, seed=n)
        a = self.create().query(pool, make_context(pool, seed=n), n)
        b = strategies.create("rlmba-x").query(pool, make_context(pool, seed=n), n)
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.scores, b.scores)

    def test_nothing_is_learned(self):
        pool = make_pool()
        strategy = self.create()
        before = strategy.state_dict()
        for reward in (0.1, 0.9):
            strategy.query(pool, make_context(pool), 5)
            assert strategy.learn(strategies.Feedback(reward, 1, 20)) == {}
        after = strategy.state_dict()
        assert before.keys() == after.keys()
        for key, value in before.items():
            np.testing.assert_array_equal(value, after[key])


class TestRlmbaX(StrategyContract):
    name = "rlmba-x"

    def test_near_duplicates_are_taken_once(self):
        rng = np.random.default_rng(0)
        centers = rng.normal(size=(6, 5)) * 50
        f = np.repeat(centers, 10, axis=0) + rng.normal(size=(60, 5)) * 1e-3
        z = np.repeat(rng.normal(size=(6, 3)) * 0.1, 10, axis=0)
        pool = outputs(z, f)
        selection = self.create(kappa=10).query(pool, make_context(pool), 6)
        assert len(np.unique(selection.positions // 10)) == 6


def outputs(z, f=None) -> PoolOutputs:
    f = np.random.default_rng(0).normal(size=(len(z), 3)) if f is None else f
    return PoolOutputs(
        ids=np.arange(len(z)).astype(str),
        features={"a": f},
        logits={"a": z},
        fused_features=f,
        fused_logits=z,
    )


def test_walk():
    labels = np.array([2, 2, 0, 2, 1, 0])
    assert one_per_cluster(labels, 2).tolist() == [0, 2]
    assert one_per_cluster(labels, 3).tolist() == [0, 2, 4]
    assert one_per_cluster(labels, 5).tolist() == [0, 2, 4, 1, 3]
    assert sorted(one_per_cluster(labels, 6).tolist()) == [0, 1, 2, 3, 4, 5]


def test_rlmba_candidates_bound_the_choice():
    """Whatever the policy draws comes from the kappa n best by Eq 6."""
    pool = make_pool(n=200)
    best = strategies.create("rlmba", policy="greedy", diversity=False).query(
        pool, make_context(pool), 30
    )
    for seed in range(10):
        drawn = strategies.create("rlmba", kappa=3, diversity=False).query(
            pool, make_context(pool, seed=seed), 10
        )
        assert set(drawn.positions) <= set(best.positions)


def test_learning_changes_the_draw_only_after_a_first_reward():
    pool = make_pool()
    a, b = (
        strategies.create("rlmba", learning_rate=0.5),
        strategies.create("rlmba", learning_rate=0.5),
    )
    a.query(pool, make_context(pool), 5)
    assert a.learn(strategies.Feedback(0.5, 1, 10, (5, 0.5)))["advantage"] == 0.0
    a.query(pool, make_context(pool, seed=1), 5)
    b.load_state_dict(a.state_dict())
    figures = a.learn(strategies.Feedback(0.9, 2, 15))
    assert figures["advantage"] == pytest.approx(0.4)
    assert figures["gradient_norm"] > 0
    assert any(
        not np.array_equal(v, b.state_dict()[k])
        for k, v in a.state_dict().items()
        if k in b.state_dict()
    )


@pytest.mark.parametrize("name", ["rlmba", "rlmba-x"])
def test_a_saved_policy_is_what_was_learned(name, tmp_path):
    """Another strategy of the same name, on another number of classes and modalities, draws by it."""
    pool, other = make_pool(seed=1), make_pool(n=150, c=7, m=3, seed=2)
    taught = strategies.create(name, policy="learned", learning_rate=0.02, hidden=8, sharpness=2.0)
    last = taught.agent.policy.network.last.weight
    torch.nn.init.normal_(last, std=20, generator=torch.Generator().manual_seed(0))
    for t, reward in enumerate((0.2, 0.9, 0.1, 0.8)):
        taught.query(pool, make_context(pool, seed=t), 10)
        taught.learn(strategies.Feedback(reward, t, 10 * (t + 1)))
    file = tmp_path / "policy.safetensors"
    taught.agent.save(file, strategy=name, facts={"episodes": 1})

    used = strategies.create(name, policy="learned", policy_file=str(file), explore=False)
    assert (used.agent.policy.hidden, used.agent.policy.sharpness) == (8, 2.0)
    taught.agent.explore = False
    a = taught.query(other, make_context(other), 12)
    b = used.query(other, make_context(other), 12)
    np.testing.assert_array_equal(a.positions, b.positions)
    untrained = strategies.create(name, policy="learned", explore=False)
    c = untrained.query(other, make_context(other), 12)
    assert not np.array_equal(a.positions, c.positions)

    wrong = {"rlmba": "rlmba-x", "rlmba-x": "rlmba"}[name]
    with pytest.raises(CheckpointError, match=f"for strategy '{wrong}', got one for '{name}'"):
        strategies.create(wrong, policy="learned", policy_file=str(file))


class TestRegistry:
    def test_names(self):
        assert {"rlmba", "rlmba-x", "random", "entropy", "margin"} <= set(strategies.names())
        assert all(strategies.describe(n) for n in strategies.names())

    def test_unknown(self):
        with pytest.raises(UsageError, match=r"unknown strategy 'rlmab'.*did you mean 'rlmba'"):
            strategies.create("rlmab")
        with pytest.raises(
            UsageError, match=r"no option 'kapa'; its options: .*did you mean 'kappa'"
        ):
            strategies.create("rlmba", kapa=3)

    @pytest.mark.parametrize(
        ("option", "match"),
        [
            ({"kappa": "five"}, r"rlmba\.kappa: expected int"),
            ({"kappa": 0}, "kappa >= 1"),
            ({"beta": -1.0}, "beta"),
            ({"beta": float("nan")}, "beta"),
            ({"policy": "best"}, "policy: expected one of"),
            ({"evidence": "tanh"}, "evidence: expected one of"),
            ({"efda": 1}, r"rlmba\.efda: expected bool"),
            ({"advantage_clip": 0.0}, "advantage_clip"),
            ({"baseline_momentum": 1.0}, "rlmba: baseline_momentum"),
            ({"sharpness": 0.0}, "sharpness: expected a number > 0"),
            ({"policy": "greedy", "policy_file": "p"}, "policy=learned or omit policy_file"),
        ],
    )
    def test_bad_options(self, option, match):
        with pytest.raises(UsageError, match=match):
            strategies.create("rlmba", **option)

    def test_numbers_may_be_written_as_integers(self):
        assert strategies.create("rlmba", beta=2, advantage_clip=None).beta == 2.0
