from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlmba.errors import DataError, UsageError
from rlmba.method.reward import Baseline, Reward, expected_reward, mean_curve, quality
from rlmba.types import Evaluation, HeadMetrics

ROOT = Path(__file__).resolve().parents[2]


def test_kinds():
    curves = [{100: 0.5, 200: 0.6}, {100: 0.7, 200: 0.8}]
    assert Reward("absolute").raw(0.9, 0.4, 100) == 0.9
    assert Reward("incremental").raw(0.9, 0.4, 100) == pytest.approx(0.5)
    assert Reward("relative", curves=curves).raw(0.9, 0.4, 200) == pytest.approx(0.2)


def test_quality_is_top1_or_what_is_left_of_1_without_nll():
    heads = {"mm": HeadMetrics(0.75, 0.7, 0.4, 0.1), "image": HeadMetrics(0.5, 0.5, 2.0, 0.1)}
    assert quality(Evaluation(heads, 20), "top1") == 0.75
    assert quality(Evaluation(heads, 20), "nll") == pytest.approx(0.6)


def test_relative_needs_curves_and_says_how_to_make_them():
    with pytest.raises(UsageError, match="rlmba compare --strategies gcnal,badge,bmmal"):
        Reward("relative")
    with pytest.raises(DataError, match="no point at 150 labels"):
        mean_curve([{100: 0.5}], 150)
    with pytest.raises(UsageError, match="expected one of"):
        Reward("best")


def test_a_run_has_no_siblings_and_the_error_says_who_has():
    with pytest.raises(UsageError, match=r"rlmba train-policy --set reward\.kind=siblings"):
        Reward("siblings")


def test_smoothing_starts_at_the_first_reward():
    r = Reward("absolute", smoothing=0.75)
    assert r.smooth(0.4) == 0.4
    assert r.smooth(0.8) == pytest.approx(0.5)
    unsmoothed = Reward("absolute")
    assert [unsmoothed.smooth(r) for r in (0.3, 0.9)] == [0.3, 0.9]


def test_what_a_run_is_worth_before_its_first_batch():
    assert Reward("absolute").at_start(0.3, 50) == (50, 0.3)
    assert Reward("incremental").at_start(0.3, 50) is None
    relative = Reward("relative", curves=[{100: 0.5}, {100: 0.7}])
    assert relative.at_start(0.5, 100) == (100, pytest.approx(-0.1))
    assert relative.at_start(0.5, 50) is None


def test_moving_baseline_is_of_past_rewards_only():
    b = Baseline("moving", momentum=0.5, clip=None)
    assert b.advantage(0.4, 10) == 0.0
    assert b.advantage(0.6, 20) == pytest.approx(0.2)
    assert b.value == pytest.approx(0.5)
    assert b.advantage(0.1, 30) == pytest.approx(-0.4)


def test_expected_baseline_is_the_curve_so_far_continued():
    curve = {n: 1 - 3 / n**0.5 for n in (20, 40, 80, 100)}
    b = Baseline(clip=None)
    assert b.advantage(curve[40], 40, (20, curve[20])) == 0.0  # nothing to expect from one point
    assert b.advantage(curve[80] + 0.03, 80) == pytest.approx(0.03)
    assert b.value == pytest.approx(curve[80])
    # A later start counts for nothing, and equal numbers of labels are no curve.
    first = Baseline(clip=None)
    assert [first.advantage(0.5, 30), first.advantage(0.9, 30)] == [0.0, 0.0]
    again = Baseline(clip=None)
    for n in (20, 40, 80):
        again.advantage(curve[n], n, (5, 0.0) if n > 20 else None)
    assert again.advantage(curve[100], 100) == pytest.approx(0, abs=1e-12)


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.floats(-1, 1)), min_size=1, max_size=9),
    st.integers(1, 10**6),
)
def test_any_rewards_have_a_finite_expectation(points, labels):
    found = expected_reward(points, labels, weight=0.9)
    assert (found is None) == (len({n for n, _ in points}) < 2)
    assert found is None or (np.isfinite(found) and found <= 1)


