from __future__ import annotations

import pytest

from rlmba.errors import DataError, UsageError
from rlmba.method.reward import Baseline, Reward, mean_curve


def test_kinds():
    curves = [{100: 0.5, 200: 0.6}, {100: 0.7, 200: 0.8}]
    assert Reward("absolute").raw(0.9, 0.4, 100) == 0.9
    assert Reward("incremental").raw(0.9, 0.4, 100) == pytest.approx(0.5)
    assert Reward("relative", curves=curves).raw(0.9, 0.4, 200) == pytest.approx(0.2)


def test_relative_needs_curves_and_says_how_to_make_them():
    with pytest.raises(UsageError, match="rlmba compare --strategies gcnal,badge,bmmal"):
        Reward("relative")
    with pytest.raises(DataError, match="no point at 150 labels"):
        mean_curve([{100: 0.5}], 150)
    with pytest.raises(UsageError, match="expected one of"):
        Reward("best")


def test_smoothing_starts_at_the_first_reward():
    r = Reward("absolute", smoothing=0.75)
    assert r.smooth(0.4) == 0.4
    assert r.smooth(0.8) == pytest.approx(0.5)
    assert Reward("absolute", smoothing=0.0).smooth(0.3) == 0.3


def test_baseline_is_of_past_rewards_only():
    b = Baseline(momentum=0.5, clip=None)
    assert b.advantage(0.4) == 0.0
    assert b.advantage(0.6) == pytest.approx(0.2)
    assert b.value == pytest.approx(0.5)
    assert b.advantage(0.1) == pytest.approx(-0.4)


def test_advantage_is_clipped():
    b = Baseline(clip=0.1)
    b.advantage(0.0)
    assert b.advantage(1.0) == pytest.approx(0.1)
    assert b.advantage(-3.0) == pytest.approx(-0.1)
