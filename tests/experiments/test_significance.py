"""Paired tests and Holm's correction."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlmba.errors import NonFiniteError, ShapeError, UsageError
from rlmba.experiments.statistics import holm, paired, signed_rank
from tests.helpers.made_groups import at_any_speed

PS = st.lists(st.none() | st.floats(0, 1), max_size=8)


@pytest.mark.parametrize("n", [2, 3, 8, 40])
def test_t_test_is_scipys(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.02, 0.01, n), rng.normal(0, 0.01, n)
    test, expected = paired(a, b), stats.ttest_rel(a, b)
    assert test.n == n
    assert test.difference == pytest.approx(np.mean(a - b), rel=1e-12)
    assert test.sd == pytest.approx(np.std(a - b, ddof=1), rel=1e-12)
    assert test.statistic == pytest.approx(expected.statistic, rel=1e-12)
    assert test.p == pytest.approx(expected.pvalue, rel=1e-10)


@pytest.mark.parametrize("n", [2, 5, 8, 30])
def test_signed_rank_is_scipys_exact_one_where_nothing_ties(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.3, 1, n), rng.normal(0, 1, n)
    expected = stats.wilcoxon(a, b, method="exact").pvalue
    assert paired(a, b).p_signed_rank == pytest.approx(expected, rel=1e-10)


def enumerated_signed_rank(d):
    """All 2^n signs, one by one."""
    d = np.array([x for x in d if x])
    if not len(d):
        return 1.0
    ranks = stats.rankdata(np.abs(d))
    sums = np.array([np.dot(ranks, signs) for signs in product([0, 1], repeat=len(d))])
    observed = ranks[d > 0].sum()
    return min(1.0, 2 * min((sums <= observed).mean(), (sums >= observed).mean()))


@at_any_speed
@given(st.lists(st.integers(-4, 4), max_size=9))
def test_signed_rank_with_zeros_and_ties_is_the_enumeration(steps):
    assert signed_rank(np.array(steps) / 100) == pytest.approx(enumerated_signed_rank(steps))


@at_any_speed
@given(st.lists(st.integers(-30, 30), min_size=2, max_size=9), st.randoms())
def test_a_test_is_of_pairs_in_any_order_and_turns_its_sign(steps, random):
    d = np.array(steps) / 100
    base = np.linspace(0.3, 0.6, len(d))
    test, other = paired(base + d, base), paired(base, base + d)
    assert other.difference == -test.difference
    assert other.p == pytest.approx(test.p, rel=1e-9)
    assert other.p_signed_rank == test.p_signed_rank
    order = random.sample(range(len(d)), len(d))
    shuffled = paired((base + d)[order], base[order])
    assert shuffled.p == pytest.approx(test.p, rel=1e-9)
    assert shuffled.p_signed_rank == pytest.approx(test.p_signed_rank)
    assert 0 <= test.p <= 1


def test_hundreds_of_pairs():
    d = np.random.default_rng(0).normal(0.02, 0.1, 400)
    approximate = stats.wilcoxon(d, method="asymptotic").pvalue
    assert signed_rank(d) == pytest.approx(approximate, rel=0.05)


def test_one_seed_has_no_p():
    test = paired([0.5], [0.4])
    assert (test.n, test.sd, test.statistic, test.p, test.p_signed_rank) == (1, *[None] * 4)
    assert test.difference == pytest.approx(0.1)
    none = paired([], [])
    assert (none.n, none.p) == (0, None)
    assert np.isnan(none.difference)


def test_differences_that_do_not_vary():
    same = paired([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    assert (same.difference, same.sd, same.statistic, same.p, same.p_signed_rank) == (0, 0, 0, 1, 1)
    # 0.6 - 0.5 and 0.4 - 0.3 differ in the last bit, which must not give a p of 1e-16.
    shifted = paired([0.6, 0.4], [0.5, 0.3])
    assert shifted.statistic == np.inf
    assert shifted.p == shifted.p_signed_rank == 0.5
    eight = paired(np.linspace(0.2, 0.9, 8) - 0.1, np.linspace(0.2, 0.9, 8))
    assert eight.statistic == -np.inf
    assert eight.p == 2 / 2**8
    # The mean of the same accuracies in another order differs in the last bit.
    rounding = paired([0.5 + 1e-16, 0.5 - 1e-16, 0.5 + 2e-16], [0.5, 0.5, 0.5])
    assert rounding.p == 1


def test_bad_pairs_are_refused():
    with pytest.raises(ShapeError, match="use only the seeds that both have"):
        paired([0.1, 0.2], [0.1])
    with pytest.raises(NonFiniteError, match=r"pair 1 is \(0.2, nan\)"):
        paired([0.1, 0.2], [0.1, np.nan])


def holm_by_definition(ps):
    known = sorted(p for p in ps if p is not None)
    m = len(known)

    def corrected(p):
        i = max(k for k, q in enumerate(known) if q == p)  # equal ones share the largest
        return min(1.0, max((m - j) * known[j] for j in range(i + 1)))

    return [None if p is None else corrected(p) for p in ps]


@at_any_speed
@given(PS)
def test_holm_is_its_definition(ps):
    assert holm(ps) == pytest.approx(holm_by_definition(ps))


@at_any_speed
@given(PS, st.randoms())
def test_holm_keeps_order_and_never_lowers(ps, random):
    found = holm(ps)
    known = [(p, q) for p, q in zip(ps, found, strict=True) if p is not None]
    assert [p is None for p in ps] == [q is None for q in found]
    assert all(p <= q <= 1 for p, q in known)
    ordered = [q for _, q in sorted(known)]
    assert ordered == sorted(ordered)
    order = random.sample(range(len(ps)), len(ps))
    assert holm([ps[i] for i in order]) == [found[i] for i in order]


@at_any_speed
@given(st.lists(st.floats(0, 1), min_size=1, max_size=7), st.floats(0.001, 0.5))
def test_holm_rejects_what_its_procedure_rejects(ps, alpha):
    """Step down: reject the smallest while p < alpha / (tests left), stop at the first that is not."""
    left = sorted(range(len(ps)), key=lambda i: ps[i])
    rejected = set()
    while left and ps[left[0]] * len(left) < alpha:
        rejected.add(left.pop(0))
    assert {i for i, p in enumerate(holm(ps)) if p < alpha} == rejected


def test_holm_refuses_what_is_no_probability():
    for bad in (-0.1, 1.5, float("nan")):
        with pytest.raises(UsageError, match=r"p values in \[0, 1\]"):
            holm([0.5, bad])
    assert holm([]) == []
    assert holm([None]) == [None]
