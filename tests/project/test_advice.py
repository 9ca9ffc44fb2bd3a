"""Advice on when to stop, against curves whose real gain is known."""

from __future__ import annotations

import numpy as np
import pytest

from rlmba.errors import ShapeError, UsageError
from rlmba.project.advice import THRESHOLD, advise


def power_law(start, floor, rate, labels):
    return 1 - start * (floor + (1 - floor) * (labels / labels[0]) ** -rate)


def drawn(seed, *, size, rounds, stray=0.005):
    """A curve drawn from a power law with ups and downs, counts on V, and the next round's real gain."""
    rng = np.random.default_rng(seed)
    labels = 20.0 * np.arange(1, rounds + 2)
    law = power_law(rng.uniform(0.2, 0.7), rng.uniform(0.1, 0.8), rng.uniform(0.3, 1.5), labels)
    accuracy = np.clip(law + rng.normal(0, stray, len(law)), 0, 1)
    correct = rng.binomial(size, accuracy[:-1])
    return (
        labels[:-1],
        correct,
        np.full(rounds, size),
        accuracy[-1] - accuracy[-2],
        law[-1] - law[-2],
    )


@pytest.mark.parametrize("size", [20, 200])
@pytest.mark.parametrize("rounds", [1, 3, 7])
def test_interval_covers_what_it_says_or_a_little_more(size, rounds):
    inside = []
    for seed in range(100):
        labels, correct, v, gain, _ = drawn(seed, size=size, rounds=rounds)
        advice = advise(labels, correct, v, batch=20)
        inside.append(advice.low <= gain <= advice.high)
    # Three standard deviations of 100 draws at 0.8; above it is allowed: the ups and downs drawn are small.
    assert np.mean(inside) >= 0.8 - 3 * np.sqrt(0.8 * 0.2 / 100)


def test_expected_gain_is_close_and_closer_than_the_last_step():
    ours, last = [], []
    for seed in range(100):
        labels, correct, v, _, gain = drawn(seed, size=100, rounds=6)
        ours.append(abs(advise(labels, correct, v, batch=20).gain - gain))
        last.append(abs((correct[-1] - correct[-2]) / 100 - gain))
    assert np.mean(ours) < 0.006
    assert np.mean(ours) < np.mean(last) / 3


def test_a_larger_v_says_more():
    labels = 20.0 * np.arange(1, 5)
    accuracy = power_law(0.6, 0.1, 0.6, labels)
    widths = []
    for size in (20, 200, 2000):
        advice = advise(labels, np.rint(size * accuracy).astype(int), np.full(4, size), batch=20)
        widths.append(advice.high - advice.low)
    assert widths[0] > widths[1] > widths[2]


def test_stops_on_the_flat_and_not_on_the_slope():
    labels = 50.0 * np.arange(1, 9)
    flat = advise(
        labels, np.rint(300 * power_law(0.2, 0.9, 2.0, labels)), np.full(8, 300), batch=50
    )
    assert flat.stop
    assert flat.trend < THRESHOLD
    assert "consider stopping" in flat.text
    steep = advise(
        labels, np.rint(300 * power_law(0.9, 0.0, 0.3, labels)), np.full(8, 300), batch=50
    )
    assert not steep.stop
    assert steep.gain > THRESHOLD
    assert "stop" not in steep.text


def test_threshold_decides():
    labels = 50.0 * np.arange(1, 7)
    counts = np.rint(300 * power_law(0.5, 0.3, 0.7, labels)), np.full(6, 300)
    advice = advise(labels, *counts, batch=50)
    assert not advise(labels, *counts, batch=50, threshold=advice.trend).stop
    assert advise(labels, *counts, batch=50, threshold=advice.trend + 1e-6).stop


@pytest.mark.parametrize("correct", [[20], [0], [13], [20, 20], [15, 9]])
def test_one_or_two_rounds_never_stop_and_say_that_they_guess(correct):
    labels = 20.0 * np.arange(1, len(correct) + 1)
    advice = advise(labels, np.array(correct), np.full(len(correct), 20), batch=20)
    assert not advice.stop
    assert "too few rounds" in advice.text


