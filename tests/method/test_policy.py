from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba.errors import CheckpointError, UsageError
from rlmba.method.policy import Policy
from rlmba.method.state import CANDIDATE_FEATURES, STATE_FEATURES


@pytest.fixture
def inputs(rng):
    state = rng.normal(size=len(STATE_FEATURES))
    candidates = rng.normal(size=(12, len(CANDIDATE_FEATURES)))
    return state, candidates


def test_untrained_policy_is_the_score(inputs):
    state, candidates = inputs
    np.testing.assert_array_equal(Policy().scores(state, candidates), candidates[:, 0])


def test_untrained_first_pick_follows_exp_q(inputs):
    state, candidates = inputs
    policy, rng = Policy(), np.random.default_rng(3)
    n = 4000
    first = [policy.draw(state, candidates, 3, rng=rng).indices[0] for _ in range(n)]
    p = np.exp(candidates[:, 0]) / np.exp(candidates[:, 0]).sum()
    observed = np.bincount(first, minlength=12)
    chi2 = ((observed - n * p) ** 2 / (n * p)).sum()
    assert chi2 < 31.3  # 0.999 quantile, 11 degrees of freedom


def test_step_is_reinforce(inputs):
    """The update's gradient equals autograd's of A log pi, with the naive sequential log-probability."""
    state, candidates = inputs
    policy = Policy(hidden=8, learning_rate=1e-2)
    torch.manual_seed(0)
    for p in policy.network.parameters():
        torch.nn.init.normal_(p, std=0.3)
    draw = policy.draw(state, candidates, 4, rng=np.random.default_rng(0))
    z = policy.network(torch.from_numpy(state), torch.from_numpy(candidates))
    left, log_prob = list(range(12)), torch.zeros((), dtype=torch.float64)
    for i in draw.indices.tolist():
        log_prob = log_prob + z[i] - torch.logsumexp(z[left], 0)
        left.remove(i)
    assert draw.log_prob == pytest.approx(float(log_prob.detach()), rel=1e-10)
    expected = torch.autograd.grad(-0.7 * log_prob, list(policy.network.parameters()))
    norm = policy.learn(0.7)
    assert norm == pytest.approx(float(torch.cat([g.flatten() for g in expected]).norm()), rel=1e-8)
    for p, g in zip(policy.network.parameters(), expected, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), g.numpy(), atol=1e-10)


@pytest.mark.parametrize("advantage", [0.5, -0.5])
def test_a_good_draw_becomes_likelier_and_a_bad_one_less(inputs, advantage):
    state, candidates = inputs
    policy = Policy(learning_rate=1e-3)
    draw = policy.draw(state, candidates, 3, rng=np.random.default_rng(1))
    policy.learn(advantage)
    again = policy.draw(state, candidates, 3, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(draw.indices, again.indices)
    assert np.sign(again.log_prob - draw.log_prob) == np.sign(advantage)


def test_nothing_to_learn_from(inputs):
    policy = Policy()
    assert policy.learn(1.0) == 0.0
    policy.draw(*inputs, 2, rng=np.random.default_rng(0))
    assert policy.learn(0.0) == 0.0
    assert policy.learn(1.0) == 0.0


def test_state_round_trip_continues_identically(inputs):
    a = Policy(learning_rate=1e-2)
    for i in range(4):
        a.draw(*inputs, 3, rng=np.random.default_rng(i))
        a.learn(0.3)
    b = Policy(learning_rate=1e-2, seed=9)
    b.load_state_dict(a.state_dict())
    for p in (a, b):
        p.draw(*inputs, 3, rng=np.random.default_rng(7))
        p.learn(-0.2)
    np.testing.assert_array_equal(a.scores(*inputs), b.scores(*inputs))


def test_other_width_is_refused():
    with pytest.raises(CheckpointError, match=r"body\.0"):
        Policy(hidden=8).load_state_dict(Policy(hidden=16).state_dict())
    with pytest.raises(UsageError, match="hidden"):
        Policy(hidden=0)


def test_global_random_state_is_left_alone():
    before = torch.random.get_rng_state()
    Policy(seed=5)
    assert torch.equal(before, torch.random.get_rng_state())