def judged(smoothing, kind):
    """What a baseline says of the batches of 1,760 real runs (docs/results/validation.csv).

    Returns the share of positive advantages, and the share that has the sign of the batch's own
    surprise: how much more or less it gained than the same round gained with the other seeds.
    """
    curves = defaultdict(list)
    with (ROOT / "docs" / "results" / "validation.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            top1 = np.array(row["right"].split(), dtype=float) / int(row["size"])
            key = tuple(
                row[k] for k in ("dataset", "strategy", "fusion", "predictor", "first", "batch")
            )
            curves[key].append(top1)
    positive, agree = [], []
    for (*_, first, batch), group in curves.items():
        gains = np.diff(np.stack(group), axis=1)
        others = (gains.sum(axis=0) - gains) / (len(gains) - 1)
        for top1, surprise in zip(group, gains - others, strict=True):
            reward, baseline = Reward(smoothing=smoothing), Baseline(kind)
            start = (int(first), top1[0])
            for t, value in enumerate(top1[1:], start=1):
                a = baseline.advantage(reward.smooth(value), int(first) + t * int(batch), start)
                if t > 1 and a != 0:
                    positive.append(a > 0)
                    if surprise[t - 1] != 0:
                        agree.append((a > 0) == (surprise[t - 1] > 0))
    assert len(positive) > 10_000
    return np.mean(positive), np.mean(agree)


def test_only_an_expectation_judges_the_batch():
    """Curves rise, so a moving average of past rewards calls nearly every batch a good one."""
    positive, agree = judged(0.9, "moving")
    assert positive > 0.95
    assert agree < 0.53
    positive, agree = judged(0.0, "expected")
    assert 0.45 < positive < 0.6
    assert agree > 0.7


@given(
    st.floats(0.2, 1.5),
    st.floats(0.1, 0.8),
    st.integers(2, 8),
    st.integers(5, 50),
    st.sampled_from([-0.02, 0.02]),
)
def test_a_planted_batch_has_its_sign(scale, power, planted, first, effect):
    """On a rising curve with one batch better or worse than expected, the advantage says which."""
    labels = first * np.arange(1, planted + 2)
    curve = 1 - scale * (labels / first) ** -power / 2
    top1 = curve + effect * (np.arange(planted + 1) == planted)
    references = [dict(zip(labels.tolist(), curve.tolist(), strict=True))]
    for reward in (Reward("absolute"), Reward("relative", curves=references)):
        baseline = Baseline("expected", clip=None)
        for t in range(1, planted + 1):
            start = reward.at_start(top1[t - 1], int(labels[t - 1]))
            raw = reward.raw(top1[t], top1[t - 1], int(labels[t]))
            a = baseline.advantage(reward.smooth(raw), int(labels[t]), start)
            assert t == planted or a == pytest.approx(0, abs=1e-9)
        assert a == pytest.approx(effect)


@pytest.mark.parametrize("kind", ["moving", "expected"])
def test_a_baseline_goes_on_where_it_was(kind):
    whole, part = Baseline(kind), Baseline(kind)
    rewards = [(20, 0.3), (40, 0.5), (60, 0.55), (80, 0.7)]
    expected = [whole.advantage(r, n, (10, 0.1)) for n, r in rewards]
    for n, r in rewards[:2]:
        part.advantage(r, n, (10, 0.1))
    resumed = Baseline(kind)
    resumed.load_state_dict(part.state_dict())
    assert [resumed.advantage(r, n, (10, 0.1)) for n, r in rewards[2:]] == expected[2:]
    assert Baseline(kind).state_dict() == {}


def test_advantage_is_clipped():
    b = Baseline("moving", clip=0.1)
    b.advantage(0.0, 10)
    assert b.advantage(1.0, 20) == pytest.approx(0.1)
    assert b.advantage(-3.0, 30) == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("mean",), "baseline: expected one of"),
        (("expected", 0.0), "baseline_momentum: expected 0 < x < 1"),
        (("moving", 1.0), "baseline_momentum: expected 0 <= x < 1"),
        (("moving", 0.5, 0.0), "advantage_clip"),
    ],
)
def test_baseline_options_out_of_range(arguments, match):
    with pytest.raises(UsageError, match=match):
        Baseline(*arguments)
