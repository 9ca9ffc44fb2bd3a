"""Comparisons of all strategies with each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlmba.errors import UsageError
from rlmba.experiments.statistics import (
    critical_difference,
    holm,
    paired,
    rank,
    win_matrix,
)
from tests.helpers.made_groups import at_any_speed, make_group

# Demsar (2006), table 5a: critical values of the two-tailed Nemenyi test, for 2 to 10 classifiers.
Q_05 = (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164)
Q_10 = (1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920)


@pytest.mark.parametrize(("alpha", "table"), [(0.05, Q_05), (0.10, Q_10)])
def test_critical_difference_is_demsars(alpha, table):
    for k, q in enumerate(table, start=2):
        expected = q * np.sqrt(k * (k + 1) / (6 * 14))
        found = critical_difference(k, 14, alpha=alpha)
        # The table has three decimals of q.
        assert found == pytest.approx(expected, abs=1.01e-3 * np.sqrt(k * (k + 1) / (6 * 14)))
    # His worked example: four classifiers, 14 data sets.
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(4, 14, alpha=0.10) == pytest.approx(1.12, abs=0.005)


@pytest.mark.parametrize("bad", [(1, 5, 0.05), (3, 0, 0.05), (3, 5, 0), (3, 5, 1)])
def test_critical_difference_refuses(bad):
    with pytest.raises(UsageError, match="k >= 2, blocks >= 1"):
        critical_difference(bad[0], bad[1], alpha=bad[2])


def made(k=4, seeds=6, sets="abc", seed=0, spread=0.02, places=None):
    """K strategies s0 .. on data sets; s0 is best by 0.05, the others are equal."""
    rng = np.random.default_rng(seed)
    groups = []
    for dataset in sets:
        for i in range(k):
            top1 = 0.5 + 0.05 * (i == 0) + rng.normal(0, spread, (seeds, 3))
            if places is not None:
                top1 = np.repeat(np.round(top1[:, :1], places), 3, axis=1)
            groups.append(make_group(f"s{i}", top1, dataset=dataset))
    return groups


def by_set(groups):
    """AUBC [K, S] by data set, strategies s0, s1, ... in order."""
    sets = dict.fromkeys(g.dataset for g in groups)
    return {
        d: np.array([g.aubc for g in sorted(groups, key=lambda g: g.strategy) if g.dataset == d])
        for d in sets
    }


@pytest.mark.parametrize("places", [None, 2])
def test_win_matrix_by_brute_force(places):
    groups = made(places=places)
    found = win_matrix(groups, fusion="uniform")
    values = by_set(groups)
    k = 4
    wins, significant = np.full((k, k), np.nan), np.zeros((k, k), dtype=int)
    for i in range(k):
        for j in range(k):
            if i != j:
                d = np.concatenate([v[i] - v[j] for v in values.values()])
                wins[i, j] = np.mean(np.where(np.isclose(d, 0, atol=1e-12), 0.5, d > 0))
    for v in values.values():
        pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
        for (i, j), p in zip(pairs, holm([paired(v[i], v[j]).p for i, j in pairs]), strict=True):
            if p < 0.05:
                significant[(i, j) if v[i].mean() > v[j].mean() else (j, i)] += 1
    order = [int(name[1:]) for name in found.names]
    assert order == sorted(range(k), key=lambda i: (-round(np.nanmean(wins[i]), 12), i))
    np.testing.assert_allclose(found.wins, wins[np.ix_(order, order)], atol=1e-15)
    np.testing.assert_array_equal(found.significant, significant[np.ix_(order, order)])
    assert significant.sum() > 0
    np.testing.assert_array_equal(found.pairs, 18 * (1 - np.eye(k)))
    assert (found.blocks, found.datasets) == (18, ("a", "b", "c"))
    equal = [np.isclose(v[0], v[i], atol=1e-12).sum() for v in values.values() for i in range(1, k)]
    assert (sum(equal) > 0) == (places == 2)


def test_win_matrix_counts_the_seeds_two_share():
    groups = [
        make_group("x", [0.5, 0.6, 0.7]),
        make_group("y", [0.4, 0.6], seeds=(0, 1)),
        make_group("z", [0.9], seeds=(7,)),
    ]
    found = win_matrix(groups, fusion="uniform")
    x, y, z = (found.names.index(name) for name in "xyz")
    assert (found.wins[x, y], found.wins[y, x]) == (0.75, 0.25)
    assert np.isnan(found.wins[x, z])
    assert np.isnan(found.wins[x, x])
    assert (found.pairs[x, y], found.pairs[x, z], found.blocks) == (2, 0, 2)
    assert any("pairs with y exclude seed 2" in note for note in found.notes)


@pytest.mark.parametrize("places", [None, 2])
@pytest.mark.parametrize("k", [2, 3, 5])
def test_ranks_by_brute_force(k, places):
    groups = made(k, places=places)
    found = rank(groups, fusion="uniform")
    table = np.concatenate(
        [[stats.rankdata(-np.round(column, 12)) for column in v.T] for v in by_set(groups).values()]
    )
    mean = dict(zip([f"s{i}" for i in range(k)], table.mean(axis=0), strict=True))
    assert list(found.names) == sorted(mean, key=lambda name: (round(mean[name], 9), name))
    np.testing.assert_allclose(found.mean_rank, [mean[name] for name in found.names], rtol=1e-14)
    assert found.blocks == 18
    assert found.critical_difference == critical_difference(k, 18)
    if k > 2:
        assert found.friedman_p == pytest.approx(stats.friedmanchisquare(*table.T).pvalue, rel=1e-9)
    elif places is None:
        # For two, Friedman's test is the sign test's chi-squared.
        ahead = (table[:, 0] == 1).sum()
        expected = stats.chi2.sf((ahead - 9) ** 2 / (18 / 4), 1)
        assert found.friedman_p == pytest.approx(expected, rel=1e-9)
    assert "data sets (3) x seeds" in found.notes[-1]


@at_any_speed
@given(
    st.lists(st.floats(1, 12), min_size=2, max_size=9, unique=True),
    st.floats(0.01, 5),
)
def test_cliques_are_the_maximal_runs_within_the_distance(ranks, distance):
    from rlmba.experiments.statistics.ranking import _cliques

    ranks = np.sort(ranks)
    k = len(ranks)
    inside = {(i, j) for i in range(k) for j in range(i + 1, k) if ranks[j] <= ranks[i] + distance}
    maximal = {
        (i, j)
        for i, j in inside
        if not any((a, b) != (i, j) and a <= i and b >= j for a, b in inside)
    }
    assert set(_cliques(ranks, distance)) == {tuple(range(i, j + 1)) for i, j in maximal}


def test_ranks_need_blocks_that_all_have():
    groups = [*made(3), make_group("late", [0.5], seeds=(2,))]
    found = rank(groups, fusion="uniform")
    assert (found.blocks, found.datasets) == (1, ("a",))
    assert (found.friedman_p, found.critical_difference, found.cliques) == (None, None, ())
    assert "b, uniform fusion: left out of the ranks, because it lacks late" in found.notes
    assert any("pairs with late exclude seeds 0, 1, 3 to 5" in note for note in found.notes)
    assert (
        found.notes[-1]
        == "uniform fusion: ranks are not tested: 1 data set x seed has all strategies"
    )
    without = rank(groups, fusion="uniform", strategies=["s0", "s1", "s2"])
    assert (without.blocks, len(without.names)) == (18, 3)
    nothing = rank([make_group("x", [0.5]), make_group("y", [0.5], seeds=(3,))], fusion="uniform")
    assert nothing.blocks == 0
    assert nothing.names == ("x", "y")
    assert np.isnan(nothing.mean_rank).all()
    assert "no data set x seed has all strategies" in nothing.notes[-1]


def test_strategies_that_never_differ():
    groups = [make_group(name, [0.5, 0.6, 0.7]) for name in "xyz"]
    found = rank(groups, fusion="uniform")
    np.testing.assert_array_equal(found.mean_rank, [2, 2, 2])
    assert (found.friedman_p, found.cliques) == (1.0, ((0, 1, 2),))
    wins = win_matrix(groups, fusion="uniform")
    np.testing.assert_array_equal(wins.wins[~np.eye(3, dtype=bool)], 0.5)
    assert not wins.significant.any()


def test_single_precision_makes_no_difference():
    hits = np.array([[880, 709, 818], [608, 415, 1384], [271, 890, 1246], [272, 890, 1246]])
    groups = [
        make_group(f"s{i}", (h / 1777).astype(np.float32)[None], labels=(20, 40, 80))
        for i, h in enumerate(hits)
    ]
    assert len({float(g.aubc[0]) for g in groups}) == 4  # equal sums, unequal means
    groups = [make_group(g.strategy, np.tile(g.top1["mm"], (2, 1))) for g in groups]
    found = rank(groups, fusion="uniform")
    assert found.names == ("s3", "s0", "s1", "s2")
    np.testing.assert_array_equal(found.mean_rank, [1, 3, 3, 3])
    wins = win_matrix(groups, fusion="uniform")
    np.testing.assert_array_equal(wins.wins[1:, 1:][~np.eye(3, dtype=bool)], 0.5)


def test_an_early_end_cuts_all_that_are_ranked_together():
    groups = made(3, sets="a")
    short = make_group("s3", np.full((6, 2), 0.9), labels=(20, 40))
    found = rank([*groups, short], fusion="uniform")
    cut = [g.top1["mm"][:, :2].mean(axis=1) for g in groups]
    table = stats.rankdata(-np.array([*cut, np.full(6, 0.9)]), axis=0)
    expected = dict(zip(["s0", "s1", "s2", "s3"], table.mean(axis=1), strict=True))
    np.testing.assert_allclose(found.mean_rank, [expected[name] for name in found.names])
    assert "seeds 0 to 5 of s3 ended there" in found.notes[0]


def test_one_fusion_at_a_time_and_predictors_by_name():
    groups = [
        make_group("x", [0.5, 0.6]),
        make_group("x", [0.7, 0.8], predictor="pooled"),
        make_group("x", [0.1, 0.1], fusion="amcb"),
    ]
    found = win_matrix(groups, fusion="uniform")
    assert found.names == ("x, pooled", "x, fused")
    np.testing.assert_array_equal(found.wins[0], [np.nan, 1.0])
    assert rank(groups, fusion="uniform").names == ("x, pooled", "x, fused")
    with pytest.raises(UsageError, match="'adaptive' fusion, got fusions: amcb, uniform"):
        rank(groups, fusion="adaptive")
    with pytest.raises(UsageError, match="strategies among x, fused; x, pooled, got 'y'"):
        win_matrix(groups, fusion="uniform", strategies=["y"])


def test_one_seed_is_said():
    found = win_matrix([make_group("x", [0.5]), make_group("y", [0.4])], fusion="uniform")
    assert found.notes == ("a, uniform fusion: one seed, so no p value",)
    assert found.wins[0, 1] == 1


@at_any_speed
@given(st.permutations(range(12)))
def test_the_order_of_groups_does_not_matter(order):
    groups = made(4, seeds=3)
    a, b = (rank(g, fusion="uniform") for g in (groups, [groups[i] for i in order]))
    assert (a.names, a.cliques, a.blocks) == (b.names, b.cliques, b.blocks)
    np.testing.assert_allclose(a.mean_rank, b.mean_rank, rtol=1e-12)
    assert a.friedman_p == pytest.approx(b.friedman_p, rel=1e-9)
    c, d = (win_matrix(g, fusion="uniform") for g in (groups, [groups[i] for i in order]))
    assert c.names == d.names
    np.testing.assert_array_equal(c.wins, d.wins)
    np.testing.assert_array_equal(c.significant, d.significant)
