from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlmba.errors import NonFiniteError, UsageError
from rlmba.method.amcb import balance_weights, contribution_gaps
from rlmba.types import Evaluation, HeadMetrics

deltas = hnp.arrays(np.float64, st.integers(1, 6), elements=st.floats(-1, 1))


def test_gaps_are_modality_minus_multimodal():
    heads = {
        n: HeadMetrics(t, t, 1.0, 0.1) for n, t in [("mm", 0.8), ("image", 0.7), ("text", 0.9)]
    }
    np.testing.assert_allclose(contribution_gaps(Evaluation(heads, 10)), [-0.1, 0.1])


def test_gaps_are_over_the_samples_that_have_the_modality():
    heads = {
        "mm": HeadMetrics(0.6, 0.6, 1.0, 0.1),
        "image": HeadMetrics(0.5, 0.5, 1.0, 0.1),
        "text": HeadMetrics(0.9, 0.9, 1.0, 0.1, samples=4, fused_top1=0.7),
        "sound": HeadMetrics(0.2, 0.2, 1.6, 0.0, samples=0),
    }
    delta = contribution_gaps(Evaluation(heads, 10))
    # Nobody knows anything of "sound": it stands between the others.
    np.testing.assert_allclose(delta, [-0.1, 0.2, 0.05])
    alone = {h: heads[h] for h in ("mm", "sound")}
    np.testing.assert_array_equal(contribution_gaps(Evaluation(alone, 10)), [0.0])


@given(deltas, st.floats(1e-3, 10), st.floats(0, 0.5))
def test_on_the_simplex_and_bounded_below(delta, tau, floor):
    w = balance_weights(delta, tau=tau, floor=floor)
    assert w.sum() == pytest.approx(1, abs=1e-12)
    assert (w >= floor / (1 + delta.size * floor) - 1e-15).all()


@given(deltas, st.floats(0.05, 10))
def test_order_follows_delta_and_shift_does_not_matter(delta, tau):
    w = balance_weights(delta, tau=tau, floor=0)
    assert (np.diff(w[np.argsort(delta, kind="stable")]) >= -1e-15).all()
    np.testing.assert_allclose(balance_weights(delta + 0.37, tau=tau, floor=0), w, atol=1e-12)


@pytest.mark.parametrize("m", [1, 2, 5])
def test_ties_give_uniform(m):
    np.testing.assert_allclose(balance_weights(np.full(m, -0.3)), np.full(m, 1 / m), rtol=1e-15)


def test_dominant_modality_takes_all_as_tau_falls():
    np.testing.assert_array_equal(
        balance_weights(np.array([-0.2, 0.1, 0.0]), tau=1e-6, floor=0), [0.0, 1.0, 0.0]
    )
    assert balance_weights(np.array([-1.0, 1.0]), tau=1e-300, floor=0)[1] == 1.0


def test_derivative_is_w_times_one_minus_w_over_tau():
    delta, tau, h = np.array([-0.1, 0.05, 0.2]), 0.3, 1e-6
    w = balance_weights(delta, tau=tau, floor=0)
    for m in range(3):
        step = np.eye(3)[m] * h
        slope = (
            balance_weights(delta + step, tau=tau, floor=0)
            - balance_weights(delta - step, tau=tau, floor=0)
        ) / (2 * h)
        assert slope[m] == pytest.approx(w[m] * (1 - w[m]) / tau, rel=1e-6)


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [({"tau": 0.0}, "tau"), ({"tau": np.nan}, "tau"), ({"floor": -1.0}, "floor")],
)
def test_options_out_of_range(kwargs, match):
    with pytest.raises(UsageError, match=match):
        balance_weights(np.zeros(2), **kwargs)


def test_bad_delta():
    with pytest.raises(NonFiniteError, match=r"delta\[1\] is nan"):
        balance_weights(np.array([0.0, np.nan]))
    with pytest.raises(UsageError, match="one number per modality"):
        balance_weights(np.zeros(0))
