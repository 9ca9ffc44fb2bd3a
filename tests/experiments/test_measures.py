"""Areas under curves and labels to reach an accuracy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from rlmba.errors import NonFiniteError, ShapeError, UsageError
from rlmba.experiments.statistics import aubc, deepal_summary, labels_to_reach
from tests.helpers.made_groups import at_any_speed


def curves(max_rounds=8):
    """Ascending numbers of labels, and curves [S, T]."""

    def build(shape):
        s, t = shape
        steps = st.lists(st.integers(1, 50), min_size=t, max_size=t)
        values = st.lists(st.floats(0, 1), min_size=s * t, max_size=s * t)
        return st.tuples(
            steps.map(np.cumsum), values.map(lambda v: np.array(v, dtype=float).reshape(s, t))
        )

    return st.tuples(st.integers(1, 4), st.integers(1, max_rounds)).flatmap(build)


def deepal(quota, batch, accuracies):
    """DeepAL+'s area in its own terms: a quota of queried labels, a batch size, T accuracies."""
    widths = [batch] * (len(accuracies) - 1)
    if quota % batch:
        widths[-1] = quota % batch
    total = 0.0
    for i, width in enumerate(widths):
        total += (accuracies[i + 1] + accuracies[i]) * width / 2
    return round(np.float64(total / quota), 3)


def test_the_three_areas_by_hand():
    labels, top1 = [100, 200, 400], [[0.2, 0.4, 0.6], [0.5, 0.5, 0.5]]
    np.testing.assert_allclose(aubc(labels, top1), [0.4, 0.5], rtol=1e-15)
    # (100 * 0.3 + 200 * 0.5) / 300
    np.testing.assert_allclose(aubc(labels, top1, rule="trapezoid"), [13 / 30, 0.5], rtol=1e-15)
    np.testing.assert_array_equal(aubc(labels, top1, rule="deepal"), [0.433, 0.5])


@at_any_speed
@given(
    batch=st.integers(1, 1000),
    full=st.integers(1, 12),
    rest=st.integers(0, 999),
    initial=st.integers(1, 5000),
    data=st.data(),
)
def test_deepal_is_that_of_quota_and_batch(batch, full, rest, initial, data):
    rest %= batch
    quota = full * batch + rest
    labels = [initial + batch * i for i in range(full + 1)] + ([initial + quota] if rest else [])
    accuracies = np.array(
        data.draw(st.lists(st.floats(0, 1), min_size=len(labels), max_size=len(labels)))
    )
    assert aubc(labels, [accuracies], rule="deepal")[0] == deepal(quota, batch, accuracies)


def test_deepal_summary_divides_by_the_number_of_runs():
    assert deepal_summary([0.5, 0.501, 0.506]) == (0.5023, 0.0026)
    assert deepal_summary([0.5]) == (0.5, 0.0)
    with pytest.raises(UsageError, match="S >= 1"):
        deepal_summary([])


@at_any_speed
@given(curves())
def test_trapezoid_is_scipys(case):
    labels, top1 = case
    found = aubc(labels, top1, rule="trapezoid")
    if len(labels) == 1:
        np.testing.assert_array_equal(found, top1[:, 0])
    else:
        expected = trapezoid(top1, labels, axis=1) / (labels[-1] - labels[0])
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@at_any_speed
@given(curves(), st.sampled_from(["mean", "trapezoid", "deepal"]), st.randoms())
def test_areas_lie_between_the_curves_ends_and_follow_the_runs(case, rule, random):
    labels, top1 = case
    found = aubc(labels, top1, rule=rule)
    slack = 5e-4 if rule == "deepal" else 1e-12
    assert (found >= top1.min(axis=1) - slack).all()
    assert (found <= top1.max(axis=1) + slack).all()
    order = random.sample(range(len(top1)), len(top1))
    np.testing.assert_array_equal(aubc(labels, top1[order], rule=rule), found[order])


def test_one_round_is_its_accuracy():
    for rule, expected in (("mean", 0.12345), ("trapezoid", 0.12345), ("deepal", 0.123)):
        assert aubc([20], [[0.12345]], rule=rule) == [expected]


def test_labels_to_reach_by_hand():
    labels = [20, 40, 80]
    top1 = [[0.25, 0.5, 0.75], [0.625, 0.5, 0.75], [0.25, 0.625, 0.5], [0.25, 0.5, 0.5]]
    np.testing.assert_array_equal(labels_to_reach(labels, top1, 0.625), [60, 20, 40, np.nan])
    # Exactly the last value, exactly the first, above all values.
    np.testing.assert_array_equal(labels_to_reach(labels, top1[:1], 0.75), [80])
    np.testing.assert_array_equal(labels_to_reach(labels, top1[:1], 0.25), [20])
    np.testing.assert_array_equal(
        labels_to_reach(labels, top1[:1], np.nextafter(0.75, 1)), [np.nan]
    )
    # One target per run; flat intervals; one round.
    np.testing.assert_array_equal(
        labels_to_reach(labels, top1, [0.25, 0.6875, 0.4375, 0.5]), [20, 70, 30, 40]
    )
    np.testing.assert_array_equal(labels_to_reach([20], [[0.5], [0.4]], 0.5), [20, np.nan])


@at_any_speed
@given(curves(), st.floats(0, 1))
def test_labels_to_reach_is_the_first_point_of_the_polygon_at_the_target(case, target):
    labels, top1 = case
    for found, curve in zip(labels_to_reach(labels, top1, target), top1, strict=True):
        if np.isnan(found):
            assert curve.max() < target
            continue
        assert labels[0] <= found <= labels[-1]
        assert np.interp(found, labels, curve) >= target - 1e-9
        before = labels < found - 1e-9
        assert (curve[before] < target).all()


def test_bad_curves_are_refused():
    with pytest.raises(ShapeError, match=r"labels \[T\] and top1 \[S, T\]"):
        aubc([20, 40], [0.1, 0.2])
    with pytest.raises(ShapeError, match="T >= 1"):
        aubc([], np.empty((2, 0)))
    with pytest.raises(UsageError, match="ascend from round to round"):
        aubc([20, 20], [[0.1, 0.2]])
    with pytest.raises(UsageError, match="\"deepal\", got 'simpson'"):
        aubc([20, 40], [[0.1, 0.2]], rule="simpson")
    with pytest.raises(NonFiniteError, match=r"top1\[1, 0\].* got nan") as caught:
        aubc([20, 40], [[0.1, 0.2], [np.nan, 0.2]])
    assert caught.value.row == 1
    with pytest.raises(ShapeError, match="one target, or one per run"):
        labels_to_reach([20, 40], [[0.1, 0.2]], [0.1, 0.2])
    with pytest.raises(UsageError, match="got NaN"):
        labels_to_reach([20, 40], [[0.1, 0.2]], np.nan)