def test_one_round_half_right_is_very_unsure():
    advice = advise(np.array([20.0]), np.array([10]), np.array([20]), batch=20)
    assert advice.high - advice.low > 0.1


@pytest.mark.parametrize(
    "accuracy",
    [[0.6] * 5, [0.9, 0.8, 0.7, 0.6, 0.5], [1.0] * 5, [0.0] * 5, [0.1, 0.9, 0.1, 0.9, 0.1]],
    ids=["equal", "falling", "all right", "all wrong", "up and down"],
)
@pytest.mark.parametrize("size", [1, 20, 400])
def test_odd_curves_give_finite_numbers_in_order(accuracy, size):
    labels = 20.0 * np.arange(1, 6)
    advice = advise(labels, np.rint(size * np.array(accuracy)), np.full(5, size), batch=20)
    assert -1 < advice.low < advice.gain < advice.high < 1
    assert 0 <= advice.gain <= advice.trend


def test_falling_and_equal_curves_expect_little():
    labels = 20.0 * np.arange(1, 7)
    for right in ([300] * 6, [330, 320, 310, 305, 300, 295]):
        advice = advise(labels, np.array(right), np.full(6, 400), batch=20)
        assert advice.gain < THRESHOLD


def test_validation_set_may_change_its_size():
    labels = 20.0 * np.arange(1, 5)
    same = advise(labels, np.array([24, 30, 33, 34]), np.full(4, 40), batch=20)
    grown = advise(labels, np.array([12, 30, 33, 170]), np.array([20, 40, 40, 200]), batch=20)
    assert abs(grown.gain - same.gain) < 0.003
    assert "200 samples" not in grown.text
    assert "40 samples is too small to show small gains, since each counts 2.5 points" in same.text


def test_rounds_without_new_labels_count_as_more_evidence():
    advice = advise(np.array([20.0, 20.0, 40.0]), np.array([12, 13, 16]), np.full(3, 20), batch=20)
    assert np.isfinite(advice.gain)


def test_numbers_of_the_text_are_those_of_the_advice():
    advice = advise(np.array([20.0, 40, 60]), np.array([25, 33, 36]), np.full(3, 50), batch=7)
    points = [f"{100 * x:.1f}" for x in (advice.gain, advice.low, advice.high)]
    assert (
        f"whether another 7 labels add to Top-1 (80 %: {points[1]} to {points[2]} points)"
        in advice.text
    )
    one = advise(np.array([20.0, 40, 60]), np.array([25, 33, 36]), np.full(3, 50), batch=1)
    assert "another label adds" in one.text


def test_same_curve_same_advice_and_inputs_untouched():
    labels, correct, size, *_ = drawn(3, size=50, rounds=4)
    before = labels.copy(), correct.copy(), size.copy()
    assert advise(labels, correct, size, batch=20) == advise(labels, correct, size, batch=20)
    for a, b in zip(before, (labels, correct, size), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("labels", "correct", "size"), [([], [], []), ([20], [3, 4], [5, 5]), ([[20]], [[3]], [[5]])]
)
def test_shapes_are_checked(labels, correct, size):
    with pytest.raises(ShapeError, match="same length"):
        advise(np.array(labels), np.array(correct), np.array(size), batch=20)


@pytest.mark.parametrize(
    ("labels", "correct", "size", "what"),
    [
        ([20, 40], [5, 11], [10, 10], "round 1 has 40 labels and 11 correct of 10"),
        ([0], [5], [10], "round 0 has 0 labels"),
        ([20], [0], [0], "0 correct of 0"),
        ([np.nan], [5], [10], "round 0"),
        ([20], [-1], [10], "-1 correct of 10"),
    ],
)
def test_numbers_are_checked(labels, correct, size, what):
    with pytest.raises(UsageError, match=what):
        advise(np.array(labels), np.array(correct), np.array(size), batch=20)


def test_batch_is_checked():
    with pytest.raises(UsageError, match="batch of 1 label or more, got 0"):
        advise(np.array([20.0]), np.array([5]), np.array([10]), batch=0)
