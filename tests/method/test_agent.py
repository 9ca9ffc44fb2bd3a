from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from rlmba.errors import CheckpointError, StorageError, UsageError
from rlmba.kernels import plackett_luce_log_prob
from rlmba.method import policy_file
from rlmba.method.agent import Agent, Collector
from rlmba.method.policy import Policy, Taken
from rlmba.method.policy_file import read_policy
from rlmba.method.state import CANDIDATE_FEATURES, STATE_FEATURES, RunningStandardizer


def state(rng):
    return rng.normal(size=len(STATE_FEATURES))


def candidates(rng, k=12):
    return rng.normal(size=(k, len(CANDIDATE_FEATURES)))


@pytest.fixture
def taught(rng):
    agent = Agent(hidden=6, learning_rate=0.1, sharpness=3.0)
    for labels, reward in ((10, 0.3), (20, 0.7), (30, 0.2)):
        agent.draw(state(rng), candidates(rng), 3, rng=rng)
        agent.learn(reward, labels)
    return agent


@pytest.fixture
def saved(taught, tmp_path):
    path = tmp_path / "policy.safetensors"
    taught.save(path, strategy="rlmba-x", facts={"data": ["a", "b"]})
    return path


def altered(path, **changes):
    """The same file with other metadata; None leaves a key out."""
    with safe_open(path, framework="np") as file:
        metadata = {**file.metadata(), **changes}
    save_file(load_file(path), path, metadata={k: v for k, v in metadata.items() if v is not None})
    return path


class TestUpdate:
    """One step on many draws, against autograd of the naive objective."""

    def test_gradient(self, rng):
        policy = Policy(hidden=5, learning_rate=1e-2, sharpness=2.5)
        for p in policy.network.parameters():
            torch.nn.init.normal_(p, std=0.4, generator=torch.Generator().manual_seed(1))
        draws, advantages = [], [0.5, -1.5, 0.2]
        for k in (12, 7, 9):
            c = candidates(rng, k)
            draws.append(Taken(state(rng), c, rng.permutation(k)[:4]))
        total = torch.zeros((), dtype=torch.float64)
        entropies = []
        for draw, a in zip(draws, advantages, strict=True):
            z = 2.5 * policy.network(
                torch.from_numpy(draw.state), torch.from_numpy(draw.candidates)
            )
            left = list(range(len(z)))
            log_prob = torch.zeros((), dtype=torch.float64)
            for i in draw.indices.tolist():
                log_prob = log_prob + z[i] - torch.logsumexp(z[left], 0)
                left.remove(i)
            entropies.append(-(z.softmax(0) * z.log_softmax(0)).sum())
            total = total + (a * log_prob + 0.3 * entropies[-1]) / 3
        expected = torch.autograd.grad(-total, list(policy.network.parameters()))
        norm, entropy = policy.update(draws, advantages, entropy=0.3, max_grad_norm=1e9)
        assert norm == pytest.approx(float(torch.cat([g.flatten() for g in expected]).norm()))
        assert entropy == pytest.approx(float(sum(entropies).detach()) / 3)
        for p, g in zip(policy.network.parameters(), expected, strict=True):
            np.testing.assert_allclose(p.grad.numpy(), g.numpy(), atol=1e-10)

    def test_a_long_gradient_is_cut_and_reported_whole(self, rng):
        policy = Policy(hidden=5)
        draw = Taken(state(rng), candidates(rng), np.arange(3))
        norm, _ = policy.update([draw], [100.0], max_grad_norm=0.5)
        cut = float(torch.cat([p.grad.flatten() for p in policy.network.parameters()]).norm())
        assert norm > 1
        assert cut == pytest.approx(0.5, rel=1e-4)

    def test_entropy_alone_flattens_the_draw(self, rng):
        policy = Policy(hidden=5, learning_rate=0.05)
        draw = Taken(state(rng), candidates(rng), np.arange(3))
        entropies = [policy.update([draw], [0.0], entropy=1.0)[1] for _ in range(60)]
        assert entropies[-1] > entropies[0] + 0.2
        assert entropies[-1] <= np.log(12) + 1e-12

    def test_draws_follow_the_sharpened_law(self, rng):
        policy, c, s = Policy(sharpness=3.0), candidates(rng), state(rng)
        draw = policy.draw(s, c, 4, rng=rng)
        expected = plackett_luce_log_prob(3.0 * c[:, 0], draw.indices).log_prob
        assert draw.log_prob == pytest.approx(expected)


class TestAgent:
    def test_without_exploring_it_takes_the_best_and_keeps_still(self, taught, rng):
        taught.explore = False
        before = taught.state_dict()
        s, c = state(rng), candidates(rng)
        indices = taught.draw(s, c, 5, rng=None)
        z = taught.policy.scores(taught.standardizer.apply(s), c)
        np.testing.assert_array_equal(indices, np.argsort(-z)[:5])
        assert taught.learn(0.9, 40) == {}
        for key, value in taught.state_dict().items():
            np.testing.assert_array_equal(value, before[key])

    def test_ties_go_to_the_first(self, rng):
        c = np.zeros((6, len(CANDIDATE_FEATURES)))
        assert Agent(explore=False).draw(state(rng), c, 3, rng=rng).tolist() == [0, 1, 2]

    def test_a_collector_changes_nothing_and_forgets_no_draw(self, taught, rng):
        before = taught.state_dict()
        a, b = (Collector(taught, np.random.default_rng(5)) for _ in range(2))
        inputs = [(state(rng), candidates(rng)) for _ in range(3)]
        for s, c in inputs:
            a.draw(s, c, 4, rng=np.random.default_rng(1))
        for s, c in inputs:
            b.draw(s, c, 4, rng=np.random.default_rng(2))  # which is not used
            assert b.learn(0.4, 40) == {}
        assert len(a.draws) == 3
        for x, y, (s, c) in zip(a.draws, b.draws, inputs, strict=True):
            np.testing.assert_array_equal(x.taken.indices, y.taken.indices)
            np.testing.assert_array_equal(x.state, s)
            np.testing.assert_array_equal(x.taken.state, taught.standardizer.apply(s))
            np.testing.assert_array_equal(x.taken.candidates, c)
        for key, value in taught.state_dict().items():
            np.testing.assert_array_equal(value, before[key])

    def test_state_round_trip(self, taught, rng):
        other = Agent(hidden=6, learning_rate=0.1, sharpness=3.0, seed=4)
        other.load_state_dict(taught.state_dict())
        s, c = state(rng), candidates(rng)
        for agent in (taught, other):
            agent.draw(s, c, 4, rng=np.random.default_rng(0))
            agent.learn(0.6, 40)
        for key, value in taught.state_dict().items():
            np.testing.assert_array_equal(value, other.state_dict()[key])

    def test_a_draw_that_waits_is_kept_with_the_state(self, taught, rng):
        other = Agent(hidden=6, learning_rate=0.1, sharpness=3.0, seed=4)
        taught.draw(state(rng), candidates(rng), 4, rng=rng)
        other.load_state_dict(taught.state_dict())
        assert other.learn(0.6, 50) == taught.learn(0.6, 50)
        assert not any(k.startswith("policy.pending") for k in taught.state_dict())
        for key, value in taught.state_dict().items():
            np.testing.assert_array_equal(value, other.state_dict()[key])


def test_statistics_apply_what_they_know(rng):
    running = RunningStandardizer(3)
    assert running.apply(np.array([1.0, -2.0, 3.0])).tolist() == [0, 0, 0]
    seen = rng.normal(size=(20, 3)) * [1, 5, 0] + 2
    for x in seen:
        last = running.update(x)
    np.testing.assert_array_equal(running.apply(seen[-1]), last)
    std = seen.std(axis=0)
    expected = (seen[4] - seen.mean(axis=0))[:2] / std[:2]
    np.testing.assert_allclose(running.apply(seen[4]), [*expected, 0.0], rtol=1e-9)
    assert running.count == 20


class TestFile:
    def test_round_trip(self, taught, saved, rng):
        agent = Agent.load(saved, strategy="rlmba-x", hidden=99, explore=False)
        taught.explore = False
        s, c = state(rng), candidates(rng)
        np.testing.assert_array_equal(agent.draw(s, c, 6, rng=rng), taught.draw(s, c, 6, rng=rng))
        assert agent.baseline.value is None
        assert not agent.policy.optimizer.state_dict()["state"]
        policy = read_policy(saved, strategy="rlmba-x")
        assert policy.options == {"hidden": 6, "sharpness": 3.0}
        assert policy.facts == {"data": ["a", "b"]}

    def test_going_on_from_a_file_learns(self, saved, rng):
        agent = Agent.load(saved, strategy="rlmba-x", learning_rate=0.1)
        s, c = state(rng), candidates(rng)
        before = agent.policy.scores(s, c)
        for labels, reward in ((10, 0.1), (20, 0.2), (30, 0.9)):
            agent.draw(s, c, 4, rng=rng)
            agent.learn(reward, labels)
        assert not np.array_equal(before, agent.policy.scores(s, c))

    def test_other_strategy(self, saved):
        with pytest.raises(
            CheckpointError, match=r"for strategy 'rlmba', got one for 'rlmba-x'.*--str"
        ):
            Agent.load(saved, strategy="rlmba")

    def test_missing_and_foreign(self, saved, tmp_path):
        with pytest.raises(CheckpointError, match="no such file; give a policy"):
            Agent.load(tmp_path / "none", strategy="rlmba-x")
        (tmp_path / "text").write_text("not a policy")
        with pytest.raises(CheckpointError, match="text: expected a policy, got"):
            Agent.load(tmp_path / "text", strategy="rlmba-x")
        with pytest.raises(CheckpointError, match="safetensors file of something else"):
            Agent.load(altered(saved, rlmba_policy=None), strategy="rlmba-x")

    def test_other_version_and_features(self, saved, taught, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(policy_file, "CANDIDATE_FEATURES", ("score", "size"))
            taught.save(saved, strategy="rlmba-x", facts={})
        with pytest.raises(CheckpointError, match=r"reads candidate_features \['score', 'size'\]"):
            Agent.load(saved, strategy="rlmba-x")
        with pytest.raises(CheckpointError, match="policy format 2, this version reads 1"):
            Agent.load(altered(saved, rlmba_policy="2"), strategy="rlmba-x")

    @pytest.mark.parametrize("key", ["options", "sha256", "strategy", "state_features"])
    def test_damaged_metadata(self, saved, key):
        with pytest.raises(CheckpointError, match=r"damaged"):
            Agent.load(altered(saved, **{key: None}), strategy="rlmba-x")
        with pytest.raises(CheckpointError):
            Agent.load(altered(saved, **{key: "{"}), strategy="rlmba-x")

    def test_damaged_at_any_byte(self, saved):
        whole = saved.read_bytes()
        for at in np.linspace(0, len(whole) - 1, 60).astype(int):
            broken = bytearray(whole)
            broken[at] ^= 0x15
            saved.write_bytes(bytes(broken))
            with pytest.raises(CheckpointError):
                read_policy(saved, strategy="rlmba-x")
        saved.write_bytes(whole[:-20])
        with pytest.raises(CheckpointError, match="expected a policy"):
            read_policy(saved, strategy="rlmba-x")

    def test_a_folder_that_is_not_there(self, taught, tmp_path):
        with pytest.raises(StorageError):
            taught.save(tmp_path / "no" / "p", strategy="rlmba", facts={})


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"baseline_momentum": 1.0}, "baseline_momentum"),
        ({"baseline": "none"}, "baseline: expected one of"),
        ({"advantage_clip": -1.0}, "advantage_clip"),
        ({"sharpness": float("inf")}, "sharpness"),
        ({"hidden": 0}, "hidden"),
    ],
)
def test_bad_options(option, match):
    with pytest.raises(UsageError, match=match):
        Agent(**option)
